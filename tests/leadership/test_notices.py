"""What one controller writes, all others hear: each event once, at once, also after they were deaf for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.iaas.clouds import eventually

from garbi.base.clock import SystemClock
from garbi.base.errors import GarbiError
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.store import events
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.feed import open_feed
from garbi.storage.notices import CHANNEL, Notices

CLOCK = SystemClock()


class Listener:
    """One controller's ear: what its feed tells, and what it is told that others wrote."""

    def __init__(self, url: str, name: str, directory: Path) -> None:
        self.database = Database(url, directory)
        self.feed = open_feed(self.database)
        self.told: list[int] = []
        self.foreign: list[int] = []
        self.feed.subscribe(lambda event: self.told.append(event.seq))
        self._notices: Notices[Event] = Notices(self.database, self.feed, name, self._hear, CLOCK)
        self._notices.start()

    def _hear(self, found: list[Event]) -> None:
        self.foreign += [event.seq for event in found]

    def write(self, *ids: str, passing: tuple[str, ...] = (), fail: bool = False) -> list[int]:
        with self.database.write() as transaction:
            made = [
                events.append(transaction, Subject.MACHINE, each, events.Kind.WISH, CLOCK.now()).seq for each in ids
            ]
            for each in passing:
                transaction.events.append(events.passing(Subject.OPERATION, each, CLOCK.now(), "running", ""))
            if fail:
                raise GarbiError("it failed")
        return made

    def close(self) -> None:
        self._notices.stop()
        self._notices.join(60)
        self.database.close()


@pytest.fixture
def make_listener(url: str, tmp_path: Path) -> Iterator[Callable[[], Listener]]:
    made: list[Listener] = []

    def make() -> Listener:
        made.append(Listener(url, f"c{len(made)}", tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def deafen(url: str, expected: int) -> bool:
    """End every connection that listens, once there are as many as expected."""
    listening = "SELECT pid FROM pg_stat_activity WHERE query = %s AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as connection:
        pids = [row[0] for row in connection.execute(listening, [f"LISTEN {CHANNEL}"]).fetchall()]
        for pid in pids if len(pids) == expected else ():
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    return len(pids) == expected


def test_each_hears_everything_once_and_knows_what_others_wrote(make_listener: Callable[[], Listener]) -> None:
    first, second, third = make_listener(), make_listener(), make_listener()
    by_first: list[int] = []
    by_second: list[int] = []
    for number in range(50):
        by_first += first.write(f"a{number}", f"b{number}")
        by_second += second.write(f"c{number}")
    everything = sorted(by_first + by_second)
    for each in (first, second, third):
        eventually("all heard", lambda each=each: len(each.told) >= len(everything), lambda each=each: len(each.told))
        assert sorted(each.told) == everything
    assert (first.foreign, second.foreign) == (by_second, by_first)
    assert third.foreign == third.told == everything


def test_who_waits_for_what_passes_by_is_woken_elsewhere_too(make_listener: Callable[[], Listener]) -> None:
    first, second = make_listener(), make_listener()
    with second.feed.signal_of("op") as one, second.feed.signal_of("other") as other:
        first.write(passing=("op",))
        eventually("it was woken", one.is_set)
        assert not other.is_set()
        first.write(passing=tuple(f"operation-{number:032}" for number in range(500)))
        eventually("everybody looks again", other.is_set)
    assert second.told == []


def test_what_was_said_while_nobody_listened_is_heard_afterwards(
    make_listener: Callable[[], Listener], url: str
) -> None:
    first, second = make_listener(), make_listener()
    everything: list[int] = []
    for number in range(5):
        eventually("both listen", lambda: deafen(url, 2))
        everything += first.write(f"a{number}") + second.write(f"b{number}")
    for each in (first, second):
        eventually("all heard", lambda each=each: len(each.told) >= len(everything), lambda each=each: each.told)
        assert sorted(each.told) == everything


def test_numbers_that_a_failover_gives_again_are_heard_again(make_listener: Callable[[], Listener], url: str) -> None:
    first, second = make_listener(), make_listener()
    lost = first.write(*(f"lost{number}" for number in range(50)))
    eventually("all heard", lambda: second.told == lost, lambda: second.told)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM events")
        connection.execute("SELECT setval(pg_get_serial_sequence('events', 'seq'), 1)")
    eventually("both listen", lambda: deafen(url, 2))
    written = first.write("a") + second.write("b")
    assert max(written) < lost[-1]
    for each in (first, second):
        eventually(
            "all heard", lambda each=each: set(written) <= set(each.told[len(lost) :]), lambda each=each: each.told
        )
    eventually("as another's", lambda: written[1] in first.foreign and written[0] in second.foreign[len(lost) :])
    again = first.write("c")
    eventually("once from then on", lambda: second.told[-1:] == again, lambda: second.told)
    assert second.told.count(again[0]) == 2  # it was a lost one's, too


def test_what_was_undone_is_told_to_nobody(make_listener: Callable[[], Listener]) -> None:
    first, second = make_listener(), make_listener()
    with pytest.raises(GarbiError, match="it failed"):
        first.write("a", fail=True)
    seq = first.write("b")
    eventually("it heard", lambda: second.told == seq)
    assert first.told == seq


def test_what_was_written_though_nobody_knew_is_told_by_its_writer_too(
    make_listener: Callable[[], Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_listener(), make_listener()

    class Doubtful:
        """Commits, and then says that the answer did not come."""

        def announce(self, transaction: object) -> None:
            transaction.connection.commit()  # type: ignore[attr-defined]
            raise GarbiError("no answer")

        def abandon(self, _events: object) -> None:
            monkeypatch.undo()

    monkeypatch.setattr(first.database, "_heralds", [*first.database._heralds, Doubtful()])
    with pytest.raises(GarbiError, match="no answer"):
        first.write("a")
    eventually("both heard", lambda: len(first.told) == len(second.told) == 1)
    assert first.told == first.foreign == second.told
