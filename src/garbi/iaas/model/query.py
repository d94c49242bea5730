"""What the lists of a controller may be asked for: equality on fields."""

from __future__ import annotations

NODE_FILTERS = ("name", "address", "state", "reason", "architecture", "provision", "draining", "operation")
IMAGE_FILTERS = ("name", "type", "size", "virtual_size", "sha256", "state", "reason")
MACHINE_FILTERS = (
    "id", "name", "type", "image", "image_sha256", "mem", "cpus", "disk", "node", "address", "apart", "full_copy", "state",
    "wish", "settled", "reason", "restart", "on_node_failure", "epoch", "operation",
)  # fmt: skip
OPERATION_FILTERS = ("id", "kind", "target", "state", "step", "steps", "message")
