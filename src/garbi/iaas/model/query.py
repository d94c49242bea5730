"""What the lists of a controller may be asked for: equality on fields."""

from __future__ import annotations

NODE_FILTERS = ("name", "address", "state", "reason", "architecture")
IMAGE_FILTERS = ("name", "type", "size", "sha256", "state")
MACHINE_FILTERS = (
    "id", "name", "type", "image", "mem", "cpus", "node", "address", "state", "wish", "reason", "restart", "on_node_failure",
)  # fmt: skip
OPERATION_FILTERS = ("id", "kind", "target", "state")
