"""What is asked of any controller, whatever happens to the others, to the connections and to the database meanwhile."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.iaas.clouds import LIMIT_S, FakeHost, eventually, machine_spec
from tests.leadership.pairs import Controllers, follows, join, leads, settled
from tests.postgres_server import PostgresServer

from garbi.base.errors import DatabaseUnavailable, NotFound
from garbi.devcloud.background import Background
from garbi.hyper_api.vocabulary import ImageType, State, Wish
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.rest.server import Service
from garbi.iaas_api.client import IaasClient
from garbi.storage.engine import LEADERS

MakeHost = Callable[[], FakeHost]
CONTENT = os.urandom(1 << 16)
OURS = ("watch-", "look-", "listen-", "converger-n", "converger-operations")


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop and start."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def end_leadership(url: str) -> None:
    """End the connection that has the lock, as a broken network does."""
    holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted AND database = "
    here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    with psycopg.connect(url, autocommit=True) as connection:
        for (pid,) in connection.execute((holder + here).encode(), [LEADERS]).fetchall():
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def at_work() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(OURS))


def test_who_loses_the_connection_stops_and_leads_again_under_a_later_term(
    controllers: Controllers, make_host: MakeHost, url: str
) -> None:
    controller = controllers.open()
    host = make_host()
    join(controller, host)
    controller.machines.add(machine_spec(id="web"))
    settled(controller, "web")
    watchers = [name for name in at_work() if name.startswith("watch-")]
    for _ in range(3):
        term = controller.leadership.term
        end_leadership(url)
        eventually("it leads again", lambda term=term: controller.leadership.term > term)
        controller.machines.wish("web", Wish.STOPPED)
        assert settled(controller, "web").state is State.STOPPED
        controller.machines.wish("web", Wish.RUNNING)
        assert settled(controller, "web").state is State.RUNNING
        assert [name for name in at_work() if name.startswith("watch-")] == watchers
    controller.close()
    assert at_work() == []


def test_another_takes_over_from_who_loses_the_connection(
    controllers: Controllers, make_host: MakeHost, url: str
) -> None:
    first, second = controllers.open(), controllers.open()
    join(first, make_host())
    end_leadership(url)
    leads(second)
    follows(first)
    first.machines.add(machine_spec(id="web"))
    assert settled(first, "web").state is State.RUNNING
    end_leadership(url)
    leads(first)
    follows(second)
    second.machines.remove("web")
    assert second.machines.wait_settled("web", LIMIT_S) is None


def test_they_work_on_when_the_server_of_the_database_is_started_again(
    own_server: PostgresServer, place: Path, make_host: MakeHost
) -> None:
    controllers = Controllers(place, own_server.make_database())
    try:
        first, second = controllers.open(), controllers.open()
        host = make_host()
        join(first, host)
        first.machines.add(machine_spec(id="a"))
        settled(first, "a")
        for name in ("b", "c"):
            own_server.stop()
            follows(first)
            follows(second)
            with pytest.raises(DatabaseUnavailable):
                second.machines.list()
            own_server.start()
            eventually("one leads", lambda: first.leadership.leads or second.leadership.leads)
            for controller in (first, second):
                eventually("it answers", lambda controller=controller: _answers(controller.machines.list))
            second.machines.add(machine_spec(id=name))
            assert settled(first, name).state is State.RUNNING
        assert first.leadership.leads is not second.leadership.leads
        assert host.running() == ["a", "b", "c"]
        assert {machine.power_ons for machine in host.world.machines()} == {1}
    finally:
        controllers.close()


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except DatabaseUnavailable:
        return False
    return True


def test_operations_on_nodes_can_be_asked_of_a_follower(controllers: Controllers, make_host: MakeHost) -> None:
    first, second = controllers.open(), controllers.open()
    hosts = [make_host(), make_host()]
    for host in hosts:
        join(second, host)
    second.machines.add(machine_spec(id="web", node="n1"))
    settled(second, "web")
    drain = second.nodes.drain("n1").operation
    assert drain is not None
    assert second.operations.wait_changed(drain, None, LIMIT_S).state is OperationState.DONE
    assert settled(second, "web").node == "n2"
    assert second.nodes.undrain("n1").state is NodeState.READY
    hosts[1].stop()
    eventually("n2 unreachable", lambda: second.nodes.get("n2").state is NodeState.UNREACHABLE)
    assert second.nodes.confirm_dead("n2").state is NodeState.UNAVAILABLE
    eventually("web moved", lambda: second.machines.get("web").node == "n1")
    assert settled(second, "web").state is State.RUNNING
    second.nodes.remove("n1", force=True)
    eventually("n1 gone", lambda: [node.name for node in first.nodes.list()] == ["n2"])
    with pytest.raises(NotFound):
        second.machines.get("web")


def test_a_stream_of_events_at_a_follower_has_everything_once(controllers: Controllers, make_host: MakeHost) -> None:
    first, second = controllers.open(), controllers.open()
    join(first, make_host())
    answering = Background(Service(second, "127.0.0.1", 0), "second")
    try:
        newest = first.events.last_seq()
        stream = IaasClient(answering.url, token=second.secret).events(after=newest, id="web")
        first.machines.add(machine_spec(id="web"))
        settled(first, "web")
        second.machines.remove("web")
        heard = []
        for event in stream:
            heard.append(int(event["seq"]))
            if event["kind"] == "removed":
                break
        everything = [event.seq for event in first.events.since(newest, 1000) if event.id == "web"]
        assert heard == everything
    finally:
        answering.stop()


def test_images_of_a_shared_directory_are_there_for_the_next_leader(
    controllers: Controllers, make_host: MakeHost, place: Path
) -> None:
    shared = str(place / "shared")
    first, second = controllers.open(shared), controllers.open(shared)
    host = make_host()
    join(first, host)
    first.images.register("data", ImageType.RAW)
    first.images.receive("data", 0, [CONTENT], hashlib.sha256(CONTENT).hexdigest())
    first.close()
    leads(second)
    second.machines.add(machine_spec(id="web", image="data"))
    assert settled(second, "web").state is State.RUNNING
    third = controllers.open()
    second.close()
    leads(third)
    third.machines.add(machine_spec(id="near", image="data"))
    assert settled(third, "near").state is State.RUNNING  # its node has the content
    other = make_host()
    join(third, other)
    third.machines.add(machine_spec(id="far", image="data", node="n2"))
    far = settled(third, "far")
    assert (far.state, "add it again" in far.reason) == (State.FAILED, True), far
