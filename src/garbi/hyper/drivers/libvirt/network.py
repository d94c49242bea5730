"""The network of the machines: a bridge of our own with a free subnet, and the address of each machine, reserved at DHCP.

libvirt is told to leave the firewall alone (`open`): its own rules for NAT refuse what comes in for published ports. What
guests may reach, and by which address, is decided in one place, `garbi.hyper.publishing`. The definition of the network at
libvirt is the only record of its subnet and of the reservations.
"""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import libvirt

from garbi.base.errors import DriverFailed
from garbi.base.failpoints import reach
from garbi.hyper.drivers.libvirt.connection import found
from garbi.hyper.drivers.libvirt.domain_xml import Reservation
from garbi.hyper.drivers.libvirt.leases import end_lease
from garbi.hyper.drivers.libvirt.marks import Marks
from garbi.hyper.drivers.protocol import GuestNetwork

ROUTES = Path("/proc/net/route")
SPACE = IPv4Network("10.64.0.0/10")
_PREFIX_LENGTH = 24
_ATTEMPTS = 5
_GATEWAY = "garbi_gateway"  # no id has an underscore: no machine is called so

_ADD = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
_DELETE = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE


class Network:
    """The network of one agent. `local`: libvirt is on this host, so that its routes are known and leases can be ended."""

    def __init__(self, marks: Marks, local: bool) -> None:
        self._marks = marks
        self._local = local
        self._lock = threading.Lock()

    def ensure(self, live: Any) -> GuestNetwork:
        """The network, made and active; raises DriverFailed when no subnet is free or its own is no longer."""
        with self._lock:
            network = self._find(live)
            if network is None:
                network = self._make(live)
            elif not network.isActive():
                network.create()
            if not network.autostart():
                network.setAutostart(1)
            return _described(_parse(network))

    def reserve(self, live: Any, wanted: Reservation) -> None:
        """Give the machine its address from now on, in place of another that it had; end an older lease of the address."""
        with self._lock:
            network = self._find(live)
            if network is None:
                raise DriverFailed(f"the network {self._marks.prefix} is gone")
            former = [host for host in _hosts(_parse(network)) if host.get("name") == wanted.machine_id]
            for host in former:
                if (host.get("mac"), host.get("ip")) == (wanted.mac.lower(), wanted.address):
                    return
                _update(network, _DELETE, host)
            host = ET.Element("host", mac=wanted.mac.lower(), name=wanted.machine_id, ip=wanted.address)
            _update(network, _ADD, host)
            self._end_foreign_leases(network, wanted)

    def forget(self, live: Any, machine_id: str) -> None:
        """Take back the address of the machine; nothing happens when it has none."""
        with self._lock:
            network = self._find(live)
            if network is None:
                return
            tree = _parse(network)
            for host in _hosts(tree):
                if host.get("name") == machine_id:
                    _update(network, _DELETE, host)
                    if self._local:
                        end_lease(_described(tree), host.get("mac", ""), host.get("ip", ""))

    def addresses(self, live: Any) -> dict[str, str]:
        """The reserved address of each machine by its id."""
        network = self._find(live)
        if network is None:
            return {}
        return {host.get("name", ""): host.get("ip", "") for host in _hosts(_parse(network))}

    def is_up(self, live: Any) -> bool:
        """Whether the network is there and active."""
        network = self._find(live)
        return network is not None and bool(network.isActive())

    def destroy(self, live: Any) -> None:
        """Delete the network."""
        network = self._find(live)
        if network is None:
            return
        if network.isActive():
            network.destroy()
        network.undefine()

    def _find(self, live: Any) -> Any | None:
        network = found(lambda: live.networkLookupByName(self._marks.prefix), libvirt.VIR_ERR_NO_NETWORK)
        return network if network is not None and network.UUIDString() == self._marks.network_uuid else None

    def _make(self, live: Any) -> Any:
        """Define and start the network in a subnet that nobody uses; the next one when somebody else was quicker."""
        refused: libvirt.libvirtError | None = None
        for subnet in self._free_subnets(live):
            network = live.networkDefineXML(self._xml(subnet))
            reach("libvirt.network.defined")
            try:
                network.create()
            except libvirt.libvirtError as error:
                network.undefine()
                refused = error
                continue
            reach("libvirt.network.started")
            return network
        raise refused or DriverFailed(f"no subnet of {SPACE} is free for a network of machines")

    def _free_subnets(self, live: Any) -> Iterator[IPv4Network]:
        taken = set(_subnets_of_networks(live)) | (set(subnets_of_routes()) if self._local else set())
        start = int(self._marks.cluster_id[:8], 16)
        return iter(free_subnets(taken, start, _ATTEMPTS))

    def _xml(self, subnet: IPv4Network) -> str:
        gateway = str(subnet[1])
        root = ET.Element("network")
        ET.SubElement(root, "name").text = self._marks.prefix
        ET.SubElement(root, "uuid").text = self._marks.network_uuid
        ET.SubElement(root, "forward", mode="open")
        ET.SubElement(root, "bridge", name=self._marks.bridge, stp="off", delay="0")
        address = ET.SubElement(root, "ip", address=gateway, netmask=str(subnet.netmask))
        # Only reserved addresses are given out. The gateway's entry is nobody's: DHCP serves from the first moment on.
        mac = f"52:54:00:{subnet[1].packed[1:].hex(':')}"
        ET.SubElement(ET.SubElement(address, "dhcp"), "host", mac=mac, name=_GATEWAY, ip=gateway)
        return ET.tostring(root, encoding="unicode")

    def _end_foreign_leases(self, network: Any, wanted: Reservation) -> None:
        """DHCP does not give out a reserved address while its former owner's lease runs: that owner is gone for sure."""
        if not self._local:
            return
        leases = found(network.DHCPLeases, libvirt.VIR_ERR_NO_SUPPORT) or []
        for lease in leases:
            if lease["ipaddr"] == wanted.address and lease["mac"].lower() != wanted.mac.lower():
                end_lease(_described(_parse(network)), lease["mac"], lease["ipaddr"])


