"""An agent whose database is lost, emptied, rolled back or another's is no new agent: it is refused, and adopts what is there."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.data_loss.services import LIMIT_S, Service, copy_of, empty, files_of, lose, roll_back, service
from tests.free_ports import free_port
from tests.leases.processes import ORDER, renew
from tests.leases.words import CONTROLLER, eventually
from tests.places import new_place

from garbi.base.errors import DriverUnavailable, NotFound
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.settings import runtime_of

OURS = {"garbi.controller": CONTROLLER, "garbi.epoch": "1"}


@dataclass(frozen=True)
class Worked:
    """A directory in which an agent worked, with an early copy of its database beside it, and what it said of its machines."""

    place: Path
    port: int
    cluster_id: str
    machines: dict[str, dict[str, object]]


def spec(name: str, **others: object) -> dict[str, object]:
    return {"image": "any", "type": "fake", "id": name, "mem": 64, **others}


@pytest.fixture(scope="module")
def worked() -> Iterator[Worked]:
    """An agent that was killed: a machine with a port, one that is off, one that was removed, three of a controller."""
    place, port = new_place("garbi-loss-"), free_port()
    with service("hyper", place / "hyper", GARBI_HYPER_MEM_LIMIT_MIB="4096") as one:
        one.serve()
        client = one.hyper
        ports = [{"node_port": port, "machine_port": 80}]
        client.machines.add(spec("web", ports=ports, labels={"tier": "front"}, restart="always"), wait_s=LIMIT_S)
        client.machines.add(spec("gone"), wait_s=LIMIT_S)
        copy_of(one.database, place / "early.db")
        client.machines.add(spec("off", state="stopped"), wait_s=LIMIT_S)
        client.machines.remove("gone", wait_s=LIMIT_S)
        renew(client)
        for name, policy in (("keeps", "recreate"), ("ended", "recreate"), ("lost", "recreate"), ("stays", "stay")):
            client.machines.add(spec(name, labels=OURS, on_node_failure=policy), wait_s=LIMIT_S, assignment=ORDER)
        yield_of = Worked(
            place, port, str(client.host()["cluster_id"]), {str(each["id"]): each for each in client.machines.list()}
        )
        one.kill()
        world = world_of(one)
        world.end("ended")
        world.uproot(world.machine("lost").key)
    yield yield_of
    shutil.rmtree(place)


@pytest.fixture
def agent(worked: Worked, hyper: Service) -> Service:
    """That agent, which does not run, in a directory of this test's own; the host has not booted since."""
    shutil.copytree(worked.place / "hyper", hyper.data_dir)
    shutil.copytree(runtime_of(worked.place / "hyper"), runtime_of(hyper.data_dir))
    hyper.data_dir.chmod(0o711)
    return hyper


def world_of(one: Service) -> FakeWorld:
    return FakeWorld.at(one.data_dir / "drivers" / "fake")


def _lose(one: Service, _worked: Worked) -> None:
    lose(one.database)


def _empty(one: Service, _worked: Worked) -> None:
    empty(one.database)


def _roll_back(one: Service, worked: Worked) -> None:
    roll_back(one.database, worked.place / "early.db")


def _delete_rows(one: Service, _worked: Worked) -> None:
    with closing(sqlite3.connect(one.database)) as connection, connection:
        connection.execute("DELETE FROM ports")
        connection.execute("DELETE FROM machines")


def _empty_tables(one: Service, _worked: Worked) -> None:
    with closing(sqlite3.connect(one.database)) as connection, connection:
        for table in ("ports", "machines", "events", "leases", "meta"):
            connection.execute(f"DELETE FROM {table}")


def _replace(one: Service, worked: Worked) -> None:
    """By the database of an agent that is new."""
    with service("hyper", worked.place / "another") as another:
        another.serve()
        another.end()
    roll_back(one.database, another.database)
    shutil.rmtree(another.data_dir)


THOROUGHLY = (_lose, _roll_back)
LOSSES = (_lose, _empty, _roll_back, _delete_rows, _empty_tables, _replace)


