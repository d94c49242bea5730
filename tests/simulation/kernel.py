"""Runs simulated processes in one real thread: a seed decides who goes on, virtual time jumps to the next timer when nobody can.

A task is a greenlet. It gives way only where the simulated `threading`, network and failpoints say so, never inside a
transaction. A process that is killed is never resumed: not even its `finally` blocks run, as after SIGKILL.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import greenlet

FOREVER = float("inf")
BUSY_TURNS = 20000
"""So many turns at one moment mean that somebody waits for what cannot come without time."""

_graveyard: list[object] = []
"""Greenlets of killed processes: one that nothing refers to is ended by an exception, and its `finally` blocks run."""


class Violated(Exception):
    """The simulation found what must not be."""


class Numbered:
    """Something whose hash is the same in each run, so that sets of such things have one order."""

    _next = 0

    def __init__(self) -> None:
        Numbered._next += 1
        self._number = Numbered._next

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Task(Numbered):
    """One thread of a simulated process."""

    def __init__(self, process: Process, name: str, work: Callable[[], object]) -> None:
        super().__init__()
        self.process = process
        self.name = name
        self.finished = False
        self.waiting = 0
        self.blocked = False
        self.woken = False
        self.fed = False
        """Whether it has waited for its turn on a host that has too little of a processor."""
        self.thread: Any = None
        self.locks: list[Any] = []
        self.joiners: list[tuple[Task, int]] = []
        self.greenlet = greenlet.greenlet(lambda: self._run(work), parent=process.kernel.hub)

    def _run(self, work: Callable[[], object]) -> None:
        kernel = self.process.kernel
        try:
            work()
        except Exception as error:
            kernel.crashed(self, error)
        self.finished = True
        self.process.tasks.discard(self)
        for task, number in self.joiners:
            kernel.wake(task, number)


class Process(Numbered):
    """A process of a simulated host: its tasks, and what the kernel of that host would take back when it dies."""

    def __init__(self, kernel: Kernel, name: str, host: Any = None) -> None:
        super().__init__()
        self.kernel = kernel
        self.name = name
        self.host = host
        self.alive = True
        self.tasks: set[Task] = set()
        self.at_death: dict[object, Callable[[], None]] = {}
        self.parked: list[Task] = []

    def spawn(self, name: str, work: Callable[[], object]) -> Task:
        """Let a new task begin."""
        task = Task(self, f"{self.name}/{name}", work)
        task.blocked = True
        self.tasks.add(task)
        self.kernel.wake(task, 0)
        return task

    def kill(self) -> None:
        """End it now, wherever its tasks are. Does not return when it is the present process."""
        if not self.alive:
            return
        self.alive = False
        kernel = self.kernel
        kernel.note(f"killed {self.name}")
        if kernel.current is not None and kernel.current.process is self:
            kernel.transactions = 0
        _graveyard.append([task.greenlet for task in sorted(self.tasks, key=hash)])
        for task in sorted(self.tasks, key=hash):
            for lock in [*task.locks]:
                lock.abandon()
        for take_back in reversed([*self.at_death.values()]):
            take_back()
        if kernel.current is not None and kernel.current.process is self:
            kernel.leave_for_good()


class Trace:
    """What a run leaves behind: its lines, their hash, and what must not be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.recent: deque[str] = deque(maxlen=400)
        self.violations: list[str] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def note(self, words: str) -> None:
        """Add a line to the trace; two runs with one seed have the same trace."""
        line = f"{self.now:.6f} {words}"
        self._digest.update(line.encode())
        self.recent.append(line)

    def violate(self, words: str) -> None:
        """Write down what must not be."""
        self.note(f"VIOLATION {words}")
        self.violations.append(f"at {self.now:.3f} s: {words}")

    def crashed(self, task: Task, error: Exception) -> None:
        """A thread of the product ended by an exception."""
        import traceback

        self.violate(f"task {task.name} ended by {error!r}\n{''.join(traceback.format_exception(error))[-3000:]}")

    def digest(self) -> str:
        """The hash of the trace so far."""
        return self._digest.hexdigest()


