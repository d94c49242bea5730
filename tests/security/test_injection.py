"""Threats B: text that is a command, a template, a path or an element to somebody comes out as it went in, or is refused."""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.api.conftest import Reply, Server
from tests.host.agent.host_agent import HostAgent, output
from tests.host.docker_archives import busybox_tree, image_config, saved_archive
from tests.security.guest_programs import writer

from garbi.base.errors import GarbiError
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.libvirt.domain_xml import NAMESPACE
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec, PublishedPort, Wish
from garbi.web.bodies import read

PLACE = Path("/tmp/garbi-injected")
"""What a command in the corpus would make."""

PRINTABLE = [
    *(
        "$(touch /tmp/garbi-injected)",
        "`touch /tmp/garbi-injected`",
        "; touch /tmp/garbi-injected #",
        "| cat /etc/passwd",
    ),
    *("-oProxyCommand=touch /tmp/garbi-injected", "--to-command=sh", "--", "-", "-i", "@/etc/passwd"),
    *(
        "{{7919*7919}}",
        "${7919*7919}",
        "#{7919*7919}",
        "<%= 7919*7919 %>",
        "{% include '/etc/passwd' %}",
        "%s%n",
        "{0.__class__}",
        "%(asctime)s",
    ),
    *("../../../../etc/passwd", "/etc/passwd", "..", ".", "file:///etc/passwd", "\\\\host\\share", "a/../b"),
    *(
        "</name><devices><disk/></devices>",
        "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
        "&x;",
        "]]>",
        "<?xml?>",
        "'\"><a b='",
    ),
    *(
        "' OR 1=1 --",
        "'; DROP TABLE machines; --",
        '"',
        "'",
        "\\",
        "\\n",
        "%0a",
        "%00",
        "a=b",
        "a:b",
        "a,b",
        "*",
        "[a]",
    ),
    *("!!python/object/apply:os.system ['id']", "&a [*a]", "__proto__", "constructor", "NaN", "null", "true", "0x10"),
    *("\U0001d48a\U0001d485", "\u00ef", "\u65e5", "\ufb00", "\u0130", "\u212a"),  # some become others in another case
]
UNPRINTABLE = [
    *(
        "a\nb",
        "a\rb",
        "a\r\nSet-Cookie: b",
        "a\0b",
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a\x0bb",
        "a\x1b[2Jb",
        "\x1b]0;a\x07",
    ),
    *("a\u202eb", "a\u200bb", "\ufeffa", "a\x7fb", "a\x9bb", "\ud800", "\U000e0041", "a\ufffeb", "\n", " \t"),
]
CORPUS = [*PRINTABLE, *UNPRINTABLE]
FIELDS = ("id", "name", "type", "image", "restart", "on_node_failure", "state", "mem", "cpus", "full_copy")


@pytest.fixture(autouse=True)
def nothing_was_run() -> Iterator[None]:
    yield
    assert not PLACE.exists()


def post(server: Server, spec: dict[str, Any]) -> Reply:
    headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
    return server.ask("POST", "/hyper/machines", raw=json.dumps(spec).encode(), headers=headers)


def assert_refused(reply: Reply) -> None:
    assert 400 <= reply.status < 500, reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] != "internal-error"
    assert "62710561" not in reply.json()["detail"]


def ask_about(text: str) -> list[tuple[str, str]]:
    return [
        ("GET", f"/hyper/machines/{text}"),
        ("DELETE", f"/hyper/machines/{text}"),
        ("GET", f"/hyper/machines/{text}/log"),
        ("GET", f"/hyper/images/{text}"),
        ("DELETE", f"/hyper/images/{text}"),
        ("PUT", f"/hyper/images/{text}?type=raw"),
        ("PUT", f"/hyper/images/x?type={text}"),
        ("PUT", f"/hyper/images/x?type=raw&sha256={text}"),
        ("GET", f"/hyper/machines?marker={text}"),
        ("GET", f"/hyper/machines?{text}=x"),
        ("GET", f"/hyper/machines?mem={text}"),
    ]


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_a_machine_takes_what_is_more_than_a_name(still_server: Server, field: str) -> None:
    for text in CORPUS:
        reply = post(still_server, {"image": "any", "type": "fake", "state": "stopped", field: text})
        if reply.status == 201:
            assert reply.json()[field] == text
            assert field == "image" or re.fullmatch("[a-z0-9]+", text)
            still_server.client.machines.remove(reply.json()["id"])
        else:
            assert_refused(reply)
    assert still_server.client.machines.list() == []


