"""The faults that are planted in drains and in what disappears, each with the script that finds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State
from garbi.iaas.converge import DISAPPEARED, Absent, Certainty, Mirror
from garbi.iaas.model.machine import Moving


def _stays_lost(_real: Any) -> Any:
    return lambda machine, _seen: Mirror(State.FAILED, f"{DISAPPEARED} {machine.node}")


def _forgets_moves(real: Any) -> Any:
    """What a machine was to move for is known to its worker alone, and an undrain ends it."""
    return lambda machine, seen, then: (
        Mirror(State.FAILED, DISAPPEARED) if machine.moving is Moving.LEAVING else real(machine, seen, then)
    )


def _of_any_policy(real: Any) -> Any:
    return lambda machine, seen: real(replace(machine, on_node_failure=NodeFailurePolicy.RECREATE), seen)


DRAIN_FAULTS = (
    Fault("move-not-recorded", "that a machine is to be made elsewhere is forgotten when its removal takes long", (
        ("garbi.iaas.converge._unlisted", _forgets_moves),
    ), seeds=(1,), plan=Plan(script="drain-that-is-taken-back")),
    Fault("stays-lost", "a machine of which nothing is left is not made again", (
        ("garbi.iaas.converge._disappeared", _stays_lost),
    ), seeds=(1,), plan=Plan(script="machine-that-somebody-removed")),
    Fault("disk-from-the-image", "a machine that stays by its policy is made from its image again", (
        ("garbi.iaas.converge._disappeared", _of_any_policy),
    ), seeds=(1,), plan=Plan(script="disk-that-somebody-removed")),
    Fault("moved-when-not-listed", "what an agent does not list counts as gone", (
        ("garbi.iaas.loops.confirming.Confirming.confirm", constant(Absent(Certainty.GONE))),
    ), seeds=(1,), plan=Plan(script="machine-that-its-agent-does-not-list")),
    Fault("lost-commits-unasked", "what waits for a node by an earlier term's word is made without asking the others", (
        ("garbi.iaas.loops.hindsight.Hindsight.look", constant({})),
    ), seeds=(1,), plan=Plan(script="machine-that-a-lost-commit-moved")),
)  # fmt: skip
