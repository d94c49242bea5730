"""Processes that hardly get the processor: stopped and continued in turns, for as long as a block runs."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def starved(processes: Sequence[subprocess.Popen[str]], on_s: float, off_s: float) -> Iterator[threading.Event]:
    """Let each process run for `on_s` seconds, then stand still for `off_s`, each in its own turn. What is yielded is set once
    every one of them had many turns."""
    done, had_enough = threading.Event(), threading.Event()
    turns = [0] * len(processes)

    def take_turns(number: int) -> None:
        process = processes[number]
        done.wait(off_s * number / len(processes))
        while process.poll() is None and not done.is_set():
            process.send_signal(signal.SIGSTOP)
            done.wait(off_s)
            process.send_signal(signal.SIGCONT)
            done.wait(on_s)
            turns[number] += 1
            if min(turns) >= TURNS:
                had_enough.set()

    threads = [threading.Thread(target=take_turns, args=(number,)) for number in range(len(processes))]
    for thread in threads:
        thread.start()
    try:
        yield had_enough
    finally:
        done.set()
        for thread in threads:
            thread.join()


TURNS = 9
"""In all of them together a lease of the usual length would have ended more than once."""
