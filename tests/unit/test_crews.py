"""The crews of an agent: one type of machine never waits for another."""

from __future__ import annotations

import threading
import time

from garbi.base.crews import Crews

LIMIT_S = 60.0


def test_a_type_whose_workers_are_all_stuck_holds_up_no_other() -> None:
    stuck, free = threading.Semaphore(0), threading.Event()
    done: list[str] = []

    def work(type_name: str, machine_id: str) -> None:
        if type_name == "slow":
            stuck.acquire()
        done.append(machine_id)
        if type_name == "quick":
            free.set()

    crews = Crews(time.monotonic, 2, work)
    for number in range(4):
        crews.add("slow", f"s{number}")
    crews.add_later("quick", "q", 0.01)
    assert free.wait(LIMIT_S)
    assert done == ["q"]
    stuck.release(4)
    crews.close()
    crews.join(LIMIT_S)
    mine = ("converger-slow-", "converger-quick-")  # other agents of this process may have theirs
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(mine)]


def test_after_the_end_nothing_is_begun() -> None:
    begun: list[str] = []
    crews = Crews(time.monotonic, 1, lambda _, machine_id: begun.append(machine_id))
    crews.close()
    crews.add("late", "m")
    crews.join(LIMIT_S)
    assert begun == []


def test_a_crew_that_was_sent_home_is_made_anew_when_it_is_needed() -> None:
    done = threading.Semaphore(0)
    crews = Crews(time.monotonic, 2, lambda _type_name, _machine_id: done.release())
    for _ in range(2):
        crews.add("gone", "m")
        assert done.acquire(timeout=LIMIT_S)
        before = [thread for thread in threading.enumerate() if thread.name.startswith("converger-gone-")]
        crews.dismiss("gone")
        for thread in before:
            thread.join(LIMIT_S)
            assert not thread.is_alive()
    crews.close()
