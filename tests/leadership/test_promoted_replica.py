"""PostgreSQL fails over to a replica that lost the last commits: nothing is lost or doubled, and wishes are carried out again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.iaas.clouds import LIMIT_S, FakeHost, eventually, machine_spec
from tests.leadership.pairs import Controllers, join, settled
from tests.postgres_server import USER, PostgresServer

from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.controller import Controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.store.migrate import migrate

MakeHost = Callable[[], FakeHost]


@dataclass
class Pair:
    """A primary, and the replica that follows it."""

    primary: PostgresServer
    replica: PostgresServer
    name: str

    def url(self) -> str:
        """Where the database is, whichever of the two has it."""
        hosts = f"{self.primary.directory},{self.replica.directory}"
        return f"postgresql://{USER}@/{self.name}?host={hosts}&target_session_attrs=read-write"

    def cut(self) -> None:
        """Let the replica have all that was written until now, and nothing more."""
        (end,) = self.primary.say("SELECT pg_current_wal_lsn()")[0]
        behind = f"SELECT pg_last_wal_replay_lsn() < '{end}'"
        eventually("the replica has it", lambda: self.replica.say(behind) == [(False,)])
        self.replica.cut_off()

    def fail_over(self) -> None:
        """End the primary as a power cut does, and have the replica in its place."""
        self.primary.stop(signal.SIGQUIT)
        self.replica.promote()


@pytest.fixture
def pair() -> Iterator[Pair]:
    primary = PostgresServer()
    servers = [primary]
    try:
        primary.start()
        url = primary.make_database()
        migrate(url)
        replica = PostgresServer(primary)
        servers.append(replica)
        replica.start()
        yield Pair(primary, replica, str(make_url(url).database))
    finally:
        for server in servers:
            server.stop(signal.SIGQUIT)
            server.remove()


def test_the_last_commits_are_lost_and_no_machine_is(place: Path, pair: Pair, make_host: MakeHost) -> None:
    controllers, hosts = Controllers(place, pair.url()), [make_host() for _ in range(3)]
    try:
        leader, follower = controllers.open(), controllers.open()
        for host in hosts:
            join(leader, host)
        for machine_id, node in (("keeps", "n3"), ("moves", "n1"), ("changes", "n3")):
            leader.machines.add(machine_spec(id=machine_id, node=node))
            settled(leader, machine_id)
        pair.cut()
        write_what_is_lost(leader)
        before = runs(hosts)
        pair.fail_over()
        eventually("one leads again", lambda: leader.leadership.leads or follower.leadership.leads)
        check_named_and_untouched(leader)
        for controller, wish in ((leader, Wish.STOPPED), (follower, Wish.RUNNING)):  # its node has heard later ones
            controller.machines.wish("changes", wish)
            assert settled(controller, "changes").as_wished
        assert runs(hosts) == started_once_more(before)
        controllers.close()
        learnt = controllers.open(after_restore=True)
        eventually("it is found", lambda: learnt.machines.get("moves").as_wished, lambda: learnt.machines.get("moves"))
        assert learnt.machines.get("moves").node == "n2"
        eventually("one is unknown", lambda: subjects(learnt) == ["comes"], learnt.audit)
        assert runs(hosts) == started_once_more(before)
    finally:
        controllers.close()


def test_a_term_that_is_lost_with_them_is_obeyed_when_it_comes_again(
    place: Path, pair: Pair, make_host: MakeHost
) -> None:
    controllers, host = Controllers(place, pair.url()), make_host()
    try:
        first = controllers.open()
        join(first, host)
        first.machines.add(machine_spec(id="web", node="n1"))
        settled(first, "web")
        pair.cut()
        controllers.close()
        leader = controllers.open()
        for wish in (Wish.STOPPED, Wish.RUNNING):
            leader.machines.wish("web", wish)
            settled(leader, "web")
        pair.fail_over()
        eventually("it leads again", lambda: leader.leadership.leads)
        assert leader.leadership.term == host.client.leases.list()[0]["term"] == 2
        leader.machines.wish("web", Wish.STOPPED)
        assert settled(leader, "web").as_wished
        assert runs([host]) == {"n1": []}
        eventually("nothing is amiss", lambda: leader.audit() == [], leader.audit)
    finally:
        controllers.close()


def write_what_is_lost(leader: Controller) -> None:
    """What is ordered and done, and of which no database will know: wishes, a machine that comes, one that moves to n2."""
    for wish in (Wish.STOPPED, Wish.RUNNING) * 4:
        leader.machines.wish("changes", wish)
        settled(leader, "changes")
    leader.machines.add(machine_spec(id="comes", node="n2"))
    settled(leader, "comes")
    drain = leader.nodes.drain("n1").operation
    assert drain is not None
    ended = leader.operations.wait_changed(drain, None, LIMIT_S)
    assert ended.state is OperationState.DONE, ended
    assert settled(leader, "moves").node == "n2"


def check_named_and_untouched(controller: Controller) -> None:
    """What runs elsewhere than the database says, or is not known to it, is named; the rest is as it was."""
    eventually("it is missed", lambda: "perhaps: node n2 has it" in controller.machines.get("moves").reason)
    eventually("both are named", lambda: set(subjects(controller)) == {"moves", "comes"}, controller.audit)
    assert {node.state for node in controller.nodes.list()} == {NodeState.READY}
    assert controller.machines.get("keeps").state is State.RUNNING


def subjects(controller: Controller) -> list[str]:
    return [each.subject for each in controller.audit()]


def runs(hosts: list[FakeHost]) -> dict[str, list[tuple[str, int]]]:
    """What runs on each host, and how often it was started there."""
    return {
        host.name: sorted((each.id, each.power_ons) for each in host.world.machines() if each.powered) for host in hosts
    }


def started_once_more(before: dict[str, list[tuple[str, int]]]) -> dict[str, list[tuple[str, int]]]:
    """The same after `changes` was stopped and started."""
    return {
        name: [(each, starts + (each == "changes")) for each, starts in machines] for name, machines in before.items()
    }
