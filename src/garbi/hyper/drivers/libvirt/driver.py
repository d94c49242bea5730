"""The libvirt driver: every verb of the protocol, at any URI, and what more is possible where QEMU runs, or runs here."""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import libvirt

from garbi.base.errors import AlreadyExists, Conflict, GarbiError, NotFound
from garbi.base.failpoints import reach
from garbi.base.names import check_name
from garbi.hyper.drivers.libvirt.capabilities import Virtualisation, find_virtualisation
from garbi.hyper.drivers.libvirt.connection import Connection, found, verb
from garbi.hyper.drivers.libvirt.console import Consoles
from garbi.hyper.drivers.libvirt.content import check_content, check_readable
from garbi.hyper.drivers.libvirt.domain_xml import Backing, Domain, Reservation, domain_xml, reservation_of
from garbi.hyper.drivers.libvirt.domains import Domains, EngineSurvey
from garbi.hyper.drivers.libvirt.events import LifecycleEvent, Watcher
from garbi.hyper.drivers.libvirt.figures import measure
from garbi.hyper.drivers.libvirt.footprint import Footprint
from garbi.hyper.drivers.libvirt.kept import KeptDisks
from garbi.hyper.drivers.libvirt.marks import Marks
from garbi.hyper.drivers.libvirt.power import power_off, undefine, unless_off
from garbi.hyper.drivers.libvirt.processes import ProcessWatch, is_gone, pid_of, pids_of, was_killed
from garbi.hyper.drivers.libvirt.states import KILLED, cause_in, condition_of, failure_of
from garbi.hyper.drivers.protocol import (
    Condition,
    DriverContext,
    DriverInfo,
    Figures,
    ImageFile,
    KeptDisk,
    MachineDefinition,
    Notify,
    Observation,
)
from garbi.hyper.model.image import ImageType

DEFAULT_URI = "qemu:///system"
REAPED_WITHIN_S = 20.0
QEMU_LOGS = Path("/var/log/libvirt/qemu")


