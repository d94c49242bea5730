"""An agent that is killed right after a step was refused: what is owed is owed by the next one, with the count so far."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash.test_sigkill import served

from garbi.base.errors import ServerUnreachable
from garbi.base.failpoints import EXIT_CODE

SPEC = {"image": "any", "type": "fake", "id": "web", "mem": 16}
FAULTS = "GARBI_DRIVER_FAKE_FAULTS"


@pytest.mark.parametrize("state", ["running", "stopped", "paused"])
def test_what_was_refused_before_a_kill_is_done_after_it(tmp_path: Path, state: str) -> None:
    verb = {"running": "start", "stopped": "stop", "paused": "pause"}[state]
    first = "stopped" if state == "running" else "running"
    with served(tmp_path) as (_, client):
        client.machines.add({**SPEC, "state": first}, wait_s=60)
    faulty = {FAULTS: f"{verb}:*:driver-failed", "GARBI_CRASH_AT": "machine.refusal.recorded"}
    with served(tmp_path, **faulty) as (program, client):
        with pytest.raises(ServerUnreachable):
            client.machines.wish("web", state, wait_s=60)
        assert program.wait(60) == EXIT_CODE
    with served(tmp_path) as (_, client):
        machine = client.machines.get("web", wait_s=60)
        assert (machine["state"], machine["wish"], machine["reason"]) == (state, state, "")
        assert any("; attempt 1 " in event["reason"] for event in client.events(last=50, follow=False))
        assert client.audit() == []
        client.machines.remove("web", wait_s=60)
