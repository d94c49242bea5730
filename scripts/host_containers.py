"""How a container becomes a host with its own init system, for scripts/fresh-host and for the tests of clouds.

TEST-HOSTS in short: every capability that this host has, nothing masked, volumes where engines keep their overlays, control
groups of its own. Needs root, the docker command and mmdebstrap.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

CERTIFICATES = "/usr/local/share/ca-certificates"
# By number, as the kernel counts them; Docker knows the ones that it knows.
CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
"""
# A host manages its own control groups: on version 1 it needs mounts of its own.
BOOT = """
mount -o remount,rw /proc/sys
mount -o remount,rw /sys
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir -p /sys/fs/cgroup/$controller
        mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
    done
    mkdir -p /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
"""
INIT = {"bash": 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done', "systemd": "exec /lib/systemd/systemd"}


def make_image(image: str, packages: str, release: str, mirror: str | None = None) -> None:
    """Make a minimal Debian with the packages (comma between them) into a Docker image."""
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder, "root.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", release, str(tar)]
        subprocess.run([*command, *([mirror] if mirror else [])], check=True)
        subprocess.run(["docker", "import", str(tar), image], check=True, stdout=subprocess.DEVNULL)


def has_image(image: str) -> bool:
    """Whether Docker has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def boot_command(name: str, hostname: str, image: str, init: str, more: Sequence[str] = ()) -> list[str]:
    """The command that boots a host; `more` are options of `docker run`."""
    devices = [device for device in ("/dev/net/tun", "/dev/fuse", "/dev/kvm") if Path(device).exists()]
    command = ["docker", "run", "--detach", "--name", name, "--hostname", hostname, "--cgroupns=private"]
    command += ["-e", "container=docker", *[f"--cap-add={capability}" for capability in own_capabilities()]]
    command += [f"--security-opt={option}=unconfined" for option in ("seccomp", "apparmor", "systempaths")]
    command += ["--device-cgroup-rule=a *:* rwm", *[f"--device={device}" for device in devices]]
    # As a machine starts: it has IPv6 on loopback, and forwards nothing.
    command += ["--sysctl=net.ipv6.conf.all.disable_ipv6=0", "--sysctl=net.ipv4.ip_forward=0"]
    command += ["--volume=/var/lib/docker", "--volume=/var/lib/libvirt"]
    return [*command, "--tmpfs=/run:exec", "--tmpfs=/run/lock", *more, image, "bash", "-c", BOOT + INIT[init]]


def own_capabilities() -> list[str]:
    """The capabilities of this host, by name."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return [capability for number, capability in enumerate(CAPABILITIES.split()) if mask >> number & 1]


def copy_certificates(name: str) -> None:
    """Let the programs inside trust whom this host trusts."""
    for path in Path(CERTIFICATES).glob("*.crt"):
        inside(name, "mkdir", "-p", CERTIFICATES)
        subprocess.run(["docker", "cp", "--quiet", "--follow-link", str(path), f"{name}:{path}"], check=True)
    inside(name, "update-ca-certificates")


def inside(name: str, *command: str, stdin: str = "", check: bool = True) -> str:
    """Run a command in a host; what it wrote."""
    whole = ["docker", "exec", "--interactive", name, *command]
    return subprocess.run(whole, input=stdin, text=True, check=check, stdout=subprocess.PIPE).stdout
