"""Checks of the daemons that run the machines: Docker, libvirt, QEMU."""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import json
import platform
import re
import socket
import sys
from pathlib import Path
from typing import Any

from garbi.base.checks import Finding, fail, ok, run_program, warn
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.host.exposure import exposed_daemons

_OLDEST_DOCKER = (20, 10)
_OLDEST_RUNC = (1, 2, 8)
_MENDED_RUNC = {(1, 3): (1, 3, 3)}
_RUNC_ESCAPES = ("CVE-2024-21626", "CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881")
_RUNC_CHANGELOG = Path("/usr/share/doc/runc/changelog.Debian.gz")
_DOCKER_SETTINGS = Path("/etc/docker/daemon.json")
_LIBVIRT_SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))
_LIBVIRT_PACKAGES = "apt-get install libvirt-daemon-system qemu-system-x86"

_ASK_LIBVIRT = """
import sys, libvirt
libvirt.registerErrorHandler(lambda context, error: None, None)
try:
    connection = libvirt.openReadOnly(sys.argv[1])
    number = connection.getLibVersion()
except libvirt.libvirtError as error:
    sys.exit(str(error))
print(f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}")
"""


def check_docker(settings: DoctorSettings) -> Finding:
    """The Docker Engine answers, and is not too old."""
    try:
        version = str(_docker_info(settings)["ServerVersion"])
    except FileNotFoundError:
        return fail(
            f"no socket at {settings.docker_socket}", "apt-get install docker.io && systemctl enable --now docker"
        )
    except PermissionError:
        return fail(
            f"{settings.docker_socket} may not be opened", "usermod -aG docker $USER, then log in again; or use root"
        )
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return fail(
            f"{settings.docker_socket} does not answer: {error}", "systemctl restart docker; journalctl -u docker"
        )
    if _numbers(version) < _OLDEST_DOCKER:
        return fail(f"Docker {version} is older than 20.10", "apt-get install --only-upgrade docker.io")
    return ok(f"Docker {version} answers")


