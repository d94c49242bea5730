"""The commands against a real server, in a pipe, as scripts run them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.api.conftest import HYPER, Server, StartServer, run_hyper
from tests.free_ports import free_port


def test_a_script_makes_a_machine_by_the_id_that_add_prints(server: Server) -> None:
    web, names = sorted((free_port(), free_port()))
    made = server.hyper("add", "any", "-t", "fake", "-m", "64", "-c", "1", "-p", f"{web}:80", "-p", f"{names}:53/udp")
    assert (made.returncode, made.stderr) == (0, "")
    id = made.stdout.removesuffix("\n")
    machine = server.client.machines.get(id)
    assert (machine["state"], machine["mem"]) == ("running", 64)
    assert machine["ports"] == [
        {"node_port": web, "machine_port": 80, "protocol": "tcp"},
        {"node_port": names, "machine_port": 53, "protocol": "udp"},
    ]
    assert server.hyper("stop", id).stdout == f"{id}\n"
    assert server.client.machines.get(id)["state"] == "stopped"
    assert server.hyper("start", id).returncode == 0
    assert server.hyper("pause", id).returncode == 0
    assert server.client.machines.get(id)["state"] == "paused"
    assert server.hyper("resume", id).returncode == 0
    assert server.hyper("rm", id).stdout == f"{id}\n"
    assert server.client.machines.list() == []


def test_add_takes_what_the_contract_lists(server: Server) -> None:
    made = server.hyper(
        *("add", "any", "-i", "web", "-t", "fake", "--name", "www", "--label", "team=blue"),
        *("--full-copy", "--no-start", "--restart", "always"),
    )
    assert made.stdout == "web\n"
    machine = server.client.machines.get("web")
    assert (machine["name"], machine["labels"], machine["full_copy"]) == ("www", {"team": "blue"}, True)
    assert (machine["state"], machine["restart"]) == ("stopped", "always")
    wrong = server.hyper("add", "any", "-t", "fake", "--restart", "sometimes")
    assert wrong.returncode == 2
    assert all(policy in wrong.stderr for policy in ("no", "on-failure", "always"))


def test_no_wait_returns_before_the_machine_is_made(start_server: StartServer) -> None:
    server = start_server({"add_delay_s": "3"})
    assert server.hyper("add", "any", "-t", "fake", "-i", "web", "--no-wait").stdout == "web\n"
    assert server.client.machines.get("web")["settled"] is False


def test_a_machine_that_fails_is_an_error_that_says_why(start_server: StartServer) -> None:
    server = start_server({"faults": "start:*:driver-failed"})
    failed = server.hyper("add", "any", "-t", "fake", "-i", "web")
    assert (failed.returncode, failed.stdout) == (1, "web\n")
    assert failed.stderr.startswith("hyper: web is failed: ")


def test_several_ids_are_all_tried_and_each_error_is_told(server: Server, web: dict[str, Any]) -> None:
    removed = server.hyper("rm", "nobody", "web", "nothing")
    assert (removed.returncode, removed.stdout) == (1, "web\n")
    assert removed.stderr.count("hyper: no machine has the id") == 2


def test_several_wrong_fields_are_several_lines(server: Server) -> None:
    refused = server.hyper("add", "any", "-m", "0", "-c", "0")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == ["hyper: mem takes at least 1", "hyper: cpus takes at least 1"]


def test_lists_come_in_every_form(server: Server, web: dict[str, Any]) -> None:
    server.client.machines.add({"image": "any", "type": "fake", "id": "db", "state": "stopped"})
    lines = [line.split("\t") for line in server.hyper("list").stdout.splitlines()]
    assert lines[0][:5] == ["ID", "NAME", "TYPE", "IMAGE", "STATE"]
    assert [line[0] for line in lines[1:]] == ["web", "db"]
    assert len({len(line) for line in lines}) == 1
    assert server.hyper("list", "-q", "state=stopped").stdout == "db\n"
    assert json.loads(server.hyper("list", "-o", "json", "id=web").stdout) == [web]
    assert yaml.safe_load(server.hyper("list", "-o", "yaml", "id=web").stdout) == [web]
    unknown = server.hyper("list", "colour=red")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("hyper: no filter is called 'colour'")


def test_show_is_one_field_a_line(server: Server, web: dict[str, Any]) -> None:
    shown = dict(line.split("\t") for line in server.hyper("show", "web").stdout.splitlines())
    assert shown["state"] == "running"
    assert shown.keys() == web.keys()
    assert json.loads(server.hyper("show", "web", "-o", "json").stdout) == web


def test_log_stats_drivers_host_and_audit_answer(server: Server, web: dict[str, Any]) -> None:
    assert server.hyper("log", "web").stdout.strip()
    assert server.hyper("stats", "--interval", "0.1").stdout.splitlines()[1].startswith("web\t")
    assert server.hyper("drivers", "-q").stdout.splitlines() == ["docker", "fake", "libvirt"]
    assert "virtualisation.accelerator\t" in server.hyper("host").stdout
    audited = server.hyper("audit")
    assert (audited.returncode, audited.stdout) == (0, "INVARIANT\tSUBJECT\tDETAIL\n")


def test_audit_fails_when_an_invariant_does(server: Server, web: dict[str, Any]) -> None:
    world = server.world
    world.uproot(world.machine("web").key)
    audited = server.hyper("audit", "-o", "json")
    if audited.returncode == 0:  # the agent was quicker, and knows what happened
        assert server.client.machines.get("web")["state"] != "running"
    else:
        assert json.loads(audited.stdout)[0]["subject"] == "web"


def test_figures_of_a_machine_that_does_not_run_are_an_error_only_when_asked_for(server: Server) -> None:
    server.client.machines.add({"image": "any", "type": "fake", "id": "db", "state": "stopped"})
    assert server.hyper("stats").returncode == 0
    assert server.hyper("stats", "db").returncode == 1


def test_images_are_added_listed_and_removed(server: Server, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    assert server.hyper("images", "add", "small", str(disk)).stdout == "small\n"
    assert server.client.images.get("small")["type"] == "qcow2"
    assert server.hyper("images", "add", "small", str(disk)).returncode == 0
    other = tmp_path / "other.raw"
    other.write_bytes(os.urandom(2048))
    refused = server.hyper("images", "add", "small", str(other))
    assert (refused.returncode, refused.stderr) == (1, "hyper: another image called small is here already\n")
    rejected = server.hyper("images", "add", "wrong", str(other), "--type", "qcow2")
    assert rejected.returncode == 1
    assert server.hyper("images", "ls", "-q").stdout == "small\n"
    assert server.hyper("images", "rm", "small", "small").returncode == 1
    assert server.client.images.list() == []


def test_events_are_printed_as_they_happen(server: Server, web: dict[str, Any]) -> None:
    command = [HYPER, "events", "--after", "0", "machine_id=web", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=server.environment) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
    assert json.loads(first)["kind"] == "created"


def test_a_reader_that_goes_away_is_no_traceback(server: Server, web: dict[str, Any]) -> None:
    command = [HYPER, "list", "-o", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=server.environment
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_unreachable_server_is_told_with_how_to_start_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        failed = run_hyper("list", environment={**os.environ, "GARBI_HYPER_URL": url})
    assert (failed.returncode, failed.stdout) == (3, "")
    assert url in failed.stderr
    assert "hyper serve" in failed.stderr


def test_doctor_needs_no_server(tmp_path: Path) -> None:
    environment = {**os.environ, "GARBI_HYPER_URL": "http://127.0.0.1:1"}
    examined = run_hyper("doctor", "-o", "json", "--data-dir", str(tmp_path), environment=environment)
    checks = {check["name"]: check for check in json.loads(examined.stdout)}
    assert {"docker", "libvirt", "disk", "nftables"} <= checks.keys()
    assert all(check["mend"] for check in checks.values() if check["status"] != "ok")
    assert examined.returncode == any(check["status"] == "fail" for check in checks.values())


def test_doctor_fails_where_something_does_not_work() -> None:
    examined = run_hyper("doctor", "--data-dir", "/proc/garbi", environment=dict(os.environ))
    assert "\ndisk\tfail\t" in examined.stdout
    assert examined.returncode == 1


@pytest.mark.parametrize("end", ["exit\n", ""])
def test_a_shell_in_a_pipe_runs_line_by_line_and_errors_do_not_end_it(server: Server, end: str) -> None:
    script = "# a comment\nadd any -t fake -i web\n\nnonsense\nshow 'open\nstop nobody\nhyper list -q\n" + end
    done = server.hyper(stdin=script)
    assert done.stdout == "web\nweb\n"
    assert done.returncode == 0
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["hyper"] * 4


def test_a_shell_returns_the_status_of_its_last_command(server: Server) -> None:
    assert server.hyper(stdin="stop nobody\n").returncode == 1
    assert server.hyper(stdin="stop nobody\nlist\nexit\nstop nobody\n").returncode == 0
