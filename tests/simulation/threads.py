"""What the product takes for `threading`, `time` and `secrets`: the same names, by the simulation's turns, clock and dice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from tests.simulation.kernel import Numbered, Process, Task, kernel


class Lock(Numbered):
    """A lock that waits by giving way."""

    reentrant = False

    def __init__(self) -> None:
        super().__init__()
        self._owner: Task | None = None
        self._depth = 0
        self._waiters: list[tuple[Task, int]] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        present = kernel()
        me = present.current
        if me is None:  # between two turns: nobody else goes on
            self._depth += 1
            return True
        if self._owner is me and self.reentrant:
            self._depth += 1
            return True
        while self._depth:
            if not blocking:
                return False
            self._waiters.append(present.ticket())
            if not present.block(timeout if timeout >= 0 else None):
                return False
        self._owner, self._depth = me, 1
        me.locks.append(self)
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._let_go()

    def abandon(self) -> None:
        """The owner was killed."""
        self._depth = 0
        self._let_go()

    def _let_go(self) -> None:
        if self._owner is not None and self in self._owner.locks:
            self._owner.locks.remove(self)
        self._owner = None
        while self._waiters:
            if kernel().wake(*self._waiters.pop(0)):
                return

    def locked(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    reentrant = True


class Condition(Numbered):
    def __init__(self, lock: Lock | None = None) -> None:
        super().__init__()
        self._lock = lock if lock is not None else RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self._waiters: list[tuple[Task, int]] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        ticket = kernel().ticket()
        self._waiters.append(ticket)
        self._lock.release()
        woken = kernel().block(timeout)
        if ticket in self._waiters:
            self._waiters.remove(ticket)
        self._lock.acquire()
        return woken

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else kernel().now + timeout
        while not (found := predicate()):
            left = None if end is None else end - kernel().now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    def notify(self, n: int = 1) -> None:
        while n > 0 and self._waiters:
            if kernel().wake(*self._waiters.pop(0)):
                n -= 1

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class Event(Numbered):
    def __init__(self) -> None:
        super().__init__()
        self._set = False
        self._waiters: list[tuple[Task, int]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for ticket in waiters:
            kernel().wake(*ticket)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            ticket = kernel().ticket()
            self._waiters.append(ticket)
            kernel().block(timeout)
            if ticket in self._waiters:
                self._waiters.remove(ticket)
        return self._set


class Semaphore(Numbered):
    def __init__(self, value: int = 1) -> None:
        super().__init__()
        self._value = value
        self._changed = Condition()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        with self._changed:
            if blocking:
                self._changed.wait_for(lambda: self._value > 0, timeout)
            if self._value <= 0:
                return False
            self._value -= 1
            return True

    def release(self, n: int = 1) -> None:
        with self._changed:
            self._value += n
            self._changed.notify(n)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Thread(Numbered):
    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__()
        self.name = name or f"thread-{self._number}"
        self.daemon = bool(daemon)
        self._target, self._args, self._kwargs = target, tuple(args), dict(kwargs or {})
        self._task: Task | None = None

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        self._task = present_process().spawn(self.name, self.run)
        self._task.thread = self

    @property
    def ident(self) -> int | None:
        return hash(self._task) if self._task is not None else None

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.finished and self._task.process.alive

    def join(self, timeout: float | None = None) -> None:
        if self._task is not None and self.is_alive():
            self._task.joiners.append(kernel().ticket())
            kernel().block(timeout)


def present_process() -> Process:
    """The process whose turn it is."""
    task = kernel().current
    assert task is not None
    return task.process


class Local:
    """Attributes of the present task."""

    def __init__(self) -> None:
        object.__setattr__(self, "_values", {})

    def _mine(self) -> dict[str, Any]:
        values: dict[Any, dict[str, Any]] = object.__getattribute__(self, "_values")
        return values.setdefault(kernel().current, {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._mine()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._mine()[name] = value


def _running_thread() -> Any:
    task = kernel().current
    if task is None or task.thread is None:
        thread = Thread(name=task.name if task is not None else "hub", daemon=True)
        if task is not None:
            task.thread, thread._task = thread, task
        return thread
    return task.thread


THREADING = SimpleNamespace(
    Thread=Thread,
    Event=Event,
    Condition=Condition,
    Lock=Lock,
    RLock=RLock,
    Semaphore=Semaphore,
    BoundedSemaphore=Semaphore,
    local=Local,
    current_thread=_running_thread,
    get_ident=lambda: hash(kernel().current),
    enumerate=lambda: [],
    main_thread=_running_thread,
)


def _present_clock() -> Any:
    return present_process().host.clock


TIME = SimpleNamespace(
    monotonic=lambda: kernel().now if kernel().current is None else _present_clock().monotonic(),
    perf_counter=lambda: kernel().now,
    time=lambda: _present_clock().now().timestamp(),
    sleep=lambda seconds: kernel().sleep(seconds),
    clock_gettime=lambda _which: _present_clock().since_boot(),
    CLOCK_BOOTTIME=7,
    CLOCK_MONOTONIC=1,
)


def _token_hex(count: int = 32) -> str:
    return kernel().ids.randbytes(count).hex()


def _token_urlsafe(count: int = 32) -> str:
    import base64

    return base64.urlsafe_b64encode(kernel().ids.randbytes(count)).rstrip(b"=").decode()


SECRETS = SimpleNamespace(
    token_hex=_token_hex,
    token_bytes=lambda count=32: kernel().ids.randbytes(count),
    token_urlsafe=_token_urlsafe,
    compare_digest=lambda a, b: a == b,
)
