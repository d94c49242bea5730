"""Leases and orders over REST: what is refused, by which words, and which key opens what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api.conftest import Server, serving
from tests.leases.conftest import LeasedHost
from tests.leases.words import CONTROLLER, HOLDER, KEY, PEERS, TTL_S, eventually

from garbi.base.errors import StaleOrder
from garbi.hyper.leases.asking import ask_witnesses
from garbi.hyper_api.assignment import HEADER, Assignment

LEASE = f"/hyper/leases/{CONTROLLER}"
WITNESS = f"{LEASE}/witness"
ORDER = Assignment(CONTROLLER, HOLDER, term=1, lease=1, epoch=1)
MACHINE = {"image": "any", "type": "fake", "id": "web", "labels": {"garbi.controller": CONTROLLER, "garbi.epoch": "1"}}


@pytest.fixture
def server(host: LeasedHost) -> Iterator[Server]:
    """A server of the host's agent."""
    context = serving(host.living, keep_alive_s=15.0)
    yield context.__enter__()
    context.__exit__(None, None, None)


def body(**changes: Any) -> dict[str, Any]:
    """A renewal."""
    renewal = {"term": 1, "holder": HOLDER, "number": 1, "ttl_s": TTL_S, "seen": None, "arm": True, "peers": [*PEERS]}
    return renewal | {"witness_key": KEY} | changes


def seen(answer: dict[str, Any]) -> dict[str, Any]:
    return {"boot_id": answer["boot_id"], "moment": answer["moment"]}


def test_a_renewal_tells_all_that_a_controller_looks_at_regularly(server: Server, host: LeasedHost) -> None:
    host.start_watchdog()
    host.others.ages = {PEERS[0]: 1.0}
    first = server.client.leases.renew(CONTROLLER, body())
    assert (first["expires_in_s"], first["armed"], first["active"], first["guarded"]) == (None, False, True, True)
    second = server.client.leases.renew(CONTROLLER, body(seen=seen(first)))
    assert second["armed"]
    assert second["expires_in_s"] <= TTL_S
    assert second["cluster_id"] == server.agent.cluster_id
    eventually("the others are asked", lambda: server.client.leases.renew(CONTROLLER, body())["peers_heard"] == 1)
    before = server.client.leases.renew(CONTROLLER, body())["last_event"]
    server.client.machines.add({"image": "any", "type": "fake"})
    after = server.client.leases.renew(CONTROLLER, body())
    assert after["last_event"] == server.agent.events.last_seq() > before
    assert {"load1", "mem_used"} <= after.keys()
    listed = server.client.leases.list()
    assert [each["controller"] for each in listed] == [CONTROLLER]
    assert not {"witness_key", "holder"} & listed[0].keys()


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ttl_s": 4.9}, "ttl_s"),
    ({"ttl_s": 3601}, "ttl_s"),
    ({"ttl_s": "45"}, "ttl_s"),
    ({"term": 0}, "term"),
    ({"term": 10**15}, "term"),
    ({"number": -1}, "number"),
    ({"holder": "XY"}, "holder"),
    ({"holder": ""}, "holder"),
    ({"seen": {"boot_id": "b"}}, "seen.moment"),
    ({"seen": {"boot_id": "b", "moment": -1.0}}, "seen.moment"),
    ({"arm": "yes"}, "arm"),
    ({"peers": ["192.0.2.1"]}, "peers.0"),
    ({"peers": ["a:1", "b:70000"]}, "peers.1"),
    ({"peers": ["a:1\r\nX: y"]}, "peers.0"),
    ({"peers": ["a:1"] * 1001}, "peers"),
    ({"witness_key": "short"}, "witness_key"),
    ({"witness_key": "k" * 20 + "\n"}, "witness_key"),
    ({"more": 1}, "more"),
)


def test_a_wrong_field_of_a_renewal_is_named_and_nothing_begins(server: Server) -> None:
    for change, field in WRONG:
        reply = server.ask("PUT", LEASE, body(**change))
        assert (reply.status, reply.json()["field"]) == (422, field)
    assert server.client.leases.list() == []


def test_who_is_no_controller_gets_no_lease(server: Server) -> None:
    for name in ("web", "C0" * 16, "c0" * 15):
        assert server.ask("PUT", f"/hyper/leases/{name}", body()).json()["field"] == "controller"


def test_a_renewal_that_was_overtaken_is_a_stale_order(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body(term=5, number=3))
    changes: list[tuple[dict[str, Any], str]]
    changes = [({"term": 4}, "controller"), ({"holder": "bb"}, "controller"), ({"number": 2}, "lease")]
    for change, stale in changes:
        reply = server.ask("PUT", LEASE, body(**{"term": 5, "number": 3, **change}))
        assert (reply.status, reply.json()["code"], reply.json()["stale"]) == (409, "stale-order", stale)
    assert server.client.leases.renew(CONTROLLER, body(term=5, number=3))["term"] == 5


