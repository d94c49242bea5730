"""Nodes in the database: what is refused, what outlives what, and the account of what they have promised."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from tests.iaas_store.cloud import NOW, Cloud, make_node, note_facts

from garbi.base.errors import AlreadyExists, Conflict, StaleWrite
from garbi.iaas.model.node import Amounts, Load, NodeState, Ssh
from garbi.iaas.store import nodes, secrets
from garbi.iaas.store.schema import nodes as rows

SOME = Amounts(1000, 10, 100)


def test_a_node_is_read_as_it_was_written(cloud: Cloud) -> None:
    node = make_node(labels={"rack": "a'\"1"}, ssh=Ssh("admin", 2222, "/key"), operation="op", reason="new")
    with cloud.write() as transaction:
        nodes.insert(transaction, node, NOW)
    assert cloud.node() == node


def test_a_name_or_an_address_is_one_node_s(cloud: Cloud) -> None:
    cloud.add_node("n1", port=7001)
    for other in (make_node("n1", port=7002), make_node("n2", port=7001)):
        with pytest.raises(AlreadyExists, match="n1"), cloud.write() as transaction:
            nodes.insert(transaction, other, NOW)
    assert [event.kind for event in cloud.events()] == ["created", "state"]


def test_a_state_changes_only_along_the_table(cloud: Cloud) -> None:
    cloud.add_node(state=NodeState.ADDING)
    with cloud.write() as transaction:
        assert not nodes.set_state(transaction, "n1", NodeState.UNREACHABLE, "", NOW)
        assert not nodes.set_state(transaction, "nowhere", NodeState.READY, "", NOW)
        assert nodes.set_state(transaction, "n1", NodeState.FAILED, "no python", NOW)
        assert nodes.set_state(transaction, "n1", NodeState.FAILED, "no python", NOW)
    assert (cloud.node().state, cloud.node().reason) == (NodeState.FAILED, "no python")
    assert [event.state for event in cloud.events()] == ["adding", "failed"]


def test_draining_outlives_silence_and_ends_by_undrain(cloud: Cloud) -> None:
    cloud.add_node()
    for state in (NodeState.DRAINING, NodeState.UNREACHABLE, NodeState.READY):
        with cloud.write() as transaction:
            assert nodes.set_state(transaction, "n1", state, "", NOW)
        assert cloud.node().draining
    assert cloud.node().state is NodeState.DRAINING
    with cloud.write() as transaction:
        assert nodes.set_state(transaction, "n1", NodeState.READY, "", NOW)
    assert (cloud.node().state, cloud.node().draining) == (NodeState.READY, False)


def test_a_save_that_rests_on_what_has_changed_is_refused(cloud: Cloud) -> None:
    before = cloud.add_node()
    with cloud.write() as transaction:
        note_facts(transaction, "n1", SOME)  # what a node says of itself does not make a save stale
        saved = nodes.save(transaction, before, replace(before, labels={"disk": "ssd"}))
    assert (saved.has, saved.labels) == (SOME, {"disk": "ssd"})
    assert cloud.node() == saved
    with pytest.raises(StaleWrite), cloud.write() as transaction:
        nodes.save(transaction, before, replace(before, labels={"disk": "hdd"}))
    assert cloud.node() == saved


def test_a_node_promises_what_it_has_and_no_more(cloud: Cloud) -> None:
    cloud.add_node(has=SOME)
    for asked in (Amounts(1001, 1, 1), Amounts(1, 11, 1), Amounts(1, 1, 101)):
        with cloud.write() as transaction:
            assert not nodes.reserve(transaction, "n1", asked)
    with cloud.write() as transaction:
        assert nodes.reserve(transaction, "n1", SOME)
        assert not nodes.reserve(transaction, "n1", Amounts(1, 0, 0))
    assert (cloud.node().reserved, cloud.node().epoch) == (SOME, 1)


@pytest.mark.parametrize(
    "state", [NodeState.ADDING, NodeState.DRAINING, NodeState.UNREACHABLE, NodeState.REMOVING], ids=str
)
def test_a_node_that_is_not_ready_promises_nothing(cloud: Cloud, state: NodeState) -> None:
    cloud.add_node(state=state)
    with cloud.write() as transaction:
        assert not nodes.reserve(transaction, "n1", Amounts(1, 1, 0))


def test_a_host_that_shrank_keeps_what_it_promised_and_promises_nothing_new_until_enough_is_released(
    cloud: Cloud,
) -> None:
    cloud.add_node(has=SOME)
    with cloud.write() as transaction:
        assert nodes.reserve(transaction, "n1", Amounts(800, 8, 80))
        note_facts(transaction, "n1", Amounts(500, 10, 100))
    assert (cloud.node().limit.mem, cloud.node().reserved.mem) == (500, 800)
    for released, fits in ((100, False), (300, True)):
        with cloud.write() as transaction:
            assert not nodes.reserve(transaction, "n1", Amounts(1, 1, 1))
            note_facts(transaction, "n1", Amounts(500, 10, 100))
            nodes.release(transaction, "n1", Amounts(released, 1, 1))
            assert nodes.reserve(transaction, "n1", Amounts(100, 1, 1)) is fits
    assert cloud.node().reserved == Amounts(500, 7, 79)


def test_the_database_itself_refuses_to_promise_too_much_or_less_than_nothing(cloud: Cloud) -> None:
    cloud.add_node(has=SOME)
    for mem in (1001, -1):
        with pytest.raises(IntegrityError), cloud.write() as transaction:
            transaction.connection.execute(update(rows).values(reserved_mem=mem))
    assert cloud.node().reserved == Amounts()


def test_a_node_with_machines_stays_and_names_them(cloud: Cloud) -> None:
    cloud.add_node()
    for number in range(7):
        cloud.add_machine(f"m{number}")
    with pytest.raises(Conflict, match="7 of them: m0, m1, m2, m3, m4, …") as refusal, cloud.write() as transaction:
        nodes.delete(transaction, "n1", NOW)
    assert refusal.value.extra["machines"] == ["m0", "m1", "m2", "m3", "m4"]
    assert cloud.node().name == "n1"


def test_the_secret_of_a_node_goes_with_it(cloud: Cloud) -> None:
    cloud.add_node()
    with cloud.write() as transaction:
        secrets.put(transaction, "n1", "first")
        secrets.put(transaction, "n1", "second")
        assert secrets.get(transaction.connection, "n1") == "second"
        assert nodes.delete(transaction, "n1", NOW)
        assert not nodes.delete(transaction, "n1", NOW)
    with cloud.read() as connection:
        assert secrets.get(connection, "n1") is None
        assert nodes.list(connection) == []
    assert not any("second" in repr(event) for event in cloud.events())
    assert cloud.events()[-1].kind == "removed"


def test_an_error_does_not_show_the_secret_that_it_is_about(cloud: Cloud) -> None:
    with pytest.raises(IntegrityError) as refusal, cloud.write() as transaction:
        secrets.put(transaction, "nowhere", "do-not-tell")
    assert "do-not-tell" not in str(refusal.value)


def test_a_node_that_says_what_cannot_be_is_kept_as_far_as_it_can_be(cloud: Cloud) -> None:
    cloud.add_node()
    huge, odd = Amounts(10**30, -5, 10**30), Load(float("nan"), 10**30)
    with cloud.write() as transaction:
        nodes.note_facts(transaction, "n1", huge, odd, "x\0\ud800", (), {"a\0": "\ud800"}, "c", "b", NOW)
        assert nodes.note_seen(transaction, "n1", odd, NOW)
        assert nodes.set_state(transaction, "n1", NodeState.UNREACHABLE, "said \0 and \ud800 and ü", NOW)
    node = cloud.node()
    assert (node.has.mem, node.has.cpus, node.load.load1) == (nodes.MOST, 0, 0.0)
    assert (node.architecture, node.reason) == ("x\ufffd?", "said \ufffd and ? and ü")
    assert cloud.events()[-1].reason == node.reason
