"""Which domain a machine is: the one whose id follows from agent and machine, whatever somebody calls it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from tests.host.libvirt_machines import Cloudlet, Reports, blank_image, cloudlet, eventually, open_directory

from garbi.hyper.drivers.libvirt import LibvirtDriver
from garbi.hyper.drivers.libvirt.processes import pids_of
from garbi.hyper.drivers.protocol import Condition, Identity, MarkedMachine
from garbi.hyper.model.image import ImageType

pytestmark = [pytest.mark.libvirt, pytest.mark.root]

MARKS = {"data-dir": "/var/lib/garbi/x", "on-node-failure": "recreate", "controller": "ab" * 16, "epoch": "7"}


@pytest.fixture
def cloud() -> Iterator[Cloudlet]:
    directory = open_directory()
    try:
        with cloudlet(blank_image(directory, ImageType.QCOW2, "4M")) as made:
            yield made
    finally:
        shutil.rmtree(directory)


def virsh(*arguments: str) -> str:
    done = subprocess.run(["virsh", "-c", "qemu:///system", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def found(cloud: Cloudlet, listed: list[MarkedMachine]) -> list[MarkedMachine]:
    return [each for each in listed if each.cluster_id == cloud.context.cluster_id]


def test_a_renamed_domain_stays_its_machine(cloud: Cloudlet) -> None:
    cloud.driver.add(cloud.define("web"))
    name = f"renamed-{cloud.context.cluster_id[:8]}"
    virsh("domrename", cloud.domain_name("web"), name)
    for driver in (cloud.driver, LibvirtDriver(cloud.context)):
        assert [each.machine_id for each in driver.observe()] == ["web"]
        assert cloud.condition("web") is Condition.STOPPED
    another, reports = LibvirtDriver(cloud.context), Reports()  # as after a restart of the agent
    another.watch(reports)
    another.start("web")
    reports.wait_until(lambda: cloud.condition("web") is Condition.RUNNING)
    reports.clear()
    (pid,) = pids_of(cloud.driver._marks.domain_uuid("web"))
    os.kill(pid, signal.SIGKILL)
    reports.wait_until(lambda: "web" in reports.seen and cloud.condition("web") is Condition.STOPPED)
    another.add(cloud.define("web"))
    assert [each.identity for each in found(cloud, another.survey())] == [Identity.MADE]
    another.start("web")
    another.kill("web")
    another.remove("web")
    assert found(cloud, another.survey()) == []
    assert name not in virsh("list", "--all", "--name")
    another.close()


def test_a_domain_that_goes_while_it_is_looked_at_is_left_out(cloud: Cloudlet, monkeypatch: pytest.MonkeyPatch) -> None:
    for host, machine_id in enumerate(("web", "db"), 10):
        cloud.driver.add(cloud.define(machine_id, host))
    read = libvirt.virDomain.metadata

    def read_and_lose(domain: Any, *arguments: Any) -> str:
        text = str(read(domain, *arguments))
        if domain.name() == cloud.domain_name("web"):
            virsh("undefine", domain.name())
        return text

    monkeypatch.setattr(libvirt.virDomain, "metadata", read_and_lose)
    assert [each.machine_id for each in found(cloud, cloud.driver.survey())] == ["db"]


def test_a_domain_that_goes_once_it_was_found_is_not_there(cloud: Cloudlet, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.driver.add(cloud.define("web"))
    live = cloud.driver.connection.get()

    def find_and_lose(uuid: str) -> Any:
        domain = type(live).lookupByUUIDString(live, uuid)
        virsh("undefine", cloud.domain_name("web"))
        return domain

    with monkeypatch.context() as patch:
        patch.setattr(live, "lookupByUUIDString", find_and_lose)
        assert cloud.condition("web") is Condition.PARTIAL
    cloud.driver.remove("web")


def test_marks_stand_in_the_metadata_and_are_found_with_and_without_libvirt(cloud: Cloudlet, tmp_path: Path) -> None:
    machine = cloud.run("web", marks=MARKS, labels={"tier": "web"})
    (by_libvirt,) = found(cloud, cloud.driver.survey())
    (by_processes,) = found(cloud, cloud.driver.survey_processes())
    assert by_libvirt == by_processes
    assert (by_libvirt.marks, by_libvirt.labels) == (MARKS, {"tier": "web"})
    assert (by_libvirt.machine_id, by_libvirt.condition) == (machine.id, Condition.RUNNING)
    document = virsh("dumpxml", "--inactive", cloud.domain_name("web"))
    copy = f"copy-{cloud.context.cluster_id[:8]}"
    text = document.replace(f"<name>{cloud.domain_name('web')}<", f"<name>{copy}<")
    start, end = text.index("<uuid>"), text.index("</uuid>") + len("</uuid>")
    (tmp_path / "copy.xml").write_text(text[:start] + text[end:])
    virsh("define", str(tmp_path / "copy.xml"))
    try:
        identities = {each.place: each.identity for each in found(cloud, cloud.driver.survey())}
        assert identities == {
            f"domain {cloud.domain_name('web')}": Identity.MADE,
            f"domain {copy}": Identity.COPY,
        }
        cloud.driver.remove("web")
        assert [each.machine_id for each in cloud.driver.observe()] == []
        assert copy in virsh("list", "--all", "--name")
    finally:
        virsh("undefine", copy)
    eventually("nothing runs", lambda: found(cloud, cloud.driver.survey_processes()) == [])
