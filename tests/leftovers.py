"""What tests leave open in the process that runs them: a worker that runs hundreds of modules would come to have no more.

Some things are made when they are first needed and stay, such as an agent that all tests of a host share, with its threads and
its connections to engines; so a module may leave some, and a limit for all that is open holds after each test.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FILES, THREADS = 64, 40
"""So many more files and threads may be there after a module than before it."""
MOST = 300
"""So many files may be open after any test: `select` bears 1024, and a test needs some itself."""
PATIENCE_S = 20.0
"""What was told to end has so long."""


class LeftOpen(Exception):
    """More was left open than may be."""


@contextmanager
def watched(module: str) -> Iterator[None]:
    """Raise LeftOpen when what runs inside leaves much open, with what that is."""
    files, threads = open_files(), running_threads()
    yield
    end = time.monotonic() + PATIENCE_S
    while left := _left(files, threads):
        if time.monotonic() >= end:
            raise LeftOpen(f"{module} leaves open {left}")
        threading.Event().wait(0.1)


def require_few(test: str) -> None:
    """Raise LeftOpen when a test has left too many files open, by itself or after those before it."""
    if len(os.listdir("/proc/self/fd")) > MOST:
        gc.collect()
        if (files := open_files()).total() > MOST:
            raise LeftOpen(f"{test}: {files.total()} files are open, {_listed(files)}")


def open_files() -> Counter[str]:
    """What this process has open, in words."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one by which this is listed
            found[_words(int(name))] += 1
    return found


def running_threads() -> Counter[str]:
    """The threads of this process by their names."""
    return Counter(thread.name for thread in threading.enumerate())


def _left(files: Counter[str], threads: Counter[str]) -> str:
    """What is there beside those, in words; empty when it is not much."""
    if len(os.listdir("/proc/self/fd")) <= files.total() + FILES and threading.active_count() <= (
        threads.total() + THREADS
    ):
        return ""
    gc.collect()
    more_files, more_threads = open_files() - files, running_threads() - threads
    if open_files().total() <= files.total() + FILES and more_threads.total() <= THREADS:
        return ""
    return f"{_listed(more_files)} and threads {_listed(more_threads)}"


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{number} x {name}" for name, number in counted.most_common(40)) or "none"


def _words(file: int) -> str:
    target = os.readlink(f"/proc/self/fd/{file}")
    if not target.startswith("socket:"):
        return target
    with socket.socket(fileno=os.dup(file)) as end:
        peer: object = "nobody"
        with suppress(OSError):
            peer = end.getpeername()
        return f"socket of {end.getsockname()!r} to {peer!r}"
