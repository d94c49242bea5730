"""What a host answers, and its command line says, while a driver refuses: never that something is so which is not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import LIMIT_S, Server, StartServer
from tests.conformance.bench import eventually

SPEC: dict[str, Any] = {"image": "any", "type": "fake", "id": "web"}


def wish(server: Server, state: str, wait_s: float = 30) -> Any:
    return server.ask("PUT", "/hyper/machines/web", {"state": state}, {"Prefer": f"wait={wait_s:g}"})


def state_of(server: Server) -> str:
    return str(server.client.machines.get("web")["state"])


@pytest.mark.parametrize(("state", "verb"), [("running", "start"), ("stopped", "stop"), ("paused", "pause")])
def test_what_is_refused_once_is_done_before_the_answer(start_server: StartServer, state: str, verb: str) -> None:
    server = start_server()
    server.client.machines.add({**SPEC, "state": "stopped" if state == "running" else "running"})
    server.world.fail_next(verb, "driver-failed")
    answer = wish(server, state)
    assert (answer.status, answer.json()["state"], answer.json()["settled"]) == (200, state, True)


def test_a_stop_that_is_refused_for_good_is_on_its_way_and_says_why(start_server: StartServer) -> None:
    server = start_server({"faults": "stop:*:driver-failed,kill:*:driver-failed"})
    server.client.machines.add(SPEC)
    answer = wish(server, "stopped", 1)
    assert (answer.status, answer.json()["state"], answer.json()["settled"]) == (202, "stopping", False)
    assert "stop fails as ordered" in answer.json()["reason"]
    assert wish(server, "running").status == 200


@pytest.mark.parametrize("code", ["driver-failed", "image-rejected"])
def test_a_start_that_is_refused_is_an_error_that_says_whether_it_is_tried_again(
    start_server: StartServer, code: str
) -> None:
    server = start_server()
    server.client.machines.add({**SPEC, "state": "stopped"})
    server.world.fail_next("start", code, times=None)
    answer = wish(server, "running")
    assert (answer.status, answer.json()["code"], answer.json()["state"]) == (409, "not-as-wished", "failed")
    assert "start fails as ordered" in answer.json()["detail"]
    assert ("attempt 2 of 6" in answer.json()["detail"]) is (code == "driver-failed")
    server.world.fail_next("start", code, times=0)
    assert wish(server, "running").status == 200


def test_a_pause_that_is_refused_is_an_error_and_the_machine_runs(start_server: StartServer) -> None:
    server = start_server({"faults": "pause:*:driver-failed"})
    server.client.machines.add(SPEC)
    answer = wish(server, "paused")
    assert (answer.status, answer.json()["code"], answer.json()["state"]) == (409, "not-as-wished", "running")
    assert "to pause it was refused, again in 10 s" in answer.json()["detail"]
    assert state_of(server) == "running"


def test_who_does_not_wait_is_told_that_it_is_on_its_way(start_server: StartServer) -> None:
    server = start_server({"start_delay_s": "3600"})
    server.client.machines.add({**SPEC, "state": "stopped"})
    assert wish(server, "running", 0).status == 202


def test_the_command_line_ends_with_the_reason_and_an_exit_code(start_server: StartServer) -> None:
    server = start_server()
    server.client.machines.add({**SPEC, "state": "stopped"})
    server.world.fail_next("start", "driver-failed", times=None)
    failed = server.hyper("start", "web")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("hyper: web is failed: start fails as ordered")
    assert "attempt 2 of 6 to start it was refused, again in 10 s" in failed.stderr
    server.world.fail_next("start", "driver-failed", times=0)
    started = server.hyper("start", "web")
    assert (started.returncode, started.stdout) == (0, "web\n")
    server.world.fail_next("stop", "driver-failed")
    assert server.hyper("stop", "web").returncode == 0
    eventually("it is stopped", lambda: state_of(server) == "stopped", LIMIT_S)


def test_the_metrics_count_what_was_refused_and_what_nobody_explains(start_server: StartServer) -> None:
    server = start_server({"faults": "start:2:driver-failed"})
    server.client.machines.add(SPEC)
    text = server.ask("GET", "/metrics").body.decode()
    assert 'garbi_hyper_refused_steps_total{step="start",type="fake"} 2.0' in text
    assert "garbi_hyper_unexplained_machines 0.0" in text
