"""What the cloud answers while a node's driver refuses: never that something is so which is not."""

from __future__ import annotations

import pytest
from tests.conformance.bench import eventually
from tests.iaas_api.conftest import LIMIT_S, SPEC, Cloud

WEB = {**SPEC, "id": "web"}


@pytest.mark.parametrize(("state", "verb"), [("running", "start"), ("stopped", "stop"), ("paused", "pause")])
def test_what_a_node_is_refused_once_is_done_before_the_answer(empty_cloud: Cloud, state: str, verb: str) -> None:
    host = empty_cloud.add_node("n1")
    empty_cloud.client.machines.add({**WEB, "state": "stopped" if state == "running" else "running"})
    host.world.fail_next(verb, "driver-failed")
    answer = empty_cloud.ask("PUT", "/iaas/machines/web", {"state": state})
    assert (answer.status, answer.json()["state"], answer.json()["settled"]) == (200, state, True)


def test_what_is_refused_for_good_is_an_error_or_on_its_way_and_always_says_why(empty_cloud: Cloud) -> None:
    host = empty_cloud.add_node("n1")
    empty_cloud.client.machines.add(WEB)
    for verb in ("start", "stop", "kill", "pause"):
        host.world.fail_next(verb, "driver-failed", times=None)
    paused = empty_cloud.ask("PUT", "/iaas/machines/web", {"state": "paused"})
    assert (paused.status, paused.json()["code"], paused.json()["state"]) == (409, "not-as-wished", "running")
    assert "attempt 2 of 6 to pause it was refused, again in 10 s" in paused.json()["detail"]
    shown = empty_cloud.client.machines.get("web")
    assert (shown["state"], shown["wish"]) == ("running", "paused")
    assert "to pause it was refused" in shown["reason"]
    stopped = empty_cloud.ask("PUT", "/iaas/machines/web", {"state": "stopped"}, {"Prefer": "wait=1"})
    assert (stopped.status, stopped.json()["settled"]) == (202, False)
    eventually("it says why", lambda: "stop it was refused" in _reason(empty_cloud), LIMIT_S)
    for verb in ("stop", "kill"):
        host.world.fail_next(verb, "driver-failed", times=0)
    assert empty_cloud.client.machines.get("web", wait_s=LIMIT_S)["state"] == "stopped"
    started = empty_cloud.ask("PUT", "/iaas/machines/web", {"state": "running"})
    assert (started.status, started.json()["code"], started.json()["state"]) == (409, "not-as-wished", "failed")
    assert empty_cloud.controller.audit() == []


def _reason(cloud: Cloud) -> str:
    return str(cloud.client.machines.get("web")["reason"])
