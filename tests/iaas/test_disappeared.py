"""A machine whose host has lost its record is not gone: before its own record goes, the engines of the host are asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, node_is

from garbi.hyper.main import DATABASE, open_agent
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.converge import DISAPPEARED
from garbi.iaas.model.node import NodeState

MakeNodes = Callable[..., list[FakeHost]]


def lose_record(host: FakeHost, machine_id: str) -> None:
    """As if it had never been written, while the agent works."""
    with closing(sqlite3.connect(host.data_dir / DATABASE, timeout=30)) as connection, connection:
        connection.execute("DELETE FROM ports WHERE machine_id = ?", (machine_id,))
        connection.execute("DELETE FROM machines WHERE id = ?", (machine_id,))


def test_a_removal_leaves_nothing_of_what_disappeared(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    lose_record(host, "web")
    cloud.controller.machines.wish("web", Wish.STOPPED)
    machine_is(cloud, "web", State.FAILED)
    assert cloud.controller.machines.get("web").reason.startswith(DISAPPEARED)
    assert host.running() == ["web"]
    host.world.make_unavailable("it is down")
    cloud.controller.machines.remove("web")
    eventually("it is tried", lambda: "it is down" in cloud.controller.machines.get("web").reason)
    assert cloud.controller.machines.get("web") is not None  # as long as that is not known, it is not forgotten
    host.world.make_available()
    cloud.gone("web")
    assert host.world.machines() == []


def test_an_agent_that_adopted_goes_on_as_the_same_node(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    """It is told what it should have; what the cloud does not know of is named, and goes on running."""
    (host,) = fake_nodes(1)
    for machine_id in ("runs", "ended", "removed"):
        cloud.add(id=machine_id)
    host.stop()
    host.world.end("ended")
    for file in host.data_dir.glob(f"{DATABASE}*"):
        file.unlink()
    host._agent = open_agent(host.settings, simulated=True, adopt=True)
    host.open()
    node_is(cloud, host.name, NodeState.READY)
    eventually("what is to run is started under a lease", lambda: "ended" in host.running())
    assert host.world.machine("runs").power_ons == 1
    for machine_id in ("runs", "ended"):
        machine_is(cloud, machine_id, State.RUNNING)
    assert cloud.controller.audit() == []
    cloud.controller.machines.remove("removed")
    cloud.gone("removed")
    assert host.running() == ["ended", "runs"]
