"""Brings machines to where they are wished: asks their nodes, asks `next_step`, records the step, takes it, looks again.

A crew of workers for each node: one that hangs holds up its own machines only. A machine is in the hands of at most one worker
at a time. A crash at any instruction is repaired by taking the recorded step again, since every step may be repeated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from garbi.base.clock import Clock
from garbi.base.crews import Crews
from garbi.base.errors import (
    AlreadyInState,
    Conflict,
    GarbiError,
    NotAsWished,
    NotFound,
    ServerUnreachable,
    StaleOrder,
    TemporaryError,
    Unauthenticated,
    UnknownImage,
)
from garbi.base.failpoints import reach
from garbi.hyper_api.client import HyperClient
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.converge import (
    Absent,
    Act,
    Certainty,
    Gone,
    Lost,
    Mirror,
    Seen,
    Sight,
    Silent,
    Step,
    Vacate,
    is_news,
    next_step,
    nothing_sent,
)
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.confirming import Confirming
from garbi.iaas.loops.holding import Hands
from garbi.iaas.loops.looking import check_identity, look_at, read
from garbi.iaas.loops.news import News, Word
from garbi.iaas.loops.orders import key_of, order_of
from garbi.iaas.loops.records import Records
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import KEPT_S, is_lost, is_stranded
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import events

log = logging.getLogger(__name__)

SHORTEST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
CREATE_PATIENCE_S = 600.0
"""How long a node may put off a new machine before it counts as refused."""

SPARE_S = 1
"""How long a worker that nobody else needs waits at most for what becomes of its order; a machine that comes meanwhile waits
no longer than that for a worker. Whole seconds."""

SERVER_ERROR = 500
"""From this status on, an answer says that the node could not, not that it was asked for what cannot be."""

PROGRESS_S = 0.2
"""The shortest time between two records of a transfer's progress."""


class Distributor(Protocol):
    """Brings the content of an image to a node."""

    def ensure(self, node: Node, client: HyperClient, image: Image, on_progress: Callable[[float, str], None]) -> str:
        """Return the name under which the node has the image."""


@dataclass(frozen=True, slots=True)
class _Tell:
    """What is known of a machine's node after a step: what is to be seen there, and the last wish that it was told."""

    seen: Seen
    told: int


