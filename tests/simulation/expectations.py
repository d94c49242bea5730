"""A model of what must be so once everything was mended: per machine what its user wished, and what really happened to it.

A machine that was to run runs, unless something happened to it that explains, by its own policy, why it does not. That it says
`failed` explains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation.cloud import Cloud
from tests.simulation.history import Blow, Touch
from tests.simulation.user import Owned

from garbi.hyper_api.vocabulary import RESTART_PAUSES_S, RestartPolicy, State, Wish
from garbi.iaas.controller import Controller
from garbi.iaas.model.machine import Machine

BUDGET = len(RESTART_PAUSES_S)
"""How often a machine is started again until it is given up."""

NEAR_S = 60.0
"""What happened so shortly before something was wished may have been seen only after it."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What must be so in a cloud of which nothing is on its way."""

    cloud: Cloud
    controller: Controller

    def of(self, owned: Owned, row: Machine) -> Iterator[str]:
        """What is not as it must be with a machine that its user has."""
        places = [host.name for host in self.cloud.worlds.places_of(owned.id)]
        if row.wish is not owned.wish:
            yield f"machine {owned.id} was wished {owned.wish}, and is to be {row.wish}"
        if row.state in (State.RUNNING, State.PAUSED) and places != [row.node]:
            yield f"machine {owned.id} is {row.state} on {row.node}, they say, but really on {places}"
        if row.state in (State.STOPPED, State.FAILED) and places:
            yield f"machine {owned.id} is {row.state}, they say, but runs on {places}: {row.reason}"
        if owned.wish is Wish.STOPPED and row.state not in (State.STOPPED, State.FAILED):
            yield f"machine {owned.id} is {row.state} ({row.reason}), and was to be stopped"
        if owned.wish is Wish.RUNNING and row.state is not State.RUNNING and not self._explains(owned, row):
            yield f"machine {owned.id} is {row.state} ({row.reason}), and was to run"
        if owned.wish is Wish.PAUSED and row.state is not State.PAUSED and not self._explains(owned, row):
            yield f"machine {owned.id} is {row.state} ({row.reason}), and was to be paused"

    def sums(self) -> Iterator[str]:
        """What does not add up: what is reserved on each node, and who has its ports and addresses."""
        rows = self.controller.machines.list()
        for node in self.controller.nodes.list():
            there = [each for each in rows if each.node == node.name]
            mem, cpus = sum(each.mem for each in there), sum(each.cpus for each in there)
            if (node.reserved.mem, node.reserved.cpus) != (mem, cpus):
                yield f"I3 node {node.name} has {node.reserved} reserved, and its machines take {mem} MiB, {cpus} processors"
            yield from self._sums_of_agent(node.name, there)

    # Helpers in the order in which they are called

    def _sums_of_agent(self, name: str, there: list[Machine]) -> Iterator[str]:
        host = self.cloud.nodes[name]
        if host.agent is None:
            return
        has = {each.id: each for each in host.agent.machines.list()}
        for row in there:
            mine = has.pop(row.id, None)
            if mine is None:
                if row.state is not State.FAILED:
                    yield f"I4 machine {row.id} is {row.state} on {name}, and its agent has no such machine"
            elif (mine.mem, mine.cpus, mine.ports) != (row.mem, row.cpus, row.ports):
                yield f"I3 machine {row.id} is {row.mem} MiB, {row.ports}, and to its agent {mine.mem} MiB, {mine.ports}"
        for id_ in has:
            yield f"I5 the agent of {name} has machine {id_}, and its controller has not"
        ports = [(each.protocol, each.node_port) for row in there for each in row.ports]
        if len(ports) != len({*ports}):
            yield f"I2 a port of {name} has two owners: {ports}"

    def _explains(self, owned: Owned, row: Machine) -> bool:
        """Whether what happened to a machine since it was wished to run explains why it does not."""
        touches = self.cloud.worlds.history.of(owned.id, owned.asked_at - NEAR_S)
        if any(each.for_good and each.host == row.node for each in touches) or self._had_no_room(owned, row):
            return True
        ended = any(each.blow in (Blow.KILLED, Blow.ENDED) for each in touches)
        if row.state is State.STOPPED:
            return row.restart is not RestartPolicy.ALWAYS and any(each.blow is Blow.ENDED for each in touches)
        if row.state is State.RUNNING:  # and was to be paused
            return any(each.blow is Blow.LOST_POWER for each in touches) or _refused(touches, "pause") > BUDGET
        if row.state is not State.FAILED:
            return False
        if ended and (row.restart is RestartPolicy.NO or owned.wish is Wish.PAUSED):
            return True
        # A start that is owed to one that is always to run is never given up.
        spent = _spent(touches) > BUDGET and (ended or row.restart is not RestartPolicy.ALWAYS)
        return spent or self._fits_nowhere(row)

    def _had_no_room(self, owned: Owned, row: Machine) -> bool:
        """Whether its host had no room on its disk when it was to be made there, and refused it."""
        return bool(row.refused and row.node and self.cloud.nodes[row.node].host.full_at >= owned.asked_at - NEAR_S)

    def _fits_nowhere(self, row: Machine) -> bool:
        """Whether no node has room for a machine that lost its own."""
        if row.node is not None:
            return False
        return all(
            node.limit.mem - node.reserved.mem < row.mem
            or node.limit.cpus - node.reserved.cpus < row.cpus
            or self._has_port(node.name, row)
            for node in self.controller.nodes.list()
        )

    def _has_port(self, name: str, row: Machine) -> bool:
        taken = {
            (each.protocol, each.node_port)
            for other in self.controller.machines.list({"node": name})
            for each in other.ports
        }
        return any((each.protocol, each.node_port) in taken for each in row.ports)


def _spent(touches: list[Touch]) -> int:
    """How often a machine ended or could not be started, each of which takes one of its restarts."""
    ends = sum(each.blow in (Blow.KILLED, Blow.ENDED) for each in touches)
    return ends + _refused(touches, "prepare", "add", "start")


def _refused(touches: list[Touch], *verbs: str) -> int:
    return sum(each.blow is Blow.REFUSED and each.verb in verbs for each in touches)
