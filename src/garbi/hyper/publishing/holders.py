"""Who has a port of this host, and the sockets that keep a published port from everybody else, for the agent.

A port that is ours is bound and never listens: nobody else can take it, a connection to a machine that does not run is
refused at once, and the rules that lead the port to a machine act before any socket is looked at.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from garbi.base.errors import DriverFailed, PortTaken
from garbi.hyper.host.sockets import LocalPort, local_ports, owner_of
from garbi.hyper.model.machine import Protocol, PublishedPort
from garbi.hyper.publishing.redirects import find_redirect, read_rules

_ANY = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104  a published port is on every address
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

Key = tuple[Protocol, int]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a port of this host. `pid` is None when it is no process, or none that may be looked at."""

    protocol: Protocol
    port: int
    name: str
    pid: int | None
    where: str

    def __str__(self) -> str:
        if self.pid is None:
            return self.name
        return f"this agent (pid {self.pid})" if self.pid == os.getpid() else f"{self.name} (pid {self.pid})"


def find_holder(protocol: Protocol, port: int) -> Holder | None:
    """Say who has the port on any address of this host, or None when nobody has."""
    users = _users((protocol, port))
    for user in users:
        process = owner_of([user.inode])
        if process:
            return Holder(protocol, port, process.name, process.pid, _where(user))
    if users:
        return Holder(protocol, port, "another process", None, _where(users[0]))
    target = find_redirect(read_rules(), protocol, port)
    if target is None:
        return None
    return Holder(protocol, port, f"a DNAT rule of this host (to {target})", None, "iptables -t nat")


