"""What a person sees of events: the last few, then those to come; it ends with who reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.iaas_cli.conftest import ESCAPES
from tests.run_dir import RUN_DIR

from garbi.base.errors import InvalidField
from garbi.devcloud import DevCloud
from garbi.hyper_api.client import HyperClient

LIMIT_S = 120
SPEC = {"image": "any", "type": "fake", "mem": 16}


@pytest.fixture(scope="module")
def cloud() -> Iterator[DevCloud]:
    with DevCloud(nodes=1) as cloud:
        cloud.client.machines.add({**SPEC, "id": "web"})
        yield cloud


def command(program: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; from garbi.{program}.cli import main; sys.exit(main())"]


def environment(cloud: DevCloud, home: Path) -> dict[str, str]:
    node = cloud.nodes["node-1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GARBI_") or name == RUN_DIR}
    return kept | {
        "HOME": str(home),
        "GARBI_IAAS_URL": cloud.url,
        "GARBI_IAAS_TOKEN_FILE": str(cloud.token_file),
        "GARBI_HYPER_URL": f"http://{node.address}",
        "GARBI_HYPER_TOKEN_FILE": str(node.data_dir / "token"),
    }


def run(cloud: DevCloud, home: Path, program: str, *words: str) -> list[str]:
    done = subprocess.run(
        [*command(program), "events", *words], env=environment(cloud, home), capture_output=True, text=True,
        timeout=LIMIT_S, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def host_of(cloud: DevCloud) -> HyperClient:
    node = cloud.nodes["node-1"]
    return HyperClient(f"http://{node.address}", token=node.agent.secret)


def test_the_last_few_come_in_order_and_it_ends_unless_it_follows(cloud: DevCloud, tmp_path: Path) -> None:
    every = [json.loads(line) for line in run(cloud, tmp_path, "iaas", "--after", "0", "--no-follow", "-o", "json")]
    assert [event["seq"] for event in every] == sorted(event["seq"] for event in every)
    last = [json.loads(line) for line in run(cloud, tmp_path, "iaas", "--last", "3", "--no-follow", "-o", "json")]
    assert last == every[-3:]
    some = run(cloud, tmp_path, "iaas", "subject=machine", "id=web", "--last", "1", "--no-follow", "-o", "json")
    assert [json.loads(line)["state"] for line in some] == ["running"]


def test_a_host_tells_its_last_events_too(cloud: DevCloud, tmp_path: Path) -> None:
    (line,) = run(cloud, tmp_path, "hyper", "machine_id=web", "--last", "1", "--no-follow")
    assert line.split("\t")[2:] == ["web", "state", "running", "-"]


def test_the_last_ones_are_found_however_long_ago_they_were(cloud: DevCloud) -> None:
    for number in range(30):
        cloud.client.machines.add({**SPEC, "id": f"later-{number}"})
        cloud.client.machines.remove(f"later-{number}")
    found = [*cloud.client.events(last=2, follow=False, subject="machine", id="web")]
    assert [event["id"] for event in found] == ["web", "web"]
    assert found[-1]["state"] == "running"
    assert [*cloud.client.events(last=5, follow=False, id="nobody")] == []
    assert len([*host_of(cloud).events(last=4, follow=False)]) == 4


@pytest.mark.parametrize("query", [{"last": -1}, {"last": 1001}, {"last": "many"}])
def test_a_wrong_number_is_refused(cloud: DevCloud, query: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match="0 to 1000"):
        [*cloud.client.events(follow=False, **query)]


def test_a_terminal_gets_a_line_that_says_what_by_whom_and_why(cloud: DevCloud, tmp_path: Path) -> None:
    before = cloud.controller.events.last_seq()
    cloud.nodes["node-1"].world.kill("web")
    next(event for event in cloud.client.events(before, subject="machine", id="web") if event["reason"])
    words = ["events", "subject=machine", "id=web", "--last", "20"]
    child = pexpect.spawn(
        command("iaas")[0], [*command("iaas")[1:], *words], env={**environment(cloud, tmp_path), "TERM": "xterm"},
        encoding="utf-8", timeout=LIMIT_S, dimensions=(40, 180), use_poll=True,
    )  # fmt: skip
    try:
        child.expect("node:node-1 +[^ ].*\r\n")
        line = ESCAPES.sub("", (child.before + child.after)).splitlines()[-1]
        assert line[2] == line[5] == ":"  # the time of day
        assert line.split()[1:4] == ["machine", "web", "state"]
        child.sendcontrol("c")
        child.expect(pexpect.EOF)
        assert "Traceback" not in child.before
    finally:
        child.close(force=True)
    assert child.exitstatus == 130


@pytest.mark.parametrize("program", ["iaas", "hyper"])
def test_it_ends_with_who_reads_it_although_nothing_happens(cloud: DevCloud, tmp_path: Path, program: str) -> None:
    words = [*command(program), "events", "--last", "1"]
    with subprocess.Popen(
        words, env=environment(cloud, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline()
        watching.stdout.close()
        try:
            assert watching.wait(LIMIT_S) == 1
            assert watching.stderr.read() == ""
        finally:
            watching.kill()


def test_ctrl_c_ends_it_quietly(cloud: DevCloud, tmp_path: Path) -> None:
    words = [*command("iaas"), "events", "--last", "1"]
    with subprocess.Popen(
        words, env=environment(cloud, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            assert watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            assert watching.wait(LIMIT_S) == 130
            assert watching.stderr.read().strip() == ""
        finally:
            watching.kill()