@pytest.mark.parametrize("harm", LOSSES)
def test_it_is_refused_and_adopts_what_is_there(
    worked: Worked, agent: Service, harm: Callable[[Service, Worked], None]
) -> None:
    harm(agent, worked)
    before = {file.name: file.read_bytes() for file in files_of(agent.database) if not file.name.endswith("-shm")}
    words = agent.refusal()
    assert str(agent.database) in words
    assert "`hyper serve --adopt`" in words
    after = {file.name: file.read_bytes() for file in files_of(agent.database) if not file.name.endswith("-shm")}
    assert after.get("hyper.db") == before.get("hyper.db")
    if harm in THOROUGHLY:
        doctor = agent.run("doctor", "--data-dir", str(agent.data_dir))
        assert (doctor.returncode, "--adopt" in doctor.stdout) == (1, True)

    ran = {each.id: each.power_ons for each in world_of(agent).machines() if each.powered}
    agent.serve("--adopt")
    check_adopted(worked, agent, ran)
    if harm in THOROUGHLY:
        agent.end()
        agent.serve()  # all is there again
        check_adopted(worked, agent, ran)


def check_adopted(worked: Worked, agent: Service, ran: dict[str, int]) -> None:
    client = agent.hyper
    assert client.host()["cluster_id"] == worked.cluster_id
    found = {str(each["id"]): each for each in client.machines.list()}
    assert found.keys() == {"web", "off", "keeps", "ended", "stays"}
    for name in ("web", "off", "keeps", "stays"):
        for field in ("state", "wish", "ports", "labels", "restart", "on_node_failure", "mem", "created_at", "name"):
            assert found[name][field] == worked.machines[name][field], (name, field)
    assert found["ended"]["state"] == "stopped"
    assert str(found["ended"]["reason"]).startswith("held: ")  # files start nothing
    assert {each.id: each.power_ons for each in world_of(agent).machines() if each.powered} == ran
    assert client.audit() == []
    with pytest.raises(NotFound):
        client.machines.get("gone")
    with pytest.raises(NotFound):
        client.machines.get("lost")  # its controller may make it again wherever it likes


def test_what_a_controller_wishes_runs_once_it_is_ordered_under_a_lease(worked: Worked, agent: Service) -> None:
    lose(agent.database)
    agent.serve("--adopt")
    client = agent.hyper
    renew(client)
    assert client.machines.get("ended")["state"] == "stopped"
    client.machines.wish("ended", "running", LIMIT_S, ORDER)
    assert client.machines.get("ended")["state"] == "running"
    assert world_of(agent).machine("keeps").power_ons == 1


def test_ports_are_held_again(worked: Worked, agent: Service) -> None:
    world_of(agent).end("web")
    lose(agent.database)
    agent.serve("--adopt")
    assert agent.hyper.machines.get("web")["state"] == "stopped"
    eventually("the port is held", lambda: _is_taken(worked.port))


def _is_taken(port: int) -> bool:
    with closing(socket.socket()) as other:
        try:
            other.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


@pytest.mark.parametrize("harm", [_lose, _roll_back])
def test_an_engine_that_does_not_answer_is_waited_for(
    worked: Worked, agent: Service, harm: Callable[[Service, Worked], None]
) -> None:
    harm(agent, worked)
    world_of(agent).make_unavailable("it is down")
    words = agent.refusal("--adopt")
    assert "nothing was adopted: fake" in words
    world_of(agent).make_available()
    agent.serve("--adopt")
    assert len(agent.hyper.machines.list()) == 5


@pytest.mark.parametrize("at", ["agent.open.named", "agent.open.adopted"])
def test_an_adoption_that_is_killed_is_done_by_the_next_one(worked: Worked, agent: Service, at: str) -> None:
    ran = {each.id: each.power_ons for each in world_of(agent).machines() if each.powered}
    lose(agent.database)
    agent.crash(at, "--adopt")
    if at != "agent.open.adopted":
        assert "--adopt" in agent.refusal()
    agent.serve("--adopt")
    check_adopted(worked, agent, ran)


