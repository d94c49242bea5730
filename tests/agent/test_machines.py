"""The verbs of machines on one host, with the fake driver: what is accepted, what is refused, what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.agent.conftest import OpenAgent, world_of

from garbi.base.errors import (
    AlreadyExists,
    AlreadyInState,
    CapacityExceeded,
    Conflict,
    DriverUnavailable,
    GarbiError,
    InvalidField,
    NotFound,
    PortTaken,
    UnknownFilter,
    UnknownImage,
    UnknownType,
)
from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.model.event import EventKind
from garbi.hyper.model.machine import (
    Machine,
    MachineSpec,
    Protocol,
    PublishedPort,
    RestartPolicy,
    State,
    Wish,
)
from garbi.hyper.model.query import MachineQuery

SPEC = MachineSpec(image="any", type="fake", id="m1", mem=64)
PATIENCE_S = 60.0


def made(agent: Agent, spec: MachineSpec = SPEC) -> Machine:
    return settled(agent, agent.machines.add(spec).id)


def settled(agent: Agent, machine_id: str) -> Machine:
    machine = agent.machines.wait_settled(machine_id, PATIENCE_S)
    assert machine is not None
    assert machine.settled
    return machine


def await_state(agent: Agent, machine_id: str, state: State) -> Machine:
    """Wait, by the events, until the machine is in `state`."""
    with agent.events.signal_of(machine_id) as changed:
        while (machine := agent.machines.get(machine_id)).state is not state:
            assert changed.wait(PATIENCE_S), f"{machine_id} is {machine.state}, not {state}"
            changed.clear()
    return machine


def gone(agent: Agent, machine_id: str) -> None:
    assert agent.machines.wait_settled(machine_id, PATIENCE_S) is None


def test_a_machine_is_made_started_stopped_paused_and_removed(agent: Agent, world: FakeWorld) -> None:
    machine = made(agent)
    assert (machine.state, machine.wish, machine.name) == (State.RUNNING, Wish.RUNNING, "m1")
    agent.machines.wish("m1", Wish.PAUSED)
    assert settled(agent, "m1").state is State.PAUSED
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert world.machines() == []
    assert agent.audit() == []


def test_a_machine_may_be_made_without_being_started(agent: Agent) -> None:
    assert made(agent, replace(SPEC, state=Wish.STOPPED)).state is State.STOPPED


def test_a_paused_machine_can_be_stopped(agent: Agent) -> None:
    made(agent)
    agent.machines.wish("m1", Wish.PAUSED)
    settled(agent, "m1")
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED


def test_a_removed_machine_stays_in_the_history_and_answers_not_found(agent: Agent) -> None:
    made(agent)
    agent.machines.remove("m1")
    gone(agent, "m1")
    with pytest.raises(NotFound, match="was removed at"):
        agent.machines.get("m1")
    with pytest.raises(NotFound):
        agent.machines.remove("m1")
    kinds = [event.kind for event in agent.events.since(0, 100) if event.machine_id == "m1"]
    assert kinds[0] is EventKind.CREATED
    assert kinds[-1] is EventKind.REMOVED


def test_an_id_can_be_used_again_after_its_machine_was_removed(agent: Agent) -> None:
    made(agent)
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert made(agent).state is State.RUNNING


WRONG: dict[str, tuple[MachineSpec, type[GarbiError], str]] = {
    "no memory": (replace(SPEC, mem=0), InvalidField, "mem"),
    "negative memory": (replace(SPEC, mem=-5), InvalidField, "mem"),
    "more memory than the host": (replace(SPEC, mem=5000), CapacityExceeded, "mem"),
    "absurd memory": (replace(SPEC, mem=10**12), InvalidField, "mem"),
    "no processor": (replace(SPEC, cpus=0), InvalidField, "cpus"),
    "more processors than the host": (replace(SPEC, cpus=4000), CapacityExceeded, "cpus"),
    "path as id": (replace(SPEC, id="../etc"), InvalidField, "id"),
    "newline in the id": (replace(SPEC, id="a\nb"), InvalidField, "id"),
    "newline after the id": (replace(SPEC, id="a\n"), InvalidField, "id"),
    "quote in the name": (replace(SPEC, name='a"b'), InvalidField, "name"),
    "300 characters": (replace(SPEC, id="a" * 300), InvalidField, "id"),
    "unknown type": (replace(SPEC, type="vax"), UnknownType, "type"),
    "unknown image": (replace(SPEC, type=None, image="nothing"), UnknownImage, "image"),
    "unknown image of a registry": (replace(SPEC, type=None, image="registry/nothing"), InvalidField, "image"),
    "empty image": (replace(SPEC, image=""), InvalidField, "image"),
    "port 0": (replace(SPEC, ports=(PublishedPort(0, 80),)), InvalidField, "ports.0.node_port"),
    "port 65536": (replace(SPEC, ports=(PublishedPort(80, 65536),)), InvalidField, "ports.0.machine_port"),
    "the same port twice": (replace(SPEC, ports=(PublishedPort(9, 80), PublishedPort(9, 81))), InvalidField, "ports"),
    "control characters in a label": (replace(SPEC, labels={"a": "b\r\n"}), InvalidField, "labels"),
    "paused from the beginning": (replace(SPEC, state=Wish.PAUSED), InvalidField, "state"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_names_its_field_and_leaves_nothing(
    agent: Agent, world: FakeWorld, name: str
) -> None:
    spec, error, field = WRONG[name]
    with pytest.raises(error) as caught:
        agent.machines.add(spec)
    assert caught.value.extra["field"] == field
    assert agent.machines.list() == []
    assert agent.events.last_seq() == 0
    assert world.machines() == []


def test_a_second_machine_of_the_same_id_is_refused(agent: Agent) -> None:
    made(agent)
    with pytest.raises(AlreadyExists):
        agent.machines.add(SPEC)
    assert len(agent.machines.list()) == 1


def test_a_start_of_what_runs_and_a_stop_of_what_is_stopped_are_refused(agent: Agent) -> None:
    made(agent)
    with pytest.raises(AlreadyInState, match="running already"):
        agent.machines.wish("m1", Wish.RUNNING)
    agent.machines.wish("m1", Wish.STOPPED)
    settled(agent, "m1")
    with pytest.raises(AlreadyInState, match="stopped already"):
        agent.machines.wish("m1", Wish.STOPPED)


def test_a_wish_repeated_while_it_is_being_fulfilled_changes_nothing(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"start_delay_s": "0.3"})
    machine = agent.machines.add(SPEC)
    assert agent.machines.wish("m1", Wish.RUNNING).generation == machine.generation
    settled(agent, "m1")


def test_only_a_running_machine_can_be_paused(agent: Agent) -> None:
    made(agent, replace(SPEC, state=Wish.STOPPED))
    with pytest.raises(Conflict, match="only a running machine"):
        agent.machines.wish("m1", Wish.PAUSED)


def test_a_machine_that_was_asked_to_stop_cannot_be_paused_on_its_way(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"observe_delay_s": "0.5"})  # the stop is wished, and not begun before this look
    made(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    with pytest.raises(Conflict, match=r"on its way to be stopped|only a running machine"):
        agent.machines.wish("m1", Wish.PAUSED)
    assert settled(agent, "m1").state is State.STOPPED


def test_a_machine_that_ends_before_it_could_be_paused_ended_by_itself(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"pause_delay_s": "0.5"})
    made(agent)
    agent.machines.wish("m1", Wish.PAUSED)
    world_of(agent).end("m1")
    assert await_state(agent, "m1", State.STOPPED).reason == "it ended by itself"
    assert settled(agent, "m1").state is State.STOPPED


def test_an_unknown_id_is_not_found_by_every_verb(agent: Agent) -> None:
    verbs: list[Callable[[], object]] = [
        lambda: agent.machines.get("nobody"),
        lambda: agent.machines.remove("nobody"),
        lambda: agent.machines.wish("nobody", Wish.RUNNING),
        lambda: agent.machines.console_log("nobody", 10),
        lambda: agent.machines.figures("nobody"),
    ]
    for verb in verbs:
        with pytest.raises(NotFound):
            verb()


def test_a_removal_wins_over_a_machine_that_is_being_made(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"add_delay_s": "0.5", "start_delay_s": "0.5"})
    agent.machines.add(SPEC)
    await_state(agent, "m1", State.CREATING)
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert world_of(agent).machines() == []


def test_a_machine_that_does_not_listen_is_powered_off_at_the_deadline(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"stop_delay_s": "inf"}, stop_deadline_s=0.2)
    made(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED


def test_a_machine_wished_to_run_while_it_stops_runs_in_the_end(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"stop_delay_s": "0.3"})
    made(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    await_state(agent, "m1", State.STOPPING)
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING
    assert world_of(agent).machine("m1").power_ons == 2


def test_a_machine_that_dies_is_seen_from_the_event_with_its_cause(agent: Agent, world: FakeWorld) -> None:
    made(agent, replace(SPEC, restart=RestartPolicy.NO))
    world.kill("m1", "killed: out of memory")
    assert await_state(agent, "m1", State.FAILED).reason == "killed: out of memory"
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING


def test_a_machine_that_ends_by_itself_is_stopped_and_stays_so(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    world.end("m1")
    assert await_state(agent, "m1", State.STOPPED).reason == "it ended by itself"


@pytest.mark.parametrize("verb", ["prepare", "add", "start"])
def test_a_machine_that_cannot_be_made_is_failed_with_the_cause_and_can_be_tried_again(
    agent: Agent, world: FakeWorld, verb: str
) -> None:
    world.fail_next(verb, "no-space", times=None)
    machine = made(agent)
    assert machine.state is State.FAILED
    assert machine.reason
    world.fail_next(verb, "no-space", times=0)
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert agent.audit() == []


def test_a_removal_that_fails_is_tried_again_until_nothing_is_left(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    world.fail_next("remove", "driver-failed")
    agent.machines.remove("m1")
    machine = settled(agent, "m1")
    assert (machine.state, bool(machine.reason)) == (State.REMOVING, True)
    with agent.events.signal_of("m1") as changed:
        while agent.machines.list():
            assert changed.wait(PATIENCE_S)
            changed.clear()


def test_a_driver_that_is_away_is_said_at_once_and_nothing_is_kept(agent: Agent, world: FakeWorld) -> None:
    world.make_unavailable("the daemon went home")
    with pytest.raises(DriverUnavailable, match="went home"):
        agent.machines.add(SPEC)
    assert agent.machines.list() == []


def test_machines_of_a_driver_that_is_away_are_unknown_until_it_is_back(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(resync_period_s=0.1)
    world = world_of(agent)
    made(agent)
    world.make_unavailable()
    assert "unavailable" in await_state(agent, "m1", State.UNKNOWN).reason
    world.make_available()
    assert await_state(agent, "m1", State.RUNNING).reason == ""


def test_a_machine_that_its_driver_fails_to_look_at_is_unknown_until_it_can(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(resync_period_s=0.1)
    made(agent)
    before = agent.events.last_seq()
    world_of(agent).fail_next("observe", "driver-failed")
    with agent.events.signal_of("m1") as changed:
        while len(states := [event.state for event in agent.events.since(before, 10)]) < 2:
            assert changed.wait(PATIENCE_S)
            changed.clear()
    assert states == [State.UNKNOWN, State.RUNNING]
    assert agent.machines.get("m1").reason == ""


def test_machines_cannot_reserve_more_than_the_host_has_however_many_ask_at_once(agent: Agent) -> None:
    def ask(number: int) -> bool:
        try:
            agent.machines.add(replace(SPEC, id=f"m{number}", mem=1000))
        except CapacityExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        accepted = sum(pool.map(ask, range(32)))
    assert accepted == 4
    assert agent.audit() == []


def test_one_port_has_one_owner_however_many_ask_at_once(agent: Agent, free_port: int) -> None:
    refusals: list[str] = []

    def ask(number: int) -> bool:
        try:
            agent.machines.add(replace(SPEC, id=f"m{number}", ports=(PublishedPort(free_port, 80),)))
        except PortTaken as error:
            refusals.append(str(error.extra["holder"]))
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(16))) == 1
    owner = agent.machines.list()[0].id
    assert set(refusals) == {f"machine {owner}"}


def test_the_same_port_of_another_protocol_is_another_port(agent: Agent, free_port: int) -> None:
    made(agent, replace(SPEC, ports=(PublishedPort(free_port, 80), PublishedPort(free_port, 80, Protocol.UDP))))


def test_a_port_is_free_again_after_its_machine_was_removed(agent: Agent, free_port: int) -> None:
    spec = replace(SPEC, ports=(PublishedPort(free_port, 80),))
    made(agent, spec)
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert made(agent, spec).state is State.RUNNING


def test_a_refused_create_does_not_keep_its_ports(agent: Agent, free_port: int) -> None:
    with pytest.raises(CapacityExceeded):
        agent.machines.add(replace(SPEC, mem=5000, ports=(PublishedPort(free_port, 80),)))
    made(agent, replace(SPEC, ports=(PublishedPort(free_port, 80),)))


def test_the_same_idempotency_key_makes_one_machine_however_often_it_comes(agent: Agent) -> None:
    spec = replace(SPEC, id=None)
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return agent.machines.add(spec, idempotency_key="k1").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(agent.machines.list()) == 1
    with pytest.raises(Conflict, match="different request"):
        agent.machines.add(replace(spec, mem=65), idempotency_key="k1")


def test_lists_are_filtered_and_paged(agent: Agent) -> None:
    for number in range(5):
        agent.machines.add(replace(SPEC, id=f"m{number}", mem=64 + number % 2))
    for number in range(5):
        settled(agent, f"m{number}")
    assert [each.id for each in agent.machines.list(MachineQuery({"mem": "65"}))] == ["m1", "m3"]
    assert [each.id for each in agent.machines.list(MachineQuery({"mem": "65", "id": "m3"}))] == ["m3"]
    assert [each.id for each in agent.machines.list(MachineQuery(limit=2, marker="m1"))] == ["m2", "m3"]
    assert agent.machines.list(MachineQuery({"state": "failed"})) == []
    with pytest.raises(UnknownFilter):
        MachineQuery({"colour": "red"})
    with pytest.raises(InvalidField):
        agent.machines.list(MachineQuery({"mem": "much"}))
    with pytest.raises(InvalidField):
        agent.machines.list(MachineQuery(marker="nobody"))


def test_events_are_told_in_the_order_of_the_history(agent: Agent) -> None:
    told: list[int] = []
    unsubscribe = agent.events.subscribe(lambda event: told.append(event.seq))
    made(agent)
    unsubscribe()
    seen = len(told)
    agent.machines.remove("m1")
    gone(agent, "m1")
    history = [event.seq for event in agent.events.since(0, 100)]
    assert told == history[:seen]
    assert len(history) > seen
