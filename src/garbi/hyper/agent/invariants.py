"""Invariants of DESIGN.md as functions, as far as one host can check them of itself: each yields what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from garbi.base.audit import Violation
from garbi.base.errors import GarbiError
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.image import ImageState
from garbi.hyper.model.machine import Machine, State


def ports_of_others(rows: Iterable[Machine], publisher: Publisher, drivers: DriverRegistry) -> Iterator[Violation]:
    """I2: a published port belongs to one machine, and to no other process of the host."""
    for row in rows:
        driver = drivers.find(row.type) if row.ports and row.type in drivers.names() else None
        for holder in publisher.strangers(row, driver) if driver is not None else ():
            detail = f"port {holder.port}/{holder.protocol} belongs to machine {row.id}, but {holder} has it"
            yield Violation("I2", row.id, detail)


def overcommitted(mem: int, cpus: int, capacity: Capacity) -> Iterator[Violation]:
    """I3: what machines reserve together never passes the limits of the host."""
    for name, used, limit in (("mem", mem, capacity.mem), ("cpus", cpus, capacity.cpus)):
        if used > limit:
            yield Violation("I3", name, f"{used} reserved of {limit}")


def lost_from_sight(lost: Iterable[str], rows: Iterable[Machine]) -> Iterator[Violation]:
    """I4: what was accepted is visible for ever: there, or removed; and what is not as it is wished says why."""
    for machine_id in lost:
        yield Violation("I4", machine_id, "it was created, and is neither here nor removed")
    for row in rows:
        if row.state in (State.FAILED, State.UNKNOWN) and not row.reason:
            yield Violation("I4", row.id, f"it is {row.state}, and says nothing of why")
        elif row.unexplained:
            yield Violation("I4", row.id, f"it is {row.state} and to be {row.wish}, and says nothing of why")


def stray_leads(publisher: Publisher) -> Iterator[Violation]:
    """I5: every port that the kernel leads somewhere is that of a machine, and every machine's port is led to it."""
    try:
        strays, missing = publisher.misled()
    except GarbiError as error:
        yield Violation("I5", "nftables", f"cannot be checked: {error.detail}", certain=False)
        return
    for lead in strays:
        where = f"{lead.address}:{lead.machine_port}"
        detail = f"port {lead.node_port}/{lead.protocol} is led to {where}, but no machine has it"
        yield Violation("I5", f"port {lead.node_port}/{lead.protocol}", detail)
    for lead in missing:
        where = f"{lead.address}:{lead.machine_port}"
        detail = f"port {lead.node_port}/{lead.protocol} of a machine is not led to {where}"
        yield Violation("I5", f"port {lead.node_port}/{lead.protocol}", detail)


def images(library: ImageLibrary) -> Iterator[Violation]:
    """I5: every content belongs to a row. I10: what an image names is there, whole."""
    for sha256 in library.strays():
        yield Violation("I5", f"image {sha256[:16]}", f"content {sha256} is here, but nothing needs it")
    for image in (each for each in library.list() if each.state is ImageState.FAILED):
        yield Violation("I10", f"image {image.name}", f"its content {image.sha256} is gone or has another size")


def running_without_lease(
    rows: Iterable[Machine], running: Callable[[Machine], bool], hold: Callable[[Machine], str | None]
) -> Iterator[Violation]:
    """I11: what runs under a controller's lease stops with it."""
    for row in rows:
        reason = hold(row)
        if reason is not None and running(row):
            yield Violation("I11", row.id, f"it runs, but {reason}")
