"""What the engines of a host have that bears our marks: asked of each engine, and of the kernel where one does not answer."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from garbi.base.errors import GarbiError
from garbi.hyper.agent.surveys import Survey, ask, fill
from garbi.hyper.drivers.protocol import MarkedMachine, Surveyor
from garbi.hyper.drivers.registry import DriverRegistry

log = logging.getLogger(__name__)

ENGINES_S = 2.0
"""How long engines have to tell what they have, all together; what runs can be found without them."""

CLOSED_WITHIN_S = 3.0
"""How long the end of a process waits for engines, which may hang."""

NOBODY = "0" * 32
"""The cluster id of drivers that only look."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The machines that were found, by their type; and of each type of which it cannot be known, why."""

    machines: Mapping[str, tuple[MarkedMachine, ...]] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)


_closing: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def await_closing() -> None:
    """Wait, though not for long, until this process has let go of all engines: in the midst of a call of libvirt's its end would
    crash.
    """
    end = time.monotonic() + CLOSED_WITHIN_S
    for each in list(_closing):
        each.join(max(end - time.monotonic(), 0.0))


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
            for name, look in ask(found, ENGINES_S).items():
                seen = look if look.machines is not None else _look_without(found[name], look.words)
                if seen.machines is not None:
                    machines[name] = seen.machines
                else:
                    unseen[name] = seen.words
        finally:
            closing = threading.Thread(target=_close, args=(registry,), name="engines-close", daemon=True)
            _closing.add(closing)
            closing.start()
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


def _look_without(surveyor: Surveyor, words: str) -> Survey:
    survey = Survey(words="")
    fill(survey, surveyor.survey_processes)
    return survey if survey.machines is not None else Survey(words=f"{words}; and without it: {survey.words}")


def _close(registry: DriverRegistry) -> None:
    try:
        registry.close()
    except GarbiError as error:
        log.info("a driver could not be closed", extra={"detail": error.detail})
