"""The faults that are planted in what becomes of a step that an engine refused, each with the script that finds it."""

from __future__ import annotations

from typing import Any

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper.converge import Setback, Step
from garbi.hyper.model.machine import Awaits, State


def _stop_settles(real: Any) -> Any:
    """What a refused stop led to once: the machine was failed, then found running, and nothing more was to be done."""

    def after(machine: Any, step: Step, *rest: Any) -> Setback:
        if step in (Step.STOP, Step.KILL):
            return Setback(State.FAILED, rest[1], Awaits.NOTHING, 0, settles=True)
        return real(machine, step, *rest)  # type: ignore[no-any-return]

    return after


REFUSAL_FAULTS = (
    Fault("refused-start-dropped", "a start that its engine refuses once is given up", (
        ("garbi.hyper.loops.converger.is_final", constant(True)),
    ), seeds=(1,), plan=Plan(script="start-that-is-refused-once")),
    Fault("refused-creation-dropped", "what its engine does not make at once is given up", (
        ("garbi.hyper.loops.converger.is_final", constant(True)),
    ), seeds=(1,), plan=Plan(script="creation-that-is-refused-once")),
    Fault("refused-stop-settles", "a stop that its engine refuses once counts as done", (
        ("garbi.hyper.loops.converger.after_refusal", _stop_settles),
    ), seeds=(1,), plan=Plan(script="stop-that-is-refused-once")),
)  # fmt: skip