def check_runc(settings: DoctorSettings) -> Finding | None:
    """What starts containers holds them in: no known way out of one."""
    try:
        version = str(_docker_info(settings)["RuncCommit"]["ID"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    numbers = _numbers(version)[:3]
    if len(numbers) < 3:
        return _judge_unnumbered_runc()
    return _judge_runc(f"runc {version}", numbers)


def check_live_restore(settings: DoctorSettings) -> Finding | None:
    """Containers keep running while dockerd restarts."""
    try:
        enabled = _docker_info(settings)["LiveRestoreEnabled"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    if enabled:
        return ok("containers keep running while dockerd restarts")
    if _DOCKER_SETTINGS.exists():
        mend = f'add "live-restore": true to {_DOCKER_SETTINGS}, then: systemctl reload docker'
    else:
        mend = f"echo '{{\"live-restore\": true}}' > {_DOCKER_SETTINGS} && systemctl reload docker"
    return warn("containers stop when dockerd restarts: live-restore is off", mend)


def check_exposure(settings: DoctorSettings) -> Finding:
    """Nobody else's orders are taken: Docker and libvirt listen on no address of the network."""
    exposed = exposed_daemons()
    if not exposed:
        return ok("Docker and libvirt take orders from this host only")
    mends = {
        "docker": "remove tcp:// from dockerd's -H options and from hosts in /etc/docker/daemon.json; systemctl restart docker",
        "libvirt": "systemctl disable --now libvirtd-tcp.socket libvirtd-tls.socket virtproxyd-tcp.socket; restart libvirtd",
    }
    kinds = sorted({"docker" if each.process.name == "dockerd" else "libvirt" for each in exposed})
    return fail("; ".join(map(str, exposed)), "; ".join(mends[kind] for kind in kinds))


def check_libvirt(settings: DoctorSettings) -> Finding:
    """The libvirt daemon answers."""
    uri = settings.libvirt_uri
    if uri.startswith("qemu:///system") and not any(path.exists() for path in _LIBVIRT_SOCKETS):
        return fail("no socket of libvirt in /run/libvirt", f"{_LIBVIRT_PACKAGES} && systemctl enable --now libvirtd")
    if importlib.util.find_spec("libvirt") is None:
        return _socket_only(settings)
    # -P: a libvirt.py in the present directory is somebody's, and root may be asking.
    code, said = run_program([sys.executable, "-P", "-c", _ASK_LIBVIRT, uri], timeout_s=settings.timeout_s - 1)
    if code == 0:
        return ok(f"libvirt {said} answers at {uri}")
    if "denied" in said.lower() or "authentication" in said.lower():
        return fail(f"{uri} refuses: {said}", "usermod -aG libvirt $USER, then log in again; or use root")
    return fail(f"{uri} does not answer: {said}", "systemctl restart libvirtd; journalctl -u libvirtd")


def check_libvirt_binding(settings: DoctorSettings) -> Finding:
    """Python can speak to libvirt."""
    if importlib.util.find_spec("libvirt") is not None:
        return ok("python3-libvirt can be imported")
    mend = "apt-get install python3-libvirt; a virtual environment needs: python3 -m venv --system-site-packages"
    return fail(f"{sys.executable} cannot import libvirt", mend)


def check_qemu(settings: DoctorSettings) -> Finding:
    """QEMU for this architecture is installed."""
    machine = platform.machine()
    name = f"qemu-system-{machine}"
    code, said = run_program([name, "--version"])
    package = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}.get(machine, "qemu-system-misc")
    return ok(said) if code == 0 else fail(said, f"apt-get install {package}")


def check_qemu_img(settings: DoctorSettings) -> Finding:
    """The tool that reads and makes disks is installed."""
    code, said = run_program(["qemu-img", "--version"])
    return ok(said) if code == 0 else fail(said, "apt-get install qemu-utils")


def _docker_info(settings: DoctorSettings) -> dict[str, Any]:
    connection = _UnixConnection(settings.docker_socket, settings.timeout_s - 1)
    try:
        connection.request("GET", "/info")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"status {answer.status}")
        found = json.loads(body)
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise ValueError("not what Docker answers")
    return found


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _judge_unnumbered_runc() -> Finding | None:
    """Engines that are not the distribution's give a commit; the program itself knows its number."""
    code, said = run_program(["runc", "--version"])
    numbers = _numbers(said.removeprefix("runc version "))[:3] if code == 0 else ()
    return _judge_runc(said, numbers) if len(numbers) == 3 else None


def _judge_runc(name: str, numbers: tuple[int, ...]) -> Finding:
    needed = _MENDED_RUNC.get((numbers[0], numbers[1]), _OLDEST_RUNC)
    if numbers >= needed:
        return ok(f"{name}: no known escape")
    unmended = [cve for cve in _RUNC_ESCAPES if cve not in _distribution_mended()]
    if not unmended:
        return ok(f"{name}: the distribution mended the known escapes")
    mend = "apt-get update && apt-get install --only-upgrade runc; without an update, run only images that you trust"
    return warn(f"{name}: a container may escape to the host by {', '.join(unmended)}", mend)


def _distribution_mended() -> str:
    try:
        with gzip.open(_RUNC_CHANGELOG, "rt", errors="replace") as changelog:
            return changelog.read(1 << 20)
    except (OSError, EOFError):
        return ""


def _socket_only(settings: DoctorSettings) -> Finding:
    for path in _LIBVIRT_SOCKETS:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(settings.timeout_s - 1)
            try:
                probe.connect(str(path))
            except OSError:
                continue
            return ok(f"libvirt accepts at {path}; its version is not known without python3-libvirt")
    return fail("libvirt's socket does not accept", "systemctl restart libvirtd; journalctl -u libvirtd")


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()
