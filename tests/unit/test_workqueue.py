"""The work queue: each machine at most once at a time, none forgotten."""

import threading

from garbi.base.workqueue import WorkQueue


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_an_item_added_twice_is_given_out_once() -> None:
    queue = WorkQueue(HandClock())
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert [queue.take(), queue.take()] == ["a", "b"]


def test_an_item_added_while_it_is_worked_on_is_given_out_again_afterwards() -> None:
    queue = WorkQueue(HandClock())
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.take() == "b"
    queue.done("a")
    assert queue.take() == "a"


def test_an_item_for_later_is_given_out_when_its_time_has_come() -> None:
    clock = HandClock()
    queue = WorkQueue(clock)
    queue.add_later("late", 10)
    queue.add("now")
    assert queue.take() == "now"
    clock.time = 10
    assert queue.take() == "late"


def test_closing_sends_waiting_workers_home() -> None:
    queue = WorkQueue(HandClock())
    results: list[str | None] = []
    worker = threading.Thread(target=lambda: results.append(queue.take()))
    worker.start()
    queue.close()
    worker.join(timeout=60)
    assert results == [None]


def test_many_workers_never_have_the_same_item_at_once() -> None:
    queue = WorkQueue(HandClock())
    held: set[str] = set()
    doubles: list[str] = []
    done = 0
    guard = threading.Lock()
    finished = threading.Event()

    def work() -> None:
        nonlocal done
        while (item := queue.take()) is not None:
            with guard:
                if item in held:
                    doubles.append(item)
                held.add(item)
            with guard:
                held.discard(item)
                done += 1
            queue.done(item)
            if not queue._ready and not queue._taken:
                finished.set()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for round_number in range(200):
        queue.add(f"m{round_number % 5}")
    assert finished.wait(60)
    queue.close()
    for worker in workers:
        worker.join(timeout=60)
    assert not doubles
    assert done >= 5
