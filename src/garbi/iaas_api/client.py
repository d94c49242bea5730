"""A client of the controller: for the command line and users' programs. Documents go in and out as plain dicts.

    client = IaasClient("http://127.0.0.1:8080", token=token)
    node = client.nodes.add({"name": "n1", "address": "10.0.0.5:8081"})
    for operation in client.operations.follow(node["operation"]):
        print(operation["message"])
    machine = client.machines.add({"image": "tiny"})

Every failure is an error of `garbi.base.errors`, the same that the controller raised.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from garbi.base.calls import ANSWER_S, NOT_MODIFIED, Calls, Document, parse, prefer, read_events, segment, target
from garbi.base.errors import ServerUnreachable
from garbi.base.http import HttpTransport, Transport
from garbi.iaas_api.uploads import Content, ImageUpload

DEFAULT_URL = "http://127.0.0.1:8080"
SILENCE_S = 60.0
"""How long an event stream may be silent; a living one speaks more often."""

TRIAL_S = 300.0
"""How long a fence agent may be tried."""

LOOK_S = 30.0
"""How long one look at an operation waits for a change of it."""

AWAY_S = 30.0
"""How long a controller may be away while one of its operations is followed: long enough to be started again."""


class IaasClient:
    """One controller: `nodes`, `images`, `machines` and `operations` hold the verbs of each."""

    def __init__(self, url: str = DEFAULT_URL, transport: Transport | None = None, token: str | None = None) -> None:
        """Speak to the controller at `url`, as who has its `token`."""
        self._calls = Calls(transport or HttpTransport(url), token)
        self.nodes = NodeCalls(self._calls)
        self.images = ImageCalls(self._calls)
        self.machines = MachineCalls(self._calls)
        self.operations = OperationCalls(self._calls)

    def audit(self) -> list[Document]:
        """The invariants that do not hold now."""
        return self._calls.documents("/iaas/audit", {}, None)

    def back_up(self) -> Document:
        """Make a backup of the controller on its own disk, and say where; raises NoSpace."""
        return self._calls.document("POST", "/iaas/backup")

    def health(self) -> Document:
        """Whether the controller works; raises ServerUnreachable when nothing answers."""
        return self._calls.document("GET", "/iaas/health")

    def events(
        self, after: int | None = None, last: int = 0, follow: bool = True, **filters: str
    ) -> Iterator[Document]:
        """Every event from now on, or after the one numbered `after`, until the controller ends the stream.

        Without `after`, the `last` so many of the past come first; unless `follow`, only the past comes. The stream has begun
        when this returns: nothing that happens from then on is missed.
        """
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        query = filters | ({"last": str(last)} if last else {}) | ({} if follow else {"follow": "false"})
        answer = self._calls.send("GET", target("/iaas/events", query), headers=headers, timeout_s=SILENCE_S)
        return read_events(answer.chunks)


class NodeCalls:
    """The verbs of nodes. What takes time is an operation: the node's document has its id as `operation`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The nodes whose fields equal the filters, by name; raises UnknownFilter."""
        return self._calls.documents("/iaas/nodes", filters or {}, "name")

    def get(self, name: str) -> Document:
        """One node; raises NotFound."""
        return self._calls.document("GET", _node(name))

    def add(self, spec: Mapping[str, Any]) -> Document:
        """Make a host a node: `name`, `address` as host:port, `ssh`, `provision`, `token`…; raises what its fields deserve."""
        return self._calls.document("POST", "/iaas/nodes", spec)

    def change(self, name: str, fields: Mapping[str, Any]) -> Document:
        """Have something of a node otherwise, as `token` or `power`; raises NotFound, InvalidField."""
        return self._calls.document("PATCH", _node(name), fields)

    def test_fence(self, name: str) -> Document:
        """Try the fence agent of a node, without harm; raises NotFound, FenceFailed."""
        return parse(self._calls.send("POST", _node(name) + "/test-fence", timeout_s=TRIAL_S).read())

    def what_if(self, name: str) -> Document:
        """What would follow if a node died now, without any effect; raises NotFound, NotLeading."""
        return self._calls.document("GET", _node(name) + "/what-if")

    def remove(self, name: str, force: bool = False) -> Document:
        """Remove a node, with `force` together with its machines; raises NotFound, Conflict while machines are there."""
        query = {"force": "true"} if force else {}
        return self._calls.document("DELETE", target(_node(name), query))

    def drain(self, name: str) -> Document:
        """Let a node take nothing new, and move from it what may be moved."""
        return self._put(name, "draining")

    def undrain(self, name: str) -> Document:
        """Let a node take machines again."""
        return self._put(name, "ready")

    def confirm_dead(self, name: str) -> Document:
        """Say, as who has looked, that an unreachable node is dead; raises Conflict when it is not unreachable."""
        return self._put(name, "unavailable")

    def _put(self, name: str, state: str) -> Document:
        return self._calls.document("PUT", _node(name), {"state": state})