class PortHolder:
    """The published ports of one agent, each kept by sockets until it is released. Safe to use from several threads.

    A port is *claimed* until `release`; while a driver that publishes by itself has it, it is claimed and *lent*.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: dict[Key, list[socket.socket]] = {}
        self._lent: set[Key] = set()

    def claim(self, ports: Iterable[PublishedPort]) -> None:
        """Keep these ports from every other process, all or none; raises PortTaken naming the holder.

        Nothing happens for those already claimed, by whatever machine: telling machines apart is the store's work.
        """
        with self._lock:
            taken: list[Key] = []
            rules = self._rules()
            try:
                for key in _keys(ports):
                    if key not in self._held and key not in self._lent:
                        self._held[key] = self._take(key, rules)
                        taken.append(key)
            except PortTaken:
                self._let_go(taken)
                raise

    def release(self, ports: Iterable[PublishedPort]) -> None:
        """Leave these ports to whoever wants them. Nothing happens for those not claimed."""
        with self._lock:
            keys = _keys(ports)
            self._let_go(keys)
            self._lent.difference_update(keys)

    @contextmanager
    def lend(self, ports: Iterable[PublishedPort]) -> Iterator[None]:
        """Let a driver bind these ports itself; afterwards those that it did not bind are ours again."""
        ports = list(ports)
        with self._lock:
            keys = _keys(ports)
            self._let_go(keys)
            self._lent.update(keys)
        try:
            yield
        finally:
            self.reclaim(ports)

    def reclaim(self, ports: Iterable[PublishedPort]) -> list[Holder]:
        """Claim these ports as far as they are free; the others count as lent, and their holders are returned.

        For a machine that has stopped, and after a restart of the agent for machines whose driver may have their ports.
        """
        missing: list[Holder] = []
        with self._lock:
            rules = self._rules()
            for key in _keys(ports):
                if key in self._held:
                    continue
                self._lent.add(key)
                try:
                    self._held[key] = self._take(key, rules)
                    self._lent.discard(key)
                except PortTaken:
                    missing.append(_holder(key))
        return missing

    def demand(self, ports: Iterable[PublishedPort]) -> None:
        """Claim these ports, also those that were lent: nobody may have one; raises PortTaken naming the first who has."""
        missing = self.reclaim(ports)
        if missing:
            raise _taken(missing[0])

    def strangers(self, ports: Iterable[PublishedPort]) -> list[Holder]:
        """Who has those of these ports that no socket of ours keeps, as far as anybody has."""
        with self._lock:
            missing = [key for key in _keys(ports) if key not in self._held]
        return [holder for key in missing if (holder := find_holder(*key)) is not None]

    def held(self) -> frozenset[Key]:
        """The ports that sockets of ours keep now: those claimed and not lent."""
        with self._lock:
            return frozenset(self._held)

    def close(self) -> None:
        """Release everything."""
        with self._lock:
            self._let_go(list(self._held))
            self._lent.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _let_go(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for keeper in self._held.pop(key, []):
                keeper.close()

    def _rules(self) -> str:
        return read_rules()

    def _take(self, key: Key, rules: str) -> list[socket.socket]:
        return _take(key, rules)


class UnboundPorts(PortHolder):
    """The same for one of several agents that share a host and pretend to have one each: nothing is bound, nobody is asked."""

    def _rules(self) -> str:
        return ""

    def _take(self, key: Key, rules: str) -> list[socket.socket]:
        return []


def _keys(ports: Iterable[PublishedPort]) -> list[Key]:
    return sorted({(port.protocol, port.node_port) for port in ports})


def _take(key: Key, rules: str) -> list[socket.socket]:
    """Bind the port on every address, of IPv4 and IPv6; raises PortTaken."""
    if find_redirect(rules, *key):
        raise _taken(_holder(key))
    keepers = _bind_everywhere(key, reuse=False)
    if keepers is None and not _users(key):
        # Connections that ended stay in the kernel for a minute (TIME_WAIT); they are nobody's and keep nobody away.
        keepers = _bind_everywhere(key, reuse=True)
    if keepers is None:
        raise _taken(_holder(key))
    return keepers


def _bind_everywhere(key: Key, *, reuse: bool) -> list[socket.socket] | None:
    """The sockets that keep the port, or None when it is in use on some address."""
    keepers: list[socket.socket] = []
    try:
        for family, address in _ANY:
            keepers += _bind(family, address, key, reuse=reuse)
    except OSError as error:
        for keeper in keepers:
            keeper.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise DriverFailed(f"{key[0]} port {key[1]} cannot be bound: {error.strerror}") from error
    return keepers


def _bind(family: socket.AddressFamily, address: str, key: Key, *, reuse: bool) -> list[socket.socket]:
    try:
        return [_bound(family, address, key, reuse=reuse)]
    except OSError as error:
        if family == socket.AF_INET6 and error.errno in _NO_IPV6:
            return []
        raise


def _bound(family: socket.AddressFamily, address: str, key: Key, *, reuse: bool) -> socket.socket:
    keeper = socket.socket(family, socket.SOCK_STREAM if key[0] is Protocol.TCP else socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if key[0] is Protocol.UDP:
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # what comes is for no running machine
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        keeper.bind((address, key[1]))
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # or another process could listen beside it
    except BaseException:
        keeper.close()
        raise
    return keeper


def _users(key: Key) -> list[LocalPort]:
    """The sockets that have the port and belong to somebody, who listens first."""
    users = [user for user in local_ports(key[0]) if user.port == key[1] and user.inode]
    return sorted(users, key=lambda user: user.use)


def _holder(key: Key) -> Holder:
    return find_holder(*key) or Holder(*key, name="another process", pid=None, where="")


def _taken(holder: Holder) -> PortTaken:
    where = f", on {holder.where}" if holder.where else ""
    return PortTaken(
        f"{holder.protocol} port {holder.port} of this host is held by {holder}{where}",
        holder=str(holder),
        process=holder.name,
        pid=holder.pid,
        port=holder.port,
        protocol=str(holder.protocol),
    )


def _where(user: LocalPort) -> str:
    return f"[{user.address}]:{user.port}" if user.address.version == 6 else f"{user.address}:{user.port}"
