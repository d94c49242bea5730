"""Operations, as a user looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from garbi.iaas.model.operation import Operation


class Operations:
    """What takes time, and how far it has come."""

    def get(self, operation_id: str) -> Operation:
        """The operation with that id; raises NotFound."""
        raise NotImplementedError

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Operation]:
        """The operations whose fields equal the filters, the oldest first; raises UnknownFilter."""
        raise NotImplementedError

    def wait_changed(self, operation_id: str, since: datetime | None, timeout_s: float) -> Operation:
        """Wait until an operation was changed after `since` (its `updated_at`), and return it; raises NotFound.

        None: until it has finished. After `timeout_s` seconds return it as it is.
        """
        raise NotImplementedError