def test_what_no_file_tells_of_is_named_and_removed_by_its_id(worked: Worked, agent: Service) -> None:
    (agent.data_dir / "machines" / "web.json").unlink()
    lose(agent.database)
    agent.serve("--adopt")
    client = agent.hyper
    assert "web" not in {each["id"] for each in client.machines.list()}
    assert world_of(agent).machine("web").powered
    assert [(each["invariant"], each["subject"]) for each in client.audit()] == [("I5", "web")]
    world_of(agent).make_unavailable("it is down")
    with pytest.raises(DriverUnavailable):  # what is there may be there still
        client.machines.remove("web")
    world_of(agent).make_available()
    assert client.machines.remove("web") is None
    with pytest.raises(NotFound):
        world_of(agent).machine("web")
    assert client.audit() == []
    with pytest.raises(NotFound):
        client.machines.remove("web")


def test_the_marks_at_the_engines_tell_who_the_agent_was_where_no_file_does(hyper: Service) -> None:
    hyper.serve()
    hyper.hyper.machines.add(spec("web"), wait_s=LIMIT_S)
    cluster_id = hyper.hyper.host()["cluster_id"]
    hyper.kill()
    lose(hyper.database)
    shutil.rmtree(hyper.data_dir / "machines")
    (hyper.data_dir / "cluster-id").unlink()
    assert "--adopt" in hyper.refusal()
    hyper.serve("--adopt")
    assert hyper.hyper.host()["cluster_id"] == cluster_id
    assert {each["subject"] for each in hyper.hyper.audit()} == {"web"}
    assert hyper.hyper.machines.remove("web") is None
    assert hyper.hyper.audit() == []


def test_a_damaged_database_is_put_aside(agent: Service) -> None:
    lose(agent.database)
    agent.database.write_bytes(b"noise" * 4096)
    assert "is damaged" in agent.refusal()
    agent.serve("--adopt")
    assert len(agent.hyper.machines.list()) == 5
    assert [file.read_bytes() for file in agent.data_dir.glob("hyper.db.damaged-*")] == [b"noise" * 4096]


def test_a_new_directory_is_a_first_start_with_or_without_the_option(hyper: Service) -> None:
    hyper.serve("--adopt")
    assert hyper.hyper.machines.list() == []
    hyper.end()
    hyper.serve()


def test_a_directory_of_an_earlier_version_gets_its_files(agent: Service) -> None:
    """That had none; and what it removed meanwhile stays removed."""
    shutil.rmtree(agent.data_dir / "machines")
    (agent.data_dir / "cluster-id").unlink()
    agent.serve()
    agent.kill()
    lose(agent.database)
    assert "--adopt" in agent.refusal()
    agent.serve("--adopt")
    assert len(agent.hyper.machines.list()) == 5


def test_a_file_that_a_removal_left_is_not_a_machine(worked: Worked, agent: Service) -> None:
    """An earlier version, which knows no files, removed it: the database is newer."""
    agent.serve()
    saved = (agent.data_dir / "machines" / "off.json").read_bytes()
    agent.hyper.machines.remove("off", wait_s=LIMIT_S)
    agent.kill()
    (agent.data_dir / "machines" / "off.json").write_bytes(saved)
    agent.serve()
    assert "off" not in {each["id"] for each in agent.hyper.machines.list()}
    assert not (agent.data_dir / "machines" / "off.json").exists()


def test_an_adoption_that_is_killed_is_owed_also_where_no_machine_has_a_file(worked: Worked, agent: Service) -> None:
    """A start that took its half-made database for a whole one would know neither leases nor drivers."""
    shutil.rmtree(agent.data_dir / "machines")
    lose(agent.database)
    agent.crash("agent.open.named", "--adopt")
    assert "--adopt" in agent.refusal()
    agent.serve("--adopt")
    client = agent.hyper
    assert client.host()["cluster_id"] == worked.cluster_id
    assert [each["controller"] for each in client.leases.list()] == [CONTROLLER]
    assert {each["subject"] for each in client.audit()} >= {"web", "keeps"}
    assert client.machines.remove("web") is None
    agent.end()
    agent.serve()
