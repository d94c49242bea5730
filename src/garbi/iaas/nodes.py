"""The way to the nodes: one client for each, with its secret and connections that are kept; errors name the node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from garbi.base.errors import GarbiError, NodeUnreachable, ServerUnreachable
from garbi.base.http import Answer, HttpTransport, Request, Transport
from garbi.hyper_api.assignment import Assignment
from garbi.hyper_api.client import HyperClient
from garbi.iaas.model.node import Node


@contextmanager
def speaking_to(name: str) -> Iterator[None]:
    """Let errors that come out of the block say that they are those of the node `name`."""
    try:
        yield
    except GarbiError as error:
        if error.extra.setdefault("node", name) == name and not error.detail.startswith(f"node {name}: "):
            error.detail = f"node {name}: {error.detail}"
            error.args = (error.detail,)
        if type(error) is ServerUnreachable:
            raise NodeUnreachable(error.detail, **error.extra) from error
        raise


@dataclass(frozen=True, slots=True)
class _Hasty:
    """A transport that waits for an answer no longer than `limit_s` seconds."""

    transport: Transport
    limit_s: float

    def send(self, request: Request) -> Answer:
        return self.transport.send(replace(request, timeout_s=min(request.timeout_s, self.limit_s)))


@dataclass(frozen=True, slots=True)
class _Line:
    address: str
    token: str | None
    transport: Transport
    client: HyperClient


class Authority(Protocol):
    """In whose name orders are given."""

    def assignment(self, node: Node, epoch: int = 0, order: int = 0) -> Assignment:
        """What an order to a node carries, about a machine of that `epoch`; raises StaleWrite when none may be given."""

    def overtaken(self) -> None:
        """A node obeys another by now."""


class NodeClients:
    """The clients of all nodes, made when they are first asked for. `secret_of` finds a node's secret by its name.

    `transports` makes what carries requests to a URL, in place of HTTP; where it has a `close`, that is called at the end.
    Orders are given in the name of `authority`; without one, nodes are asked only.
    """

    def __init__(
        self,
        secret_of: Callable[[str], str | None],
        kept: int = 12,
        transports: Callable[[str], Transport] | None = None,
        authority: Authority | None = None,
    ) -> None:
        self._secret_of = secret_of
        self._kept = kept
        self._transports = transports
        self._authority = authority
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._streams: dict[int, tuple[Transport, str]] = {}
        self._closed = False

    def of(self, node: Node) -> HyperClient:
        """The client of a node at its present address."""
        return self._line(node).client

    def prober_of(self, node: Node, limit_s: float) -> HyperClient:
        """A client that waits for each answer of a node no longer than `limit_s` seconds."""
        line = self._line(node)
        return HyperClient(_url(node), _Hasty(line.transport, limit_s), line.token)

    def assignment(self, node: Node, epoch: int = 0, order: int = 0) -> Assignment | None:
        """What an order to a node carries, the `order`-th about a machine of that `epoch`; 0: it is not to be compared.

        Raises StaleWrite when none may be given.
        """
        return None if self._authority is None else self._authority.assignment(node, epoch, order)

    def overtaken(self) -> None:
        """To be called when a node refused an order with StaleOrder, because it obeys another controller by now."""
        if self._authority is not None:
            self._authority.overtaken()

    @contextmanager
    def listening(self, node: Node) -> Iterator[HyperClient]:
        """A client of its own for a stream of events, whose connection `close` and `forget` can end."""
        token = self._line(node).token
        transport = self._transport(node, kept=1)
        with self._lock:
            self._streams[id(transport)] = transport, node.name
            closed = self._closed
        try:
            if closed:
                _close(transport)
            yield HyperClient(_url(node), transport, token)
        finally:
            with self._lock:
                self._streams.pop(id(transport), None)
            _close(transport)

    def forget(self, name: str) -> None:
        """End every answer of a node that is being read; the next time, read its secret anew."""
        with self._lock:
            line = self._lines.pop(name, None)
            transports = [transport for transport, node in self._streams.values() if node == name]
        for transport in [*transports, *([line.transport] if line is not None else [])]:
            _close(transport)

    def close(self) -> None:
        """End every answer that is being read, and every connection."""
        with self._lock:
            self._closed = True
            streams = [transport for transport, _ in self._streams.values()]
            transports = [*streams, *(line.transport for line in self._lines.values())]
        for transport in transports:
            _close(transport)

    def _line(self, node: Node) -> _Line:
        with self._lock:
            line = self._lines.get(node.name)
        if line is not None and line.address == node.address:
            return line
        self.forget(node.name)
        token = self._secret_of(node.name)
        transport = self._transport(node, self._kept)
        line = _Line(node.address, token, transport, HyperClient(_url(node), transport, token))
        with self._lock:
            return self._lines.setdefault(node.name, line)

    def _transport(self, node: Node, kept: int) -> Transport:
        return HttpTransport(_url(node), kept) if self._transports is None else self._transports(_url(node))


def _url(node: Node) -> str:
    return f"http://{node.address}"


def _close(transport: Transport) -> None:
    close = getattr(transport, "close", None)
    if close is not None:
        close()
