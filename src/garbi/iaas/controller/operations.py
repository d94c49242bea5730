"""Operations, as a user looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from garbi.base.clock import Clock
from garbi.base.errors import NotFound
from garbi.iaas.model.operation import Operation, OperationState
from garbi.iaas.store import operations
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.feed import EventFeed


class Operations:
    """What takes time, and how far it has come."""

    def __init__(self, database: Database, feed: EventFeed, clock: Clock) -> None:
        self._database = database
        self._feed = feed
        self._clock = clock

    def get(self, operation_id: str) -> Operation:
        """The operation with that id; raises NotFound."""
        with self._database.read() as connection:
            operation = operations.find(connection, operation_id)
        if operation is None:
            raise NotFound(f"no operation has the id {operation_id[:80]!r}")
        return operation

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Operation]:
        """The operations whose fields equal the filters, the oldest first; raises UnknownFilter."""
        with self._database.read() as connection:
            return [*operations.list(connection, filters, limit, marker)]

    def count(self) -> dict[tuple[str, str], int]:
        """How many operations there are of each kind in each state."""
        with self._database.read() as connection:
            return operations.count(connection)

    def wait_changed(self, operation_id: str, since: datetime | None, timeout_s: float) -> Operation:
        """Wait until an operation was changed after `since` (its `updated_at`), and return it; raises NotFound.

        None: until it has finished. After `timeout_s` seconds return it as it is.
        """
        deadline = self._clock.monotonic() + timeout_s
        with self._feed.signal_of(operation_id) as changed:
            while True:
                changed.clear()
                operation = self.get(operation_id)
                left = deadline - self._clock.monotonic()
                finished = operation.state is not OperationState.RUNNING
                if finished or left <= 0 or (since is not None and operation.updated_at != since):
                    return operation
                changed.wait(left)