class Converger:
    """The worker threads of one controller."""

    def __init__(
        self,
        controller_id: str,
        records: Records,
        clients: NodeClients,
        distributor: Distributor,
        image_of: Callable[[Machine], Image],
        clock: Clock,
        workers: int,
    ) -> None:
        self._controller_id = controller_id
        self._records = records
        self._clients = clients
        self._distributor = distributor
        self._image_of = image_of
        self._clock = clock
        self._confirming = Confirming(records.database, clients, controller_id)
        self._crews = Crews(clock.monotonic, workers, self._work)
        self._news = News()
        self._tries: dict[str, int] = {}
        self._deadlines: dict[str, float] = {}
        self._closing = threading.Event()
        self._on_stranded: Callable[[], None] = lambda: None
        self.hands = Hands()

    def on_stranded(self, listener: Callable[[], None]) -> None:
        """Call `listener` when a machine has no node that would run it, or when there is room for one that had none."""
        self._on_stranded = listener

    def start(self) -> None:
        """Nothing: the crew of a node comes when there is work."""

    def wake(self, machine: Machine) -> None:
        """Have a machine looked at now."""
        if machine.node is not None:
            self._news.want(machine.id)
            self._crews.add(machine.node, machine.id)

    def heed(self, node: str, machine_id: str, word: Word | None) -> None:
        """Have a machine looked at of which its node has something to tell: unless that is this `word`, and known already."""
        if word is None:
            self._news.want(machine_id)
        else:
            self._news.hear(machine_id, word)
        self._crews.add(node, machine_id)

    def dismiss(self, node: str) -> None:
        """Send the crew of a node home."""
        self._crews.dismiss(node)

    def stop(self) -> None:
        """Begin nothing more; what was begun is taken up again at the next start."""
        self._closing.set()
        self._crews.close()

    def join(self, patience_s: float) -> None:
        """Wait for the workers, at most `patience_s` seconds altogether."""
        self._crews.join(patience_s)

    # The work on one machine

    def _work(self, node_name: str, machine_id: str) -> None:
        if not self.hands.try_take(machine_id):  # an operation has it, and wakes it when it lets go
            self._crews.add_later(node_name, machine_id, SHORTEST_RETRY_S)
            return
        try:
            self._converge(node_name, machine_id)
        except Superseded:
            pass  # who leads now takes it up
        except Exception:  # a worker has to survive what it cannot foresee
            if not self._closing.is_set():
                log.exception("step failed", extra={"machine": machine_id, "node": node_name})
                self._look_later(node_name, machine_id)
        finally:
            self.hands.release(machine_id)

    def _converge(self, node_name: str, machine_id: str) -> None:
        word = self._news.take(machine_id)
        known: _Tell | None = None
        image_name, untouched = "", 0
        while not self._closing.is_set():
            before, node = self._records.find_with_node(machine_id)
            if before is None:
                self._forget(machine_id)
                return
            if before.node != node_name:  # it was moved, and is in the hands of another crew
                self.wake(before)
                return
            if word is not None and not is_news(before, word.state, word.reason):
                return
            word = None
            told = known.told if known is not None else 0
            machine = replace(before, told_generation=max(before.told_generation, told))
            step: Step | None = None
            try:
                seen = known.seen if known is not None else self._look(machine, node, untouched)
                decision = next_step(machine, seen, bool(image_name))
                if not isinstance(decision, Act):
                    if self._finish(before, machine, decision):
                        return
                    known = None
                    continue
                assert node is not None  # noqa: S101 - of a machine without one, nothing is ever seen
                step = decision.step
                if step is Step.DISTRIBUTE:
                    untouched = machine.epoch if nothing_sent(machine) else untouched
                    image_name = self._distribute(machine, node, decision)
                else:
                    untouched = 0
                    known = self._act(before, machine, node, decision, seen, image_name)
            except Superseded:
                raise
            except GarbiError as error:
                self._fall_short(before, machine, step, error)
                return

    def _look(self, machine: Machine, node: Node | None, untouched: int) -> Seen:
        """Of a machine for which no order has left, nothing can be there yet, so nobody is asked.

        `untouched` is the epoch of which its worker knows that without the row, since the machine has been in its hands.
        """
        if node is not None and node.state is NodeState.UNAVAILABLE and is_lost(machine):
            return Lost()
        if node is None or node.state not in TRUSTED:
            return Silent()
        if nothing_sent(machine) or machine.epoch == untouched:
            return Absent()
        with speaking_to(node.name):
            client = self._clients.of(node)
            seen = look_at(machine.id, client, self._controller_id)
            if isinstance(seen, Absent) or seen.epoch != machine.epoch:
                check_identity(node, client)  # that a machine is gone is for its own agent to say
            return seen

    def _distribute(self, machine: Machine, node: Node, act: Act) -> str:
        self._begin(machine, act)
        last = -PROGRESS_S

        def on_progress(fraction: float, words: str) -> None:
            nonlocal last
            now = self._clock.monotonic()
            if now - last >= PROGRESS_S:
                last = now
                self._records.progress(machine, fraction, words)

        with speaking_to(node.name):
            name = self._distributor.ensure(node, self._clients.of(node), self._image_of(machine), on_progress)
        reach("machine.distribute.done")
        return name

    def _act(
        self, before: Machine, machine: Machine, node: Node, act: Act, seen: Seen, image_name: str
    ) -> _Tell | None:
        """Record that a step begins, and take it; None when the row has changed meanwhile."""
        if not self._begin(before, act):
            return None
        with speaking_to(node.name):
            match act.step:
                case Step.CREATE:
                    known = self._create(machine, node, image_name)
                case Step.TELL:
                    known = self._tell(machine, node)
                case Step.CONFIRM:
                    known = _Tell(self._confirming.confirm(machine, node), machine.told_generation)
                case _:
                    known = self._remove(machine, node, seen)
        reach(f"machine.{act.step}.done")
        return known

    def _begin(self, before: Machine, act: Act) -> bool:
        leaves = act.step is Step.LEAVE
        if before.state is act.during and not before.refused and not (leaves and before.moving is Moving.WANTED):
            return True
        begun = replace(before, state=act.during, reason=before.moving_why if leaves else "", refused=False)
        begun = replace(begun, moving=Moving.LEAVING) if leaves else begun
        saved = self._records.save(before, begun)
        reach(f"machine.{act.step}.begun")
        return saved

    def _create(self, machine: Machine, node: Node, image_name: str) -> _Tell:
        order = order_of(machine, image_name, self._controller_id)
        assignment = self._clients.assignment(node, machine.epoch, machine.generation)
        document = self._clients.of(node).machines.add(order, self._spare_s(node), key_of(machine), assignment)
        # A machine cannot be made paused: it is made running, and told the rest.
        told = machine.generation if machine.wish is not Wish.PAUSED else max(machine.generation - 1, 1)
        return _Tell(read(document, self._controller_id), told)

    def _tell(self, machine: Machine, node: Node) -> _Tell:
        client = self._clients.of(node)
        assignment = self._clients.assignment(node, machine.epoch, machine.generation)
        try:
            document = client.machines.wish(machine.id, machine.wish.value, self._spare_s(node), assignment)
            seen: Seen = read(document, self._controller_id)
        except (AlreadyInState, NotAsWished, NotFound):
            seen = look_at(machine.id, client, self._controller_id)
        return _Tell(seen, machine.generation)

    def _remove(self, machine: Machine, node: Node, seen: Seen) -> _Tell:
        """Remove what is seen of a machine; what an earlier assignment left there is kept for a while."""
        wished = machine.wish is Wish.REMOVED
        for_good = wished or machine.moving is Moving.LEAVING
        epoch = seen.epoch if isinstance(seen, Sight) and seen.epoch is not None else machine.epoch
        assignment = self._clients.assignment(node, epoch)
        try:
            document = self._clients.of(node).machines.remove(
                machine.id, self._spare_s(node), assignment, keep_s=0 if for_good else KEPT_S
            )
            there: Seen = Absent(Certainty.GONE if epoch == machine.epoch else Certainty.NOT_ASKED)
        except NotFound:  # which proves nothing
            document, there = None, Absent()
        told = machine.generation if wished else machine.told_generation
        return _Tell(there if document is None else read(document, self._controller_id), told)

    def _spare_s(self, node: Node) -> float:
        """For how long an order waits for what becomes of it: not at all while other machines of the node wait for a worker."""
        return 0 if self._crews.waiting().get(node.name) else SPARE_S

    # What becomes of a step

    def _finish(self, before: Machine, machine: Machine, decision: Mirror | Gone | Vacate | object) -> bool:
        """Write down what was decided; False when the row has changed meanwhile, so that all is to be read again."""
        if isinstance(decision, Gone):
            self._records.delete(machine, events.node_actor(machine.node or ""))
            reach("machine.removed.recorded")
            self._forget(machine.id)
            self._on_stranded()  # there may be room for another
            return True
        if isinstance(decision, Vacate):
            self._records.vacate(before, machine, decision)
            reach("machine.vacated.recorded")
            return False  # it is made here again, or waits for a node
        if not isinstance(decision, Mirror):
            if is_stranded(machine):
                self._on_stranded()
            return self._records.save(before, machine)
        self._tries.pop(machine.id, None)
        self._deadlines.pop(machine.id, None)
        saved = self._records.mirror(before, machine, decision)
        reach(f"machine.{decision.state}.recorded")
        return saved

    def _fall_short(self, before: Machine, machine: Machine, step: Step | None, error: GarbiError) -> None:
        if self._closing.is_set():
            return  # the connection was closed under the step: it is taken again at the next start
        present = self._records.find(machine.id)
        if present is None or present.epoch != machine.epoch:
            self.wake(present or machine)
            return
        if step is None or self._may_pass(machine, step, error):
            self._postpone(present, error)
        elif step in (Step.CREATE, Step.DISTRIBUTE):
            log.warning("refused", extra={"machine": machine.id, "code": error.code, "detail": error.detail})
            self._give_up(present, machine, error, refused=True)
        elif step is Step.TELL:
            self._give_up(present, replace(machine, told_generation=machine.generation), error, refused=False)
        else:
            self._give_up(present, machine, error, refused=False)
            self._later(machine)

    def _may_pass(self, machine: Machine, step: Step, error: GarbiError) -> bool:
        """Whether the same step may succeed later. A node that goes on putting off a new machine has refused it."""
        if isinstance(error, StaleOrder):
            if error.extra.get("stale") == "controller":
                self._clients.overtaken()
            elif error.extra.get("stale") == "order":
                self._records.outgrow(machine, error.extra.get("ordered"))
            return True  # else the next look says why: the machine was moved, or its node has yet to hear who leads
        if isinstance(error, ServerUnreachable | Unauthenticated):
            return True
        if step is Step.CREATE and isinstance(error, UnknownImage) and machine.image_sha256:
            return self._is_patient(machine)  # the node let go of it, to make room, between two steps
        if isinstance(error, Conflict) and error.extra.get("field") == "Idempotency-Key":
            return self._is_patient(machine)  # an earlier order, of which no answer came, is still on its way
        passing = isinstance(error, TemporaryError)
        if step is Step.TELL:  # what is wished is owed, also by a node that cannot write it down now
            return passing or error.status >= SERVER_ERROR
        return passing and (step not in (Step.CREATE, Step.DISTRIBUTE) or self._is_patient(machine))

    def _is_patient(self, machine: Machine) -> bool:
        now = self._clock.monotonic()
        return now < self._deadlines.setdefault(machine.id, now + CREATE_PATIENCE_S)

    def _postpone(self, present: Machine, error: GarbiError) -> None:
        if present.state not in (State.UNKNOWN, State.FAILED):
            self._records.save(present, replace(present, reason=error.detail))
        self._later(present)

    def _give_up(self, present: Machine, tried: Machine, error: GarbiError, *, refused: bool) -> None:
        self._deadlines.pop(tried.id, None)
        saved = self._records.give_up(present, tried, error, refused=refused)
        reach("machine.given-up.recorded")
        if not saved or present.generation != tried.generation:  # a newer wish is there
            self.wake(present)
        elif refused:
            self._on_stranded()

    def _later(self, machine: Machine) -> None:
        if machine.node is not None:
            self._look_later(machine.node, machine.id)

    def _look_later(self, node_name: str, machine_id: str) -> None:
        self._news.want(machine_id)
        self._crews.add_later(node_name, machine_id, self._pause_before_retry(machine_id))

    def _pause_before_retry(self, machine_id: str) -> float:
        tries = self._tries.get(machine_id, 0)
        self._tries[machine_id] = tries + 1
        return float(min(SHORTEST_RETRY_S * 2 ** min(tries, 10), LONGEST_RETRY_S))

    def _forget(self, machine_id: str) -> None:
        with suppress(KeyError):
            del self._tries[machine_id]
        self._deadlines.pop(machine_id, None)
