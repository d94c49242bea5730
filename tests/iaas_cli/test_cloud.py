"""The commands against a real controller and real agents with fake machines, and some commands as processes of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pexpect
import pytest
from tests.free_ports import free_port
from tests.iaas_api.conftest import Cloud, cloud_in, place
from tests.iaas_images.relay import relay_to

from .conftest import IAAS, LIMIT_S, Run, Spawn, environment_of, read_all, run_iaas

MIB = 2**20


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A cloud of two nodes, n1 and n2, and a host, h3, that is none."""
    with place() as path, cloud_in(path) as cloud:
        cloud.add_node("n1")
        cloud.add_node("n2")
        cloud.start_host("h3")
        yield cloud


def token_file(cloud: Cloud) -> Path:
    return cloud.controller.settings.data_dir / "token"


@pytest.fixture
def iaas(cloud: Cloud, run_here: Run) -> Run:
    """Runs one command against the cloud."""
    return lambda *words: run_here("--url", cloud.url, "--token-file", str(token_file(cloud)), *words)


def done(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that a command printed, which must have succeeded."""
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """What a command that was refused said."""
    assert (result.returncode, result.stdout) == (1, ""), result.stdout + result.stderr
    return result.stderr


@pytest.fixture
def clean(cloud: Cloud) -> Iterator[None]:
    """No machine is left behind."""
    yield
    for machine in cloud.client.machines.list():
        cloud.client.machines.remove(machine["id"], wait_s=LIMIT_S)


pytestmark = pytest.mark.usefixtures("clean")


def test_a_machine_lives_from_add_to_rm(iaas: Run) -> None:
    assert done(iaas("vm", "add", "any", "-t", "fake", "-i", "web", "-m", "64", "--name", "shop")) == ["web"]
    shown = json.loads("".join(done(iaas("vm", "show", "web", "-o", "json"))))
    assert (shown["name"], shown["state"], shown["mem"]) == ("shop", "running", 64)
    assert done(iaas("vm", "stop", "web")) == ["web"]
    assert "already" in iaas("vm", "stop", "web").stderr
    assert done(iaas("vm", "ls", "-q", "state=stopped")) == ["web"]
    assert done(iaas("vm", "start", "web")) == ["web"]
    assert done(iaas("vm", "pause", "web")) == ["web"]
    assert done(iaas("vm", "resume", "web")) == ["web"]
    assert len(done(iaas("vm", "stats", "web", "--interval", "0.1"))) == 2
    assert iaas("vm", "log", "web").returncode == 0
    assert done(iaas("vm", "rm", "web")) == ["web"]
    assert "web" in refused(iaas("vm", "show", "web"))
    assert "web" in refused(iaas("vm", "rm", "web"))


def test_a_step_that_is_refused_ends_with_the_reason_or_with_what_was_wished(cloud: Cloud, iaas: Run) -> None:
    done(iaas("vm", "add", "any", "-t", "fake", "--id", "refused", "-n", "n1", "--no-start"))
    world = cloud.hosts["n1"].world
    world.fail_next("start", "driver-failed", machine_id="refused", times=None)
    words = refused(iaas("vm", "start", "refused"))
    assert words.startswith("iaas: refused is failed: start fails as ordered")
    assert "attempt 2 of 6 to start it was refused, again in 10 s" in words
    world.fail_next("start", "driver-failed", machine_id="refused", times=0)
    assert done(iaas("vm", "start", "refused")) == ["refused"]
    world.fail_next("stop", "driver-failed", machine_id="refused")
    assert done(iaas("vm", "stop", "refused")) == ["refused"]
    assert cloud.client.machines.get("refused")["state"] == "stopped"
    done(iaas("vm", "rm", "refused"))


def test_a_taken_port_is_refused_with_its_holder_by_name_and_node(iaas: Run) -> None:
    port = free_port()
    words = ("vm", "add", "any", "-t", "fake", "-n", "n1", "-p", f"{port}:80")
    assert done(iaas(*words, "-i", "first")) == ["first"]
    said = refused(iaas(*words, "-i", "second"))
    assert str(port) in said
    assert "first" in said
    assert "n1" in said


def test_an_explanation_judges_every_node_and_places_nothing(iaas: Run) -> None:
    words = ("vm", "add", "any", "-t", "fake", "--explain", "-o", "json")
    told = json.loads("".join(done(iaas(*words))))
    assert told["chosen"] in ("n1", "n2")
    assert [each["node"] for each in told["verdicts"]] == ["n1", "n2"]
    assert done(iaas("vm", "ls", "-q")) == []


def test_when_nothing_fits_each_node_is_told_of(iaas: Run) -> None:
    said = refused(iaas("vm", "add", "any", "-t", "fake", "-m", "100000"))
    assert "memory on 2 nodes" in said
    assert [line.split()[1] for line in said.splitlines()[1:]] == ["n1:", "n2:"]
    named = refused(iaas("vm", "add", "any", "-t", "fake", "-m", "100000", "-n", "n2"))
    assert "node n2 cannot take it: memory" in named
    assert "n1" not in named


def test_many_machines_are_spread_and_those_that_must_be_apart_run_out_of_nodes(iaas: Run) -> None:
    ids = done(iaas("vm", "add", "any", "-t", "fake", "-m", "16", "--name", "web", "--count", "6"))
    assert len(set(ids)) == 6
    rows = json.loads("".join(done(iaas("vm", "ls", "-o", "json"))))
    assert sorted(each["name"] for each in rows) == [f"web-{number}" for number in range(1, 7)]
    assert sorted(each["node"] for each in rows) == ["n1"] * 3 + ["n2"] * 3
    apart = iaas("vm", "add", "any", "-t", "fake", "-m", "16", "--label", "app=x", "--apart", "app", "--count", "3")
    assert apart.returncode == 1
    assert len(apart.stdout.splitlines()) == 2
    assert "a machine with app=x on 2 nodes" in apart.stderr
    assert "1 of 3 machines failed" in apart.stderr


def test_wrong_names_are_refused_in_words(iaas: Run) -> None:
    assert "nobody" in refused(iaas("vm", "start", "nobody"))
    assert "nowhere" in refused(iaas("vm", "add", "any", "-t", "fake", "-n", "nowhere"))
    assert "nosuch" in refused(iaas("vm", "add", "nosuch"))
    assert "n9" in refused(iaas("node", "show", "n9"))
    assert "n9" in refused(iaas("node", "drain", "n9"))
    assert "nosuch" in refused(iaas("img", "rm", "nosuch"))
    assert "colour" in refused(iaas("vm", "ls", "colour=red"))
    assert "Bad Name" in refused(iaas("vm", "add", "any", "-t", "fake", "-i", "Bad Name"))


def test_a_node_is_added_once_drained_left_and_removed(cloud: Cloud, iaas: Run, tmp_path: Path) -> None:
    host = cloud.hosts["h3"]
    address = urlsplit(host.url).netloc
    secret = tmp_path / "secret"
    secret.write_text(host.agent.secret)
    secret.chmod(0o600)
    add = ("node", "add", "n3", address, "--no-provision", "--token-file", str(secret), "--label", "disk=ssd")
    assert done(iaas(*add)) == ["n3"]
    assert "n3" in refused(iaas(*add))
    assert done(iaas("node", "ls", "-q", "state=ready")) == ["n1", "n2", "n3"]
    assert done(iaas("vm", "add", "any", "-t", "fake", "-i", "web", "--require", "disk=ssd")) == ["web"]
    assert "web" in refused(iaas("node", "rm", "n3"))
    drained = iaas("node", "drain", "n3")
    assert done(drained) == ["n3"]
    assert drained.stderr.startswith("iaas: n3: ")
    assert "draining" in refused(iaas("vm", "add", "any", "-t", "fake", "-n", "n3"))
    assert done(iaas("node", "undrain", "n3")) == ["n3"]
    assert "unreachable" in refused(iaas("node", "confirm-dead", "n3"))
    assert done(iaas("node", "rm", "--force", "n3")) == ["n3"]
    assert done(iaas("node", "ls", "-q")) == ["n1", "n2"]


def test_a_node_whose_token_is_wrong_fails_with_a_way_on(cloud: Cloud, iaas: Run, tmp_path: Path) -> None:
    address = urlsplit(cloud.hosts["h3"].url).netloc
    secret = tmp_path / "secret"
    secret.write_text("garbi_" + "x" * 43)
    secret.chmod(0o600)
    try:
        said = refused(iaas("node", "add", "n4", address, "--no-provision", "--token-file", str(secret)))
        assert "token" in said
        assert "iaas node rm n4" in said
    finally:
        iaas("node", "rm", "n4")


def test_an_image_is_sent_listed_used_and_removed(iaas: Run, tmp_path: Path) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"\0" * 510 + b"\x55\xaa" + b"\0" * (3 * MIB))
    sent = iaas("img", "add", "disk", str(file))
    assert done(sent) == ["disk"]
    assert "taken as raw" in sent.stderr
    assert done(iaas("img", "add", "disk", str(file))) == ["disk"]
    other = tmp_path / "other.raw"
    other.write_bytes(b"\0" * 510 + b"\x55\xaa" + b"\0" * (2 * MIB))
    assert "another image called disk" in refused(iaas("img", "add", "disk", str(other), "-t", "raw"))
    shown = json.loads("".join(done(iaas("img", "ls", "-o", "json", "name=disk"))))[0]
    assert (shown["type"], shown["state"], shown["size"]) == ("raw", "active", 3 * MIB + 512)
    assert done(iaas("vm", "add", "disk", "-t", "fake", "-i", "web")) == ["web"]
    assert "web" in refused(iaas("img", "rm", "disk"))
    done(iaas("vm", "rm", "web"))
    assert done(iaas("img", "rm", "disk")) == ["disk"]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A raw disk of some size."""
    path = tmp_path / "large.raw"
    path.write_bytes(os.urandom(510) + b"\x55\xaa" + os.urandom(12 * MIB))
    return path


@pytest.fixture
def no_images(cloud: Cloud) -> Iterator[None]:
    """No image is left behind."""
    yield
    for each in cloud.client.images.list():
        cloud.client.images.remove(each["name"])


def begin_upload(cloud: Cloud, name: str, content: bytes) -> None:
    """Leave an upload behind that was broken off."""
    assert cloud.ask("POST", "/iaas/images", {"name": name, "type": "raw"}).status == 201
    headers = {"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?0"}
    assert cloud.ask("PATCH", f"/iaas/images/{name}/file", raw=content, headers=headers).status < 300


@pytest.mark.usefixtures("no_images")
def test_an_upload_that_is_cut_goes_on_by_itself(cloud: Cloud, large: Path, run_here: Run) -> None:
    size = large.stat().st_size
    with relay_to(cloud.url, 5 * MIB) as wire:
        words = ("img", "add", "large", str(large), "-t", "raw")
        assert done(run_here("--url", wire.url, "--token-file", str(token_file(cloud)), *words)) == ["large"]
        assert wire.broken == 1
        assert wire.sent < 2 * size
    assert cloud.client.images.get("large")["size"] == size


@pytest.mark.usefixtures("no_images")
def test_a_command_goes_on_with_what_an_earlier_one_has_sent(cloud: Cloud, large: Path, run_here: Run) -> None:
    content = large.read_bytes()
    begin_upload(cloud, "large", content[: 10 * MIB])
    with relay_to(cloud.url) as wire:
        words = ("img", "add", "large", str(large), "-t", "raw")
        assert done(run_here("--url", wire.url, "--token-file", str(token_file(cloud)), *words)) == ["large"]
        assert wire.sent < 4 * MIB
    assert cloud.client.images.get("large")["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.usefixtures("no_images")
def test_what_was_begun_with_another_content_does_not_become_an_image(cloud: Cloud, large: Path, iaas: Run) -> None:
    begin_upload(cloud, "large", b"\0" * MIB)
    assert "sha256" in refused(iaas("img", "add", "large", str(large), "-t", "raw"))
    assert cloud.client.images.get("large")["state"] != "active"
    assert done(iaas("img", "add", "large", str(large), "-t", "raw")) == ["large"]


def test_an_upload_shows_a_bar_and_what_it_became(cloud: Cloud, spawn: Spawn, tmp_path: Path) -> None:
    file = tmp_path / "large.raw"
    with file.open("wb") as content:
        content.write(b"\0" * 510 + b"\x55\xaa")
        content.truncate(100 * MIB)
    child = spawn(cloud.url, "img", "add", "large", str(file), token_file=token_file(cloud))
    child.expect("MB")
    child.expect(r"large is here \(raw, 100.0 MiB\)")
    child.expect(pexpect.EOF)
    cloud.client.images.remove("large")


def test_the_shell_makes_and_completes_machines(cloud: Cloud, spawn: Spawn) -> None:
    shell = spawn(cloud.url, token_file=token_file(cloud))
    shell.expect("iaas>")
    shell.sendline("vm add any -t fake -i website")
    shell.expect(r"website is running \(fake, on n[12]\)")
    shell.expect("iaas>")
    shell.send("vm stop web\t")
    shell.expect("site")
    shell.sendline("")
    shell.expect("website is stopped")
    shell.expect("iaas>")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)


def test_lists_on_a_terminal_are_tables_with_the_age_of_a_node(cloud: Cloud, spawn: Spawn) -> None:
    rows = read_all(spawn(cloud.url, "node", "ls", token_file=token_file(cloud))).splitlines()
    assert rows[0].split()[:4] == ["NAME", "STATE", "ADDRESS", "MACHINES"]
    assert [row.split()[:2] for row in rows[1:3]] == [["n1", "ready"], ["n2", "ready"]]
    assert all(" s" in row for row in rows[1:3])


def test_the_cloud_is_sound_and_says_so(iaas: Run) -> None:
    assert done(iaas("audit")) == ["INVARIANT\tSUBJECT\tDETAIL"]


def test_events_are_streamed_as_they_happen(cloud: Cloud, tmp_path: Path, iaas: Run) -> None:
    environment = environment_of(tmp_path, cloud.url, token_file(cloud))
    words = [*IAAS, "events", "--after", "0", "-o", "json", "subject=machine", "id=eventful"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout is not None
            done(iaas("vm", "add", "any", "-t", "fake", "-i", "eventful"))
            seen: list[dict[str, Any]] = []
            decoder, text = json.JSONDecoder(), ""
            while not seen or seen[-1]["state"] != "running":
                text += watching.stdout.readline()
                with contextlib.suppress(ValueError):
                    seen.append(decoder.decode(text))
                    text = ""
            assert {each["id"] for each in seen} == {"eventful"}
        finally:
            watching.send_signal(signal.SIGINT)
            assert watching.wait(LIMIT_S) == 130


def test_who_has_another_token_is_told_where_the_right_one_is(cloud: Cloud, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("garbi_" + "y" * 43)
    wrong.chmod(0o600)
    said = refused(run_iaas(environment_of(tmp_path, cloud.url, wrong), "vm", "ls"))
    assert "GARBI_IAAS_TOKEN_FILE" in said


def test_the_controller_is_a_command_that_says_where_it_answers(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, "http://127.0.0.1:1")
    words = [*IAAS, "serve", "--port", "0", "--data-dir", str(tmp_path / "iaas")]
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            line = next(each for each in serving.stdout if "http://" in each)
            url = line.split("http://", 1)[1].split()[0]
            there = environment_of(tmp_path, f"http://{url}", tmp_path / "iaas/token")
            assert done(run_iaas(there, "node", "ls")) == [
                "NAME\tSTATE\tADDRESS\tMACHINES\tMEM\tCPUS\tTYPES\tSEEN\tLABELS\tREASON"
            ]
        finally:
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(LIMIT_S) == 0
