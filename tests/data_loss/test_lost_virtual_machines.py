"""Real virtual machines go on in the same processes while their agent loses its database and adopts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data_loss.services import Service, lose, service
from tests.host.own_libvirtd import OwnLibvirtd, own_libvirtd
from tests.leases.processes import LIMIT_S, ORDER, machine, renew
from tests.leases.test_containers import lives

pytestmark = [pytest.mark.libvirt, pytest.mark.root]

DISK = bytes(2**20)
NAMES = ("moves", "stays", "local")


@pytest.fixture
def daemon() -> Iterator[OwnLibvirtd]:
    with own_libvirtd() as daemon:
        yield daemon


@pytest.fixture
def agent(place: Path, daemon: OwnLibvirtd) -> Iterator[Service]:
    with service("hyper", place / "hyper", GARBI_DRIVER_LIBVIRT_URI=daemon.uri) as agent:
        yield agent
        agent.kill()
        purged = agent.run("purge", "--yes", "--data-dir", str(agent.data_dir))
        assert purged.returncode == 0, purged.stderr


def test_virtual_machines_keep_their_processes(agent: Service, daemon: OwnLibvirtd) -> None:
    agent.serve()
    agent.hyper.images.add("disk", "raw", [DISK], len(DISK))
    renew(agent.hyper)
    virtual = {"type": "libvirt", "image": "disk", "mem": 64}
    for name, policy in (("moves", "recreate"), ("stays", "stay")):
        agent.hyper.machines.add({**machine(name, policy), **virtual}, wait_s=LIMIT_S, assignment=ORDER)
    agent.hyper.machines.add({"id": "local", **virtual}, wait_s=LIMIT_S)
    cluster_id = agent.hyper.host()["cluster_id"]
    pids = {name: daemon.qemu_pid(f"garbi-{cluster_id[:8]}-{name}") for name in NAMES}
    agent.kill()
    lose(agent.database)
    assert "`hyper serve --adopt`" in agent.refusal()
    agent.serve("--adopt")
    assert agent.hyper.host()["cluster_id"] == cluster_id
    assert {each["id"]: each["state"] for each in agent.hyper.machines.list()} == dict.fromkeys(NAMES, "running")
    assert agent.hyper.images.get("disk")["state"] == "active"
    assert agent.hyper.audit() == []
    assert {name: daemon.qemu_pid(f"garbi-{cluster_id[:8]}-{name}") for name in NAMES} == pids
    renew(agent.hyper)
    agent.hyper.machines.remove("moves", LIMIT_S, ORDER)
    for name in ("stays", "local"):
        agent.hyper.machines.remove(name, LIMIT_S)
    assert [name for name, pid in pids.items() if lives(pid)] == []
