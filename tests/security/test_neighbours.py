"""Threats B and C: browsers of this host, other hosts, machines and registries that try to give the agent orders."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import HYPER, Server
from tests.host.agent.host_agent import HostAgent, eventually, output
from tests.host.docker_archives import RUN_UNTIL_ASKED, busybox_tree, image_config, saved_archive
from tests.host.publishing_lab import engine_in, open_lab
from tests.security.test_guest_disks import qcow2_header

from garbi.base.errors import DigestMismatch, GarbiError
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec
from garbi.hyper.rest.app import assemble

ROUTES = [(method.upper(), path) for path, item in assemble().openapi()["paths"].items() for method in item]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_cve_2025_54286_no_route_answers_a_page_of_another_site(still_server: Server, method: str, path: str) -> None:
    target = re.sub(r"\{\w+\}", "web", path)
    here = urlsplit(still_server.url).netloc
    foreign = ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"})
    for headers in (
        *foreign,
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": f"{here.rpartition(':')[0]}.evil.example"},
    ):
        reply = still_server.ask(method, target, headers=headers)
        assert reply.status == 403
        assert method == "HEAD" or reply.json()["code"] == "refused-request"
        assert not [name for name in reply.headers if name.startswith("access-control") or name == "set-cookie"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("dest", ["image", "empty", "iframe", "script"])
def test_what_a_page_of_another_site_embeds_is_refused(still_server: Server, site: str, dest: str) -> None:
    for path in ("/hyper/events", "/hyper/audit", "/hyper/machines"):
        reply = still_server.ask("GET", path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest})
        assert (reply.status, reply.json()["field"]) == (403, "Sec-Fetch-Site")


def test_a_user_may_follow_a_link_to_the_page_for_people(still_server: Server) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    for headers in (followed, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert still_server.ask("GET", "/docs", headers=headers).status == 200


def test_cve_2025_54286_a_browsers_question_whether_it_may_is_denied(still_server: Server) -> None:
    for origin in ("http://evil.example", still_server.url):
        headers = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
        reply = still_server.ask("OPTIONS", "/hyper/machines/web", headers=headers)
        assert reply.status in (403, 405)
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_form_cannot_make_a_machine(still_server: Server) -> None:
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = still_server.ask(
            "POST", "/hyper/machines", raw=b'{"image":"any","type":"fake"}', headers={"Content-Type": media}
        )
        assert reply.status == 415
    assert still_server.client.machines.list() == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_nobody_opens_the_agent_to_other_hosts_by_accident(tmp_path: Path, address: str) -> None:
    command = [HYPER, "serve", "--host", address, "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "--allow-remote" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.root
@pytest.mark.docker
def test_the_agent_does_not_start_beside_an_engine_that_takes_orders_from_the_network(tmp_path: Path) -> None:
    with open_lab() as lab:
        space, _ = lab.neighbour()
        options = ("-H", "tcp://0.0.0.0:4711", "--tls=false", "--bridge=none", "--iptables=false")
        command = space.command(str(HYPER), "serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
        with engine_in(space, *options):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "dockerd" in done.stderr
    assert "0.0.0.0:4711" in done.stderr or "[::]:4711" in done.stderr or ":::4711" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.root
@pytest.mark.docker
def test_a_machine_does_not_reach_the_agent(host: HostAgent, front: Server) -> None:
    port = urlsplit(front.url).port
    layers = [busybox_tree()]
    content = saved_archive(layers, image_config(layers, ["/bin/sh", "-c", RUN_UNTIL_ASKED]))
    host.agent.images.add("prober", ImageType.DOCKER, [content])
    host.run("prober", "prober", mem=32)
    name = host.daemon_name("prober")
    gateway = output("docker", "inspect", "-f", "{{.NetworkSettings.Gateway}}", name)
    own = re.findall(r"inet (\S+)/", output("ip", "-4", "-oneline", "address"))
    assert front.ask("GET", "/hyper/health").status == 200
    for address in {gateway, *own}:
        probe = [
            "docker",
            "exec",
            name,
            "/bin/busybox",
            "nc",
            "-w",
            "2",
            address,
            str(port),
            "-e",
            "/bin/busybox",
            "true",
        ]
        assert subprocess.run(probe, capture_output=True, timeout=120, check=False).returncode != 0, address
    host.remove("prober")
    host.agent.images.remove("prober")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A server of this host that no request should come to, and who came."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    came.append(server.accept())
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


REFERENCES = [
    *("http://127.0.0.1:{port}/x", "https://127.0.0.1:{port}/x", "127.0.0.1:{port}/x", "localhost:{port}/x/y:z"),
    *("2130706433:{port}/x", "0x7f000001:{port}/x", "0177.0.0.1:{port}/x", "127.1:{port}/x", "[::1]:{port}/x"),
    *("[::ffff:127.0.0.1]:{port}/x", "user@127.0.0.1:{port}/x", "127.0.0.1:{port}/x@sha256:" + "0" * 64),
    *("file:///etc/passwd", "gopher://127.0.0.1:{port}/x", "//127.0.0.1:{port}/x", "evil.example@127.0.0.1:{port}/x"),
    *("169.254.169.254/latest/meta-data", "metadata.google.internal/x", "docker.io/library/busybox", "library/busybox"),
]


@pytest.mark.root
@pytest.mark.docker
@pytest.mark.parametrize("type_name", [None, "docker", "libvirt"])
def test_cve_2026_34881_no_name_of_an_image_makes_the_host_ask_anybody(
    host: HostAgent, listener: tuple[int, list[object]], type_name: str | None
) -> None:
    port, came = listener
    for reference in REFERENCES:
        with pytest.raises(GarbiError) as caught:
            host.agent.machines.add(MachineSpec(image=reference.format(port=port), type=type_name))
        assert caught.value.status == 422, reference
    assert came == []
    assert host.agent.machines.list() == []


def test_cve_2024_47211_content_is_compared_with_its_digest_before_anything_looks_into_it(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "canary").write_bytes(b"x")
    hostile = qcow2_header(tmp_path / "canary")
    with pytest.raises(DigestMismatch):
        server.agent.images.add("image", ImageType.QCOW2, [hostile], hashlib.sha256(b"what was meant").hexdigest())
    assert server.agent.images.list() == []


@pytest.mark.parametrize(
    "digest", ["../../../../etc/passwd", "/etc/passwd", "0" * 63 + "\n", "0" * 65, "A" * 64 + "/.."]
)
def test_cve_2026_48769_a_digest_is_never_a_path(server: Server, digest: str) -> None:
    with pytest.raises(GarbiError) as caught:
        server.agent.images.add("image", ImageType.RAW, [bytes(512)], digest)
    assert caught.value.status == 422
    files = [each for each in (server.agent.settings.data_dir / "images").rglob("*") if each.is_file()]
    assert files == []
    eventually("nothing is listed", lambda: server.agent.images.list() == [])
