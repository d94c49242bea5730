"""Ports of this host, held against real processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.free_ports import free_port

from garbi.base.errors import PortTaken
from garbi.hyper.host.sockets import Use, local_ports
from garbi.hyper.model.machine import Protocol, PublishedPort
from garbi.hyper.publishing.holders import PortHolder, find_holder

TAKER = """
import socket, sys
protocol, address, port, listen, reuse = sys.argv[1:6]
taker = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                      socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
if reuse == "True": taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    taker.bind((address, int(port)))
    if listen == "True": taker.listen()
except OSError as error:
    print(error.errno, flush=True)
else:
    print("taken", flush=True)
    sys.stdin.read()
"""


class Taker:
    """Another process that takes a port, until it is ended."""

    def __init__(
        self, protocol: str, port: int, address: str = "0.0.0.0", listen: bool = True, reuse: bool = False
    ) -> None:
        words = (protocol, address, str(port), str(listen and protocol == "tcp"), str(reuse))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.outcome = self.process.stdout.readline().strip()

    @property
    def has_it(self) -> bool:
        return self.outcome == "taken"

    def end(self) -> None:
        self.process.communicate(input="")

    def __enter__(self) -> Taker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def holder() -> Iterator[PortHolder]:
    with PortHolder() as holder:
        yield holder


def published(port: int, protocol: str = "tcp") -> list[PublishedPort]:
    return [PublishedPort(port, 80, Protocol(protocol))]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("reuse", [False, True])
def test_nobody_else_can_use_a_claimed_port(
    holder: PortHolder, port: int, address: str, protocol: str, reuse: bool
) -> None:
    holder.claim(published(port, protocol))
    with Taker(protocol, port, address, reuse=reuse) as taker:
        assert taker.outcome == str(errno.EADDRINUSE)
    holder.release(published(port, protocol))
    with Taker(protocol, port, address, reuse=reuse) as taker:
        assert taker.has_it


def test_a_claimed_tcp_port_leaves_the_udp_port_of_that_number_alone(holder: PortHolder, port: int) -> None:
    holder.claim(published(port, "tcp"))
    with Taker("udp", port) as taker:
        assert taker.has_it


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_of_another_process_is_refused_and_the_process_is_named(
    holder: PortHolder, port: int, address: str, protocol: str
) -> None:
    with Taker(protocol, port, address) as taker:
        assert taker.has_it
        with pytest.raises(PortTaken) as refused:
            holder.claim(published(port, protocol))
    extra = refused.value.extra
    assert (extra["pid"], extra["port"], extra["protocol"]) == (taker.process.pid, port, protocol)
    assert extra["holder"] == f"{extra['process']} (pid {taker.process.pid})"
    assert f"{protocol} port {port}" in refused.value.detail
    assert str(taker.process.pid) in refused.value.detail


def test_a_port_that_is_bound_in_silence_is_refused_too(holder: PortHolder, port: int) -> None:
    with Taker("tcp", port, listen=False) as taker:
        with pytest.raises(PortTaken) as refused:
            holder.claim(published(port))
        told = any(user.use is Use.BOUND for user in local_ports(Protocol.TCP))
    assert refused.value.extra["pid"] == (taker.process.pid if told else None)


def test_a_port_of_this_very_process_is_said_to_be_the_agents(holder: PortHolder, port: int) -> None:
    holder.claim(published(port))
    with PortHolder() as second, pytest.raises(PortTaken, match=f"this agent \\(pid {os.getpid()}\\)"):
        second.claim(published(port))


def test_a_claim_is_all_or_nothing(holder: PortHolder) -> None:
    ports = free_ports(3)
    with Taker("tcp", max(ports)), pytest.raises(PortTaken):
        holder.claim([port for number in ports for port in published(number)])
    assert holder.held() == frozenset()
    for number in ports:
        assert find_holder(Protocol.TCP, number) is None


def test_claiming_again_changes_nothing_and_a_refused_claim_keeps_what_was_held(holder: PortHolder) -> None:
    mine, theirs = free_ports(2)
    holder.claim(published(mine))
    holder.claim(published(mine))
    with Taker("tcp", theirs), pytest.raises(PortTaken):
        holder.claim(published(mine) + published(theirs))
    assert holder.held() == {(Protocol.TCP, mine)}


def test_releasing_what_is_not_held_changes_nothing(holder: PortHolder, port: int) -> None:
    holder.release(published(port))
    assert holder.held() == frozenset()


def test_a_lent_port_can_be_bound_by_a_driver_and_stays_with_it(holder: PortHolder, port: int) -> None:
    holder.claim(published(port))
    with holder.lend(published(port)):
        proxy = Taker("tcp", port)
    with proxy:
        assert proxy.has_it
        assert holder.held() == frozenset()
        holder.claim(published(port))
        (missing,) = holder.reclaim(published(port))
        assert missing.pid == proxy.process.pid
        proxy.end()
        assert holder.reclaim(published(port)) == []
    assert holder.held() == {(Protocol.TCP, port)}


def test_a_lent_port_is_demanded_back_from_whoever_has_it(holder: PortHolder, port: int) -> None:
    holder.claim(published(port))
    with holder.lend(published(port)):
        taker = Taker("tcp", port)
    with taker, pytest.raises(PortTaken) as refused:
        holder.demand(published(port))
    assert refused.value.extra["pid"] == taker.process.pid
    holder.demand(published(port))
    assert holder.held() == {(Protocol.TCP, port)}


def test_a_lent_port_that_no_driver_took_is_held_again(holder: PortHolder, port: int) -> None:
    holder.claim(published(port))
    with pytest.raises(RuntimeError), holder.lend(published(port)):
        raise RuntimeError("the driver failed")
    with Taker("tcp", port) as taker:
        assert not taker.has_it


def test_connections_that_ended_do_not_keep_a_port_from_its_owner(holder: PortHolder, port: int) -> None:
    leave_time_wait(port)
    assert any(user.port == port and not user.inode for user in local_ports(Protocol.TCP))
    holder.claim(published(port))
    for reuse in (False, True):
        with Taker("tcp", port, reuse=reuse) as taker:
            assert not taker.has_it


def leave_time_wait(port: int) -> None:
    """Serve one connection on the port and close it from the server's side."""
    server = socket.create_server(("127.0.0.1", port))
    client = socket.create_connection(("127.0.0.1", port))
    served, _ = server.accept()
    served.close()
    assert client.recv(1) == b""
    client.close()
    server.close()


def test_a_claimed_port_refuses_connections_at_once(holder: PortHolder, port: int) -> None:
    holder.claim(published(port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_many_threads_claim_and_release_one_port(holder: PortHolder) -> None:
    ports = [port for number in free_ports(4) for port in published(number)]
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                holder.claim(ports)
                holder.release(ports)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert holder.held() == frozenset()


def test_close_releases_everything(port: int) -> None:
    holder = PortHolder()
    holder.claim(published(port))
    holder.close()
    with Taker("tcp", port) as taker:
        assert taker.has_it