class LibvirtDriver(Footprint, EngineSurvey):
    """Virtual machines at the URI of the setting `uri`. What it can do beyond the verbs depends on what is behind the URI."""

    image_types = frozenset({ImageType.QCOW2, ImageType.RAW})
    repeat_stop_s = 2.0

    def __new__(cls, context: DriverContext) -> LibvirtDriver:
        if cls is LibvirtDriver:
            connection = Connection(context.settings.get("uri", DEFAULT_URI))
            if connection.hypervisor == "qemu":
                return object.__new__(LocalQemuDriver if connection.local else QemuDriver)
        return object.__new__(cls)

    def __init__(self, context: DriverContext) -> None:
        self._marks = Marks(context.cluster_id)
        self._domains = Domains(self._marks)
        super().__init__(context.settings.get("uri", DEFAULT_URI), self._marks, context.data_dir)
        self._watcher: Watcher | None = None
        self._clock = context.clock
        self._causes: dict[str, str] = {}
        self._virtualisation: tuple[Any, Virtualisation] | None = None

    def info(self) -> DriverInfo:
        try:
            return self._info()
        except GarbiError as error:
            return DriverInfo("libvirt", available=False, reason=error.detail, details={"uri": self.connection.uri})

    def prepare(self, image: ImageFile) -> None:
        self._check_image(image)
        self._ensure()

    @verb
    def add(self, machine: MachineDefinition) -> None:
        check_name("id", machine.id)
        live = self.connection.get()
        reach("libvirt.add.begin")
        self._network.ensure(live)
        if self._find(live, machine.id) is not None:
            self._reserve(live, _reservation(machine))
            return
        self._refuse_impostor(live, machine.id)
        try:
            self._make(live, machine)
        except Exception:
            with contextlib.suppress(libvirt.libvirtError, GarbiError):
                self._delete(live, machine.id)
            raise

    @verb
    def start(self, machine_id: str) -> None:
        live, domain = self._get(machine_id)
        reach("libvirt.start.begin")
        if self._was_killed(machine_id) or self._is_gone(machine_id):
            self._await_end(domain)
        condition = condition_of(*domain.state(0))
        if condition is Condition.PAUSED:
            domain.resume()
        elif condition is Condition.STOPPED:
            self._power_on(live, domain)
        reach("libvirt.start.running")

    @verb
    def stop(self, machine_id: str) -> None:
        domain = self._find(self.connection.get(), machine_id)
        if domain is None:
            return
        reach("libvirt.stop.begin")
        condition = condition_of(*domain.state(0))
        if condition is Condition.STOPPED:
            return
        with unless_off(domain):
            if condition is Condition.PAUSED:
                domain.resume()  # frozen, it could not hear
                reach("libvirt.stop.resumed")
            domain.shutdown()
        reach("libvirt.stop.asked")

    @verb
    def kill(self, machine_id: str) -> None:
        domain = self._find(self.connection.get(), machine_id)
        if domain is None:
            return
        reach("libvirt.kill.begin")
        power_off(domain)
        reach("libvirt.kill.off")

    @verb
    def remove(self, machine_id: str) -> None:
        check_name("id", machine_id)
        reach("libvirt.remove.begin")
        self._delete(self.connection.get(), machine_id)
        reach("libvirt.remove.gone")

    @verb
    def observe(self, machine_id: str | None = None) -> list[Observation]:
        live = self.connection.get()
        if machine_id is not None:
            return self._observe_one(live, check_name("id", machine_id))
        return self._observe_all(live)

    def watch(self, notify: Notify) -> None:
        if self._watcher is None:
            self._watcher = Watcher(self.connection, self._domains.recognise, notify, self._heed, self._attached)
            self._watcher.start()

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        self.connection.close()

    @verb
    def pause(self, machine_id: str) -> None:
        _, domain = self._get(machine_id)
        reach("libvirt.pause.begin")
        condition = condition_of(*domain.state(0))
        if condition is Condition.STOPPED:
            raise Conflict(f"machine {machine_id} does not run, it cannot be paused")
        if condition is Condition.RUNNING:
            domain.suspend()
        reach("libvirt.pause.frozen")

    # What differs where QEMU runs on this host

    def _check_image(self, image: ImageFile) -> None:
        if self.connection.local:
            check_content(image)

    def _console(self, machine_id: str) -> Path | None:
        return None

    def _delete_traces(self, machine_id: str) -> None:
        self._causes.pop(machine_id, None)

    def _was_killed(self, _machine_id: str) -> bool:
        return False

    def _is_gone(self, _machine_id: str) -> bool:
        return False

    def _heed(self, event: LifecycleEvent) -> None:
        cause = cause_in(event)
        if cause is not None:
            self._causes.setdefault(event.machine_id, cause)
        elif event.event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._causes.pop(event.machine_id, None)

    def _attached(self, live: Any) -> None:
        for domain in live.listAllDomains(0):
            self._domains.identify(domain)

    # The steps of the verbs

    @verb
    def _info(self) -> DriverInfo:
        live = self.connection.get()
        number = live.getLibVersion()
        version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
        details = {"uri": self.connection.uri, **self._find_virtualisation(live).details()}
        if self.connection.hypervisor not in ("qemu", "test"):
            reason = f"this driver makes machines with QEMU, not with {live.getType()}"
            return DriverInfo("libvirt", available=False, reason=reason, version=version, details=details)
        return DriverInfo("libvirt", available=True, version=version, details=details)

    def _make(self, live: Any, machine: MachineDefinition) -> None:
        """Disk, then address, then domain: what is left of an interrupted `add` is seen by its disk."""
        domain_xml(self._domain(live, machine, "unknown yet"))  # what it refuses, it refuses before anything is made
        image = machine.image
        backing = Backing(str(image.path), image.type)
        disk = self._storage.make_disk(live, machine.id, backing, image.virtual_size, machine.full_copy)
        reach("libvirt.add.disk-made")
        self._reserve(live, _reservation(machine))
        reach("libvirt.add.address-reserved")
        live.defineXML(domain_xml(self._domain(live, machine, disk)))
        reach("libvirt.add.defined")

    def _delete(self, live: Any, machine_id: str) -> None:
        """Domain, address and traces, and the disk last, for the same reason."""
        domain = self._find(live, machine_id)
        if domain is not None:
            power_off(domain)
            reach("libvirt.remove.off")
            undefine(domain)
            reach("libvirt.remove.undefined")
        self._network.forget(live, machine_id)
        reach("libvirt.remove.address-free")
        self._delete_traces(machine_id)
        reach("libvirt.remove.traces-gone")
        self._storage.delete(live, machine_id)

    def _domain(self, live: Any, machine: MachineDefinition, disk: str) -> Domain:
        console = self._console(machine.id)
        return Domain(
            name=self._marks.domain_name(machine.id),
            uuid=self._marks.domain_uuid(machine.id),
            cluster_id=self._marks.cluster_id,
            machine_id=machine.id,
            user_name=machine.name,
            mem=machine.mem,
            cpus=machine.cpus,
            virtualisation=self._find_virtualisation(live),
            disk=disk,
            backing=None if machine.full_copy else Backing(str(machine.image.path), machine.image.type),
            network=self._marks.prefix,
            mac=machine.mac,
            address=machine.address,
            console=None if console is None else str(console),
            labels=machine.labels,
            marks=machine.marks,
        )

    def _find_virtualisation(self, live: Any) -> Virtualisation:
        """Found out once per connection: it takes libvirt a while."""
        known = self._virtualisation
        if known is None or known[0] is not live:
            known = self._virtualisation = (live, find_virtualisation(self.connection, live))
        return known[1]

    def _reserve(self, live: Any, wanted: Reservation | None) -> None:
        if wanted is not None:
            self._network.reserve(live, wanted)

    def _power_on(self, live: Any, domain: Any) -> None:
        try:
            domain.create()
        except libvirt.libvirtError as error:
            if self.connection.is_broken(error):
                raise
            if domain.isActive():  # another thread was quicker
                return
            if self._network.is_up(live):
                raise
            self._network.ensure(live)  # somebody took it down or deleted it
            self._reserve(live, reservation_of(domain.XMLDesc(0)))
            domain.create()

    def _await_end(self, domain: Any) -> None:
        """Wait until libvirt has learnt that the process is gone. Asked to destroy it, it might hit the next one."""
        deadline = self._clock.monotonic() + REAPED_WITHIN_S
        while found(domain.isActive, libvirt.VIR_ERR_NO_DOMAIN) and self._clock.monotonic() < deadline:
            time.sleep(0.02)

    def _observe_all(self, live: Any) -> list[Observation]:
        seen = {each: Observation(each, Condition.PARTIAL) for each in self._storage.machine_ids(live)}
        addresses = self._network.addresses(live)
        for domain, stats in live.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0):
            ours = self._domains.identify(domain)
            if ours is None:
                continue
            if self._was_killed(ours) or self._is_gone(ours):  # libvirt may not know yet
                seen |= {one.machine_id: one for one in self._observe_one(live, ours)}
                continue
            state, reason = stats.get("state.state", 0), stats.get("state.reason", 0)
            seen[ours] = self._observation(ours, state, reason, addresses.get(ours))
        return list(seen.values())

    def _observe_one(self, live: Any, machine_id: str) -> list[Observation]:
        if self._was_killed(machine_id):
            return [Observation(machine_id, Condition.STOPPED, KILLED)]
        domain = self._find(live, machine_id)
        if domain is not None and self._is_gone(machine_id):
            self._await_end(domain)
        state = None if domain is None else found(lambda: domain.state(0), libvirt.VIR_ERR_NO_DOMAIN)
        if state is not None:
            address = self._network.addresses(live).get(machine_id)
            return [self._observation(machine_id, state[0], state[1], address)]
        partial = machine_id in self._storage.machine_ids(live)
        return [Observation(machine_id, Condition.PARTIAL)] if partial else []

    def _observation(self, machine_id: str, state: int, reason: int, address: str | None) -> Observation:
        failure = failure_of(state, reason, self._causes.get(machine_id))
        return Observation(machine_id, condition_of(state, reason), failure, address)

    def _find(self, live: Any, machine_id: str) -> Any | None:
        uuid = self._marks.domain_uuid(machine_id)
        domain = found(lambda: live.lookupByUUIDString(uuid), libvirt.VIR_ERR_NO_DOMAIN)
        if domain is not None:
            self._domains.note(machine_id, domain.name())
        return domain

    def _get(self, machine_id: str) -> tuple[Any, Any]:
        live = self.connection.get()
        domain = self._find(live, machine_id)
        if domain is None:
            raise NotFound(f"libvirt has no domain of a machine {machine_id}", id=machine_id)
        return live, domain

    def _refuse_impostor(self, live: Any, machine_id: str) -> None:
        name = self._marks.domain_name(machine_id)
        if found(lambda: live.lookupByName(name), libvirt.VIR_ERR_NO_DOMAIN) is not None:
            raise AlreadyExists(f"libvirt has a domain called {name} that this agent did not make")


