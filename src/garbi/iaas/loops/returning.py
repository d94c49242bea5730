"""What lies on a node that should not: copies of machines that were created again elsewhere, or removed, while it was dead.

Each is removed by the epoch of its own assignment, so that an order which comes too late touches nothing newer. What was created
again elsewhere is kept for a while: its last hours may be on that disk alone. What nothing is known of is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, NotFound
from garbi.base.failpoints import reach
from garbi.iaas.converge import Sight
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import KEPT_S
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import events, machines, nodes
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long a node that is back waits for its copies to go before it takes machines again all the same."""

PROBE_S = 10.0
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Stray:
    """A copy that is not what the cloud has of that machine. `now_on` is the node that has it; None: it was removed."""

    id: str
    epoch: int
    now_on: str | None

    @property
    def keep_s(self) -> int:
        """For how many seconds its disk is kept."""
        return 0 if self.now_on is None else KEPT_S


class Returning:
    """The copies on one node, since this controller watches it."""

    def __init__(self, name: str, database: Database, clients: NodeClients, clock: Clock) -> None:
        self._name = name
        self._database = database
        self._clients = clients
        self._clock = clock
        self._dropped: dict[str, Stray] = {}
        self._since: float | None = None

    def retire(self, node: Node, there: Mapping[str, Sight]) -> list[str]:
        """Have removed what should not be there; return what of it is still going, for as long as that is worth waiting for."""
        left = [stray.id for stray in self._strays(there) if not self._remove(node, stray)]
        now = self._clock.monotonic()
        if not left:
            self._since = None
            return []
        self._since = now if self._since is None else self._since
        return left if now - self._since < PATIENCE_S else []

    def report(self, transaction: Transaction, now: datetime) -> None:
        """Write what became of the machines of a node that is back, in the transaction in which it takes machines again."""
        present = nodes.find(transaction.connection, self._name)
        stay = len(machines.of_node(transaction.connection, self._name))
        told = [f"it answers again; {stay} machine{'' if stay == 1 else 's'} of this node stayed with it"]
        moved = [f"{each.id} (now on {each.now_on})" for each in self._dropped.values() if each.now_on is not None]
        gone = [each.id for each in self._dropped.values() if each.now_on is None]
        if moved:
            until = f"{now + timedelta(seconds=KEPT_S):%Y-%m-%d %H:%M} UTC"
            told.append(
                f"removed copies of machines that were created again elsewhere: {_shown(moved)}; their disks are kept on this "
                f"host until {until} where their drivers can keep them: hyper kept ls"
            )
        if gone:
            told.append(f"removed machines that were removed while it was away: {_shown(gone)}")
        self._dropped.clear()
        events.append(
            transaction, Subject.NODE, self._name, events.Kind.RETURNED, now,
            state=present.state if present is not None else NodeState.READY, actor=events.node_actor(self._name),
            reason="; ".join(told),
        )  # fmt: skip

    # Helpers in the order in which they are called

    def _strays(self, there: Mapping[str, Sight]) -> list[Stray]:
        """Read after the node was asked: what it had then and the cloud has not now, it should not have."""
        with self._database.read() as connection:
            own = {machine.id for machine in machines.of_node(connection, self._name)} if there else set()
            found = [
                judge_copy(connection, self._name, id_, sight) for id_, sight in sorted(there.items()) if id_ not in own
            ]
        return [stray for stray in found if stray is not None]

    def _remove(self, node: Node, stray: Stray) -> bool:
        """Order a copy away; True once it is gone."""
        assignment = self._clients.assignment(node, stray.epoch)
        try:
            with speaking_to(self._name):
                client = self._clients.prober_of(node, PROBE_S)
                document = client.machines.remove(stray.id, wait_s=0, assignment=assignment, keep_s=stray.keep_s)
        except NotFound:
            return True
        except GarbiError as error:
            log.warning("copy was not removed", extra={"machine": stray.id, "node": self._name, "detail": error.detail})
            return False
        reach("returning.ordered")
        self._dropped[stray.id] = stray
        return document is None


def judge_copy(connection: Connection, name: str, machine_id: str, sight: Sight) -> Stray | None:
    """The stray that a machine on node `name` is, which that node does not have by the records; None: it is left alone."""
    if sight.epoch is None:
        return None
    row = machines.find(connection, machine_id)
    if row is not None:
        newer = row.node is not None and row.node != name and row.epoch > sight.epoch
        return Stray(machine_id, sight.epoch, row.node) if newer else None
    removal = machines.removal_of(connection, machine_id)
    # One of a later assignment was not removed then: it is younger than this database, which is a backup.
    removed = removal is not None and sight.epoch <= removal.seq
    return Stray(machine_id, sight.epoch, None) if removed else None


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
