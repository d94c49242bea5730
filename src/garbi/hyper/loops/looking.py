"""How the converger looks at machines. A look that fails is no answer: nothing about a machine follows from it."""

from __future__ import annotations

from garbi.base.errors import DriverFailed, DriverUnavailable
from garbi.hyper.drivers.protocol import Driver, Observation
from garbi.hyper.model.machine import Machine, State


def look_at(machine: Machine, driver: Driver) -> Observation | None:
    """What the driver sees of one machine. Of a pending one nothing can be there yet, so nobody is asked."""
    if machine.state is State.PENDING:
        return None
    return next(iter(_observed(driver, machine.id)), None)


def look_at_all(driver: Driver) -> dict[str, Observation]:
    """What the driver sees of all machines, by their ids; raises DriverUnavailable."""
    return {each.machine_id: each for each in _observed(driver, None)}


def _observed(driver: Driver, machine_id: str | None) -> list[Observation]:
    try:
        return driver.observe(machine_id)
    except DriverFailed as error:
        raise DriverUnavailable(error.detail) from error