class QemuDriver(LibvirtDriver):
    """Machines of a QEMU on another host: they can be measured."""

    @verb
    def figures(self, machine_id: str) -> Figures:
        live, domain = self._get(machine_id)
        if not domain.isActive():
            raise Conflict(f"machine {machine_id} does not run, there is nothing to measure")
        return measure(live, domain)


class LocalQemuDriver(QemuDriver):
    """Machines of QEMU on this host: consoles can be read, processes watched, disks kept."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._consoles = Consoles(context.data_dir / "console")
        self._kept = KeptDisks(context.data_dir / "pool")
        self._processes: ProcessWatch | None = None

    def watch(self, notify: Notify) -> None:
        if self._watcher is None:
            self._processes = ProcessWatch(self._report_end)
        super().watch(notify)

    def close(self) -> None:
        super().close()
        if self._processes is not None:
            self._processes.close()

    def processes_of(self, machine_id: str) -> list[int]:
        return pids_of(self._marks.domain_uuid(machine_id))

    def console_log(self, machine_id: str, limit: int) -> bytes:
        check_name("id", machine_id)
        return self._consoles.tail(machine_id, limit)

    @verb
    def keep_disk(self, machine_id: str, name: str) -> KeptDisk | None:
        domain = self._find(self.connection.get(), machine_id)
        if domain is None:  # nothing ever ran on a disk without one
            return self._kept.find(machine_id, name)
        if not self._was_killed(machine_id) and condition_of(*domain.state(0)) is not Condition.STOPPED:
            raise Conflict(f"machine {machine_id} runs, its disk cannot be kept")
        return self._kept.keep(machine_id, name)

    def kept_disks(self) -> Mapping[str, KeptDisk]:
        return self._kept.all()

    def drop_kept(self, name: str) -> None:
        self._kept.drop(name)

    def withdraw(self) -> None:
        super().withdraw()
        self._consoles.destroy()

    def _check_image(self, image: ImageFile) -> None:
        super()._check_image(image)
        if self.connection.system:
            check_readable(image.path)

    def _console(self, machine_id: str) -> Path:
        self._consoles.ensure()
        return self._consoles.path(machine_id)

    def _delete_traces(self, machine_id: str) -> None:
        super()._delete_traces(machine_id)
        self._consoles.delete(machine_id)
        names = {self._marks.domain_name(machine_id), self._domains.name_of(machine_id)}
        with contextlib.suppress(OSError):  # only root may; libvirt's own log of a domain outlives it
            for name in names:
                for log in [QEMU_LOGS / f"{name}.log", *QEMU_LOGS.glob(f"{glob.escape(name)}.log.[0-9]*")]:
                    log.unlink(missing_ok=True)

    def _was_killed(self, machine_id: str) -> bool:
        pid = self._pid(machine_id)
        return pid is not None and was_killed(pid)

    def _is_gone(self, machine_id: str) -> bool:
        pid = self._pid(machine_id)
        return pid is not None and is_gone(pid)

    def _heed(self, event: LifecycleEvent) -> None:
        super()._heed(event)
        if event.event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._follow(event.machine_id)

    def _attached(self, live: Any) -> None:
        super()._attached(live)
        running = live.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        for machine_id in filter(None, map(self._domains.recognise, running)):
            self._follow(machine_id)

    def _follow(self, machine_id: str) -> None:
        pid = self._pid(machine_id)
        if pid is not None and self._processes is not None:
            self._processes.follow(machine_id, pid)

    def _pid(self, machine_id: str) -> int | None:
        return pid_of(self._domains.name_of(machine_id)) if self.connection.system else None

    def _report_end(self, machine_id: str) -> None:
        if self._watcher is not None:
            self._watcher.report(machine_id)


def _reservation(machine: MachineDefinition) -> Reservation | None:
    if machine.mac is None or machine.address is None:
        return None
    return Reservation(machine.id, machine.mac, machine.address)
