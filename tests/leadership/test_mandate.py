"""A mandate ends for good: nothing is written and no order is given under one that another has followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.iaas_store.cloud import make_node

from garbi.base.clock import SystemClock
from garbi.base.errors import NotLeading, StaleWrite
from garbi.iaas.leadership import Leadership, Mandate, Office, Superseded
from garbi.iaas.store import meta
from garbi.iaas.store.database import Database
from garbi.iaas.store.migrate import migrate
from garbi.storage.engine import url_of

CLOCK = SystemClock()
OFFICE = Office("c" * 32, "h" * 32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mandate") / "iaas.db"
    migrate(url_of(made))
    return made


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened: Database = Database(path)
    yield opened
    opened.close()


def gain(database: Database, gained: list[Mandate], lost: list[str]) -> Leadership:
    leadership = Leadership(database, OFFICE, CLOCK)
    leadership.start(gained.append, lambda: lost.append("lost"))
    return leadership


def test_each_gain_begins_a_later_term(database: Database) -> None:
    gained: list[Mandate] = []
    first = gain(database, gained, [])
    assert first.leads
    first.stop(60)
    assert not first.leads
    second = gain(database, gained, [])
    assert [gained[1].term - gained[0].term, second.term] == [1, gained[1].term]
    assert second.present()[0] == second.term
    second.stop(60)


def test_writes_of_an_earlier_term_are_refused_and_their_writer_finds_out(database: Database) -> None:
    gained: list[Mandate] = []
    lost: list[str] = []
    first = gain(database, gained, lost)
    bound = database.under(gained[0].check)
    with bound.write() as transaction:
        meta.put(transaction, "word", "first")
    second = gain(database, gained, [])
    with pytest.raises(Superseded) as caught, bound.write() as transaction:
        meta.put(transaction, "word", "too late")
    assert isinstance(caught.value, StaleWrite)
    assert str(second.term) in caught.value.detail
    with database.read() as connection:
        assert meta.get(connection, "word") == "first"
    with pytest.raises(Superseded), bound.write():
        pass
    while not lost:
        CLOCK.monotonic()
    assert not first.leads
    with pytest.raises(NotLeading, match="this one follows"):
        first.require("this")
    second.require("this")
    second.stop(60)


def test_orders_name_the_term_and_none_is_given_after_it(database: Database) -> None:
    gained: list[Mandate] = []
    leadership = gain(database, gained, [])
    (mandate,) = gained
    order = mandate.assignment(make_node("n1", lease=4), 2)
    assert order.to_header() == (
        f'controller="{OFFICE.controller_id}", holder="{OFFICE.holder}", term={mandate.term}, lease=4, epoch=2'
    )
    mandate.extend(CLOCK.since_boot() - 1)
    assert not leadership.leads
    with pytest.raises(Superseded):
        mandate.assignment(make_node("n1"))
    mandate.extend(CLOCK.since_boot() + 60)
    assert leadership.leads
    leadership.stop(60)
    with pytest.raises(Superseded):
        mandate.assignment(make_node("n1"))
