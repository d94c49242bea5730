"""What a list may be asked for: equality on fields, several of them together, in pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from garbi.base.filters import check_filters

MACHINE_FILTERS = (
    "id", "name", "type", "image", "mem", "cpus", "node", "address", "state", "wish", "reason", "restart", "on_node_failure",
)  # fmt: skip
IMAGE_FILTERS = ("name", "type", "size", "sha256", "state")
KEPT_FILTERS = ("name", "machine_id", "type", "image_sha256", "epoch", "place")


@dataclass(frozen=True, slots=True)
class MachineQuery:
    """Machines whose fields equal `filters`; at most `limit` of them, after the one whose id is `marker`."""

    filters: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    marker: str | None = None

    def __post_init__(self) -> None:
        check_filters(self.filters, MACHINE_FILTERS)
