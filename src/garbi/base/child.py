"""A child process that is bounded: by time, by what it may say, by whoever cancels it; nothing that it started outlives it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

MAX_LINE_BYTES = 4 << 20
"""Of one line; what a program makes longer is not read."""

MAX_ERROR_BYTES = 64 << 10
_BLOCK, _LAST_BLOCKS = 64 << 10, 32
_POLL_S = 0.2
_GRACE_S = 10.0


class Cancelled(Exception):
    """Somebody asked to end, or time was up; the text says which."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its status, and what it said."""

    code: int
    output: str
    errors: str


def run(
    command: Sequence[str],
    timeout_s: float,
    cancelled: threading.Event,
    stdin: int = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
    max_bytes: int = 64 << 10,
) -> Ended:
    """Run to the end; of the output, `max_bytes` are kept. Raises Cancelled, and OSError when it cannot be started."""
    output = bytearray()

    def keep(line: bytes) -> None:
        if len(output) < max_bytes:
            output.extend(line[:max_bytes] + b"\n")

    code, errors = follow(command, stdin, timeout_s, cancelled, keep, environment)
    return Ended(code, output.decode("utf-8", "replace"), errors)


def follow(
    command: Sequence[str],
    stdin: int,
    timeout_s: float,
    cancelled: threading.Event,
    on_line: Callable[[bytes], None],
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run to the end; `on_line` is told each line of the output. Returns exit status and the end of the errors.

    The end is that of the program, whoever else holds its streams then. Raises as `run`.
    """
    lines, errors = _Lines(on_line), _Tail()
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment,
        start_new_session=True,
    )
    try:
        streams = [stream.fileno() for stream in (process.stdout, process.stderr) if stream is not None]
        _read(process, dict(zip(streams, (lines.take, errors.take), strict=True)), timeout_s, cancelled)
        lines.end()
        return process.wait(_GRACE_S), errors.text.decode("utf-8", "replace")
    finally:
        _end(process)


def _read(
    process: subprocess.Popen[bytes],
    takers: Mapping[int, Callable[[bytes], None]],
    timeout_s: float,
    cancelled: threading.Event,
) -> None:
    """Give what comes from each stream to its taker, until the program has ended; raises Cancelled."""
    deadline = time.monotonic() + timeout_s
    with os.fdopen(os.pidfd_open(process.pid), "rb", buffering=0) as ended, selectors.DefaultSelector() as selector:
        for each in (*takers, ended.fileno()):
            selector.register(each, selectors.EVENT_READ)
        ready: set[int] = set()
        while ended.fileno() not in ready:
            if cancelled.is_set() or time.monotonic() > deadline:
                raise Cancelled("it was cancelled" if cancelled.is_set() else f"it did not end within {timeout_s:g} s")
            ready = {key.fd for key, _ in selector.select(_POLL_S)}
            for each in ready & set(takers):
                block = os.read(each, _BLOCK)
                if block:
                    takers[each](block)
                else:
                    selector.unregister(each)
    _kill(process)
    for each, take in takers.items():
        _drain(each, take)


def _drain(stream: int, take: Callable[[bytes], None]) -> None:
    """Take what is there, not what somebody who escaped still writes."""
    os.set_blocking(stream, False)
    with suppress(BlockingIOError):
        for _ in range(_LAST_BLOCKS):
            block = os.read(stream, _BLOCK)
            if not block:
                return
            take(block)


class _Lines:
    """Cuts what comes into lines; what is too long is cut, so that it reads as nothing."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def take(self, block: bytes) -> None:
        *lines, rest = (self._rest + block).split(b"\n")
        for each in lines:
            self._on_line(each[:MAX_LINE_BYTES])
        self._rest = rest[:MAX_LINE_BYTES]

    def end(self) -> None:
        if self._rest:
            self._on_line(self._rest)


class _Tail:
    """Keeps the end of what comes."""

    def __init__(self) -> None:
        self.text = b""

    def take(self, block: bytes) -> None:
        self.text = (self.text + block)[-MAX_ERROR_BYTES:]


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and its process group; until it is waited for, nobody else gets its number."""
    with process:
        if process.returncode is None:
            _kill(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
