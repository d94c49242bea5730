"""An agent whose disk is full: clear errors, nothing half-made, removals go on, and all is well when there is space again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.host.agent.host_agent import (
    CONTAINER,
    KINDS,
    VM,
    HostAgent,
    TinyImages,
    facts_when_up,
    host_agent,
    open_directory,
    output,
    page,
    ports,
)

from garbi.base.errors import NoSpace
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec, RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

MIB = 1 << 20


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A disk of 128 MiB."""
    place = open_directory()
    output("mount", "-t", "tmpfs", "-o", "size=128m,mode=711", "garbi-test", str(place))
    yield place
    output("umount", str(place))
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def host(images: TinyImages, disk: Path) -> Iterator[HostAgent]:
    """An agent with its data on that disk."""
    with host_agent(images, disk, limits={"workers": 1}) as made:
        yield made


@contextmanager
def left(disk: Path, bytes_left: int) -> Iterator[None]:
    """Inside, somebody's file leaves no more than this of the disk."""
    other = disk / "other"
    with other.open("xb") as file:
        while (free := free_bytes(disk)) > bytes_left:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free - bytes_left)
    try:
        yield
    finally:
        other.unlink()


def free_bytes(disk: Path) -> int:
    space = os.statvfs(disk)
    return space.f_bavail * space.f_frsize


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_image_that_does_not_fit_is_refused_and_nothing_of_it_is_kept(host: HostAgent, disk: Path) -> None:
    before = files_below(host.data_dir / "images")
    names = [image.name for image in host.agent.images.list()]
    with left(disk, 80 * MIB), pytest.raises(NoSpace):
        host.agent.images.add("large", ImageType.RAW, (os.urandom(MIB) for _ in range(30)))
    assert files_below(host.data_dir / "images") == before
    assert [image.name for image in host.agent.images.list()] == names


def test_a_full_copy_that_does_not_fit_fails_its_machine_with_the_cause_and_is_made_when_there_is_space(
    host: HostAgent, disk: Path
) -> None:
    with left(disk, 4 * MIB):
        machine = host.add("copy", VM, full_copy=True)
        assert machine.state is State.FAILED
        assert "No space left on device" in machine.reason
        assert files_below(host.disk("copy").parent) == []
        assert host.daemon_name("copy") not in output("virsh", "-c", "qemu:///system", "list", "--all", "--name")
    again = host.wish("copy", Wish.RUNNING)
    assert (again.state, again.reason) == (State.RUNNING, "")
    host.remove("copy")
    assert host.agent.audit() == []


def test_on_a_full_disk_machines_run_stop_and_go_and_nothing_new_is_taken(host: HostAgent, disk: Path) -> None:
    published = {kind: ports(80)[0] for kind in KINDS}
    for kind, web in published.items():
        host.run(f"full-{kind}", kind, web)
        facts_when_up(web)
    with left(disk, 0):
        with pytest.raises(NoSpace, match="disk of the data directory is full") as caught:
            host.agent.machines.add(MachineSpec(image=CONTAINER, id="late", mem=64))
        assert caught.value.status == 507
        assert {machine.id for machine in host.agent.machines.list()} == {"full-vm", "full-container"}
        for kind, web in published.items():
            assert page(web)
            assert host.wish(f"full-{kind}", Wish.STOPPED).state is State.STOPPED
            assert host.wish(f"full-{kind}", Wish.RUNNING).state is State.RUNNING
        assert host.agent.audit() == []
        host.remove("full-vm")
    host.run("later", CONTAINER)
    with left(disk, 0):
        for machine_id in ("full-container", "later"):
            host.remove(machine_id)
    assert host.agent.audit() == []


def test_an_agent_starts_on_a_full_disk_and_can_remove_what_fills_it(host: HostAgent, disk: Path) -> None:
    host.run("filling", CONTAINER)
    host.close()
    with left(disk, 0):
        assert host.settled("filling").state is State.RUNNING
        host.remove("filling")
        host.close()
    assert host.agent.healthy()
    assert host.agent.audit() == []


def test_an_agent_that_cannot_write_at_all_says_so_and_writes_down_what_happened_when_it_can(
    host: HostAgent, disk: Path
) -> None:
    host.run("steady", CONTAINER, restart=RestartPolicy.NO)
    with left(disk, 0):
        (host.data_dir / "ballast").unlink()
    with left(disk, 0):
        with pytest.raises(NoSpace, match="database cannot be written"):
            host.agent.machines.remove("steady")
        os.kill(host.pid("steady", CONTAINER), signal.SIGKILL)
        output("docker", "wait", host.daemon_name("steady"))
        assert host.agent.machines.list()[0].wish is Wish.RUNNING
    assert host.await_state("steady", State.FAILED).reason == "exited with code 137"
    assert host.wish("steady", Wish.RUNNING).state is State.RUNNING
    host.remove("steady")
