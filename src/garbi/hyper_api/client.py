"""A client of one host: for the command line, the controller and users' programs. Documents go in and out as plain dicts.

    client = HyperClient("http://127.0.0.1:8081", token=Path("/var/lib/garbi/hyper/token").read_text().strip())
    machine = client.machines.add({"image": "tiny", "ports": [{"node_port": 8080, "machine_port": 80}]})
    client.machines.remove(machine["id"])

Every failure is an error of `garbi.base.errors`, the same that the host raised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from garbi.base.calls import ANSWER_S, Calls, Document, is_segment, parse, prefer, read_events, segment, target
from garbi.base.errors import InvalidField
from garbi.base.http import HttpTransport, Transport
from garbi.base.resumption import BlocksFrom, Resumption
from garbi.hyper_api.assignment import HEADER, Assignment

DEFAULT_URL = "http://127.0.0.1:8081"
SILENCE_S = 60.0
"""How long an event stream may be silent; a living one speaks more often."""

UPLOAD_S = 600.0
RENEWAL_S = 3.0
"""How long an answer to the renewal of a lease may take: the host does nothing for it but write a small file."""


class HyperClient:
    """One host: `machines`, `images`, `kept` and `leases` hold the verbs of each."""

    def __init__(self, url: str = DEFAULT_URL, transport: Transport | None = None, token: str | None = None) -> None:
        """Speak to the agent at `url`, as who has its `token`."""
        self._calls = Calls(transport or HttpTransport(url), token)
        self.machines = MachineCalls(self._calls)
        self.images = ImageCalls(self._calls)
        self.kept = KeptCalls(self._calls)
        self.leases = LeaseCalls(self._calls)

    def drivers(self, **filters: str) -> list[Document]:
        """The drivers of the host: available or why not, version, abilities."""
        return self._calls.documents("/hyper/drivers", filters, "name")

    def host(self) -> Document:
        """What the host has, and what of it is in use."""
        return self._calls.document("GET", "/hyper/host")

    def audit(self) -> list[Document]:
        """The invariants that do not hold now."""
        return self._calls.documents("/hyper/audit", {}, None)

    def health(self) -> Document:
        """Whether the agent works; raises ServerUnreachable when nothing answers."""
        return self._calls.document("GET", "/hyper/health")

    def events(
        self, after: int | None = None, last: int = 0, follow: bool = True, **filters: str
    ) -> Iterator[Document]:
        """Every event from now on, or after the one numbered `after`, until the host ends the stream.

        Without `after`, the `last` so many of the past come first; unless `follow`, only the past comes. The stream has begun
        when this returns: nothing that happens from then on is missed.
        """
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        query = filters | ({"last": str(last)} if last else {}) | ({} if follow else {"follow": "false"})
        answer = self._calls.send("GET", target("/hyper/events", query), headers=headers, timeout_s=SILENCE_S)
        return read_events(answer.chunks)


class MachineCalls:
    """The verbs of machines. `wait_s` is how long a call waits at most for the machine to become what was asked for.

    A controller gives its orders with an `assignment`; one that was overtaken by a later order is refused by StaleOrder.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The machines whose fields equal the filters, the oldest first; raises UnknownFilter."""
        return self._calls.documents("/hyper/machines", filters or {}, "id")

    def get(self, id: str, wait_s: float = 0) -> Document:
        """One machine, once it has settled where `wait_s` allows; raises NotFound."""
        return self._calls.document("GET", _machine(id), wait_s=wait_s)

    def traces(self, id: str, type: str, assignment: Assignment | None = None) -> Document:
        """What is left of a machine of that type: whether it is recorded, and whether its engine has it.

        Raises DriverUnavailable when that cannot be asked, StaleOrder when a later controller is obeyed; NotFound where the host
        is of an earlier version.
        """
        path = target(_machine(id) + "/traces", {"type": type})
        return self._calls.document("GET", path, headers=_ordered(assignment))

    def add(
        self,
        spec: Mapping[str, Any],
        wait_s: float = 30,
        idempotency_key: str | None = None,
        assignment: Assignment | None = None,
    ) -> Document:
        """Make a machine; raises what its fields deserve, PortTaken, CapacityExceeded and their kin."""
        headers = _ordered(assignment) | ({} if idempotency_key is None else {"Idempotency-Key": idempotency_key})
        return self._calls.document("POST", "/hyper/machines", spec, wait_s, headers)

    def wish(self, id: str, state: str, wait_s: float = 30, assignment: Assignment | None = None) -> Document:
        """Wish a machine `running`, `stopped` or `paused`; raises NotFound, AlreadyInState, AbilityMissing."""
        return self._calls.document("PUT", _machine(id), {"state": state}, wait_s, _ordered(assignment))

    def remove(
        self, id: str, wait_s: float = 30, assignment: Assignment | None = None, keep_s: int = 0
    ) -> Document | None:
        """Remove a machine; None when it is gone, the machine while it is going. Raises NotFound.

        With `keep_s`, its disk is kept for so many seconds, where its driver can do that.
        """
        path = target(_machine(id), {"keep_s": str(keep_s)} if keep_s else {})
        headers = {**_ordered(assignment), **prefer(wait_s)}
        answer = self._calls.send("DELETE", path, headers=headers, timeout_s=ANSWER_S + wait_s)
        content = answer.read()
        return parse(content) if answer.status == 202 else None

    def log(self, id: str, limit: int | None = None) -> str:
        """The end of what the machine wrote to its console, at most `limit` bytes of it."""
        query = {} if limit is None else {"limit": str(limit)}
        answer = self._calls.send("GET", target(_machine(id) + "/log", query))
        return answer.read().decode("utf-8", "replace")

    def figures(self, id: str) -> Document:
        """Live figures of a running machine."""
        return self._calls.document("GET", _machine(id) + "/figures")


class ImageCalls:
    """The verbs of images."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The images of the host, by name."""
        return self._calls.documents("/hyper/images", filters or {}, "name")

    def get(self, name: str) -> Document:
        """One image; raises NotFound."""
        return self._calls.document("GET", _image(name))

    def add(
        self,
        name: str,
        type: str,
        content: Iterable[bytes] | BlocksFrom,
        size: int,
        sha256: str | None = None,
        cached: bool = False,
    ) -> Document:
        """Send `size` bytes of content in; the host may give `cached` content up when it needs the space.

        `content` is the blocks or, where `sha256` is given too, a function that gives the blocks from an offset on: then it
        goes on after a broken connection, and after an earlier call that did not end. Raises InvalidField, ImageRejected,
        DigestMismatch, AlreadyExists, NoSpace.
        """
        path = _sent_image(name)
        query = {"type": type} | _given(sha256=sha256, cached="true" if cached else None)
        if callable(content) and sha256 is not None:
            image = Resumption(self._calls, target(path, query), size).send(content)
            return image if image is not None else self.get(name)
        blocks = content(0) if callable(content) else content
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        return parse(self._calls.send("PUT", target(path, query), blocks, headers, UPLOAD_S).read())

    def offset(self, name: str, sha256: str) -> int:
        """How many bytes of that content have arrived."""
        return Resumption(self._calls, target(_image(name), {"sha256": sha256}), 0).look()[0]

    def take(self, name: str, type: str, sha256: str, size: int) -> Document:
        """Have the host take the content from its image share, without sending any.

        Raises ShareUnavailable, DigestMismatch, ImageRejected, AlreadyExists, NoSpace.
        """
        query = {"type": type, "sha256": sha256, "size": str(size), "from": "share"}
        answer = self._calls.send("PUT", target(_sent_image(name), query), timeout_s=UPLOAD_S)
        return parse(answer.read())

    def remove(self, name: str) -> None:
        """Remove an image; raises NotFound, ImageInUse."""
        self._calls.send("DELETE", _image(name)).read()


