"""Bare hosts for the tests of clouds: containers with systemd and sshd on a network of their own, and nothing of ours in them."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from scripts.host_containers import BOOT, boot_command, has_image, inside, make_image

RELEASE = "bookworm"
BARE = "openssh-server,python3,iproute2,iptables,procps,ca-certificates,systemd-sysv,dbus,sudo,e2fsprogs"
PLAYBOOKS = Path(__file__).parents[2] / "src/garbi/playbooks"
LIMIT_S = 180
_LOCK = Path(tempfile.gettempdir()) / "garbi-cloud-images.lock"

LIST_STATE = r"""
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/cache \
    -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd \
    -o -path '/var/lib/containerd/*' -o -name __pycache__ \) -prune \
    -o -print | sed 's/^/file /'
find /var/lib/docker /var/lib/libvirt -mindepth 1 -maxdepth 1 | sed 's/^/file /'
ls -d /run/*libvirt* /run/*docker* /run/*containerd* /run/*garbi* 2>/dev/null | sed 's/^/file /'
cut -d : -f 1 /etc/passwd | sed 's/^/user /'
cut -d : -f 1 /etc/group | sed 's/^/group /'
systemctl list-unit-files --no-legend --plain | awk '{ print "unit", $1, $2 }'
systemctl list-units --no-legend --plain --all --type service,mount,socket,slice,timer | awk '{ print "loaded", $1 }' |
    grep -v -e user -e systemd- -e apt -e dpkg -e fstrim -e e2scrub
ls /sys/class/net | sed 's/^/link /'
awk '{ print "mount", $2 }' /proc/mounts | grep -v /run/user
dpkg-query -W -f 'package ${Package} ${db:Status-Abbrev}\n'
iptables-save 2>/dev/null | grep -e '^:' -e '^-' | sed 's/ *\[.*//; s/^/rule /'
echo "ip_forward $(cat /proc/sys/net/ipv4/ip_forward)"
"""


@dataclass(frozen=True)
class Host:
    """A host: `address` is where SSH reaches it, `host_key` the fingerprint of its key."""

    name: str
    address: str
    host_key: str

    def run(self, script: str, check: bool = True) -> str:
        """Run a shell script there, past SSH; what it wrote."""
        return inside(self.name, "sh", stdin=script, check=check)

    def state(self) -> set[str]:
        """Files, users, units, links, mounts, packages and rules, one in a line."""
        return set(self.run(LIST_STATE, check=False).splitlines())

    def wait_for(self, condition: str) -> str:
        """Wait until a shell command succeeds there."""
        wait_until(
            lambda: subprocess.run(["docker", "exec", self.name, "sh", "-c", condition], check=False).returncode == 0
        )
        return self.run(condition)

    def kill(self) -> None:
        """Cut the power."""
        subprocess.run(["docker", "kill", self.name], check=True, stdout=subprocess.DEVNULL)

    def boot(self) -> None:
        """Switch it on again; the address stays."""
        subprocess.run(["docker", "start", self.name], check=True, stdout=subprocess.DEVNULL)
        self.wait_for(UP)


UP = "ss -Hltn 'sport = :22' | grep -q . && systemctl is-system-running | grep -q -e running -e degraded"


class Lab:
    """A network of hosts, with the key that opens them; `close` takes all of it away."""

    def __init__(self, directory: Path) -> None:
        self.name = f"garbi-cloud-{secrets.token_hex(4)}"
        self.key = directory / "key"
        self._hosts: list[str] = []
        self._numbers = itertools.count(1)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.key], check=True)
        subprocess.run(["docker", "network", "create", self.name], check=True, stdout=subprocess.DEVNULL)

    def add_host(self, image: str, more: Sequence[str] = ()) -> Host:
        """Boot a host that lets the lab's key in; `more` are options of `docker run`."""
        short = f"host{next(self._numbers)}"
        name = f"{self.name}-{short}"
        self._hosts.append(name)
        options = [f"--network={self.name}", *more]
        subprocess.run(boot_command(name, short, image, "systemd", options), check=True, stdout=subprocess.DEVNULL)
        keys = self.key.with_suffix(".pub").read_text()
        inside(name, "sh", "-c", "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys", stdin=keys)
        where = ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name]
        address = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
        fingerprint = inside(name, "ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        host = Host(name, address, fingerprint)
        host.wait_for(UP)
        return host

    def remove(self, host: Host) -> None:
        """Take one host away."""
        subprocess.run(["docker", "rm", "-fv", host.name], check=True, stdout=subprocess.DEVNULL)
        self._hosts.remove(host.name)

    def close(self) -> None:
        """Take everything away, also when some of it is not there any more."""
        if self._hosts:
            subprocess.run(["docker", "rm", "-fv", *self._hosts], stdout=subprocess.DEVNULL, check=False)
        subprocess.run(["docker", "network", "rm", self.name], stdout=subprocess.DEVNULL, check=False)


def wait_until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a state of the world; fails when it does not come."""
    pause = threading.Event()
    for _ in range(int(limit_s / 0.2)):
        if condition():
            return
        pause.wait(0.2)
    raise AssertionError(f"not so within {limit_s:g} s")


def bare_image() -> str:
    """A Docker image of a minimal Debian with sshd; made once, kept for the next run."""
    image = f"garbi-cloud-host:{_key(RELEASE, BARE)}"
    with _one_at_a_time():
        if not has_image(image):
            make_image(image, BARE, RELEASE)
    return image


def packaged_image() -> str:
    """The same with Debian's packages of a node in it, for tests that look at what comes after them."""
    packages = yaml.safe_load((PLAYBOOKS / "roles/packages/vars/main.yml").read_text())["packages_always"]
    bare = bare_image()
    image = f"garbi-cloud-packaged:{_key(RELEASE, BARE, *packages)}"
    with _one_at_a_time():
        if not has_image(image):
            _install(bare, image, ["python3-apt", *packages])
    return image


def _install(bare: str, image: str, packages: Sequence[str]) -> None:
    name = f"garbi-cloud-install-{secrets.token_hex(4)}"
    install = "apt-get -q update && apt-get -q -y install --no-install-recommends " + " ".join(packages)
    script = f"printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; {install}"
    try:
        command = ["docker", "run", "--name", name, "-e", "DEBIAN_FRONTEND=noninteractive", bare, "bash", "-ec"]
        done = subprocess.run(
            [*command, f"{script}; rm /usr/sbin/policy-rc.d; apt-get clean"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        subprocess.run(["docker", "commit", name, image], check=True, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["docker", "rm", "-fv", name], stdout=subprocess.DEVNULL, check=False)


def _key(*content: str) -> str:
    return hashlib.sha256("\0".join((BOOT, *content)).encode()).hexdigest()[:16]


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    handle = os.open(_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