def test_labels_come_out_as_they_went_in_or_are_refused(still_server: Server) -> None:
    for text in CORPUS:
        for labels in ({"key": text}, {text: "value"}):
            reply = post(still_server, {"image": "any", "type": "fake", "state": "stopped", "labels": labels})
            if text.isprintable():
                assert reply.json()["labels"] == labels
                assert still_server.client.machines.get(reply.json()["id"])["labels"] == labels
                still_server.client.machines.remove(reply.json()["id"])
            else:
                assert_refused(reply)


def test_no_path_and_no_query_takes_it(still_server: Server) -> None:
    for text in CORPUS:
        quoted = quote(text.encode("utf-8", "surrogatepass"), safe="")
        for method, target in ask_about(quoted):
            reply = still_server.ask(method, target)
            if reply.status != 200:  # "." and ".." lead to the list, as everywhere
                assert_refused(reply)
    assert still_server.client.images.list() == []


def test_filters_compare_and_nothing_else(server: Server, web: dict[str, Any]) -> None:
    for text in CORPUS:
        quoted = quote(text.encode("utf-8", "surrogatepass"), safe="")
        for name in ("id", "name", "image", "reason"):
            assert server.ask("GET", f"/hyper/machines?{name}={quoted}").json() == []
    assert [each["id"] for each in server.client.machines.list()] == [web["id"]]


@pytest.mark.parametrize("number", ["9" * 18, "9" * 19, "-" + "9" * 30, "9" * 5000, "1e9", "٣", "0x1", " 1"])
def test_a_number_of_any_size_is_no_error_of_the_agent(still_server: Server, number: str) -> None:
    reply = still_server.ask("GET", f"/hyper/machines?mem={quote(number)}")
    assert reply.status in (200, 422)
    assert len(reply.body) < 1000


HEADERS = ("Idempotency-Key", "Prefer", "Content-Digest", "Last-Event-ID", "Accept", "X-Forwarded-Host", "Content-Type")


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_becomes_part_of_an_answers_headers_or_of_a_path(still_server: Server, header: str) -> None:
    for text in (each for each in CORPUS if each.isascii() and each.isprintable()):
        reply = still_server.ask("PUT", "/hyper/images/..x?type=raw", headers={header: text})
        assert_refused(reply)
        assert text not in set(reply.headers.values()) or len(text) < 3


VALUES = [
    5,
    1.5,
    True,
    None,
    b"bytes",
    [],
    {},
    object(),
    float("nan"),
    float("inf"),
    10**30,
    Path("/etc/passwd"),
    "\ud800",
]


FIELDS_OF_SPECS = frozenset(MachineSpec.__dataclass_fields__)


def outcome(agent: Agent, make: Callable[[dict[str, Any]], MachineSpec], fields: dict[str, Any]) -> int | None:
    """The status of what comes of it; None where Python itself does not know the field."""
    try:
        agent.machines.add(make(fields))
    except GarbiError as refused:
        return refused.status
    except TypeError:
        return None
    return 201