class KeptCalls:
    """The disks that outlive their machines."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The kept disks of the host, by name."""
        return self._calls.documents("/hyper/kept", filters or {}, "name")

    def get(self, name: str) -> Document:
        """One kept disk; raises NotFound."""
        return self._calls.document("GET", _kept(name))

    def remove(self, name: str) -> None:
        """Delete a kept disk before its time is over; raises NotFound, Busy, DriverUnavailable."""
        self._calls.send("DELETE", _kept(name)).read()


class LeaseCalls:
    """The leases that controllers have on the machines of the host."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self) -> list[Document]:
        """The leases, by the id of their controller."""
        return self._calls.documents("/hyper/leases", {}, None)

    def renew(self, controller: str, body: Mapping[str, Any]) -> Document:
        """Renew the lease of a controller, or begin it; raises StaleOrder when a later one was heard, InvalidField."""
        content = json.dumps(body).encode()
        path = "/hyper/leases/" + segment(controller, "controller has the id")
        answer = self._calls.send("PUT", path, content, {"Content-Type": "application/json"}, RENEWAL_S)
        return parse(answer.read())


def _ordered(assignment: Assignment | None) -> dict[str, str]:
    return {} if assignment is None else {HEADER: assignment.to_header()}


def _sent_image(name: str) -> str:
    if not is_segment(name):
        raise InvalidField("name", f"name {name[:80]!r} is not allowed: it begins and ends with a letter or digit")
    return _image(name)


def _given(**query: str | None) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


def _machine(id: str) -> str:
    return "/hyper/machines/" + segment(id, "machine has the id")


def _image(name: str) -> str:
    return "/hyper/images/" + segment(name, "image is called")


def _kept(name: str) -> str:
    return "/hyper/kept/" + segment(name, "disk is kept as")
