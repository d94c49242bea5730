"""How a controller knows its machines among those of a node: labels that travel with the order."""

from __future__ import annotations

from collections.abc import Mapping

from garbi.hyper_api.assignment import CONTROLLER_LABEL as CONTROLLER
from garbi.hyper_api.assignment import EPOCH_LABEL as EPOCH


def marks(controller_id: str, epoch: int) -> dict[str, str]:
    """The labels of a machine that the controller with that id orders in that epoch of its assignment."""
    return {CONTROLLER: controller_id, EPOCH: str(epoch)}


def epoch_of(labels: Mapping[str, str], controller_id: str) -> int | None:
    """The epoch in which the controller with that id ordered a machine; None when it is not one of its machines."""
    text = labels.get(EPOCH, "")
    return int(text) if labels.get(CONTROLLER) == controller_id and text.isdecimal() else None
