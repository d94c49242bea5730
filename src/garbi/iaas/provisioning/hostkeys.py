"""Which host keys are believed: the controller's own known hosts, and how a host gets in there. None is ever ignored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import subprocess
import tempfile
import threading
from pathlib import Path

from garbi.iaas.model.node import Ssh
from garbi.iaas.provisioning.target import FINGERPRINT, Target

SCAN_TIMEOUT_S, RECALL_TIMEOUT_S = 10, 2
USERS_OWN = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
_LOCK = threading.Lock()


class HostKeyRefused(Exception):
    """The host's key is not known, or not the one that was given; the text says how to go on."""


class HostSilent(Exception):
    """No SSH server answered; the text says what happened."""


class HostKeys:
    """The known hosts of a controller, in a file of its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "known_hosts"

    def admit(self, target: Target) -> str:
        """The lines of known hosts that the host must match.

        A key that the user gives counts at once and replaces another; without one the host must be known, to the controller
        or to the user who runs it. Raises HostKeyRefused, HostSilent.
        """
        name = _name(target)
        with _LOCK:
            known = _find(self._file, name)
            given = target.ssh.host_key
            if given is None:
                if not known:
                    known = [line for file in USERS_OWN for line in _find(file.expanduser(), name)]
                    self._keep(name, known or self._refuse(target))
            elif not any(_matches(line, given) for line in known):
                known = [_given(target, given)]
                self._keep(name, known)
        return "".join(f"{name} {key}\n" for key in known)

    def recall(self, target: Target) -> str:
        """The lines of known hosts of a host that was admitted before; asks nobody but for a key that only its fingerprint tells.

        Raises HostKeyRefused, HostSilent.
        """
        name = _name(target)
        known = _find(self._file, name)
        if not known and target.ssh.host_key is not None:
            known = [_given(target, target.ssh.host_key, RECALL_TIMEOUT_S)]
        if not known:
            known = [line for file in USERS_OWN for line in _find(file.expanduser(), name)]
        if not known:
            raise HostKeyRefused("the key of the host is not known to this controller")
        return "".join(f"{name} {key}\n" for key in known)

    def _refuse(self, target: Target) -> list[str]:
        shown = [fingerprint(key) for key in scan(target)]
        raise HostKeyRefused(
            f"the key of this host is not known yet. It shows {', '.join(shown)}. If that is what "
            "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the host itself, accept it: "
            f"iaas node add {target.name} {_address(target)}{_options(target)} --ssh-host-key {shown[0]}"
        )

    def _keep(self, name: str, keys: list[str]) -> None:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        kept = [line for line in lines if line.split(" ", 1)[0] != name] + [f"{name} {key}" for key in keys]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=self._file.parent, prefix=".known_hosts-")
        with os.fdopen(handle, "w") as file:
            file.write("".join(f"{line}\n" for line in kept))
            file.flush()
            os.fsync(file.fileno())
        Path(beside).rename(self._file)


def scan(target: Target, timeout_s: int = SCAN_TIMEOUT_S) -> list[str]:
    """The keys that the host shows, as "type base64", the shortest first; raises HostSilent."""
    command = ["ssh-keyscan", "-T", str(timeout_s), "-p", str(target.ssh.port), "--", target.host]
    try:
        result = subprocess.run(command, capture_output=True, timeout=timeout_s * 3, check=False)
    except subprocess.TimeoutExpired:
        raise HostSilent(f"no SSH server answered at port {target.ssh.port} within {timeout_s * 3} s") from None
    lines = result.stdout[:65536].decode("ascii", "replace").splitlines()
    keys = [parts[1:] for line in lines if not line.startswith("#") and len(parts := line.split(" ")) == 3]
    found = sorted({" ".join(key) for key in keys if _is_key(key[1])}, key=len)
    if not found:
        said = result.stderr[:2000].decode("utf-8", "replace").strip()
        raise HostSilent(said or f"no SSH server answered at port {target.ssh.port}")
    return found


def fingerprint(key: str) -> str:
    """The fingerprint of "type base64", as ssh writes it."""
    digest = hashlib.sha256(base64.b64decode(key.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _given(target: Target, given: str, timeout_s: int = SCAN_TIMEOUT_S) -> str:
    if not FINGERPRINT.match(given):
        return " ".join(given.split(" ")[:2])
    shown = scan(target, timeout_s)
    for key in shown:
        if fingerprint(key) == given:
            return key
    raise HostKeyRefused(
        f"the host shows another key than the one that was given: {given} was expected, "
        f"{', '.join(map(fingerprint, shown))} came. Somebody may be in between; if the host was installed anew, give its new key"
    )


def _matches(key: str, given: str) -> bool:
    return fingerprint(key) == given if FINGERPRINT.match(given) else key.split(" ")[:2] == given.split(" ")[:2]


def _find(file: Path, name: str) -> list[str]:
    """The keys that a file of known hosts has under a name, hashed or not; none that were revoked or are of a CA."""
    if not file.is_file():
        return []
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", str(file)], capture_output=True, text=True, check=False)
    lines = [line.split() for line in found.stdout.splitlines() if not line.startswith(("#", "@"))]
    return [" ".join(parts[1:3]) for parts in lines if len(parts) >= 3 and _is_key(parts[2])]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) > 16
    except binascii.Error:
        return False


def _name(target: Target) -> str:
    return target.host if target.ssh.port == 22 else f"[{target.host}]:{target.ssh.port}"


def _address(target: Target) -> str:
    return f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"


def _options(target: Target) -> str:
    """The options about SSH that were given, as they are typed."""
    ssh, usual = target.ssh, Ssh()
    given = (
        ("--ssh-user", ssh.user, usual.user),
        ("--ssh-port", ssh.port, usual.port),
        ("--ssh-key", ssh.key_file, usual.key_file),
    )
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value, default in given if value != default)
