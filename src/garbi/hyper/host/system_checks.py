"""Checks of the host itself: processor, network, disk, rights, tools."""

from __future__ import annotations

import fcntl
import getpass
import grp
import os
import secrets
import socket
from pathlib import Path

from garbi.base.checks import Finding, fail, ok, run_program, warn
from garbi.base.programs import find_program
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.host.virtualisation import detect_virtualisation
from garbi.hyper_api.host import Accelerator
from garbi.storage.room import examine_room

_ADD_BRIDGE, _DELETE_BRIDGE = 0x89A0, 0x89A1
_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_GROUPS = ("docker", "libvirt")

_TEST_TABLE = """
table inet {name} {{
  map leads {{ type inet_proto . inet_service : ipv4_addr . inet_service; elements = {{ tcp . 1 : 192.0.2.1 . 1 }} }}
  chain publish {{ dnat ip to meta l4proto . th dport map @leads; }}
  chain leaving {{ type nat hook postrouting priority 95; policy accept; ip saddr 192.0.2.1 masquerade; }}
}}
delete table inet {name}
"""


def check_processor(settings: DoctorSettings) -> Finding:
    """Guests run on the processor."""
    seen = detect_virtualisation()
    if seen.accelerator is Accelerator.KVM:
        return ok(f"KVM, {seen.reason}")
    if seen.cpu_flag:
        module = "kvm_intel" if seen.cpu_flag == "vmx" else "kvm_amd"
        mend = f"modprobe {module}; if that fails, switch virtualisation on in the firmware"
    elif seen.nested:
        mend = "switch nested virtualisation on for this virtual machine, on the host that runs it"
    else:
        mend = "switch virtualisation (VT-x, AMD-V) on in the firmware of this host"
    return warn(f"guests run, but slowly, by translation (TCG): {seen.reason}", mend)


def check_kvm_device(settings: DoctorSettings, device: Path = Path("/dev/kvm")) -> Finding:
    """QEMU's user can open the KVM device, or nobody offers it: otherwise libvirt examines QEMU anew again and again."""
    if not device.exists():
        return ok("none here: guests run by translation")
    status = device.stat()
    group = next((each.gr_name for each in grp.getgrall() if each.gr_gid == status.st_gid), str(status.st_gid))
    if status.st_mode & 0o006 == 0o006 or (group == "kvm" and status.st_mode & 0o060 == 0o060):
        return ok(f"{device} is open to the group {group}")
    text = f"{device} is closed to QEMU's user, so that libvirt takes minutes to make a virtual machine"
    return fail(text, f"chgrp kvm {device} && chmod 0660 {device}")


def check_nftables(settings: DoctorSettings) -> Finding:
    """Ports can be led to virtual machines: a table like the agent's is made and deleted."""
    name = f"garbi_doctor_{secrets.token_hex(4)}"
    code, said = run_program(["nft", "-f", "-"], script=_TEST_TABLE.format(name=name))
    if code == 0:
        return ok("a table with a map and address translation could be made")
    if code == 127:
        return fail(said, "apt-get install nftables")
    if "not permitted" in said:
        return fail("only root may make tables of nftables", "run hyper as root to publish ports of virtual machines")
    return fail(
        f"nftables refuses: {said}", "modprobe nf_tables nft_chain_nat nft_masq; a kernel of 5.2 or later is needed"
    )


def check_bridge(settings: DoctorSettings) -> Finding:
    """The kernel makes bridges, which the guests' network needs."""
    name = f"gd{secrets.token_hex(4)}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as control:
        try:
            fcntl.ioctl(control, _ADD_BRIDGE, name + b"\0")
        except PermissionError:
            return warn("not tried: only root may make bridges", "run hyper doctor as root")
        except OSError as error:
            return fail(f"the kernel makes no bridge: {error.strerror}", "modprobe bridge")
        fcntl.ioctl(control, _DELETE_BRIDGE, name + b"\0")
    return ok("a bridge could be made")


def check_forwarding(settings: DoctorSettings) -> Finding:
    """The kernel forwards packets to guests."""
    if _IP_FORWARD.read_text().strip() == "1":
        return ok("the kernel forwards packets")
    text = "the kernel does not forward packets; the agent switches it on with the first guest, until the next boot"
    return warn(text, "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/60-garbi.conf && sysctl --system")


def check_dnsmasq(settings: DoctorSettings) -> Finding:
    """Guests can be given their addresses."""
    path = find_program("dnsmasq")
    return ok(path) if path else fail("dnsmasq is not installed", "apt-get install dnsmasq-base")


def check_disk(settings: DoctorSettings) -> Finding:
    """The data directory is on a local disk, with room."""
    return examine_room(settings.data_dir)


def check_rights(settings: DoctorSettings) -> Finding:
    """Whoever runs this may run machines."""
    if os.geteuid() == 0:
        return ok("root")
    mine = {grp.getgrgid(number).gr_name for number in {*os.getgroups(), os.getegid()} if _known_group(number)}
    missing = [name for name in _GROUPS if name not in mine]
    user = getpass.getuser()
    if missing:
        mend = f"usermod -aG {','.join(missing)} {user}, then log in again; or run hyper as root"
        return fail(f"{user} is not root and not in the groups {', '.join(missing)}", mend)
    mend = "run hyper as root to publish ports of virtual machines"
    return warn(f"{user} is not root: machines run, ports of virtual machines cannot be published", mend)


def check_sandbox(settings: DoctorSettings) -> Finding:
    """Images of strangers are looked at where they can do no harm."""
    code, said = run_program(["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--", "true"])
    if code == 0:
        return ok("bubblewrap confines the inspection of images")
    if code == 127:
        return warn("bwrap is not installed: images are inspected with less around them", "apt-get install bubblewrap")
    return warn(f"bwrap does not work here: {said}", "sysctl kernel.unprivileged_userns_clone=1, or run hyper as root")


def _known_group(number: int) -> bool:
    try:
        grp.getgrgid(number)
    except KeyError:
        return False
    return True
