"""Asks engines what they have that bears marks of Garbi, all at once and for a while: one that hangs holds up nobody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import MarkedMachine, Surveyor

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Survey:
    """What an engine has; None: it has not said, for that reason."""

    machines: tuple[MarkedMachine, ...] | None = None
    words: str = "its engine does not answer"


def ask(surveyors: Mapping[str, Surveyor], limit_s: float) -> dict[str, Survey]:
    """What the engines say within so many seconds, by their types. Never raises."""
    surveys = {name: Survey() for name in surveyors}
    answered, lock, left = threading.Event(), threading.Lock(), set(surveyors)

    def ask_one(name: str) -> None:
        fill(surveys[name], surveyors[name].survey)
        with lock:
            left.discard(name)
            if not left:
                answered.set()

    for name in surveyors:
        threading.Thread(target=ask_one, args=(name,), name=f"survey-{name}", daemon=True).start()
    if surveyors:
        answered.wait(limit_s)
    # What is said from now on comes too late: it must not change under who reads.
    return {name: Survey(each.machines, each.words) for name, each in surveys.items()}


def fill(survey: Survey, look: Callable[[], list[MarkedMachine]]) -> None:
    """Write down what a look finds, or why it finds nothing out."""
    try:
        survey.machines = tuple(look())
    except GarbiError as error:
        survey.words = error.detail
    except Exception as error:  # whatever a driver does, the other engines are to be looked at
        log.exception("an engine could not be looked through")
        survey.words = f"it cannot be looked through: {type(error).__name__}"
