"""The libvirt driver under test, on QEMU of this host and on libvirt's own mock; both asked through the raw library."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
from tests.conformance.socket_relay import SocketRelay
from tests.conformance.subjects import Limits

from garbi.base.clock import SystemClock
from garbi.hyper.drivers.libvirt import LibvirtDriver
from garbi.hyper.drivers.libvirt.driver import LocalQemuDriver
from garbi.hyper.drivers.protocol import Driver, DriverContext, ImageFile
from garbi.hyper.images.tiny import DISK_NAME, READY_LINE, build_tiny
from garbi.hyper.model.image import ImageType

OTHER_CLUSTER = secrets.token_hex(16)
MACHINE = "{urn:garbi:machine:1}machine"
LABEL = "{urn:garbi:machine:1}label"
DAEMON_SOCKET = Path("/run/libvirt/libvirt-sock")
PID_DIR = Path("/run/libvirt/qemu")
LOG_DIR = Path("/var/log/libvirt/qemu")
KEPT_HOST = "garbi_gateway"


@dataclass(frozen=True)
class Portrait:
    """A machine of somebody else's, as it was made: what must not change."""

    name: str
    state: tuple[int, int]
    incarnation: str
    definition: str
    disk: tuple[int, int, int, int]


class ForeignDomains:
    """Domains that no agent made, planted through the raw library and looked at again."""

    domain_type: str
    arch: str

    def __init__(self, work_dir: Path, live: Any) -> None:
        self._work_dir = work_dir
        self._libvirt = live
        self._foreign: list[Portrait] = []

    def make_foreign(self, cluster_id: str, machine_id: str) -> None:
        self._plant(f"by-hand-{OTHER_CLUSTER[:8]}-{machine_id}")
        self._plant(f"{_prefix(cluster_id)}-{machine_id}x")
        self._plant(f"{_prefix(OTHER_CLUSTER)}-{machine_id}", cluster=OTHER_CLUSTER, id=machine_id)

    def make_impostor(self, cluster_id: str, machine_id: str) -> None:
        self._plant(f"{_prefix(cluster_id)}-{machine_id}", running=False)

    def foreign_changes(self) -> list[str]:
        return [f"{before.name} changed" for before in self._foreign if not self._looks_as_before(before)]

    def remove_foreign(self) -> None:
        for portrait in self._foreign:
            with contextlib.suppress(libvirt.libvirtError):
                _delete(self._libvirt.lookupByName(portrait.name))
            self._foreign_disk(portrait.name).unlink(missing_ok=True)
            (LOG_DIR / f"{portrait.name}.log").unlink(missing_ok=True)
        self._foreign.clear()

    def _incarnation(self, domain: Any) -> str:
        return str(domain.ID())

    def _plant(self, name: str, running: bool = True, **mark: str) -> None:
        disk = self._foreign_disk(name)
        _make_disk(disk, "8M")
        root = ET.Element("domain", type=self.domain_type)
        ET.SubElement(root, "name").text = name
        ET.SubElement(root, "uuid").text = str(uuid.uuid4())
        if mark:
            ET.SubElement(ET.SubElement(root, "metadata"), MACHINE, mark)
        ET.SubElement(root, "memory", unit="MiB").text = "32"
        ET.SubElement(ET.SubElement(root, "os"), "type", arch=self.arch).text = "hvm"
        device = ET.SubElement(ET.SubElement(root, "devices"), "disk", type="file", device="disk")
        ET.SubElement(device, "driver", name="qemu", type="qcow2")
        ET.SubElement(device, "source", file=str(disk))
        ET.SubElement(device, "target", dev="vda", bus="virtio")
        domain = self._libvirt.defineXML(ET.tostring(root, encoding="unicode"))
        if running:
            domain.create()
        self._foreign.append(self._portrait(name))

    def _looks_as_before(self, before: Portrait) -> bool:
        try:
            return self._portrait(before.name) == before
        except (libvirt.libvirtError, OSError):
            return False

    def _portrait(self, name: str) -> Portrait:
        domain = self._libvirt.lookupByName(name)
        state = domain.state()
        status = self._foreign_disk(name).stat()
        return Portrait(
            name,
            (state[0], state[1]),
            self._incarnation(domain) if domain.isActive() else "",
            domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
            (status.st_uid, status.st_gid, status.st_mode, status.st_size),
        )

    def _foreign_disk(self, name: str) -> Path:
        return self._work_dir / f"{name}.foreign"