@pytest.mark.parametrize("field", [*MachineSpec.__dataclass_fields__, "nonsense", "__class__"])
def test_a_program_that_puts_anything_into_a_specification_is_told_so(still_server: Server, field: str) -> None:
    agent: Agent = still_server.agent
    for value in (*VALUES, [5], ["x"], {"a": 5}, {5: "a"}, [{}], [{"node_port": 1}], *CORPUS):
        fields = {"image": "any", "type": "fake", "state": Wish.STOPPED, field: value}
        for make in (partial(read, MachineSpec), lambda given: MachineSpec(**given)):
            assert outcome(agent, make, fields) in (
                (201, 409, 422) if field in FIELDS_OF_SPECS else (201, 409, 422, None)
            )
    for machine in still_server.client.machines.list():
        still_server.client.machines.remove(machine["id"])


@pytest.mark.parametrize("port", ["80", 80.5, True, None, -1, 0, 65536, 10**30, [], "80; reboot"])
def test_a_port_that_is_none_is_refused(still_server: Server, port: Any) -> None:
    with pytest.raises(GarbiError):
        still_server.agent.machines.add(MachineSpec(image="any", type="fake", ports=(PublishedPort(port, -1),)))


@pytest.fixture
def hostile_labels() -> dict[str, str]:
    texts = [text for text in PRINTABLE if text.isprintable()][:32]
    return {f"{number}": text for number, text in enumerate(texts)} | dict.fromkeys(texts, "x")


@pytest.mark.root
@pytest.mark.libvirt
def test_a_domain_has_the_same_elements_whatever_its_machines_labels_say(
    host: HostAgent, hostile_labels: dict[str, str]
) -> None:
    host.agent.images.add("disk", ImageType.RAW, [writer(b"")])
    shapes = []
    for name, labels in (("plain", {}), ("hostile", hostile_labels)):
        made = host.add(name, "disk", state=Wish.STOPPED, labels=labels)
        assert dict(made.labels) == labels
        domain = ET.fromstring(output("virsh", "-c", "qemu:///system", "dumpxml", host.daemon_name(name)))
        found = domain.findall(f"metadata/{{{NAMESPACE}}}machine/{{{NAMESPACE}}}label")
        assert {each.get("key"): each.get("value") for each in found} == labels
        shapes.append([each.tag for each in domain.iter() if not each.tag.startswith("{")])
        host.remove(name)
    assert shapes[0] == shapes[1]
    host.agent.images.remove("disk")


@pytest.mark.root
@pytest.mark.docker
def test_a_container_is_the_same_whatever_its_machines_labels_say(
    host: HostAgent, hostile_labels: dict[str, str]
) -> None:
    layers = [busybox_tree()]
    content = saved_archive(layers, image_config(layers, ["/bin/sh"]))
    host.agent.images.add("tree", ImageType.DOCKER, [content])
    shapes = []
    for name, labels in (("plain", {}), ("hostile", hostile_labels)):
        host.add(name, "tree", state=Wish.STOPPED, labels=labels)
        found = json.loads(output("docker", "inspect", host.daemon_name(name)))[0]
        prefix = "garbi.label."
        kept = {key.removeprefix(prefix): text for key, text in found["Config"]["Labels"].items() if prefix in key}
        assert kept == labels
        shapes.append((found["HostConfig"], found["Config"]["Cmd"], found["Config"]["Env"]))
        host.remove(name)
    assert shapes[0] == shapes[1]
    host.agent.images.remove("tree")


@pytest.mark.parametrize(
    "text", ["$(touch /tmp/garbi-injected)", "-oProxyCommand=x", "a\nb", "\x1b[2J", "\u2028", "{{7919*7919}}"]
)
def test_the_command_line_hands_it_on_as_it_is_and_prints_it_harmless(still_server: Server, text: str) -> None:
    done = still_server.hyper("add", "--no-wait", "-t", "fake", "--", text)
    assert done.returncode in (0, 1)
    if done.returncode == 0:
        assert [each["image"] for each in still_server.client.machines.list({"image": text})] == [text]
        still_server.client.machines.remove(done.stdout.strip())
    assert "Traceback" not in done.stderr
    said = done.stdout + done.stderr
    assert [char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char != "\n"] == []
