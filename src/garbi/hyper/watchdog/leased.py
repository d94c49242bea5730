"""Which machines of a host run under a controller's lease: read from the agent's database, whether the agent lives or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from garbi.base.errors import DatabaseUnavailable, NotFound
from garbi.hyper.main import DATABASE
from garbi.hyper.model.machine import Machine, NodeFailurePolicy, State
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines, meta
from garbi.hyper.store.database import Database
from garbi.hyper_api.assignment import CONTROLLER_LABEL

ON = (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Leased:
    """The machines of one controller: those that end with the lease of a number, and those that are left as they are."""

    ending: tuple[Machine, ...] = ()
    left: tuple[Machine, ...] = ()


def read_leased(data_dir: Path, controller: str, number: int) -> Leased:
    """The machines of a controller, as its leases up to `number` end; none where no agent has worked yet.

    Raises DatabaseUnavailable when that cannot be read.
    """
    try:
        rows = _read(data_dir / DATABASE)
    except NotFound:
        return Leased()
    ours = [row for row in rows if row.labels.get(CONTROLLER_LABEL) == controller]
    ending = [row for row in ours if row.on_node_failure is NodeFailurePolicy.RECREATE and max(row.lease, 1) <= number]
    left = [row for row in ours if row.on_node_failure is not NodeFailurePolicy.RECREATE and row.state in ON]
    return Leased(tuple(ending), tuple(left))


def read_cluster_id(data_dir: Path) -> str:
    """By what the drivers know the machines of the agent; raises NotFound when no agent has worked there."""
    database = _open(data_dir / DATABASE)
    try:
        with database.read() as connection:
            found = meta.get(connection, meta.CLUSTER_ID)
    finally:
        database.close()
    if found is None:
        raise NotFound(f"no agent has worked in {data_dir}")
    return found


def _read(path: Path) -> list[Machine]:
    database = _open(path)
    try:
        with database.read() as connection:
            return machines.search(connection, MachineQuery())
    except (SQLAlchemyError, ValueError) as error:
        raise DatabaseUnavailable(f"the machines cannot be read from {path}: {error}") from error
    finally:
        database.close()


def _open(path: Path) -> Database:
    if not path.exists():
        raise NotFound(f"no agent has worked in {path.parent}")
    return Database(path)
