"""The operations that are killed, each a verb of a user: what it starts from, what it asks, what may have become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tests.crash.deaths import Restart
from tests.crash.holding import Free, Hold
from tests.crash.keeping import DropKept, RemoveKeeping
from tests.crash.scene import (
    DEAF_IMAGE,
    IMAGE,
    SPARE_IMAGE,
    STATES,
    VICTIM,
    Scene,
    all_settled,
    bring,
    find,
    has_image,
    take_in,
)

from garbi.hyper.agent import Agent
from garbi.hyper.model.machine import Wish

COPIER = "copier"


class Operation(Protocol):
    """One verb; `passes` are places on its way.

    `settings` are those of the agent that differ from the ordinary, `fake` those of its fake driver. `keeps_on`: a victim
    that is on at some time is not powered off any more.
    """

    @property
    def keeps_on(self) -> bool: ...

    @property
    def passes(self) -> frozenset[str]: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def fake(self) -> Mapping[str, str]: ...

    def prepare(self, agent: Agent, scene: Scene) -> None:
        """Bring about what the operation starts from, from whatever an interrupted one left."""

    def ask(self, agent: Agent, scene: Scene) -> None:
        """Call the verb."""

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        """Wait for what becomes of it: True when it was done, False when it was never asked; anything else fails."""

    def clear(self, agent: Agent, scene: Scene) -> None:
        """Leave nothing of it."""


@dataclass(frozen=True)
class MachineOperation:
    """A verb of the victim: from one wish fulfilled to another (None: it is not there)."""

    needs: Wish | None
    goal: Wish | None
    passes: frozenset[str]
    image: str = IMAGE
    full_copy: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    fake: Mapping[str, str] = field(default_factory=dict)

    @property
    def keeps_on(self) -> bool:
        return self.goal in (Wish.RUNNING, Wish.PAUSED)

    def prepare(self, agent: Agent, scene: Scene) -> None:
        if self.needs is not None:
            take_in(agent, scene, self.image)
        bring(agent, scene, self.needs, self.image)

    def ask(self, agent: Agent, scene: Scene) -> None:
        if self.goal is None:
            agent.machines.remove(VICTIM)
        elif self.needs is None:
            take_in(agent, scene, self.image)
            agent.machines.add(replace(scene.spec(VICTIM, self.image, self.goal), full_copy=self.full_copy))
        else:
            agent.machines.wish(VICTIM, self.goal)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        all_settled(agent)
        victim = find(agent, VICTIM)
        if victim is None:
            assert None in (self.needs, self.goal), "the machine is lost"
            return self.goal is None
        assert victim.wish in (self.needs, self.goal), f"nobody wished this: {victim}"
        assert victim.state is STATES[victim.wish], f"the wish does not win: {victim}"
        return victim.wish is self.goal

    def clear(self, agent: Agent, scene: Scene) -> None:
        bring(agent, scene, None)


class TakeInImage:
    """An image of its own arrives."""

    passes = frozenset({"images.add.received", "images.add.inspected", "images.add.renamed", "images.add.recorded"})
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = False

    def prepare(self, agent: Agent, scene: Scene) -> None:
        self.clear(agent, scene)

    def ask(self, agent: Agent, scene: Scene) -> None:
        take_in(agent, scene, SPARE_IMAGE)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        all_settled(agent)
        return has_image(agent, SPARE_IMAGE)

    def clear(self, agent: Agent, scene: Scene) -> None:
        if has_image(agent, SPARE_IMAGE):
            agent.images.remove(SPARE_IMAGE)


class RemoveImage:
    """An image goes of which the daemon has a copy, because a machine was made from it once."""

    passes = frozenset({"images.remove.dropped", "images.remove.recorded", "images.remove.deleted"})
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = False

    def prepare(self, agent: Agent, scene: Scene) -> None:
        take_in(agent, scene, SPARE_IMAGE)
        agent.machines.add(scene.spec(COPIER, SPARE_IMAGE, Wish.STOPPED))
        all_settled(agent)
        agent.machines.remove(COPIER)
        all_settled(agent)

    def ask(self, agent: Agent, scene: Scene) -> None:
        agent.images.remove(SPARE_IMAGE)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        all_settled(agent)
        return not has_image(agent, SPARE_IMAGE)

    def clear(self, agent: Agent, scene: Scene) -> None:
        if has_image(agent, SPARE_IMAGE):
            agent.images.remove(SPARE_IMAGE)


def _step(*names: str) -> frozenset[str]:
    return frozenset(place for name in names for place in (f"machine.{name}.begun", f"machine.{name}.done"))


_ADD = _step("add") | {"machine.create.claimed", "machine.create.written", "machine.create.recorded"}
_WISH = frozenset({"machine.wish.recorded"})
_REMOVE = _step("remove") | _WISH | {"machine.remove.unpublished", "machine.remove.recorded"}
_RUNNING, _STOPPED, _PAUSED = (frozenset({f"machine.{state}.recorded"}) for state in ("running", "stopped", "paused"))
_RESUMED = _step("start") | _RUNNING
_STARTED = _RESUMED | {"machine.start.published"}
_IMPATIENT = {"stop_deadline_s": 0.0}
_DEAF = {"stop_delay_s": "inf"}

OPERATIONS: Mapping[str, Operation] = {
    "take-in-image": TakeInImage(),
    "remove-image": RemoveImage(),
    "create": MachineOperation(None, Wish.RUNNING, _ADD | _STARTED | {"machine.add.prepared"}),
    "create-stopped": MachineOperation(None, Wish.STOPPED, _ADD | _STOPPED),
    "create-copy": MachineOperation(None, Wish.STOPPED, _ADD | _STOPPED, full_copy=True),
    "pause": MachineOperation(Wish.RUNNING, Wish.PAUSED, _WISH | _step("pause") | _PAUSED),
    "resume": MachineOperation(Wish.PAUSED, Wish.RUNNING, _WISH | _RESUMED),
    "stop": MachineOperation(Wish.RUNNING, Wish.STOPPED, _WISH | _step("stop") | _STOPPED),
    "power-off": MachineOperation(
        Wish.RUNNING,
        Wish.STOPPED,
        _WISH | _step("stop", "kill") | _STOPPED,
        image=DEAF_IMAGE,
        settings=_IMPATIENT,
        fake=_DEAF,
    ),
    "stop-paused": MachineOperation(Wish.PAUSED, Wish.STOPPED, _WISH | _step("start", "stop") | _STOPPED),
    "start": MachineOperation(Wish.STOPPED, Wish.RUNNING, _WISH | _STARTED, settings=_IMPATIENT),
    "restart": Restart(),
    "hold": Hold(),
    "free": Free(),
    "remove": MachineOperation(Wish.RUNNING, None, _REMOVE),
    "remove-paused": MachineOperation(Wish.PAUSED, None, _REMOVE),
    "remove-keeping": RemoveKeeping(),
    "drop-kept": DropKept(),
}
"""By name. A power-off is the stop of a machine that turns a deaf ear."""
