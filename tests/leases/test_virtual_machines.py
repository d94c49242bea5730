"""A fence of real virtual machines, while the libvirtd of the test's own that made them is frozen."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.host.own_libvirtd import own_libvirtd
from tests.leases.processes import ORDER, machine, processes, renew
from tests.leases.test_containers import lives

pytestmark = [pytest.mark.libvirt, pytest.mark.root]

DISK = bytes(2**20)


def test_a_fence_ends_virtual_machines_while_libvirt_is_frozen(data_dir: Path) -> None:
    settings = {}
    with own_libvirtd() as daemon:
        settings["GARBI_DRIVER_LIBVIRT_URI"] = daemon.uri
        with processes(data_dir, settings) as running:
            agent, client = running.serve()
            client.images.add("disk", "raw", [DISK], len(DISK))
            renew(client)
            for name, policy in (("moves", "recreate"), ("stays", "stay")):
                spec = {**machine(name, policy), "type": "libvirt", "image": "disk", "mem": 64}
                client.machines.add(spec, wait_s=120, assignment=ORDER)
                assert client.machines.get(name)["state"] == "running"
            prefix = f"garbi-{client.host()['cluster_id'][:8]}"
            pids = {name: daemon.qemu_pid(f"{prefix}-{name}") for name in ("moves", "stays")}
            agent.kill()
            agent.wait()
            daemon.send(signal.SIGSTOP)
            try:
                status, report = running.fence()
                assert (status, report["stopped"], report["left"]) == (0, ["moves"], ["stays"])
                assert [name for name, pid in pids.items() if lives(pid)] == ["stays"]
            finally:
                daemon.send(signal.SIGCONT)
            _, client = running.serve()
            for name in ("moves", "stays"):
                client.machines.remove(name, wait_s=120)
