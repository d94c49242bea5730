"""A libvirtd of the test's own: in its own mount namespace, with its own state, so that it can be stopped and killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

_pause = Event()
_STATE = {"run": "/run/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"}
_START = """\
set -e
mount --make-rprivate /
for pair in {pairs}; do mount --bind "${{pair%%:*}}" "${{pair##*:}}"; done
{kvm}
test -e {base}/virtlogd.pid || virtlogd -d -p {base}/virtlogd.pid
exec libvirtd -d -f {base}/libvirtd.conf -p {base}/libvirtd.pid
"""


class OwnLibvirtd:
    """One libvirtd with its virtlogd, reachable at `uri`. Its domains are QEMU processes of this host."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.socket = base / "sock/libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        for name in (*_STATE, "sock", "etc", "lib/qemu", "lib/dnsmasq", "log/qemu"):
            (base / name).mkdir(mode=0o711, exist_ok=True)
        (base / "libvirtd.conf").write_text(f'unix_sock_dir = "{base}/sock"\nauth_unix_rw = "none"\n')
        shutil.copy("/etc/libvirt/qemu.conf", base / "etc/qemu.conf")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        pairs = [f"{self._base / name}:{place}" for name, place in _STATE.items()] + [f"{self._base}/etc:/etc/libvirt"]
        script = _START.format(pairs=" ".join(pairs), kvm=self._kvm(), base=self._base)
        subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], check=True)
        self.wait(self._answers, "libvirtd answers")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon and wait for its end; machines keep running."""
        pid = self.pid()
        os.kill(pid, how)
        self.wait(lambda: _ended(pid), "libvirtd ends")
        self.socket.unlink(missing_ok=True)

    def send(self, which: signal.Signals) -> None:
        """Send the daemon a signal."""
        os.kill(self.pid(), which)

    def pid(self) -> int:
        return int((self._base / "libvirtd.pid").read_text())

    def qemu_pid(self, domain_name: str) -> int:
        """The process of a running domain."""
        return int((self._base / f"run/qemu/{domain_name}.pid").read_text())

    def close(self) -> None:
        """End everything that was started."""
        for file in [
            *(self._base / "run/qemu").glob("*.pid"),
            self._base / "libvirtd.pid",
            self._base / "virtlogd.pid",
        ]:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        for file in (self._base / "run/network").glob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        for file in (self._base / "lib/dnsmasq").glob("*.conf"):
            for bridge in re.findall(r"^interface=(gb[0-9a-f]{8})$", file.read_text(), re.MULTILINE):
                subprocess.run(["ip", "link", "delete", "dev", bridge], check=False)

    def wait(self, check: object, what: str, within_s: float = 90.0) -> None:
        """Wait until `check()` is true."""
        end = time.monotonic() + within_s
        while not check():  # type: ignore[operator]
            assert time.monotonic() < end, f"{what}: not within {within_s} s"
            _pause.wait(0.02)

    def _answers(self) -> bool:
        """Whether it has taken up its work: it answers nobody before its drivers are ready."""
        assert not _ended(self.pid()), f"libvirtd ended: {self._words()}"
        command = ["virsh", "-c", self.uri, "list", "--all", "--name"]
        return subprocess.run(command, capture_output=True, timeout=90, check=False).returncode == 0

    def _words(self) -> str:
        """What it wrote last."""
        log = self._base / "log/libvirtd.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _kvm(self) -> str:
        """/dev/kvm as udev would leave it: where QEMU's user may not open it, libvirt probes QEMU anew for each call."""
        if not Path("/dev/kvm").exists():
            return ""
        node = self._base / "kvm"
        if not node.exists():
            os.mknod(node, 0o020666, os.stat("/dev/kvm").st_rdev)
            node.chmod(0o666)
        return f"mount --bind {node} /dev/kvm"


@contextlib.contextmanager
def own_libvirtd() -> Iterator[OwnLibvirtd]:
    """A running daemon, ended afterwards whatever happened."""
    base = Path(tempfile.mkdtemp(prefix="garbi-libvirtd-"))
    base.chmod(0o711)
    daemon = OwnLibvirtd(base)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()
        shutil.rmtree(base, ignore_errors=True)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
