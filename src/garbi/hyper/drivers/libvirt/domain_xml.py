"""The libvirt domain of a machine as XML: built from elements only, and read back and compared before it is used.

What a user wrote stands in attributes of our own metadata element and nowhere else: names, paths and devices are ours.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from garbi.base.errors import InvalidField
from garbi.hyper.drivers.libvirt.capabilities import Virtualisation
from garbi.hyper.model.image import ImageType

NAMESPACE = "urn:garbi:machine:1"
ET.register_namespace("garbi", NAMESPACE)

BALLOON_PERIOD_S = 5

_XML_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*\\Z")


@dataclass(frozen=True, slots=True)
class Backing:
    """The image below an overlay: path and format, which are always said and never probed."""

    path: str
    format: ImageType


@dataclass(frozen=True, slots=True)
class Domain:
    """A machine as libvirt is to have it. `mem` in MiB; `backing` None: the disk is a full copy."""

    name: str
    uuid: str
    cluster_id: str
    machine_id: str
    user_name: str
    mem: int
    cpus: int
    virtualisation: Virtualisation
    disk: str
    backing: Backing | None
    network: str
    mac: str | None = None
    address: str | None = None
    console: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """What our metadata say of where a domain comes from: the agent and its machine, the agent's marks, the user's labels."""

    cluster_id: str
    machine_id: str
    marks: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reservation:
    """The address that a machine's network card gets."""

    machine_id: str
    mac: str
    address: str


def domain_xml(domain: Domain) -> str:
    """The XML that defines the domain; raises InvalidField for text that XML cannot hold."""
    _check_texts(domain)
    tree = _domain(domain)
    text = ET.tostring(tree, encoding="unicode")
    if not _same(tree, ET.fromstring(text)):  # noqa: S314 - our own text
        raise InvalidField("machine", "the machine has text that does not come back from XML as it went in")
    return text


def reservation_of(xml: str) -> Reservation | None:
    """The reservation that the XML of a domain of ours records; None when it has none."""
    machine = ET.fromstring(xml).find(f"metadata/{{{NAMESPACE}}}machine")  # noqa: S314 - libvirt's text
    if machine is None:
        return None
    mac, address = machine.get("mac"), machine.get("address")
    return Reservation(machine.get("id", ""), mac, address) if mac and address else None


def origin_in(xml: str) -> Origin | None:
    """The origin in the XML of a domain, or in our metadata alone; None when there is none in it, or it cannot be read."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - libvirt's text
    except ET.ParseError:
        return None
    machine = root if root.tag == f"{{{NAMESPACE}}}machine" else root.find(f".//metadata/{{{NAMESPACE}}}machine")
    machine = root if machine is None and root.tag == "machine" else machine  # libvirt may leave our prefix out
    if machine is None or not machine.get("id"):
        return None
    return Origin(machine.get("cluster", ""), machine.get("id", ""), _pairs(machine, "mark"), _pairs(machine, "label"))


def _pairs(machine: ET.Element, kind: str) -> dict[str, str]:
    found = (each for each in machine if each.tag.rpartition("}")[2] == kind)
    return {each.get("key", ""): each.get("value", "") for each in found}


def _domain(domain: Domain) -> ET.Element:
    virtualisation = domain.virtualisation
    root = ET.Element("domain", type=virtualisation.domain_type)
    _text(root, "name", domain.name)
    _text(root, "uuid", domain.uuid)
    ET.SubElement(root, "metadata").append(_metadata(domain))
    _text(root, "memory", str(domain.mem), unit="MiB")
    _text(root, "currentMemory", str(domain.mem), unit="MiB")
    _text(root, "vcpu", str(domain.cpus))
    system = ET.SubElement(root, "os")
    machine = {} if virtualisation.machine is None else {"machine": virtualisation.machine}
    _text(system, "type", "hvm", arch=virtualisation.arch, **machine)
    ET.SubElement(system, "boot", dev="hd")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if virtualisation.cpu_mode is not None:
        ET.SubElement(root, "cpu", mode=virtualisation.cpu_mode)
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    root.append(_devices(domain))
    return root


def _metadata(domain: Domain) -> ET.Element:
    marks = {"id": domain.machine_id, "cluster": domain.cluster_id, "name": domain.user_name}
    optional = {"mac": domain.mac, "address": domain.address}
    marks |= {key: value for key, value in optional.items() if value is not None}
    machine = ET.Element(f"{{{NAMESPACE}}}machine", marks)
    for key, value in domain.labels.items():
        ET.SubElement(machine, f"{{{NAMESPACE}}}label", key=key, value=value)
    for key, value in domain.marks.items():
        ET.SubElement(machine, f"{{{NAMESPACE}}}mark", key=key, value=value)
    return machine


def _devices(domain: Domain) -> ET.Element:
    """What a server needs and no more: each device costs time at start. No display, so no VNC port."""
    devices = ET.Element("devices")
    devices.append(_disk(domain))
    devices.append(_card(domain))
    ET.SubElement(devices, "controller", type="usb", model="none")
    serial = ET.SubElement(devices, "serial", type="pty")
    if domain.console is not None:
        ET.SubElement(serial, "log", file=domain.console, append="on")  # virtlogd bounds its size
    randomness = ET.SubElement(devices, "rng", model="virtio")
    _text(randomness, "backend", "/dev/urandom", model="random")
    balloon = ET.SubElement(devices, "memballoon", model="virtio")
    ET.SubElement(balloon, "stats", period=str(BALLOON_PERIOD_S))
    ET.SubElement(devices, "panic", model="isa")  # with on_crash: a guest's panic is seen as a failure
    return devices


def _disk(domain: Domain) -> ET.Element:
    disk = ET.Element("disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    ET.SubElement(disk, "source", file=domain.disk)
    store = disk
    if domain.backing is not None:
        store = ET.SubElement(disk, "backingStore", type="file")
        ET.SubElement(store, "format", type=domain.backing.format.value)
        source = ET.SubElement(store, "source", file=domain.backing.path)
        ET.SubElement(source, "seclabel", model="dac", relabel="no")  # machines share it: it keeps its owner
    ET.SubElement(store, "backingStore")  # the end of the chain, or libvirt would look for more
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    return disk


def _card(domain: Domain) -> ET.Element:
    card = ET.Element("interface", type="network")
    ET.SubElement(card, "source", network=domain.network)
    if domain.mac is not None:
        ET.SubElement(card, "mac", address=domain.mac)
    ET.SubElement(card, "model", type="virtio")
    ET.SubElement(card, "rom", enabled="no")  # no network boot: saves its time
    return card


def _text(parent: ET.Element, tag: str, text: str, /, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _check_texts(domain: Domain) -> None:
    texts = [(each.name, getattr(domain, each.name)) for each in fields(domain)]
    texts += [("labels", text) for pair in (*domain.labels.items(), *domain.marks.items()) for text in pair]
    for name, text in texts:
        if isinstance(text, str) and not _XML_TEXT.match(text):
            shown = {"user_name": "name"}.get(name, name)
            raise InvalidField(shown, f"{shown} has a character that cannot be kept: {text[:80]!r}")


def _same(one: ET.Element, other: ET.Element) -> bool:
    return (
        one.tag == other.tag
        and one.attrib == other.attrib
        and (one.text or "") == (other.text or "")
        and len(one) == len(other)
        and all(map(_same, one, other))
    )
