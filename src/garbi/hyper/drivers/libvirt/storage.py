"""The disks of the machines: a directory pool of our own, in it one volume per machine that holds what differs from its image.

Everything goes through libvirt's storage API, so that the host may be another. A volume whose domain was never defined is
what an interrupted `add` left: nothing has run on it, and it is made anew.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import libvirt

from garbi.base.failpoints import reach
from garbi.hyper.drivers.libvirt.connection import found
from garbi.hyper.drivers.libvirt.domain_xml import Backing
from garbi.hyper.drivers.libvirt.marks import Marks

_DISK, _SEED = ".qcow2", ".seed.qcow2"


class Storage:
    """The pool of one agent, at `path` on the host that libvirt runs on."""

    def __init__(self, marks: Marks, path: Path) -> None:
        self._marks = marks
        self._path = path

    def ensure(self, live: Any) -> Any:
        """The pool, made and active."""
        pool = self._find(live)
        if pool is None:
            pool = live.storagePoolDefineXML(self._pool_xml())
            reach("libvirt.pool.defined")
        if not pool.isActive():
            pool.build(0)
            reach("libvirt.pool.built")
            pool.setAutostart(1)
            reach("libvirt.pool.autostarts")
            _activate(pool)
        return pool

    def make_disk(self, live: Any, machine_id: str, backing: Backing, size: int, full_copy: bool) -> str:
        """Make the disk of `size` bytes anew, an overlay on the image or with `full_copy` independent of it; return its path."""
        pool = self.ensure(live)
        _delete_volumes(pool, machine_id)
        if not full_copy:
            disk = _create(pool, machine_id + _DISK, size, backing)
            return str(disk.path())
        # The copy is made of an overlay of ours, whose format libvirt knows, so that it need not probe the image.
        seed = _create(pool, machine_id + _SEED, size, backing)
        reach("libvirt.add.seed-made")
        disk = pool.createXMLFrom(_volume_xml(machine_id + _DISK, size), seed, 0)
        reach("libvirt.add.copied")
        seed.delete(0)
        return str(disk.path())

    def delete(self, live: Any, machine_id: str) -> None:
        """Delete all volumes of the machine; nothing happens when there are none."""
        if self._find(live) is not None:
            _delete_volumes(self.ensure(live), machine_id)

    def machine_ids(self, live: Any) -> set[str]:
        """The machines that have a volume."""
        pool = self._find(live)
        if pool is None or not pool.isActive():
            return set()
        names = [volume.name() for volume in pool.listAllVolumes(0)]
        return {name.partition(".")[0] for name in names if name.endswith((_DISK, _SEED))}

    def destroy(self, live: Any) -> None:
        """Forget the pool and delete its directory, which must be empty."""
        pool = self._find(live)
        if pool is None:
            return
        if pool.isActive():
            pool.destroy()
        pool.build(0)  # or there would be no directory to delete, where this was interrupted before
        pool.delete(0)
        reach("libvirt.pool.deleted")
        pool.undefine()

    def _find(self, live: Any) -> Any | None:
        pool = found(lambda: live.storagePoolLookupByName(self._marks.prefix), libvirt.VIR_ERR_NO_STORAGE_POOL)
        return pool if pool is not None and pool.UUIDString() == self._marks.pool_uuid else None

    def _pool_xml(self) -> str:
        root = ET.Element("pool", type="dir")
        ET.SubElement(root, "name").text = self._marks.prefix
        ET.SubElement(root, "uuid").text = self._marks.pool_uuid
        target = ET.SubElement(root, "target")
        ET.SubElement(target, "path").text = str(self._path)
        ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = "0711"
        return ET.tostring(root, encoding="unicode")


def _volume_xml(name: str, size: int, backing: Backing | None = None) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "capacity", unit="bytes").text = str(size)
    ET.SubElement(root, "allocation").text = "0"
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "format", type="qcow2")
    ET.SubElement(target, "compat").text = "1.1"
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = "0600"
    if backing is not None:
        below = ET.SubElement(root, "backingStore")
        ET.SubElement(below, "path").text = backing.path
        ET.SubElement(below, "format", type=backing.format.value)
    return ET.tostring(root, encoding="unicode")


def _create(pool: Any, name: str, size: int, backing: Backing) -> Any:
    xml = _volume_xml(name, size, backing)
    try:
        return pool.createXML(xml, 0)
    except libvirt.libvirtError:
        pool.refresh(0)
        stray = _volume(pool, name)  # a file that libvirt did not know of: its daemon died while it made it
        if stray is None:
            raise
        _delete(pool, stray)
        return pool.createXML(xml, 0)


def _volume(pool: Any, name: str) -> Any | None:
    return found(lambda: pool.storageVolLookupByName(name), libvirt.VIR_ERR_NO_STORAGE_VOL)


def _delete_volumes(pool: Any, machine_id: str) -> None:
    for name in (machine_id + _SEED, machine_id + _DISK):
        volume = _volume(pool, name)
        if volume is not None:
            _delete(pool, volume)


def _activate(pool: Any) -> None:
    try:
        pool.create(0)
    except libvirt.libvirtError:
        if not pool.isActive():  # otherwise another thread was quicker
            raise


def _delete(pool: Any, volume: Any) -> None:
    try:
        volume.delete(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return
        pool.refresh(0)  # the file may have gone behind libvirt's back
        if found(volume.info, libvirt.VIR_ERR_NO_STORAGE_VOL) is not None:
            raise
