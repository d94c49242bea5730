"""The network between a controller and its hosts: it loses, delays, doubles and cuts, one way or both, as the dice say."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.simulation.hosts import SimHost
from tests.simulation.kernel import Kernel, Numbered, Process, Task
from tests.simulation.serving import Reply, problem

from garbi.base.errors import ServerUnreachable
from garbi.base.http import Answer, Request

CONNECT_S = 5.0
SILENCE_S = 60.0
"""How long a reader of events bears that nothing comes from a host that is cut off."""

Serve = Callable[[Request], Reply]


@dataclass
class Weather:
    """What the network does to each message on one way."""

    lost: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    slowest_s: float = 5.0
    late_s: float = 120.0
    """How late the second copy of a message may come."""


@dataclass
class Service:
    """What answers at an address: the process that does, the application, the stream of events."""

    process: Process
    serve: Serve
    open_stream: Callable[[Request, Callable[[bytes], None]], Callable[[], None]]


@dataclass
class Network:
    """Ways are pairs of host names; a way that is not in `weather` is calm."""

    kernel: Kernel
    dice: random.Random
    services: dict[str, Service] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    """The host behind each address."""
    cut: set[tuple[str, str]] = field(default_factory=set)
    weather: dict[tuple[str, str], Weather] = field(default_factory=dict)
    machines: dict[str, SimHost] = field(default_factory=dict)
    """Hosts by name."""
    sent: int = 0
    keep: Callable[[Conversation], object] | None = None
    """Is told of each conversation that begins, to have its message come again later."""

    def is_on(self, name: str) -> bool:
        """Whether a host has power."""
        return self.machines[name].on

    def host_is_frozen(self, name: str) -> bool:
        """Whether a host stands still."""
        return self.machines[name].frozen

    def service_at(self, address: str) -> Service | None:
        """What answers there now."""
        service = self.services.get(address)
        return service if service is not None and service.process.alive else None

    def passes(self, source: str, target: str) -> bool:
        """Whether a message on that way arrives at a host that is on."""
        if (source, target) in self.cut or not self.machines[target].on:
            return False
        found = self.weather.get((source, target))
        return found is None or self.dice.random() >= found.lost

    def delay(self, source: str, target: str) -> float:
        """How long a message takes."""
        found = self.weather.get((source, target))
        if found is not None and self.dice.random() < found.slow:
            return self.dice.random() * found.slowest_s
        return 0.0005 + self.dice.random() * 0.002

    def doubles_after(self, source: str, target: str) -> float | None:
        """When a second copy of a message comes, if one does."""
        found = self.weather.get((source, target))
        if found is None or self.dice.random() >= found.doubled:
            return None
        return self.dice.random() * found.late_s


class Conversation(Numbered):
    """One request and its answer."""

    def __init__(self, network: Network, source: str, address: str, request: Request) -> None:
        super().__init__()
        self._network = network
        self._kernel = network.kernel
        self._source, self._address, self.request = source, address, request
        self.target = network.hosts[address]
        self._ticket = network.kernel.ticket()
        self._reply: Reply | None = None
        self._refused = ""

    def hold(self) -> Reply:
        """Send the request and wait for the answer; raises ServerUnreachable."""
        network, url = self._network, f"http://{self._address}"
        network.sent += 1
        if network.keep is not None:
            network.keep(self)
        arrives = network.passes(self._source, self.target)
        if arrives:
            self._kernel.after(network.delay(self._source, self.target), self._arrive)
        late_s = network.doubles_after(self._source, self.target)
        if late_s is not None:
            self._kernel.after(late_s, self.arrive_again)
        connected = arrives and not network.host_is_frozen(self.target)
        limit_s = self.request.timeout_s if connected else min(CONNECT_S, self.request.timeout_s)
        self._kernel.block(limit_s)
        if self._reply is not None:
            return self._reply
        if self._refused:
            raise ServerUnreachable(f"no answer from {url}: {self._refused}", url=url)
        raise ServerUnreachable(f"{url} did not answer within {limit_s:.0f} s", url=url)

    def _arrive(self) -> None:
        service = self._network.service_at(self._address)
        if service is None:
            self._refuse("Connection refused")
            return
        service.process.at_death[self] = lambda: self._refuse("Connection reset by peer")
        service.process.spawn(f"serve-{self.request.method}", lambda: self._serve(service))

    def arrive_again(self) -> None:
        """Let the message come once more; its answer goes nowhere."""
        service = self._network.service_at(self._address)
        if service is not None:
            service.process.spawn(f"serve-again-{self.request.method}", lambda: self._serve_again(service))

    def _serve(self, service: Service) -> None:
        reply = service.serve(self.request)
        service.process.at_death.pop(self, None)

        def answered() -> None:
            self._reply = reply
            self._kernel.wake(*self._ticket)

        self._send_back(answered)

    def _serve_again(self, service: Service) -> None:
        reply = service.serve(self.request)
        words = f"{self.request.method} {self.request.target.partition('?')[0]}"
        self._kernel.note(f"a second copy came to {self.target}: {words} -> {problem(reply)}")

    def _refuse(self, words: str) -> None:
        if not self._network.is_on(self.target):
            return

        def refused() -> None:
            self._refused = words
            self._kernel.wake(*self._ticket)

        self._send_back(refused)

    def _send_back(self, arrived: Callable[[], None]) -> None:
        network = self._network
        if network.passes(self.target, self._source):
            self._kernel.after(network.delay(self.target, self._source), arrived)


class Stream(Numbered):
    """Events on their way from an agent to who reads them."""

    def __init__(self, network: Network, source: str, address: str, service: Service) -> None:
        super().__init__()
        self._network = network
        self._kernel = network.kernel
        self._source, self._target, self._service = source, network.hosts[address], service
        self._url = f"http://{address}"
        self._arrived: deque[bytes] = deque()
        self._stuck = False
        self._ended = False
        self._reset = False
        self._ticket: tuple[Task, int] | None = None

    def push(self, block: bytes) -> None:
        """Send a block; what is lost is never followed by anything: the connection stands still."""
        network = self._network
        self._stuck = self._stuck or not network.passes(self._target, self._source)
        if not self._stuck:
            self._kernel.after(network.delay(self._target, self._source), lambda: self._arrive(block))

    def end(self) -> None:
        """The reader hangs up."""
        self._ended = True
        self._wake()

    def chunks(self) -> Iterator[bytes]:
        """What arrives, until the reader hangs up; raises ServerUnreachable when the agent ends, or is silent for too long."""
        self._service.process.at_death[self] = self._break
        try:
            while not self._ended:
                if self._arrived:
                    yield self._arrived.popleft()
                    continue
                if self._reset:
                    raise ServerUnreachable(f"no answer from {self._url}: Connection reset by peer", url=self._url)
                self._ticket = self._kernel.ticket()
                if not self._kernel.block(SILENCE_S) and not self._is_alive():
                    raise ServerUnreachable(f"{self._url} did not answer within {SILENCE_S:.0f} s", url=self._url)
        finally:
            self._service.process.at_death.pop(self, None)

    def _arrive(self, block: bytes) -> None:
        self._arrived.append(block)
        self._wake()

    def _break(self) -> None:
        """The agent's process was killed: its kernel says so, if there still is one."""
        if self._network.is_on(self._target) and self._network.passes(self._target, self._source):
            self._reset = True
            self._wake()

    def _wake(self) -> None:
        if self._ticket is not None:
            self._kernel.wake(*self._ticket)

    def _is_alive(self) -> bool:
        """Whether what keeps a silent connection alive has come."""
        network = self._network
        there = self._service.process.alive and not network.host_is_frozen(self._target)
        return there and not self._stuck and (self._target, self._source) not in network.cut


