"""Which kernel modules the tiny virtual machine gets, and in which order, from an installed kernel."""

from __future__ import annotations

import lzma
from pathlib import Path

from garbi.hyper.images.tiny.kernel import find_kernel

RELEASE = "6.1.0-1-cloud-amd64"


def module(root: Path, folder: str, name: str, depends: str, compressed: bool = False) -> None:
    path = root / "lib/modules" / RELEASE / "kernel" / folder / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"\x7fELF" + name.encode() + b"\0license=GPL\0depends=" + depends.encode() + b"\0"
    if compressed:
        path.with_suffix(".ko.xz").write_bytes(lzma.compress(content))
    else:
        path.write_bytes(content)


def test_modules_come_after_those_that_they_depend_on_and_others_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / f"boot/vmlinuz-{RELEASE}").write_bytes(b"kernel")
    module(tmp_path, "drivers/net", "virtio_net", "virtio,virtio_ring,net_failover", compressed=True)
    module(tmp_path, "drivers/net", "net_failover", "failover")
    module(tmp_path, "net/core", "failover", "")
    module(tmp_path, "drivers/virtio", "virtio", "")
    module(tmp_path, "drivers/virtio", "virtio_ring", "virtio")
    module(tmp_path, "drivers/misc/pvpanic", "pvpanic-mmio", "pvpanic")
    module(tmp_path, "drivers/sound", "sound", "")
    kernel = find_kernel(tmp_path / "cache", root=tmp_path)
    assert (kernel.release, kernel.image) == (RELEASE, b"kernel")
    expected = ["virtio", "virtio_ring", "failover", "net_failover", "virtio_net", "pvpanic_mmio"]
    assert [name for name, _ in kernel.modules] == [f"{name}.ko" for name in expected]
    assert all(content.startswith(b"\x7fELF") for _, content in kernel.modules)
