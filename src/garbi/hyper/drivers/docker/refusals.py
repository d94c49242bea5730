"""What the engine's refusals and silences mean in Garbi's errors, told from status and words, as the engine has no codes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from docker.errors import APIError

from garbi.base.errors import (
    Conflict,
    DriverFailed,
    DriverUnavailable,
    GarbiError,
    InvalidField,
    NoSpace,
    NotFound,
    PortTaken,
)

LONGEST_DETAIL = 500

_NO_SPACE = ("no space left on device", "disk quota exceeded")
_GOING_DOWN = (
    "containerd.sock",
    "transport is closing",
    "error while dialing",
    "server is shutting down",
    "context canceled",
)
_PORT_TAKEN = ("port is already allocated", "address already in use")
_PORT = re.compile(r"(?:\d|\*|\]):(\d{1,5})(?:/(tcp|udp))?\b(?=:|/| |$)")
_PROTOCOL = re.compile(r"\b(tcp|udp)[46]?\b")
_FIELDS = {"minimum memory limit": "mem", "range of cpus": "cpus"}
_STATUSES: dict[int | None, type[GarbiError]] = {404: NotFound, 409: Conflict, 503: DriverUnavailable}


def error_for(error: Exception, host: str) -> GarbiError:
    """The error of Garbi for one of the library's, or of what lies below it."""
    if not isinstance(error, APIError):
        return DriverUnavailable(why_silent(error, host))
    return refusal(str(error.explanation or error), error.status_code)


def refusal(words: str, status: int | None = None) -> GarbiError:
    """The error for what the engine answered; the detail is its own words, cut to a length and to one line."""
    detail = plain(words)
    lower = detail.lower()
    if any(sign in lower for sign in _NO_SPACE):
        return NoSpace(f"Docker Engine: {detail}")
    if any(sign in lower for sign in _PORT_TAKEN):
        return _port_taken(detail)
    if any(sign in lower for sign in _GOING_DOWN):
        return DriverUnavailable(f"Docker Engine is going down or coming up: {detail}")
    for sign, field in _FIELDS.items():
        if sign in lower:
            return InvalidField(field, detail)
    return _STATUSES.get(status, DriverFailed)(f"Docker Engine: {detail}")


def why_silent(error: BaseException, host: str) -> str:
    """Why the engine at `host` does not answer, and how to mend it, in one sentence."""
    start = f"Docker Engine at {host} does not answer"
    for cause in _causes(error):
        if isinstance(cause, PermissionError):
            return f"{start}: permission denied; run hyper as root, or add its user to the group docker"
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
            if host.startswith("unix:") and shutil.which("dockerd") is None:
                return f"{start}: it is not installed; on Debian: apt-get install docker.io"
            return f"{start}: it is not running; start it with: systemctl start docker"
        if isinstance(cause, TimeoutError):
            return f"{start} in time; look at its log, or restart it with: systemctl restart docker"
    return f"{start}: {plain(str(error))}"


def plain(words: str) -> str:
    """The words on one line of bounded length; they may come out of an image, so nothing unprintable stays."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 3] + "..."


def _port_taken(detail: str) -> PortTaken:
    port, protocol = _PORT.search(detail), _PROTOCOL.search(detail)
    if port is None:
        return PortTaken(f"a published port is taken on this host: {detail}")
    number, kind = int(port[1]), port[2] or (protocol[1] if protocol else "tcp")
    return PortTaken(f"port {number}/{kind} is taken on this host: {detail}", node_port=number, protocol=kind)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made from; the library hides the first cause in arguments as well as in chains."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
