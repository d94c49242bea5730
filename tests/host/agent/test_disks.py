"""Disks of virtual machines: what differs from the image is all that they cost, and a full copy owes it nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.host.agent.host_agent import VM, HostAgent, facts_when_up, output, ports

from garbi.base.errors import ImageInUse
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import State, Wish

pytestmark = [pytest.mark.root, pytest.mark.libvirt, pytest.mark.docker]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def allocated(path: Path) -> int:
    """The bytes that a file really takes."""
    return path.stat().st_blocks * 512


def described(disk: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        output("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", "--", str(disk))
    )
    return found


def large_image(directory: Path, kind: ImageType, size: int) -> Path:
    """A disk with 64 MiB of content, so that a copy would show."""
    path = directory / f"large.{kind}"
    output("qemu-img", "create", "-q", "-f", kind, "--", str(path), str(size))
    output("qemu-io", "-f", kind, "-c", "write -q -P 7 64M 64M", "--", str(path))
    return path


@pytest.mark.parametrize(("kind", "size"), [(ImageType.QCOW2, 2 * GIB), (ImageType.RAW, GIB // 4)])
def test_a_machine_of_a_large_image_costs_kilobytes(
    host: HostAgent, tmp_path: Path, kind: ImageType, size: int
) -> None:
    path = large_image(tmp_path, kind, size)
    with path.open("rb") as file:
        image = host.agent.images.add(f"large-{kind}", kind, iter(lambda: file.read(MIB), b""))
    assert image.virtual_size == size
    host.add("small", VM, state=Wish.STOPPED)
    for number in range(2):
        assert host.add(f"large-{number}", f"large-{kind}", state=Wish.STOPPED).state is State.STOPPED
        disk = host.disk(f"large-{number}")
        assert allocated(disk) <= 512 * KIB
        about = described(disk)
        assert about["virtual-size"] == size
        assert about["backing-filename-format"] == kind
    content = Path(about["full-backing-filename"])
    before = (content.stat().st_mtime_ns, allocated(content))
    assert host.wish("large-0", Wish.RUNNING).state is State.RUNNING
    assert (content.stat().st_mtime_ns, allocated(content)) == before
    with pytest.raises(ImageInUse, match="large-0, large-1"):
        host.agent.images.remove(f"large-{kind}")
    for machine_id in ("small", "large-0", "large-1"):
        host.remove(machine_id)
    host.agent.images.remove(f"large-{kind}")
    assert not content.exists()


def test_a_full_copy_is_a_disk_of_its_own(host: HostAgent) -> None:
    (web,) = ports(80)
    host.run("copy", VM, web, full_copy=True)
    facts_when_up(web)
    disk = host.disk("copy")
    assert "backing-filename" not in described(disk)
    assert [path.name for path in disk.parent.iterdir()] == ["copy.qcow2"]
    tree = output("virsh", "-c", "qemu:///system", "dumpxml", host.daemon_name("copy"))
    assert str(host.data_dir / "images") not in tree
    assert host.wish("copy", Wish.STOPPED).state is State.STOPPED
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "--", str(disk), str(host.images.vm)]
    compared = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compared.returncode in (0, 1), compared.stderr  # the guest may have written to it
    host.remove("copy")
    assert not disk.exists()
