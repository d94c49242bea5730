"""Machines as far as the end of a lease needs to know them, from a database of any version.

The agent beside may be of another version than who reads here, or could not bring its database up to date. Who looks every
second opens the file anew each time, so statements are words: composing them would take longer than all the rest.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from garbi.hyper.model.machine import Machine, NodeFailurePolicy, RestartPolicy, State, Wish

NEEDED = ("id", "type", "labels", "on_node_failure", "lease", "wish", "state", "generation")
_NEVER = datetime.fromtimestamp(0, UTC)


def search(connection: Connection) -> list[Machine]:
    """All machines, the oldest first, with nothing that is not `NEEDED`; raises ValueError for a policy that is not known."""
    present = {row.name for row in connection.exec_driver_sql("PRAGMA table_info(machines)")}
    columns = ", ".join(name for name in NEEDED if name in present)
    rows = connection.exec_driver_sql(f"SELECT {columns} FROM machines ORDER BY seq").mappings()  # noqa: S608 - our own names
    return [_machine(**row) for row in rows]


def _machine(
    id: str,
    type: str,
    labels: str,
    on_node_failure: str,
    wish: str = "",
    state: str = "",
    **others: Any,
) -> Machine:
    """A machine; a state or wish that a later version may know is one of which nothing is known."""
    values: dict[str, Any] = {"generation": 0, **others}
    return Machine(
        id=id,
        name=id,
        type=type,
        image="",
        image_sha256="",
        mem=0,
        cpus=0,
        node="",
        ports=(),
        labels=dict(json.loads(labels)),
        full_copy=False,
        wish=Wish(wish) if wish in {*Wish} else Wish.RUNNING,
        state=State(state) if state in {*State} else State.UNKNOWN,
        reason="",
        address=None,
        mac=None,
        restart=RestartPolicy.NO,
        on_node_failure=NodeFailurePolicy(on_node_failure),
        settled_generation=0,
        boot_id="",
        created_at=_NEVER,
        updated_at=_NEVER,
        **values,
    )