class LibvirtSubject(ForeignDomains):
    """What is the same for both URIs."""

    name: str
    driver_class: type[LibvirtDriver]
    outlives_process: bool
    serves_page = False
    console_text = b""
    notice_s = 60.0

    def __init__(self, work_dir: Path, uri: str) -> None:
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        super().__init__(work_dir, libvirt.open(uri))
        self._data_dirs: dict[str, Path] = {}

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        self._data_dirs[cluster_id] = data_dir
        return LibvirtDriver(DriverContext(cluster_id, data_dir, SystemClock(), {"uri": self._uri()}))

    def corrupt_image(self) -> ImageFile:
        path = self._work_dir / "corrupt.qcow2"
        path.write_bytes(b"QFI\xfb" + bytes(1000))
        path.chmod(0o444)
        return ImageFile("0" * 64, ImageType.QCOW2, path, 1 << 20)

    def limits_seen(self, cluster_id: str, machine_id: str) -> Limits:
        _, _, memory_kib, cpus, _ = self._domain(cluster_id, machine_id).info()
        return Limits(memory_kib // 1024, cpus)

    def labels_kept(self, cluster_id: str, machine_id: str) -> Mapping[str, str]:
        tree = ET.fromstring(self._domain(cluster_id, machine_id).XMLDesc(0))
        return {label.attrib["key"]: label.attrib["value"] for label in tree.iter(LABEL)}

    def leftovers(self, cluster_id: str) -> list[str]:
        found = [f"domain {domain.name()}" for domain in self._libvirt.listAllDomains() if _is_of(domain, cluster_id)]
        data_dir = self._data_dirs.get(cluster_id, Path("/nonexistent"))
        for directory in (data_dir / "pool", data_dir / "console"):
            found += [f"file {path}" for path in directory.glob("*")]
        pool, network = self._pool(cluster_id), self._network(cluster_id)
        if pool is not None and pool.isActive():
            found += [f"volume {volume.name()}" for volume in pool.listAllVolumes()]
        if network is not None:
            hosts = ET.fromstring(network.XMLDesc()).iter("host")
            found += [f"address of {host.get('name')}" for host in hosts if host.get("name") != KEPT_HOST]
        theirs = {f"{portrait.name}.log" for portrait in self._foreign}
        found += [f"log {log}" for log in LOG_DIR.glob(f"{_prefix(cluster_id)}-*") if log.name not in theirs]
        return sorted(found)

    def keeps_image(self, cluster_id: str, sha256: str) -> bool:
        return False

    def footprint(self, cluster_id: str) -> list[str]:
        things = {"pool": self._pool(cluster_id), "network": self._network(cluster_id)}
        made = [f"{kind} {thing.name()}" for kind, thing in things.items() if thing is not None]
        data_dir = self._data_dirs.get(cluster_id, Path("/nonexistent"))
        made += [f"directory {path}" for path in (data_dir / "pool", data_dir / "console") if path.exists()]
        return made + [f"bridge {path}" for path in Path("/sys/class/net").glob(f"gb{cluster_id[:8]}")]

    def sweep(self, cluster_id: str) -> None:
        for domain in self._libvirt.listAllDomains():
            if _is_of(domain, cluster_id):
                _delete(domain)
        pool, network = self._pool(cluster_id), self._network(cluster_id)
        for thing in (pool, network):
            if thing is not None:
                if thing.isActive():
                    thing.destroy()
                thing.undefine()
        if cluster_id in self._data_dirs:
            shutil.rmtree(self._data_dirs.pop(cluster_id) / "pool", ignore_errors=True)

    def close(self) -> None:
        self._libvirt.close()

    def _uri(self) -> str:
        return str(self._libvirt.getURI())

    def _domain(self, cluster_id: str, machine_id: str) -> Any:
        domain = self._libvirt.lookupByName(f"{_prefix(cluster_id)}-{machine_id}")
        assert _is_of(domain, cluster_id)
        return domain

    def _pool(self, cluster_id: str) -> Any:
        pools = self._libvirt.listAllStoragePools()
        return next((pool for pool in pools if pool.name() == _prefix(cluster_id)), None)

    def _network(self, cluster_id: str) -> Any:
        networks = self._libvirt.listAllNetworks()
        return next((network for network in networks if network.name() == _prefix(cluster_id)), None)


class LibvirtQemuSubject(LibvirtSubject):
    """QEMU of this host, behind a relay that can be cut."""

    name = "libvirt-qemu"
    driver_class = LocalQemuDriver
    outlives_process = True
    console_text = READY_LINE.encode()
    notice_s = 90.0
    domain_type = "qemu"
    arch = "x86_64"

    def __init__(self, work_dir: Path) -> None:
        super().__init__(work_dir, "qemu:///system")
        self._relay_path = work_dir / f"libvirt-{os.getpid()}.sock"
        self._relay = SocketRelay(self._relay_path, DAEMON_SOCKET)

    def make_stranded_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        uri = f"qemu+unix:///system?socket={data_dir}/nobody.sock"
        return LibvirtDriver(DriverContext(cluster_id, data_dir, SystemClock(), {"uri": uri}))

    def image(self) -> ImageFile:
        path = self._work_dir / DISK_NAME
        if not path.exists():
            build_tiny(self._work_dir)
            path.chmod(0o444)
        command = ["qemu-img", "info", "-f", "qcow2", "--output=json", "--", str(path)]
        about = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return ImageFile(sha256, ImageType.QCOW2, path, about["virtual-size"])

    def broken_daemon(self) -> AbstractContextManager[None]:
        return self._relay.broken()

    def kill_outside(self, cluster_id: str, machine_id: str) -> None:
        os.kill(_pid(self._domain(cluster_id, machine_id)), signal.SIGKILL)

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        return self._incarnation(self._domain(cluster_id, machine_id))

    def close(self) -> None:
        self._relay.cut()
        super().close()

    def _uri(self) -> str:
        return f"qemu+unix:///system?socket={self._relay_path}"

    def _incarnation(self, domain: Any) -> str:
        pid = _pid(domain)
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{pid} {started}"


class LibvirtTestSubject(LibvirtSubject):
    """libvirt's own mock, which lives in this process."""

    name = "libvirt-test"
    driver_class = LibvirtDriver
    outlives_process = False
    notice_s = 60.0
    domain_type = "test"
    arch = "i686"

    def __init__(self, work_dir: Path) -> None:
        super().__init__(work_dir, "test:///default")

    def make_stranded_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        uri = f"test://{data_dir}/nothing.xml"
        return LibvirtDriver(DriverContext(cluster_id, data_dir, SystemClock(), {"uri": uri}))

    def image(self) -> ImageFile:
        path = self._work_dir / "blank.qcow2"
        if not path.exists():
            _make_disk(path, "16M")
            path.chmod(0o444)
        return ImageFile(hashlib.sha256(path.read_bytes()).hexdigest(), ImageType.QCOW2, path, 16 << 20)

    def kill_outside(self, cluster_id: str, machine_id: str) -> None:
        dump = self._work_dir / "dump"
        self._domain(cluster_id, machine_id).coreDump(str(dump), libvirt.VIR_DUMP_CRASH)
        dump.unlink()

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        return self._incarnation(self._domain(cluster_id, machine_id))


def _prefix(cluster_id: str) -> str:
    return f"garbi-{cluster_id[:8]}"


def _is_of(domain: Any, cluster_id: str) -> bool:
    try:
        mark = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).find(f"metadata/{MACHINE}")
    except libvirt.libvirtError:
        return False
    return mark is not None and mark.get("cluster") == cluster_id


def _pid(domain: Any) -> int:
    return int((PID_DIR / f"{domain.name()}.pid").read_text())


def _delete(domain: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        domain.destroy()
    domain.undefine()


def _make_disk(path: Path, size: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "--", str(path), size], check=True)
