"""Which machine a domain is, whatever name somebody has given it: its UUID follows from the agent and the machine, and stays."""

from __future__ import annotations

from typing import Any

import libvirt

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.libvirt.connection import Connection, found, verb
from garbi.hyper.drivers.libvirt.domain_xml import NAMESPACE, Origin, origin_in
from garbi.hyper.drivers.libvirt.marks import Marks
from garbi.hyper.drivers.libvirt.processes import guests
from garbi.hyper.drivers.libvirt.states import condition_of
from garbi.hyper.drivers.protocol import Condition, Identity, MarkedMachine


class Domains:
    """The domains of one agent. What was found out about a UUID is true for ever, and is asked once."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._machines: dict[str, str | None] = {}
        self._names: dict[str, str] = {}

    def name_of(self, machine_id: str) -> str:
        """The name that the domain of a machine had when it was last seen."""
        return self._names.get(machine_id, self._marks.domain_name(machine_id))

    def recognise(self, domain: Any) -> str | None:
        """The machine that a domain is, as far as that is known without asking libvirt; None when it is not ours."""
        name, uuid = str(domain.name()), str(domain.UUIDString())
        machine_id = self._marks.machine_of(name, uuid) or self._machines.get(uuid)
        if machine_id is not None:
            self.note(machine_id, name)
        return machine_id

    def identify(self, domain: Any) -> str | None:
        """The same, and libvirt is asked about one of another name."""
        known, uuid = self.recognise(domain), str(domain.UUIDString())
        if known is not None or uuid in self._machines:
            return known
        origin = _origin_of(domain)
        ours = origin is not None and self._marks.domain_uuid(origin.machine_id) == uuid
        self._machines[uuid] = origin.machine_id if origin is not None and ours else None
        return self.recognise(domain)

    def note(self, machine_id: str, name: str) -> None:
        """A machine of ours has a domain of that name."""
        self._machines[self._marks.domain_uuid(machine_id)] = machine_id
        self._names[machine_id] = name


class EngineSurvey:
    """Surveyor for domains."""

    connection: Connection

    @verb
    def survey(self) -> list[MarkedMachine]:
        return [each for each in map(_look_at, self.connection.get().listAllDomains(0)) if each is not None]

    def survey_processes(self) -> list[MarkedMachine]:
        """Those of which there are processes, by what libvirt wrote down of each."""
        if not self.connection.local:
            raise DriverUnavailable(f"libvirt at {self.connection.uri} is on another host")
        machines = []
        for uuid, guest in guests().items():
            if not guest.document and guest.name.startswith("garbi-"):
                raise DriverUnavailable(f"domain {guest.name} runs on this host, and nothing says whose it is")
            origin = origin_in(guest.document)
            if origin is not None:
                machines.append(_marked(origin, guest.name, uuid, Condition.RUNNING))
        return machines


def _look_at(domain: Any) -> MarkedMachine | None:
    """The machine that a listed domain is; None when it is no agent's, or is gone since: other agents remove theirs meanwhile."""
    origin = _origin_of(domain)
    state = found(lambda: domain.state(0), libvirt.VIR_ERR_NO_DOMAIN)
    if origin is None or state is None:
        return None
    return _marked(origin, str(domain.name()), str(domain.UUIDString()), condition_of(*state))


def _marked(origin: Origin, name: str, uuid: str, condition: Condition) -> MarkedMachine:
    """A domain that was defined from the XML of a machine has its metadata and another UUID."""
    try:
        made = Marks(origin.cluster_id).domain_uuid(origin.machine_id) == uuid
    except ValueError:  # no agent has such an id
        made = False
    identity = Identity.MADE if made else Identity.COPY
    return MarkedMachine(
        origin.cluster_id, origin.machine_id, f"domain {name}", condition, origin.marks, origin.labels, identity
    )


def _origin_of(domain: Any) -> Origin | None:
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    none = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN)
    text = found(lambda: domain.metadata(kind, NAMESPACE), *none)
    return None if text is None else origin_in(text)
