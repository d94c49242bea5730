"""What engines of this host have that bears marks of Garbi and is nobody's: it is named by the audit, and never touched."""

from __future__ import annotations

from collections.abc import Iterator

from garbi.base.audit import Violation
from garbi.hyper.agent.owners import Owners
from garbi.hyper.agent.surveys import ask
from garbi.hyper.drivers.protocol import Identity, MarkedMachine, Surveyor
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.marks import read_marks
from garbi.hyper_api.assignment import CONTROLLER_LABEL

ENGINES_S = 5.0
"""How long engines have to tell what they have, all together."""


def strangers(cluster_id: str, drivers: DriverRegistry) -> Iterator[Violation]:
    """I5: every machine at an engine is owned by an agent of this host, and what bears the labels of ours is that machine.

    Engines that do not answer are passed over: where they have machines of ours, that is a finding of its own.
    """
    owners = Owners()
    for survey in ask(_surveyors(drivers), ENGINES_S).values():
        for machine in survey.machines or ():
            if machine.cluster_id == cluster_id:
                yield from _impostor(machine)
            elif machine.identity is not Identity.COPY and _says_whose(machine) and not owners.has_owner(machine):
                yield _orphan(machine)


def _surveyors(drivers: DriverRegistry) -> dict[str, Surveyor]:
    found: dict[str, Surveyor] = {}
    for name in drivers.names():
        driver = drivers.find(name)
        if isinstance(driver, Surveyor):
            found[name] = driver
    return found


def _impostor(machine: MarkedMachine) -> Iterator[Violation]:
    why = {
        Identity.COPY: "it was made from an image or a definition of that machine",
        Identity.UNSURE: "it has another name, and was not noted as that machine when it was made",
    }
    if machine.identity in why:
        detail = f"it has the labels of machine {machine.machine_id}, but {why[machine.identity]}: it is left alone"
        yield Violation("I5", machine.place, detail)


def _orphan(machine: MarkedMachine) -> Violation:
    marks = read_marks(machine.marks)
    of = f"agent {machine.cluster_id[:8]}" + (f" of {marks.data_dir}" if marks is not None else "")
    detail = (
        f"{machine.place}, {machine.condition}, was made by {of}, which is not on this host any more: it is left alone"
    )
    return Violation("I5", machine.machine_id, detail)


def _says_whose(machine: MarkedMachine) -> bool:
    """Machines of earlier versions that no controller ordered do not say where their agent is."""
    return read_marks(machine.marks) is not None or CONTROLLER_LABEL in machine.labels