class SimTransport(Numbered):
    """Carries the requests of the process that made it, or of `source`."""

    def __init__(self, network: Network, source: str, url: str) -> None:
        super().__init__()
        self.url = url
        self._network = network
        self._source = source
        self._streams: dict[Stream, None] = {}
        self._closed = False

    def send(self, request: Request) -> Answer:
        """Hold a conversation; raises ServerUnreachable."""
        address = self.url.removeprefix("http://")
        if request.target.startswith("/hyper/events"):
            return self._listen(address, request)
        reply = Conversation(self._network, self._source, address, request).hold()
        return Answer(reply.status, reply.headers, iter((reply.body,)))

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for stream in [*self._streams]:
            stream.end()

    def _listen(self, address: str, request: Request) -> Answer:
        hello = Request("GET", "/hyper/health", request.headers, timeout_s=request.timeout_s)
        Conversation(self._network, self._source, address, hello).hold()
        service = self._network.service_at(address)
        if service is None:
            raise ServerUnreachable(f"no answer from {self.url}: Connection refused", url=self.url)
        stream = Stream(self._network, self._source, address, service)
        hang_up = service.open_stream(request, stream.push)
        if self._closed:
            stream.end()
        return Answer(200, {}, self._read(stream, hang_up))

    def _read(self, stream: Stream, hang_up: Callable[[], None]) -> Iterator[bytes]:
        self._streams[stream] = None
        try:
            yield from stream.chunks()
        finally:
            self._streams.pop(stream, None)
            hang_up()