def test_the_key_of_a_lease_opens_the_path_of_its_witness_and_no_other(server: Server) -> None:
    known = {"Authorization": f"Bearer {KEY}"}
    assert server.ask("GET", WITNESS, headers=known, known=False).status == 401
    server.client.leases.renew(CONTROLLER, body())
    answer = server.ask("GET", WITNESS, headers=known, known=False)
    assert answer.status == 200
    assert answer.json()["controller"] == CONTROLLER
    assert 0 <= answer.json()["age_s"] < 120
    for method, path in (
        ("GET", "/hyper/leases"),
        ("PUT", LEASE),
        ("GET", "/hyper/machines"),
        ("POST", WITNESS),
        ("GET", f"/hyper/leases/{'d1' * 16}/witness"),
        ("GET", f"/hyper/health?x={WITNESS}"),
        ("GET", f"{WITNESS}/"),
        ("GET", f"/hyper/machines/..%2f..{WITNESS}"),
    ):
        assert server.ask(method, path, headers=known, known=False).status == 401, path


def test_without_the_key_no_witness_is_borne(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    assert server.ask("GET", WITNESS, known=False).status == 401
    for shown in (f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer ", KEY):
        assert server.ask("GET", WITNESS, headers={"Authorization": shown}, known=False).status == 401


def test_nodes_ask_one_another_and_wait_for_none_that_is_silent(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    here = server.url.removeprefix("http://")
    peers = [here, "127.0.0.1:1", "192.0.2.1:8081", "no-such-host.invalid:1"]
    assert ask_witnesses(CONTROLLER, KEY, peers).keys() == {here}
    assert ask_witnesses(CONTROLLER, "x" * 32, peers) == {}
    assert ask_witnesses(CONTROLLER, KEY, []) == {}


def test_orders_of_who_has_the_lease_are_carried_out(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    machine = server.client.machines.add(MACHINE, assignment=ORDER)
    assert machine["state"] == "running"
    assert server.agent.machines.get("web").lease == 1
    server.client.leases.renew(CONTROLLER, body(number=2))
    server.client.machines.wish("web", "stopped", assignment=Assignment(CONTROLLER, HOLDER, 1, 2, 1))
    assert server.agent.machines.get("web").lease == 2
    server.client.machines.remove("web", assignment=Assignment(CONTROLLER, HOLDER, 1, 2, 1))
    assert server.client.machines.list() == []


OVERTAKEN = (
    (Assignment("d1" * 16, HOLDER, 1, 1, 1), "controller"),
    (Assignment(CONTROLLER, "bb", 1, 1, 1), "controller"),
    (Assignment(CONTROLLER, HOLDER, 0, 1, 1), "controller"),
    (Assignment(CONTROLLER, HOLDER, 2, 1, 1), "controller"),
    (Assignment(CONTROLLER, HOLDER, 1, 0, 1), "lease"),
    (Assignment(CONTROLLER, HOLDER, 1, 2, 1), "lease"),
    (Assignment(CONTROLLER, HOLDER, 1, 1, 0), "epoch"),
    (Assignment(CONTROLLER, HOLDER, 1, 1, 2), "epoch"),
)


def test_an_order_that_was_overtaken_has_no_effect(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    server.client.machines.add(MACHINE, assignment=ORDER)
    before = server.client.machines.list()
    for order, stale in OVERTAKEN:
        refused = [
            _refusal(server.client.machines.wish, "web", "stopped", order),
            _refusal(server.client.machines.remove, "web", order),
        ]
        if stale != "epoch":
            refused.append(_refusal(server.client.machines.add, {**MACHINE, "id": "other"}, order))
        assert {error.extra["stale"] for error in refused} == {stale}
    assert server.client.machines.list() == before


def _refusal(order: Callable[..., object], *arguments: object) -> StaleOrder:
    *others, assignment = arguments
    with pytest.raises(StaleOrder) as refused:
        order(*others, assignment=assignment)
    return refused.value


def test_an_order_under_a_lease_that_has_ended_has_no_effect(server: Server, host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    first = server.client.leases.renew(CONTROLLER, body())
    server.client.leases.renew(CONTROLLER, body(seen=seen(first)))
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    with pytest.raises(StaleOrder) as refused:
        server.client.machines.add(MACHINE, assignment=ORDER)
    assert refused.value.extra["stale"] == "lease"
    assert server.client.machines.list() == []


def test_an_authority_that_cannot_be_read_is_refused(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    for text in ("", "x", ORDER.to_header() + ";", ORDER.to_header().replace("term=1", "term=-1")):
        reply = server.ask("POST", "/hyper/machines", MACHINE, headers={HEADER: text})
        assert (reply.status, reply.json()["code"]) == (400, "malformed-request"), text
    assert server.client.machines.list() == []


def test_who_shows_no_authority_is_a_user_of_the_host(server: Server) -> None:
    server.client.leases.renew(CONTROLLER, body())
    server.client.machines.add(MACHINE, assignment=ORDER)
    server.client.machines.wish("web", "stopped")
    server.client.machines.remove("web")
    assert server.client.machines.list() == []
