"""A virtual machine whose disk lies on an image that stays on the share: nothing is copied, nothing of the share is changed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import serving
from tests.iaas_images.conftest import sha256_of

from garbi.hyper.main import open_agent
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

pytestmark = [pytest.mark.root, pytest.mark.libvirt]


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="garbi-share-", dir="/var/tmp"))
    path.chmod(0o711)  # QEMU's user passes through
    yield path
    shutil.rmtree(path)


def make_share(place: Path) -> tuple[Path, str, int]:
    """A share with one disk, as the controller keeps it: its file, digest and size."""
    disk = place / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    digest = sha256_of(disk.read_bytes())
    folder = place / "share" / "sha256"
    folder.mkdir(parents=True, mode=0o755)
    file = disk.rename(folder / digest)
    file.chmod(0o444)
    return file, digest, file.stat().st_size


def test_a_machine_runs_on_an_image_of_the_share_in_place(place: Path) -> None:
    file, digest, size = make_share(place)
    before = file.stat()
    settings = Settings(data_dir=place / "node", mem_limit_mib=4096, image_share=str(place / "share"))
    try:
        with serving(open_agent(settings), 15.0) as host:
            host.client.images.take("web", "qcow2", digest, size)
            blob = settings.data_dir / "images" / "sha256" / digest
            assert (blob.is_symlink(), blob.resolve()) == (True, file)
            made = host.client.machines.add({"image": "web", "type": "libvirt", "id": "web", "mem": 64}, wait_s=120)
            assert made["state"] == "running", made["reason"]
            host.client.machines.remove("web", wait_s=120)
            host.client.images.remove("web")
            assert host.agent.audit() == []
    finally:
        purge(settings, print)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
    assert sha256_of(file.read_bytes()) == digest
