"""Only what shows twice counts: what is in motion breaks nothing, and what changes its words is the same."""

from __future__ import annotations

import threading
import time

from tests.observability.conftest import eventually

from garbi.base.audit import Auditing, Violation, changes, confirmed
from garbi.base.tally import Tally

A, B = Violation("I5", "web", "running here, absent there"), Violation("I1", "web", "runs twice")


def test_what_is_gone_at_the_second_look_was_in_motion() -> None:
    looks = iter([[A, B], [B]])
    assert confirmed(lambda: next(looks), 0.0) == [B]


def test_one_look_is_enough_when_all_is_well() -> None:
    looks = iter([[]])
    assert confirmed(lambda: next(looks), 0.0) == []


def test_what_shows_differently_is_the_same_and_told_as_it_is_now() -> None:
    later = Violation("I5", "web", "running here, stopped there")
    looks = iter([[A], [later]])
    assert confirmed(lambda: next(looks), 0.0) == [later]
    assert changes([A], [later]) == ([], [])
    assert changes([A], [B]) == ([B], [A])


def test_an_audit_that_breaks_does_not_end_the_auditing() -> None:
    looked = threading.Semaphore(0)

    def look() -> list[Violation]:
        looked.release()
        raise ValueError

    auditing = Auditing(look, lambda _found: None, time.monotonic, 0.01)
    auditing.start()
    try:
        assert all(looked.acquire(timeout=60) for _ in range(3))
        assert auditing.last is None
    finally:
        auditing.stop()
        auditing.join(60)


def test_auditing_can_be_stopped_and_started_again_and_forgets_meanwhile() -> None:
    told: list[int] = []
    auditing = Auditing(lambda: [A], lambda found: told.append(len(found)), time.monotonic, 0.01)
    for _ in range(2):
        before = len(told)
        auditing.start()
        eventually("it has audited", lambda before=before: len(told) > before)  # type: ignore[misc]
        auditing.stop()
        auditing.join(60)
        assert auditing.last is None
        assert auditing.age_s() is None


def test_a_period_of_zero_is_never() -> None:
    auditing = Auditing(lambda: [A], lambda _found: None, time.monotonic, 0.0)
    auditing.start()
    auditing.stop()
    auditing.join(60)
    assert auditing.last is None


def test_a_tally_counts_by_labels_and_knows_nothing_of_what_was_never_counted() -> None:
    tally = Tally()
    threads = [threading.Thread(target=lambda: [tally.count("tries", "ssh") for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.count("tries", "power", by=2)
    assert tally.read("tries") == {("ssh",): 4000, ("power",): 2}
    assert tally.read("others") == {}
