"""Daemons that go away and come back under an agent: machines are unknown meanwhile, and right again at once."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.host.agent.host_agent import (
    CONTAINER,
    VM,
    HostAgent,
    TinyImages,
    eventually,
    facts_when_up,
    host_agent,
    incarnation,
    output,
    page,
    ports,
)
from tests.host.docker_engines import OwnEngine, own_engine
from tests.host.own_libvirtd import OwnLibvirtd, own_libvirtd

from garbi.base.errors import DriverUnavailable
from garbi.hyper.model.machine import MachineSpec, RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


@contextmanager
def firewall_changes(directory: Path) -> Iterator[Callable[[], str]]:
    """Gives what nftables told of changes since the beginning, all tables of the host."""
    told = directory / "changes"
    canary = f"garbi_test_{secrets.token_hex(4)}"
    with told.open("w") as file, subprocess.Popen(["nft", "monitor"], stdout=file) as monitor:

        def changes() -> str:
            output("nft", "add", "table", "inet", canary)
            output("nft", "delete", "table", "inet", canary)
            return told.read_text()

        try:
            eventually("nftables tells of changes", lambda: canary in changes())
            yield changes
        finally:
            monitor.kill()


@pytest.fixture(scope="module", params=[(), ("--live-restore",)], ids=["ordinary", "live-restore"])
def engine(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    with own_engine(*request.param) as made:
        yield made


@pytest.fixture(scope="module")
def on_engine(images: TinyImages, engine: OwnEngine) -> Iterator[HostAgent]:
    with host_agent(images, drivers={"docker": {"host": engine.host}}) as made:
        yield made


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[OwnLibvirtd]:
    with own_libvirtd() as made:
        yield made


@pytest.fixture(scope="module")
def on_libvirtd(images: TinyImages, libvirtd: OwnLibvirtd) -> Iterator[HostAgent]:
    with host_agent(images, drivers={"libvirt": {"uri": libvirtd.uri}}, limits={"resync_period_s": 0.5}) as made:
        yield made


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_comes_back_and_the_states_are_those_of_its_containers(
    on_engine: HostAgent, engine: OwnEngine, how: signal.Signals
) -> None:
    (web,) = ports(80)
    on_engine.run("serving", CONTAINER, web)
    on_engine.add("resting", CONTAINER, state=Wish.STOPPED)
    facts_when_up(web)
    before = incarnation(on_engine.pid("serving", CONTAINER))
    engine.stop(how)
    for machine_id in ("serving", "resting"):
        assert "does not answer" in on_engine.await_state(machine_id, State.UNKNOWN).reason
    with pytest.raises(DriverUnavailable):
        on_engine.agent.machines.add(MachineSpec(image=CONTAINER, id="late", mem=64))
    engine.start()
    assert on_engine.await_state("resting", State.STOPPED).reason == ""
    if engine.restores:
        assert on_engine.await_state("serving", State.RUNNING).reason == ""
        assert incarnation(on_engine.pid("serving", CONTAINER)) == before
    else:  # an engine that stops takes its containers along, and one that was killed does so when it comes back
        machine = on_engine.await_state("serving", State.RUNNING)
        assert (machine.reason, machine.restarts) == ("", 0)
        assert incarnation(on_engine.pid("serving", CONTAINER)) != before
    assert facts_when_up(web)["hostname"] == "serving"
    assert on_engine.agent.audit() == []
    for machine_id in ("serving", "resting"):
        on_engine.remove(machine_id)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_virtual_machines_serve_while_libvirtd_is_away_and_are_taken_over_when_it_is_back(
    on_libvirtd: HostAgent, libvirtd: OwnLibvirtd, how: signal.Signals, tmp_path: Path
) -> None:
    (web,) = ports(80)
    on_libvirtd.run("serving", VM, web)
    on_libvirtd.run("dying", VM, mem=64, restart=RestartPolicy.NO)
    facts_when_up(web)
    serving, dying = (libvirtd.qemu_pid(on_libvirtd.daemon_name(each)) for each in ("serving", "dying"))
    before = incarnation(serving)
    with firewall_changes(tmp_path) as changes:
        libvirtd.stop(how)
        os.kill(dying, signal.SIGKILL)
        for machine_id in ("serving", "dying"):
            assert "does not answer" in on_libvirtd.await_state(machine_id, State.UNKNOWN).reason
        assert page(web)
        with pytest.raises(DriverUnavailable):
            on_libvirtd.agent.machines.add(MachineSpec(image=VM, id="late", mem=64))
        libvirtd.start()
        assert on_libvirtd.await_state("serving", State.RUNNING).reason == ""
        assert on_libvirtd.await_state("dying", State.FAILED).reason
        assert page(web)
        assert str(web.node_port) not in changes()
    assert incarnation(serving) == before
    assert on_libvirtd.wish("dying", Wish.RUNNING).state is State.RUNNING
    assert on_libvirtd.agent.audit() == []
    for machine_id in ("serving", "dying"):
        on_libvirtd.remove(machine_id)


def test_an_agent_that_starts_before_its_daemons_has_its_machines_when_they_come(
    on_engine: HostAgent, engine: OwnEngine
) -> None:
    on_engine.run("early", CONTAINER)
    on_engine.close()
    engine.stop()
    assert "does not answer" in on_engine.await_state("early", State.UNKNOWN).reason
    engine.start()
    on_engine.await_state("early", State.RUNNING)
    on_engine.remove("early")


def test_an_engine_that_hangs_keeps_no_virtual_machine_waiting(on_engine: HostAgent, engine: OwnEngine) -> None:
    containers = [f"stuck-{number}" for number in range(on_engine.settings.workers + 1)]
    for machine_id in containers:
        on_engine.run(machine_id, CONTAINER, mem=16)
    with engine.frozen():  # its workers wait for an answer for longer than anybody here waits for the virtual machine
        for machine_id in containers:
            on_engine.agent.machines.wish(machine_id, Wish.STOPPED)
        assert on_engine.run("free", VM).state is State.RUNNING
        assert on_engine.wish("free", Wish.PAUSED).state is State.PAUSED
        on_engine.remove("free")
    for machine_id in containers:
        on_engine.await_state(machine_id, State.STOPPED)
        on_engine.remove(machine_id)
