"""How the converger looks at machines, and at what became of a step that may have come too late.

A look that fails is no answer: nothing about a machine follows from it.
"""

from __future__ import annotations

from garbi.base.errors import DriverFailed, DriverUnavailable, FinalError
from garbi.hyper.drivers.protocol import Condition, Driver, Observation, Pausable
from garbi.hyper.model.machine import Machine, State

SURE = (State.PENDING, State.REMOVING, State.FAILED)
"""States that a driver's silence does not change: nothing was begun, it goes on going, or the failure is what matters."""


def look_at(machine: Machine, driver: Driver) -> Observation | None:
    """What the driver sees of one machine. Of a pending one nothing can be there yet, so nobody is asked."""
    if machine.state is State.PENDING:
        return None
    return next(iter(_observed(driver, machine.id)), None)


def look_at_engine(driver: Driver, machine_id: str) -> bool:
    """Whether the driver sees anything of a machine, whatever is recorded of it; raises DriverUnavailable."""
    return bool(_observed(driver, machine_id))


def look_at_all(driver: Driver) -> dict[str, Observation]:
    """What the driver sees of all machines, by their ids; raises DriverUnavailable."""
    return {each.machine_id: each for each in _observed(driver, None)}


def pause(machine: Machine, driver: Driver) -> Observation | None:
    """Freeze a machine; return what is to be seen of it: one that ended before it could be frozen is no failure."""
    assert isinstance(driver, Pausable)  # noqa: S101 - the wish was refused otherwise
    try:
        driver.pause(machine.id)
    except FinalError:
        seen = look_at(machine, driver)
        if seen is not None and seen.condition is Condition.RUNNING:
            raise
        return seen
    return Observation(machine.id, Condition.PAUSED, address=machine.address, engine_life=machine.engine_life)


def _observed(driver: Driver, machine_id: str | None) -> list[Observation]:
    try:
        return driver.observe(machine_id)
    except DriverFailed as error:
        raise DriverUnavailable(error.detail) from error