class ImageCalls:
    """The verbs of images."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The images of the cloud, by name."""
        return self._calls.documents("/iaas/images", filters or {}, "name")

    def get(self, name: str) -> Document:
        """One image; raises NotFound."""
        return self._calls.document("GET", _image(name))

    def add(self, name: str, type: str, content: Content, size: int, sha256: str | None = None) -> Document:
        """Register an image and send `size` bytes of content in.

        `content` is the blocks or, to go on after a broken connection and after an earlier call that did not end, a function
        that gives the blocks from an offset on. The same content under the same name changes nothing, if `sha256` is given.
        Raises InvalidField, ImageRejected, DigestMismatch, AlreadyExists, NoSpace.
        """
        return ImageUpload(self._calls, name, type, size, sha256).send(content)

    def offset(self, name: str) -> int:
        """How many bytes of an image's content have arrived; raises NotFound."""
        return ImageUpload(self._calls, name, "", 0).offset()

    def remove(self, name: str) -> None:
        """Remove an image; raises NotFound, ImageInUse."""
        self._calls.send("DELETE", _image(name)).read()


class MachineCalls:
    """The verbs of machines. `wait_s` is how long a call waits at most for the machine to become what was asked for."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The machines whose fields equal the filters, the oldest first; raises UnknownFilter."""
        return self._calls.documents("/iaas/machines", filters or {}, "id")

    def get(self, id: str, wait_s: float = 0) -> Document:
        """One machine, once it has settled where `wait_s` allows; raises NotFound."""
        return self._calls.document("GET", _machine(id), wait_s=wait_s)

    def add(self, spec: Mapping[str, Any], wait_s: float = 30, idempotency_key: str | None = None) -> Document:
        """Make a machine where it fits; raises what its fields deserve, PortTaken, NothingFits and their kin."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._calls.document("POST", "/iaas/machines", spec, wait_s, headers)

    def explain(self, spec: Mapping[str, Any]) -> Document:
        """Where such a machine would run, and the verdict on each node; places nothing."""
        return self._calls.document("POST", "/iaas/machines/explain", spec)

    def wish(self, id: str, state: str, wait_s: float = 30) -> Document:
        """Wish a machine `running`, `stopped` or `paused`; raises NotFound, AlreadyInState, AbilityMissing."""
        return self._calls.document("PUT", _machine(id), {"state": state}, wait_s)

    def remove(self, id: str, wait_s: float = 30) -> Document | None:
        """Remove a machine; None when it is gone, the machine while it is going. Raises NotFound."""
        answer = self._calls.send("DELETE", _machine(id), headers=prefer(wait_s), timeout_s=ANSWER_S + wait_s)
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


class OperationCalls:
    """Looks at operations."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, filters: Mapping[str, str] | None = None) -> list[Document]:
        """The operations whose fields equal the filters, the oldest first; raises UnknownFilter."""
        return self._calls.documents("/iaas/operations", filters or {}, "id")

    def get(self, id: str, wait_s: float = 0, etag: str | None = None) -> Document | None:
        """One operation; None when it is still as `etag` says, after waiting up to `wait_s` seconds for a change."""
        headers = prefer(wait_s) | ({} if etag is None else {"If-None-Match": etag})
        answer = self._calls.send("GET", _operation(id), headers=headers, timeout_s=ANSWER_S + wait_s)
        content = answer.read()
        return None if answer.status == NOT_MODIFIED else parse(content)

    def follow(self, id: str) -> Iterator[Document]:
        """The operation as it is now and after each change, until it has finished. Waits for changes; does not poll.

        Raises NotFound, ServerUnreachable when the controller stays away.
        """
        etag, heard = None, time.monotonic()
        while True:
            try:
                operation = self.get(id, 0 if etag is None else LOOK_S, etag)
            except ServerUnreachable:
                if time.monotonic() - heard > AWAY_S:
                    raise
                time.sleep(1)
                continue
            heard = time.monotonic()
            if operation is None:
                continue
            yield operation
            if operation["state"] != "running":
                return
            etag = etag_of(operation)


def etag_of(operation: Document) -> str:
    """What `OperationCalls.get` takes to wait for a change of an operation as it is known."""
    return f'"{operation["updated_at"]}"'


def _node(name: str) -> str:
    return "/iaas/nodes/" + segment(name, "node is called")


def _image(name: str) -> str:
    return "/iaas/images/" + segment(name, "image is called")


def _machine(id: str) -> str:
    return "/iaas/machines/" + segment(id, "machine has the id")


def _operation(id: str) -> str:
    return "/iaas/operations/" + segment(id, "operation has the id")
