"""What stands on a machine at its engine of why it is there: what is still known of it when the agent's database is lost.

A driver writes these texts beside its own marks and gives them back; what they mean is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from garbi.hyper.model.machine import Machine, NodeFailurePolicy
from garbi.hyper_api.assignment import CONTROLLER_LABEL, EPOCH_LABEL

DATA_DIR, POLICY, CONTROLLER, EPOCH, LEASE = "data-dir", "on-node-failure", "controller", "epoch", "lease"


@dataclass(frozen=True, slots=True)
class Marks:
    """The data directory of the agent that made a machine, what becomes of it when its node fails, and of which controller it is:
    its id, the assignment, and the lease under which it was made; empty, and 0, where no controller ordered it."""

    data_dir: str
    on_node_failure: NodeFailurePolicy
    controller: str = ""
    epoch: str = ""
    lease: int = 0

    def to_texts(self) -> dict[str, str]:
        """The marks as a driver writes them."""
        texts = {DATA_DIR: self.data_dir, POLICY: self.on_node_failure.value}
        ordered = {CONTROLLER: self.controller, EPOCH: self.epoch, LEASE: str(self.lease)}
        return texts | ordered if self.controller else texts


def marks_of(machine: Machine, data_dir: str) -> Marks:
    """The marks that a machine gets when it is made by the agent of a data directory."""
    labels = machine.labels
    controller, epoch = labels.get(CONTROLLER_LABEL, ""), labels.get(EPOCH_LABEL, "")
    return Marks(data_dir, machine.on_node_failure, controller, epoch, machine.lease)


def read_marks(texts: Mapping[str, str]) -> Marks | None:
    """The marks that a driver gives back; None where there are none, as on machines of an earlier version."""
    try:
        policy = NodeFailurePolicy(texts[POLICY])
        lease = int(texts.get(LEASE, "0"))
        return Marks(texts[DATA_DIR], policy, texts.get(CONTROLLER, ""), texts.get(EPOCH, ""), lease)
    except (KeyError, ValueError):
        return None
