"""The libvirt driver on QEMU of this host: disks, addresses, limits, ends and crashes of real guests."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from tests.host.libvirt_machines import (
    Cloudlet,
    Reports,
    about,
    blank_image,
    cloudlet,
    eventually,
    facts,
    open_directory,
    page,
    tiny_image,
)

from garbi.base.errors import DriverFailed, InvalidField, NoSpace
from garbi.hyper.drivers.protocol import Condition, ImageFile
from garbi.hyper.model.image import ImageType

pytestmark = [pytest.mark.libvirt, pytest.mark.root]

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = open_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def tiny(directory: Path) -> ImageFile:
    return tiny_image(directory)


@pytest.fixture
def cloud(tiny: ImageFile) -> Iterator[Cloudlet]:
    with cloudlet(tiny) as made:
        yield made


def test_a_guest_has_its_reserved_address_its_memory_and_its_processors(cloud: Cloudlet) -> None:
    machine = cloud.run("web", mem=160, cpus=2)
    assert machine.address is not None
    eventually("the page", lambda: facts(machine.address or ""))
    seen = facts(machine.address)
    assert 120 * KIB < int(seen["memory_kib"]) <= 160 * KIB
    assert seen["cpus"] == "2"
    assert seen["hostname"] == "web"
    assert cloud.driver.observe("web")[0].address == machine.address


def test_an_address_serves_its_next_owner_at_once(cloud: Cloudlet) -> None:
    first = cloud.run("first", host=20)
    eventually("the first page", lambda: page(first.address or ""))
    cloud.driver.remove("first")
    second = cloud.run("second", host=20)
    assert second.mac != first.mac
    eventually("the page of the next owner", lambda: facts(second.address or "").get("hostname") == "second")


def test_a_guest_asked_to_end_ends_without_failure_and_starts_again(cloud: Cloudlet) -> None:
    machine = cloud.run("web")
    eventually("the page", lambda: page(machine.address or ""))
    cloud.driver.stop("web")
    eventually("its end", lambda: cloud.condition("web") is Condition.STOPPED)
    assert cloud.failure("web") == ""
    cloud.driver.start("web")
    eventually("the page again", lambda: page(machine.address or ""))


def test_a_guests_panic_is_a_failure_that_says_so(cloud: Cloudlet) -> None:
    reports = Reports()
    cloud.driver.watch(reports)
    machine = cloud.run("web")
    eventually("the page", lambda: page(machine.address or ""))
    reports.clear()
    page(machine.address or "", "/cgi-bin/crash")
    reports.wait_until(lambda: cloud.condition("web") is Condition.STOPPED)
    assert cloud.failure("web") == "the guest crashed"


def test_a_killed_process_is_seen_from_the_event_alone_with_its_cause(cloud: Cloudlet) -> None:
    reports = Reports()
    cloud.driver.watch(reports)
    cloud.run("web")
    eventually("the report of its start", lambda: reports.seen)
    pid = int(Path(f"/run/libvirt/qemu/{cloud.domain_name('web')}.pid").read_text())
    reports.clear()
    os.kill(pid, signal.SIGKILL)
    reports.wait_until(lambda: cloud.condition("web") is Condition.STOPPED)
    assert cloud.failure("web") == "the QEMU process was killed"
    cloud.driver.start("web")
    assert cloud.condition("web") is Condition.RUNNING
    assert cloud.failure("web") == ""


def test_a_powered_off_machine_has_not_failed_while_and_after_it_is_powered_off(cloud: Cloudlet) -> None:
    failures: list[str] = []

    def look(machine_id: str | None) -> None:
        failures.extend(seen.failure for seen in cloud.driver.observe() if seen.failure)

    cloud.driver.watch(look)
    cloud.run("web")
    cloud.driver.kill("web")
    assert cloud.condition("web") is Condition.STOPPED
    cloud.driver.remove("web")
    assert failures == []


@pytest.mark.parametrize("kind", [ImageType.QCOW2, ImageType.RAW])
def test_a_machine_of_a_large_image_costs_kilobytes(cloud: Cloudlet, directory: Path, kind: ImageType) -> None:
    image = blank_image(directory, kind, "2G")
    cloud.driver.add(cloud.define("big", image=image))
    disk = cloud.disk("big")
    assert disk.stat().st_blocks * 512 < 512 * KIB
    seen = about(disk, "qcow2")
    assert seen["virtual-size"] == 2048 * MIB
    assert (seen["backing-filename"], seen["backing-filename-format"]) == (str(image.path), kind.value)


def test_a_full_copy_needs_its_image_no_longer(cloud: Cloudlet, tiny: ImageFile, directory: Path) -> None:
    path = directory / "soon-gone.qcow2"
    shutil.copy(tiny.path, path)
    path.chmod(0o444)
    machine = cloud.define("web", image=replace(tiny, path=path), full_copy=True)
    cloud.driver.add(machine)
    path.unlink()
    assert "backing-filename" not in about(cloud.disk("web"), "qcow2")
    assert [file.name for file in cloud.disk("web").parent.iterdir()] == ["web.qcow2"]
    cloud.driver.start("web")
    eventually("the page", lambda: page(machine.address or ""))


def test_the_shared_image_keeps_owner_mode_and_content(cloud: Cloudlet, tiny: ImageFile) -> None:
    def portrait() -> tuple[int, ...]:
        status = tiny.path.stat()
        return (status.st_uid, status.st_gid, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    before = portrait()
    machine = cloud.run("one", host=30)
    cloud.run("two", host=31)
    eventually("the page", lambda: page(machine.address or ""))
    assert portrait() == before
    for machine_id in ("one", "two"):
        cloud.driver.kill(machine_id)
        cloud.driver.remove(machine_id)
    assert portrait() == before


def test_remove_leaves_neither_disk_nor_console_nor_log_nor_lease(cloud: Cloudlet) -> None:
    machine = cloud.run("web")
    eventually("the page", lambda: page(machine.address or ""))
    assert b"tiny: ready" in cloud.driver.console_log("web", 100_000)
    assert cloud.driver.figures("web").disk_read_bytes > MIB
    cloud.driver.remove("web")
    assert list((cloud.data_dir / "pool").iterdir()) == []
    assert list((cloud.data_dir / "console").iterdir()) == []
    assert list(Path("/var/log/libvirt/qemu").glob(f"{cloud.domain_name('web')}*")) == []
    live = libvirt.open("qemu:///system")
    network = live.networkLookupByName(f"garbi-{cloud.context.cluster_id[:8]}")
    assert machine.address not in network.XMLDesc()
    eventually("the end of the lease", lambda: network.DHCPLeases() == [])
    live.close()


def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing(tiny: ImageFile) -> None:
    data_dir = open_directory()
    (data_dir / "pool").mkdir()
    options = ["-o", "size=64k,mode=711"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "garbi-test", str(data_dir / "pool")], check=True)
    try:
        with cloudlet(tiny, data_dir=data_dir) as cloud:
            with pytest.raises(NoSpace):
                cloud.driver.add(cloud.define("web"))
            assert cloud.driver.observe() == []
            assert list((data_dir / "pool").iterdir()) == []
            cloud.driver.remove("web")
            subprocess.run(["umount", str(data_dir / "pool")], check=True)
    finally:
        subprocess.run(["umount", str(data_dir / "pool")], check=False, capture_output=True)
        shutil.rmtree(data_dir, ignore_errors=True)


def test_text_that_xml_cannot_hold_is_refused_before_anything_is_made(cloud: Cloudlet) -> None:
    with pytest.raises(InvalidField):
        cloud.driver.add(cloud.define("web", labels={"bell": "\x07"}))
    assert cloud.driver.observe() == []
    assert list((cloud.data_dir / "pool").iterdir()) == []


def test_an_image_that_qemu_may_not_read_is_refused_with_what_to_do(cloud: Cloudlet, directory: Path) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    image = blank_image(closed, ImageType.QCOW2, "1M")
    with pytest.raises(DriverFailed, match="chmod o\\+x"):
        cloud.driver.prepare(image)


def test_the_network_is_open_starts_with_the_host_and_gives_addresses_to_machines_of_ours_alone(
    cloud: Cloudlet,
) -> None:
    live = libvirt.open("qemu:///system")
    network = live.networkLookupByName(f"garbi-{cloud.context.cluster_id[:8]}")
    assert network.autostart()
    tree = ET.fromstring(network.XMLDesc())
    assert tree.find("forward").get("mode") == "open"  # type: ignore[union-attr]
    assert tree.find("ip/dhcp/range") is None
    assert Path(f"/sys/class/net/{cloud.network.bridge}").exists()
    live.close()


def test_two_agents_have_networks_that_do_not_overlap(cloud: Cloudlet, tiny: ImageFile) -> None:
    with cloudlet(tiny) as other:
        assert not other.network.subnet.overlaps(cloud.network.subnet)


def test_a_network_that_was_deleted_is_made_again_with_the_machines_address(cloud: Cloudlet) -> None:
    machine = cloud.run("web")
    cloud.driver.kill("web")
    live = libvirt.open("qemu:///system")
    network = live.networkLookupByName(f"garbi-{cloud.context.cluster_id[:8]}")
    network.destroy()
    network.undefine()
    cloud.driver.start("web")
    assert cloud.driver.guest_network() == cloud.network
    assert cloud.driver.observe("web")[0].address == machine.address
    live.close()


def test_the_driver_says_by_what_guests_run_and_why(cloud: Cloudlet) -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    details = cloud.driver.info().details
    assert details["virtualisation"] == ("kvm" if flags & {"vmx", "svm"} else "tcg")
    assert details["why"]


def test_a_second_agent_with_the_same_first_digits_cannot_take_over_what_is_not_its_own(cloud: Cloudlet) -> None:
    cloud.driver.add(cloud.define("web"))
    twin = replace(cloud.context, cluster_id=cloud.context.cluster_id[:8] + secrets.token_hex(12))
    driver = type(cloud.driver)(twin)
    assert [seen.machine_id for seen in driver.observe("web")] == []
    assert driver.observe() == []
    driver.remove("web")
    driver.withdraw()
    for verb in (driver.guest_network, lambda: driver.prepare(cloud.image)):
        with pytest.raises(DriverFailed, match="already exists"):
            verb()
    assert cloud.network == cloud.driver.guest_network()
    assert cloud.condition("web") is Condition.STOPPED
    driver.close()