def free_subnets(taken: Iterable[IPv4Network], start: int, count: int) -> list[IPv4Network]:
    """Up to `count` subnets of our space that overlap none of those taken; where to begin follows from `start`."""
    taken = [network for network in taken if network.overlaps(SPACE)]
    step = 2 ** (32 - _PREFIX_LENGTH)
    total = SPACE.num_addresses // step
    free: list[IPv4Network] = []
    for offset in range(total):
        base = int(SPACE.network_address) + (start + offset) % total * step
        subnet = IPv4Network((base, _PREFIX_LENGTH))
        if not any(subnet.overlaps(network) for network in taken):
            free.append(subnet)
        if len(free) == count:
            break
    return free


def subnets_of_routes(routes: Path = ROUTES) -> list[IPv4Network]:
    """Where this host already has a route to, but for the default one."""
    networks = []
    for line in routes.read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(words[column]), "little") for column in (1, 7))
        if mask:
            networks.append(IPv4Network((destination, mask.bit_count())))
    return networks


def _subnets_of_networks(live: Any) -> Iterator[IPv4Network]:
    for network in live.listAllNetworks(0):
        text = found(lambda network=network: network.XMLDesc(0), libvirt.VIR_ERR_NO_NETWORK)  # type: ignore[misc]
        for address in ET.fromstring(text).iter("ip") if text else ():  # noqa: S314 - libvirt's text
            if address.get("family", "ipv4") == "ipv4" and address.get("address"):
                mask = address.get("netmask") or address.get("prefix") or "32"
                yield IPv4Network(f"{address.get('address')}/{mask}", strict=False)


def _parse(network: Any) -> ET.Element:
    return ET.fromstring(network.XMLDesc(0))  # noqa: S314 - libvirt's text


def _described(tree: ET.Element) -> GuestNetwork:
    address, bridge = tree.find("ip"), tree.find("bridge")
    if address is None or bridge is None:
        raise DriverFailed("the network of the machines has lost its address or its bridge")
    gateway = address.get("address", "")
    mask = address.get("netmask") or address.get("prefix")
    return GuestNetwork(bridge.get("name", ""), IPv4Network(f"{gateway}/{mask}", strict=False), gateway)


def _hosts(tree: ET.Element) -> list[ET.Element]:
    return [host for host in tree.findall("ip/dhcp/host") if host.get("name") != _GATEWAY]


def _update(network: Any, command: int, host: ET.Element) -> None:
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    if network.isActive():
        flags |= libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    section = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
    network.update(command, section, -1, ET.tostring(host, encoding="unicode"), flags)
