"""What all endpoints share: the agent, how many requests may wait for it at a time, and the end of it all."""

from __future__ import annotations

import threading
import time
from asyncio import Event as Wake
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import anyio
from fastapi import Depends, Request, Response

from garbi.base.errors import Busy
from garbi.hyper.agent import Agent
from garbi.hyper.model.machine import Machine
from garbi.web.preferences import Patience

MAX_WAITERS = 96
MAX_UPLOADS = 16
MAX_THREADS = 144
"""Threads for requests: more than may wait and upload, so that there is always one for those who only look."""

MAX_STREAMS = 64
LOOK_S = 1.0
"""How long a waiting request goes on after the server was told to end, in seconds."""


class ServerState:
    """One server's agent and its places to wait. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, agent: Agent, keep_alive_s: float) -> None:
        self.agent = agent
        self.keep_alive_s = keep_alive_s
        self.streams: set[Wake] = set()
        self._reads: set[anyio.CancelScope] = set()
        self.closing = False
        self._waiters = threading.BoundedSemaphore(MAX_WAITERS)
        self._uploads = threading.BoundedSemaphore(MAX_UPLOADS)

    def close(self) -> None:
        """End what waits, so that the server can end; called in the event loop."""
        self.closing = True
        for wake in self.streams:
            wake.set()
        for read in self._reads:
            read.cancel()

    @contextmanager
    def reading(self, read: anyio.CancelScope) -> Iterator[None]:
        """Let the end of the server cancel the read of a body in that scope; raises Busy when it has. In the event loop."""
        self.check_open()
        self._reads.add(read)
        try:
            yield
        finally:
            self._reads.discard(read)

    def check_open(self) -> None:
        """Raise Busy once the server was told to end."""
        if self.closing:
            raise Busy("the server is ending; ask again when it is back")

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Have a place for an upload, which keeps a thread as long as its sender takes; raises Busy when there is none."""
        if not self._uploads.acquire(blocking=False):
            raise Busy(f"{MAX_UPLOADS} images are coming in already")
        try:
            yield
        finally:
            self._uploads.release()

    def settled(self, machine: Machine, patience: Patience, response: Response) -> Machine | None:
        """The machine once it settled, or as it is when patience or the places to wait end; None when it is gone."""
        if patience.wait_s <= 0:
            patience.declare(response)
            return machine
        if not self._waiters.acquire(blocking=False):
            return machine
        try:
            patience.declare(response)
            return self._wait(machine, time.monotonic() + patience.wait_s)
        finally:
            self._waiters.release()

    def _wait(self, machine: Machine, deadline: float) -> Machine | None:
        while True:
            left = deadline - time.monotonic()
            found = self.agent.machines.wait_settled(machine.id, min(LOOK_S, max(left, 0.0)))
            if found is None or found.settled or left <= LOOK_S or self.closing:
                return found


async def _state_of(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


async def _agent_of(request: Request) -> Agent:
    return (await _state_of(request)).agent


Server = Annotated[ServerState, Depends(_state_of)]
AgentOf = Annotated[Agent, Depends(_agent_of)]
