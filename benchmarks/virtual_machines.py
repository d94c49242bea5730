"""Virtual machines: until they run, and until their page answers, against qemu-img and virsh with the same domain."""

from __future__ import annotations

import itertools
import secrets
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.bed import Bed, free_port, run, wait_for_page
from benchmarks.pairs import Row, compare_times

PAIRS = 9
URI = "qemu:///system"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the first command: until the machine runs, and until its page answers."""

    running: float
    page: float


class VirtualMachines:
    """Makes the same machine by us and by virsh, on the same network, from the same image."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._numbers = itertools.count()
        self._client = bed.client()
        self._name = f"garbi-{bed.cluster}"
        self._model = self._dump_model()

    def rows(self) -> list[Row]:
        """Every measurement of virtual machines."""
        ours: list[Times] = []
        theirs: list[Times] = []
        for _ in range(PAIRS + 1):
            ours.append(self._by_rest())
            theirs.append(self._by_virsh())
        del ours[0], theirs[0]  # the first of each warms up
        return [
            compare_times(
                "VM: POST → running, `qemu-img` + `virsh`",
                [t.running for t in ours],
                [t.running for t in theirs],
                1.3,
            ),
            compare_times(
                "VM: POST → page answered, `qemu-img` + `virsh`",
                [t.page for t in ours],
                [t.page for t in theirs],
                1.1,
            ),
        ]

    def _dump_model(self) -> ET.Element:
        """The domain of one of our machines: what virsh is given differs in its names only."""
        machine = self._client.machines.add({"image": "tiny", "id": "model", "mem": 128})
        if machine["state"] != "running":
            raise RuntimeError(f"not running: {machine}")
        domain = ET.fromstring(run(["virsh", "-c", URI, "dumpxml", "--inactive", f"{self._name}-model"]))
        self._address = IPv4Address(machine["address"])
        self._client.machines.remove("model")
        return domain

    def _by_rest(self) -> Times:
        name, port = f"bench-{next(self._numbers)}", free_port()
        spec = {"image": "tiny", "id": name, "mem": 128, "ports": [{"node_port": port, "machine_port": 80}]}
        begin = time.perf_counter()
        self._client.machines.add(spec)
        running = time.perf_counter() - begin
        wait_for_page(f"http://127.0.0.1:{port}/")
        page = time.perf_counter() - begin
        self._client.machines.remove(name)
        return Times(running, page)

    def _by_virsh(self) -> Times:
        number = next(self._numbers)
        name = f"bench-virsh-{self._bed.port}-{number}"
        disk, definition = self._bed.data_dir / f"{name}.qcow2", self._bed.data_dir / f"{name}.xml"
        mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
        address = str(self._address + 100 + number)  # the one before is leased to another machine
        backing = self._prepare(name, disk, definition, mac)
        reservation = f"<host mac='{mac}' ip='{address}'/>"
        update = ["virsh", "-c", URI, "net-update", self._name]
        begin = time.perf_counter()
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(disk)])
        run([*update, "add", "ip-dhcp-host", reservation, "--live", "--config"])
        run(["virsh", "-c", URI, "define", str(definition)])
        run(["virsh", "-c", URI, "start", name])
        running = time.perf_counter() - begin
        try:
            wait_for_page(f"http://{address}/")
            page = time.perf_counter() - begin
        finally:
            run(["virsh", "-c", URI, "destroy", name])
            run(["virsh", "-c", URI, "undefine", name])
        run([*update, "delete", "ip-dhcp-host", reservation, "--live", "--config"])
        disk.unlink()
        return Times(running, page)

    def _prepare(self, name: str, disk: Path, definition: Path, mac: str) -> Path:
        """Write the definition of a machine like ours; the image that its disk will lie on."""
        domain = ET.fromstring(ET.tostring(self._model))
        for tag in ("uuid", "metadata"):
            for element in domain.findall(tag):
                domain.remove(element)
        _child(domain, "name").text = name
        _child(domain, "devices/interface/mac").set("address", mac)
        source = _child(domain, "devices/disk/source")
        for attribute in ("pool", "volume", "file"):
            source.attrib.pop(attribute, None)
        source.set("file", str(disk))
        _child(domain, "devices/disk").set("type", "file")
        for log in domain.iter("log"):
            log.set("file", str(disk.with_suffix(".log")))
        definition.write_text(ET.tostring(domain, encoding="unicode"), encoding="utf-8")
        image = next(each for each in self._client.images.list() if each["name"] == "tiny")
        return self._bed.data_dir / "images" / "sha256" / str(image["sha256"])


def _child(element: ET.Element, path: str) -> ET.Element:
    found = element.find(path)
    if found is None:
        raise RuntimeError(f"the domain has no {path}")
    return found