class Kernel(Trace):
    """The clock, the tasks and the dice of one run."""

    def __init__(self, seed: int, preempt: float = 0.05) -> None:
        super().__init__()
        self.dice = random.Random(f"schedule-{seed}")
        self.ids = random.Random(f"ids-{seed}")
        self.preempt_p = preempt
        self.current: Task | None = None
        self.transactions = 0
        self.switches = 0
        self.on_reach: Callable[[str], None] | None = None
        self.hub = greenlet.getcurrent()
        self._ready: list[Task] = []
        self._timers: list[tuple[float, int, Task | None, int, Callable[[], None] | None]] = []
        self._count = 0
        self._counted_at, self._counted = -1.0, 0

    # Time and turns

    def at(self, moment: float, work: Callable[[], None]) -> None:
        """Do something at that time, between two turns; it cannot block."""
        self._count += 1
        heapq.heappush(self._timers, (moment, self._count, None, 0, work))

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something when so much time has passed."""
        self.at(self.now + seconds, work)

    def wake(self, task: Task, number: int, value: bool = True) -> bool:
        """Let a task go on that waits for the `number`-th time; False when it no longer does."""
        if not task.blocked or task.waiting != number or not task.process.alive:
            return False
        task.blocked = False
        task.woken = value
        self._ready.append(task)
        return True

    def ticket(self) -> tuple[Task, int]:
        """What others wake the present task with, in the wait that it is about to begin."""
        task = self._me()
        return task, task.waiting + 1

    def block(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody wakes the present task, or that time has passed; return whether it was woken."""
        task = self._me()
        if self.transactions:
            raise Violated(f"task {task.name} waits inside a transaction")
        task.waiting += 1
        task.blocked = True
        if timeout_s is not None and timeout_s < FOREVER:
            self._count += 1
            host = task.process.host
            seconds = max(timeout_s, 0.0) / (host.clock.rate if host is not None else 1.0)
            heapq.heappush(self._timers, (self.now + seconds, self._count, task, task.waiting, None))
        self.hub.switch()
        return task.woken

    def sleep(self, seconds: float) -> None:
        """Let that time pass."""
        self.block(seconds)

    def give_way(self) -> None:
        """Let others go on, if the dice say so; nothing happens outside tasks and inside transactions."""
        if self.current is not None and not self.transactions and self.dice.random() < self.preempt_p:
            task, number = self.ticket()
            task.waiting += 1
            task.blocked = True
            self.wake(task, number)
            self.hub.switch()

    def leave_for_good(self) -> None:
        """Never come back."""
        self.hub.switch()
        raise AssertionError("a dead task was resumed")

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let time pass until then, or until `done`, which is asked after each turn."""
        while not (done is not None and done()):
            if self._ready:
                if self.now != self._counted_at:
                    self._counted_at, self._counted = self.now, self.switches
                elif self.switches - self._counted > BUSY_TURNS:
                    self.violate(
                        f"{BUSY_TURNS} turns without any time passing; ready are {[each.name for each in self._ready]}"
                    )
                    return
                self._turn(self._pick())
            elif self._timers and self._timers[0][0] <= until:
                self._fire()
            else:
                self.now = max(self.now, until)
                return

    def _me(self) -> Task:
        if self.current is None:
            raise Violated("only a task can wait")
        return self.current

    def _pick(self) -> Task:
        ready = self._ready
        if len(ready) == 1:
            return ready.pop()
        place = int(self.dice.random() * len(ready))
        ready[place], ready[-1] = ready[-1], ready[place]
        return ready.pop()

    def _turn(self, task: Task) -> None:
        process = task.process
        if not process.alive:
            return
        host = process.host
        if host is not None and host.frozen:
            process.parked.append(task)
            return
        if host is not None and host.starved_s and not task.fed:
            task.fed = True
            self.after(self.dice.expovariate(1 / host.starved_s), lambda: self._ready.append(task))
            return
        task.fed = False
        self.switches += 1
        self._digest.update(f"{self.now:.6f} {task.name}".encode())
        self.current = task
        task.greenlet.switch()
        self.current = None

    def thaw(self, process: Process) -> None:
        """Let the tasks of a process go on whose host was frozen."""
        self._ready += process.parked
        process.parked = []

    def _fire(self) -> None:
        moment, _, task, number, work = heapq.heappop(self._timers)
        self.now = max(self.now, moment)
        if task is not None:
            self.wake(task, number, value=False)
        elif work is not None:
            with suppress(greenlet.GreenletExit):
                work()


_running: list[Kernel] = []


def kernel() -> Kernel:
    """The kernel of the present run."""
    return _running[-1]


def begin(present: Kernel) -> None:
    """Make it the kernel of the present run."""
    Numbered._next = 0
    _running[:] = [present]
