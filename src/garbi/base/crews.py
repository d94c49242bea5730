"""The workers of an agent, a crew for each type of machine: a daemon that hangs holds up the machines of its own type only."""

from __future__ import annotations

import threading
from collections.abc import Callable

from garbi.base.workqueue import WorkQueue

Work = Callable[[str, str], None]
"""Called with a type and a machine's id; it must not raise."""


class Crews:
    """A queue and `workers` threads per type, made when the type is first asked for. `monotonic` is the clock."""

    def __init__(self, monotonic: Callable[[], float], workers: int, work: Work) -> None:
        self._monotonic = monotonic
        self._workers = workers
        self._work = work
        self._lock = threading.Lock()
        self._queues: dict[str, WorkQueue] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    def add(self, type_name: str, machine_id: str) -> None:
        """Have a machine looked at soon."""
        self._queue(type_name).add(machine_id)

    def add_later(self, type_name: str, machine_id: str, delay_s: float) -> None:
        """Have a machine looked at after `delay_s` seconds."""
        self._queue(type_name).add_later(machine_id, delay_s)

    def waiting(self) -> dict[str, int]:
        """How many machines wait for a worker, by their type."""
        with self._lock:
            return {name: queue.waiting() for name, queue in self._queues.items()}

    def dismiss(self, type_name: str) -> None:
        """Send a crew home; it is made anew when its type is asked for again."""
        with self._lock:
            queue = self._queues.pop(type_name, None)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        if queue is not None:
            queue.close()

    def close(self) -> None:
        """Send every worker home."""
        with self._lock:
            self._closed = True
            for queue in self._queues.values():
                queue.close()

    def join(self, patience_s: float) -> None:
        """Wait for the workers, at most `patience_s` seconds altogether."""
        deadline = self._monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(deadline - self._monotonic(), 0))

    def _queue(self, type_name: str) -> WorkQueue:
        with self._lock:
            queue = self._queues.get(type_name)
            if queue is None:
                queue = self._queues[type_name] = WorkQueue(self._monotonic)
                if self._closed:
                    queue.close()
                else:
                    self._employ(type_name, queue)
        return queue

    def _employ(self, type_name: str, queue: WorkQueue) -> None:
        for number in range(self._workers):
            name = f"converger-{type_name}-{number}"
            thread = threading.Thread(target=self._serve, args=(type_name, queue), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, type_name: str, queue: WorkQueue) -> None:
        while (machine_id := queue.take()) is not None:
            try:
                self._work(type_name, machine_id)
            finally:
                queue.done(machine_id)
