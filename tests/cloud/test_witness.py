"""A small host becomes a witness: it carries no machines, so that it gets no engine; later it may carry some all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .conftest import PORT, Controller, client
from .hosts import Lab

pytestmark = [pytest.mark.root, pytest.mark.docker]

ENGINES = ("docker.io", "libvirt-daemon-system", "qemu-system-x86", "python3-libvirt", "dnsmasq-base", "bubblewrap")


def test_a_witness_gets_no_engine_and_misses_none(controller: Controller, lab: Lab, bare_image: str) -> None:
    host = lab.add_host(bare_image)
    before = host.state()
    target = replace(controller.target(host), witness=True, share="nfs://10.0.0.1/images")
    controller.add(target)
    drivers = {each["name"]: each for each in client(target).drivers()}
    assert [name for name, each in drivers.items() if each["available"]] == ["fake"]
    packages = {line.split()[1] for line in host.state() if line.startswith("package ")}
    assert packages & set(ENGINES) == set()
    assert host.run("ls /etc/sysctl.d/60-garbi.conf 2>/dev/null", check=False) == ""
    hyper = f"/opt/garbi/node-{PORT}/bin/hyper"
    assert "fail" not in host.run(f"{hyper} doctor")  # exit status 0
    assert "docker" not in host.run(f"{hyper} doctor --data-dir /var/lib/garbi/node-{PORT}")
    assert host.run(f"systemctl is-active garbi-hyper@{PORT} garbi-watchdog@{PORT}").split() == ["active", "active"]
    assert client(target).audit() == []
    logged = host.run(f"journalctl -q -o cat -u garbi-hyper@{PORT} -u garbi-watchdog@{PORT}")
    assert [line for line in logged.splitlines() if '"level": "error"' in line.lower() or "Traceback" in line] == []
    assert controller.add(target).changed == 0
    controller.remove(target)
    after = host.state()
    assert (sorted(after - before), sorted(before - after)) == ([], [])
    lab.remove(host)


def test_a_node_beside_a_witness_gets_its_engines(controller: Controller, lab: Lab, packaged_image: str) -> None:
    host = lab.add_host(packaged_image)
    controller.add(replace(controller.target(host, PORT + 1), witness=True))
    link = f"/opt/garbi/node-{PORT + 1}/lib/python3*/site-packages/libvirt.py"
    assert host.run(f"ls {link} 2>/dev/null", check=False) == ""
    target = controller.target(host)
    controller.add(target)
    drivers = {each["name"]: each for each in client(target).drivers()}
    assert [name for name in ("docker", "libvirt") if not drivers[name]["available"]] == []
    lab.remove(host)
