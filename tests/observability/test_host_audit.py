"""The audit of a host names each invariant that is broken: each test breaks one, and sees it named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.free_ports import free_port
from tests.leases.words import CONTROLLER, renewal
from tests.observability.conftest import OpenAgent, eventually, named, tamper

from garbi.base.audit import Violation
from garbi.base.clock import SystemClock
from garbi.base.errors import NotFound
from garbi.hyper.agent import Agent
from garbi.hyper.agent.audit import AUDITED
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.loops.auditing import AuditRecord
from garbi.hyper.main import DATABASE
from garbi.hyper.model.event import Event, EventKind
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec, NodeFailurePolicy, PublishedPort, Wish
from garbi.hyper.settings import runtime_of
from garbi.hyper.store.database import Database
from garbi.hyper_api.assignment import CONTROLLER_LABEL

SPEC = MachineSpec(image="any", type="fake", id="web", mem=16)
TAKE = "import socket, sys; s = socket.socket(); s.bind(('0.0.0.0', int(sys.argv[1]))); s.listen(); print(); sys.stdin.read()"


def run(agent: Agent, spec: MachineSpec = SPEC) -> None:
    agent.machines.add(spec)
    machine = agent.machines.wait_settled(str(spec.id), 60)
    assert machine is not None
    assert machine.settled, machine


@pytest.fixture
def agent(open_fake_agent: OpenAgent) -> Agent:
    """An agent with a machine that runs, all in order."""
    agent = open_fake_agent(resync_period_s=3600.0, audit_period_s=0.0)
    run(agent)
    assert agent.audit() == []
    return agent


def database_of(agent: Agent) -> Path:
    return agent.settings.data_dir / DATABASE


def test_i2_a_port_that_another_process_has(open_fake_agent: OpenAgent) -> None:
    port = free_port()
    agent = open_fake_agent()
    run(
        agent,
        MachineSpec(image="any", type="fake", id="web", mem=16, ports=(PublishedPort(port, 80),), state=Wish.STOPPED),
    )
    assert agent.audit() == []
    agent.close()
    with subprocess.Popen(
        [sys.executable, "-c", TAKE, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as taker:
        assert taker.stdout is not None
        taker.stdout.readline()
        agent = open_fake_agent()
        eventually("the port is missed", lambda: bool(named(agent.audit(), "I2")))
        assert f"port {port}/tcp belongs to machine web, but" in named(agent.audit(), "I2")["web"]
        assert f"pid {taker.pid}" in named(agent.audit(), "I2")["web"]
        taker.communicate()


def test_i3_more_than_the_host_has(agent: Agent) -> None:
    tamper(database_of(agent), "UPDATE machines SET mem = 1000000, cpus = 100000")
    assert named(agent.audit(), "I3").keys() == {"mem", "cpus"}


def test_i4_a_machine_that_is_lost_from_sight(agent: Agent) -> None:
    tamper(database_of(agent), "DELETE FROM machines WHERE id = 'web'")
    assert named(agent.audit(), "I4") == {"web": "it was created, and is neither here nor removed"}
    assert named(agent.audit(), "I5") == {"web": "running at the driver, but no machine has this id"}


def test_i4_a_machine_that_was_removed_is_not_lost(agent: Agent) -> None:
    agent.machines.remove("web")
    assert agent.machines.wait_settled("web", 60) is None
    assert agent.audit() == []


def test_i4_a_failure_without_a_cause(agent: Agent) -> None:
    tamper(database_of(agent), "UPDATE machines SET state = 'failed', reason = ''")
    assert named(agent.audit(), "I4") == {"web": "it is failed, and says nothing of why"}


def test_i4_a_machine_that_is_not_as_wished_and_does_not_say_why(agent: Agent) -> None:
    agent.converger.stop()  # so that nobody says why
    tamper(database_of(agent), "UPDATE machines SET wish = 'stopped'")
    assert named(agent.audit(), "I4") == {"web": "it is running and to be stopped, and says nothing of why"}


def test_i5_and_i10_contents_that_nobody_needs_and_images_without_content(agent: Agent) -> None:
    image = agent.images.add("disk", ImageType.RAW, [b"\0" * 1024])
    assert agent.audit() == []
    contents = agent.settings.data_dir / "images" / "sha256"
    (contents / ("e" * 64)).write_bytes(b"stray")
    path = contents / image.sha256
    path.chmod(0o644)
    path.write_bytes(b"cut")
    assert named(agent.audit(), "I5").keys() == {f"image {'e' * 16}"}
    assert named(agent.audit(), "I10").keys() == {"image disk"}


def test_i11_a_machine_that_runs_though_its_lease_has_ended(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(resync_period_s=3600.0, audit_period_s=0.0)
    agent.leases.renew(renewal(None))
    leased = MachineSpec(
        image="any",
        type="fake",
        id="web",
        mem=16,
        labels={CONTROLLER_LABEL: CONTROLLER},
        on_node_failure=NodeFailurePolicy.RECREATE,
    )
    run(agent, leased)
    assert agent.audit() == []
    agent.converger.stop()  # so that nobody stops it
    LeaseFiles(agent.settings.data_dir, runtime_of(agent.settings.data_dir)).fence(CONTROLLER, renewal(None).number)
    assert "it runs, but" in named(agent.audit(), "I11")["web"]


def test_i14_a_secret_that_others_may_read(agent: Agent) -> None:
    (agent.settings.data_dir / "token").chmod(0o644)
    assert "-rw-r--r--" in named(agent.audit(), "I14")["token"]


def test_what_cannot_be_asked_is_told_and_breaks_nothing(agent: Agent) -> None:
    FakeWorld.at(agent.settings.data_dir / "drivers" / "fake").make_unavailable()
    found = agent.audit()
    assert [each.invariant for each in found if not each.certain]
    assert [each for each in found if each.certain] == []


def found_events(agent: Agent) -> list[Event]:
    kinds = (EventKind.VIOLATION, EventKind.RESOLVED)
    return [event for event in agent.events.since(0, 10_000) if event.kind in kinds]


def test_what_the_regular_audit_finds_is_told_once_and_once_when_it_is_gone(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(resync_period_s=3600.0, audit_period_s=0.1)
    run(agent)
    tamper(database_of(agent), "UPDATE machines SET mem = 1000000")
    eventually("it is told", lambda: bool(found_events(agent)))
    (event,) = found_events(agent)
    assert (event.kind, event.machine_id, event.state) == (EventKind.VIOLATION, "mem", None)
    assert event.reason == "I3: 1000000 reserved of 4096"
    agent.close()
    agent = open_fake_agent(resync_period_s=3600.0, audit_period_s=0.1)
    eventually("it was looked again", lambda: agent.auditing.last is not None)
    assert len(found_events(agent)) == 1
    tamper(database_of(agent), "UPDATE machines SET mem = 16")
    eventually("it is told to be gone", lambda: len(found_events(agent)) == 2)
    assert found_events(agent)[-1].kind is EventKind.RESOLVED


def test_a_violation_of_something_that_is_gone_does_not_hide_when_it_was_removed(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(audit_period_s=0.0)
    run(agent)
    agent.machines.remove("web")
    assert agent.machines.wait_settled("web", 60) is None
    record = AuditRecord(Database(database_of(agent)), SystemClock())
    record.write([Violation("I5", "web", "running at the driver, but no machine has this id")])
    with pytest.raises(NotFound, match="was removed at"):
        agent.machines.get("web")


def test_every_invariant_that_is_said_to_be_audited_has_a_test_here() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_i"))
    assert [name for name in AUDITED if f"{name.lower()}_" not in tests] == []
