"""Many requests at the same time, for both types: each is done once and whole, and a removal wins over what is in flight."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.host.agent.host_agent import CONTAINER, PATIENCE_S, VM, HostAgent, eventually, page, ports

from garbi.base.errors import AlreadyExists, PortTaken
from garbi.hyper.model.machine import MachineSpec, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

KINDS = {f"many-{number}": VM if number % 4 == 0 else CONTAINER for number in range(12)}


def test_machines_made_at_once_are_all_made_and_removals_win_over_what_is_in_flight(host: HostAgent) -> None:
    def make(machine_id: str) -> None:
        (web,) = published[machine_id]
        kind = KINDS[machine_id]
        host.agent.machines.add(MachineSpec(image=kind, id=machine_id, mem=96, ports=(web,)))
        if machine_id in doomed:
            host.agent.machines.remove(machine_id)

    published = {machine_id: ports(80) for machine_id in KINDS}
    doomed = {machine_id for number, machine_id in enumerate(KINDS) if number % 4 in (0, 1) and number >= 4}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, KINDS))
    for machine_id in KINDS:
        left = host.agent.machines.wait_settled(machine_id, PATIENCE_S)
        assert (left is None) == (machine_id in doomed)
        assert left is None or (left.state, left.reason) == (State.RUNNING, "")
    assert host.agent.audit() == []
    for machine_id in KINDS.keys() - doomed:
        (web,) = published[machine_id]
        eventually(f"{machine_id} serves", lambda web=web, name=machine_id: name in page(web))  # type: ignore[misc]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(host.remove, KINDS.keys() - doomed))
    assert host.agent.machines.list() == []
    assert host.agent.audit() == []


def test_of_many_who_want_one_port_one_gets_it(host: HostAgent) -> None:
    def want(number: int) -> str:
        kind = VM if number % 2 else CONTAINER
        spec = MachineSpec(image=kind, id=f"one-{number}", mem=64, ports=(port,), state=Wish.STOPPED)
        try:
            return host.agent.machines.add(spec).id
        except PortTaken:
            return ""

    (port,) = ports(80)
    with ThreadPoolExecutor(8) as pool:
        winners = [machine_id for machine_id in pool.map(want, range(8)) if machine_id]
    assert len(winners) == 1
    host.settled(winners[0])
    with pytest.raises(AlreadyExists):
        host.agent.machines.add(MachineSpec(image=CONTAINER, id=winners[0], mem=64))
    host.remove(winners[0])
