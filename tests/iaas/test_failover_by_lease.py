"""A node that nobody reaches any more: its own watchdog stops what may be created again, and only then does it run elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, is_written, machine_is, machine_spec, node_is

from garbi.base.errors import Conflict, NothingFits
from garbi.hyper.watchdog.opening import open_watchdog
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State
from garbi.iaas.fences.protocol import Scope
from garbi.iaas.loops.foresight import Lot
from garbi.iaas.model.node import NodeState
from garbi.iaas.monitor.lease import least_margin
from garbi.iaas.store.events import Kind

MakeNodes = Callable[..., list[FakeHost]]
TTL_S = 5.0


@contextmanager
def guarded(host: FakeHost) -> Iterator[None]:
    """Let a watchdog work beside an agent."""
    watchdog = open_watchdog(host.settings, simulated=True)
    ending = threading.Event()
    thread = threading.Thread(target=watchdog.run, args=(ending,))
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        watchdog.close()


@contextmanager
def never_twice(cloud: Cloud, machine_id: str) -> Iterator[None]:
    """See that a machine runs on one host at most for as long as the block runs."""
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.wait(0.02):
            there = [host.name for host in cloud.hosts if machine_id in host.running()]
            if len(there) > 1:
                seen.append(there)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert seen == []


def _is_armed(host: FakeHost) -> bool:
    leases = host.agent.leases.all()
    return bool(leases) and all(lease.lease.armed for lease in leases)


@pytest.fixture
def armed(cloud: Cloud, fake_nodes: MakeNodes) -> Iterator[list[FakeHost]]:
    """Three nodes whose leases end by themselves."""
    cloud.settings = replace(cloud.settings, lease_ttl_s=TTL_S, lease_margin_s=5.0)
    cloud.fences = []
    hosts = fake_nodes(3)
    with ExitStack() as watchdogs:
        for host in hosts:
            watchdogs.enter_context(guarded(host))
        eventually("every lease is armed", lambda: all(_is_armed(host) for host in hosts))
        # A host that agreed is relied on once it has said so twice: only then does its silence prove anything.
        eventually("all are relied on", lambda: all(is_written(cloud, f"lease:{host.name}") for host in hosts))
        yield hosts


def _runs_elsewhere(cloud: Cloud) -> None:
    controller = cloud.controller
    eventually(
        "m runs elsewhere",
        lambda: controller.machines.get("m").node != "n1",
        words=lambda: [(node.name, node.state, node.reason) for node in controller.nodes.list()],
    )


def test_a_node_that_is_cut_off_stops_its_machines_before_they_run_elsewhere(
    cloud: Cloud, armed: list[FakeHost]
) -> None:
    cloud.add(id="m", node="n1")
    cloud.add(id="stay", node="n1", on_node_failure=NodeFailurePolicy.STAY)
    eventually("the lease could prove it", lambda: not cloud.controller.what_if("n1").fences[0].why_not)
    foretold = cloud.controller.what_if("n1")
    (lease,) = foretold.fences
    assert (lease.fence, lease.covers) == ("lease", Scope.RECREATABLE)
    assert lease.within_s is not None
    assert lease.within_s >= TTL_S + least_margin(TTL_S)
    assert {fate.id: fate.lot for fate in foretold.machines} == {"m": Lot.MOVES, "stay": Lot.STAYS}
    with never_twice(cloud, "m"):
        armed[0].hide()
        _runs_elsewhere(cloud)
        assert armed[0].running() == ["stay"]
        machine_is(cloud, "m", State.RUNNING)
        assert cloud.controller.machines.get("m").node == foretold.machines[0].to
        assert "fenced by lease" in cloud.controller.nodes.get("n1").reason
        machine_is(cloud, "stay", State.UNKNOWN)
        armed[0].open()
        node_is(cloud, "n1", NodeState.READY)
        machine_is(cloud, "stay", State.RUNNING)
        eventually("the copy is gone", lambda: [each["id"] for each in armed[0].client.machines.list()] == ["stay"])
    cloud.sound()


def test_a_controller_that_is_away_stops_nothing(cloud: Cloud, armed: list[FakeHost]) -> None:
    for number, host in enumerate(armed):
        cloud.add(id=f"m{number}", node=host.name)
    runs = [(host.name, host.running()) for host in armed]
    cloud.close_controller()

    def is_long_over() -> bool:
        ages = [lease.age_s or 0.0 for host in armed for lease in host.agent.leases.all()]
        return min(ages) > 3 * TTL_S

    eventually("every lease would have ended long ago", is_long_over)
    assert [(host.name, host.running()) for host in armed] == runs
    eventually(
        "all is heard again", lambda: all(each.state is NodeState.READY for each in cloud.controller.nodes.list())
    )
    cloud.sound()
    moved = [event for event in cloud.controller.events.since(0, 10_000) if event.kind in (Kind.MOVED, Kind.LEASE)]
    assert moved == []
    assert [(host.name, host.running()) for host in armed] == runs


def test_a_controller_that_begins_relies_on_what_the_one_before_it_was_told(
    cloud: Cloud, armed: list[FakeHost]
) -> None:
    cloud.add(id="m", node="n1")
    with never_twice(cloud, "m"):
        cloud.close_controller()
        armed[0].hide()
        cloud.controller.nodes.list()
        _runs_elsewhere(cloud)
        machine_is(cloud, "m", State.RUNNING)
    armed[0].open()
    node_is(cloud, "n1", NodeState.READY)
    cloud.sound()


def test_of_two_nodes_none_is_armed_where_the_controller_lives_on_one(
    cloud: Cloud, fake_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.settings = replace(cloud.settings, lease_ttl_s=TTL_S)
    cloud.fences = []
    hosts = fake_nodes(2)
    with ExitStack() as watchdogs:
        for host in hosts:
            watchdogs.enter_context(guarded(host))
        eventually("they hear each other", lambda: all(host.agent.leases.all()[0].peers_heard for host in hosts))
        renewed = [host.agent.leases.all()[0].lease.seen or 0.0 for host in hosts]
        eventually(
            "they were renewed since",
            lambda: all(
                (host.agent.leases.all()[0].lease.seen or 0.0) > seen + 4 * cloud.settings.check_period_s
                for host, seen in zip(hosts, renewed, strict=True)
            ),
        )
        assert not any(_is_armed(host) for host in hosts)
        monkeypatch.setattr("garbi.iaas.main.boot_id", lambda: "another-host")
        cloud.reopen()
        eventually("both are armed", lambda: all(_is_armed(host) for host in hosts))


def test_a_witness_is_the_third_voice_where_the_controller_lives_on_one_of_two_nodes(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    cloud.settings = replace(cloud.settings, lease_ttl_s=TTL_S)
    cloud.fences = []
    hosts = fake_nodes(2)
    voice = cloud.host()
    cloud.join(voice, witness=True)
    assert cloud.controller.nodes.get(voice.name).witness
    with ExitStack() as watchdogs:
        for host in (*hosts, voice):
            watchdogs.enter_context(guarded(host))
        eventually("all are relied on", lambda: all(is_written(cloud, f"lease:{host.name}") for host in hosts))
        made = [cloud.add(id=f"m{number}", node="n1") for number in range(2)]
        with pytest.raises(NothingFits, match="witness"):
            cloud.controller.machines.add(machine_spec(id="no", node=voice.name))
        for verb in (cloud.controller.nodes.drain, cloud.controller.nodes.undrain):
            with pytest.raises(Conflict, match="witness"):
                verb(voice.name)
        hosts[0].hide()
        for machine in made:
            eventually("it runs elsewhere", lambda: cloud.controller.machines.get(machine.id).node == "n2")  # noqa: B023
            machine_is(cloud, machine.id, State.RUNNING)
        assert voice.running() == []
