"""What the engines of a host have that bears our marks: asked of each engine, and of the kernel where one does not answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import MarkedMachine, Surveyor
from garbi.hyper.drivers.registry import DriverRegistry

log = logging.getLogger(__name__)

ENGINES_S = 2.0
"""How long engines have to tell what they have, all together; what runs can be found without them."""

NOBODY = "0" * 32
"""The cluster id of drivers that only look."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The machines that were found, by their type; and of each type of which it cannot be known, why."""

    machines: Mapping[str, tuple[MarkedMachine, ...]] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Look:
    machines: tuple[MarkedMachine, ...] | None = None
    words: str = "its engine does not answer"


class Engines:
    """The engines of this host. Each time with drivers of its own, as one may hang."""

    def __init__(self, drivers: Callable[[str], DriverRegistry]) -> None:
        self._drivers = drivers

    def look(self, lost: bool) -> Surveyed:
        """Look through all engines. Never raises.

        An engine whose library is not here made no machine. One that cannot be searched at all counts for unseen when the records
        of its machines are `lost`.
        """
        registry = self._drivers(NOBODY)
        try:
            found, unseen = _surveyors(registry, lost)
            machines: dict[str, tuple[MarkedMachine, ...]] = {}
            for name, look in _ask(found).items():
                seen = look if look.machines is not None else _look_without(found[name], look.words)
                if seen.machines is not None:
                    machines[name] = seen.machines
                else:
                    unseen[name] = seen.words
        finally:
            threading.Thread(target=_close, args=(registry,), name="engines-close", daemon=True).start()
        return Surveyed(machines, unseen)


def _surveyors(registry: DriverRegistry, lost: bool) -> tuple[dict[str, Surveyor], dict[str, str]]:
    found: dict[str, Surveyor] = {}
    unseen: dict[str, str] = {}
    for name in registry.names():
        try:
            driver = registry.get(name)
        except GarbiError as error:
            if not isinstance(error.__cause__, ImportError):
                unseen[name] = error.detail
            continue
        if isinstance(driver, Surveyor):
            found[name] = driver
        elif lost:
            unseen[name] = f"machines of type {name} are not found without the database"
    return found, unseen


def _ask(surveyors: Mapping[str, Surveyor]) -> dict[str, _Look]:
    """What the engines say in time."""
    looks = {name: _Look() for name in surveyors}
    answered, lock, left = threading.Event(), threading.Lock(), set(surveyors)

    def ask(name: str) -> None:
        _look(looks[name], surveyors[name].survey)
        with lock:
            left.discard(name)
            if not left:
                answered.set()

    for name in surveyors:
        threading.Thread(target=ask, args=(name,), name=f"engines-{name}", daemon=True).start()
    if surveyors:
        answered.wait(ENGINES_S)
    # What is said from now on comes too late: it must not change under who reads.
    return {name: _Look(look.machines, look.words) for name, look in looks.items()}


def _look_without(surveyor: Surveyor, words: str) -> _Look:
    look = _Look(words="")
    _look(look, surveyor.survey_processes)
    return look if look.machines is not None else _Look(words=f"{words}; and without it: {look.words}")


def _look(look: _Look, survey: Callable[[], list[MarkedMachine]]) -> None:
    try:
        look.machines = tuple(survey())
    except GarbiError as error:
        look.words = error.detail
    except Exception as error:  # whatever a driver does, the other engines are to be looked at
        log.exception("an engine could not be looked through")
        look.words = f"it cannot be looked through: {type(error).__name__}"


def _close(registry: DriverRegistry) -> None:
    try:
        registry.close()
    except GarbiError as error:
        log.info("a driver could not be closed", extra={"detail": error.detail})
