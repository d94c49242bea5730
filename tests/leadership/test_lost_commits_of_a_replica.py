"""A database that took over without the last commits: a machine that one of those created elsewhere is created nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.iaas.clouds import FakeHost, eventually, machine_spec
from tests.leadership.pairs import Controllers, join, leads, settled
from tests.postgres_server import PostgresServer

from garbi.hyper_api.vocabulary import State
from garbi.iaas.controller import Controller
from garbi.iaas.model.node import NodeState


@pytest.fixture
def opened(place: Path) -> Iterator[Callable[[str], Controllers]]:
    """Makes the controllers of a database, by its URL."""
    made: list[Controllers] = []

    def make(url: str) -> Controllers:
        made.append(Controllers(place / f"of-{len(made)}", url))
        return made[-1]

    yield make
    for controllers in made:
        controllers.close()


def test_what_a_lost_commit_moved_runs_once(
    opened: Callable[[str], Controllers], make_host: Callable[[], FakeHost], postgres: PostgresServer, url: str
) -> None:
    hosts = [make_host() for _ in range(3)]
    first = opened(url)
    controller = first.open()
    for host in hosts:
        join(controller, host)
    controller.nodes.drain("n3")
    controller.machines.add(machine_spec(id="web", node="n1"))
    assert settled(controller, "web").state is State.RUNNING
    first.close()
    behind = postgres.make_database(str(make_url(url).database))  # the replica

    hosts[0].stop()
    hosts[0].world.kill("web")
    second = opened(url)
    dies(second.open(), "n1")
    eventually("it moves", lambda: hosts[1].running() == ["web"])
    second.close()

    hosts[1].hide()
    third = opened(behind)
    third.open().close()  # its term is that of the one whose commits were lost
    controller = third.open()
    leads(controller)
    is_in(controller, "n2", NodeState.UNREACHABLE)
    controller.nodes.undrain("n3")
    dies(controller, "n1")
    asked = "node n2, which is unreachable, cannot be asked whether it is there already"
    eventually("it waits", lambda: asked in controller.machines.get("web").reason, lambda: places(hosts))
    assert places(hosts) == ["n2"]
    hosts[1].open()
    eventually("it is found", lambda: controller.machines.get("web").state is State.RUNNING, lambda: places(hosts))
    assert controller.machines.get("web").node == "n2"
    assert places(hosts) == ["n2"]


def dies(controller: Controller, name: str) -> None:
    """Say of a silent node that it is dead."""
    is_in(controller, name, NodeState.UNREACHABLE)
    controller.nodes.confirm_dead(name)
    is_in(controller, name, NodeState.UNAVAILABLE)


def is_in(controller: Controller, name: str, state: NodeState) -> None:
    eventually(f"{name} is {state}", lambda: controller.nodes.get(name).state is state)


def places(hosts: list[FakeHost]) -> list[str]:
    return [host.name for host in hosts if "web" in host.running()]
