"""Who the agent of a data directory was, by the marks on what its engines have: where no file tells it any more."""

from __future__ import annotations

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import Identity, Surveyor
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.marks import read_marks


def cluster_id_of(place: str, drivers: DriverRegistry) -> str | None:
    """The one cluster id on machines that say that they were made in that data directory; None when there is none, or several."""
    found: set[str] = set()
    for name in drivers.names():
        try:
            driver = drivers.get(name)
            listed = driver.survey() if isinstance(driver, Surveyor) else []
        except GarbiError:  # it is not installed, or rests
            continue
        for machine in listed:
            marks = read_marks(machine.marks)
            if machine.identity is Identity.MADE and marks is not None and marks.data_dir == place:
                found.add(machine.cluster_id)
    return found.pop() if len(found) == 1 else None
