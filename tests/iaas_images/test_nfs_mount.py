"""The playbook's mount in a kernel: a guest with Debian's NFS client mounts the share with those options, and reads an image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.iaas_images.conftest import MIB
from tests.iaas_images.test_distribution import add
from tests.iaas_images.test_nfs import NfsServer, nfs_server, place, store

from garbi.hyper.images.tiny import kernel
from garbi.hyper.images.tiny.archives import initramfs
from garbi.hyper.images.tiny.tools import find_busybox
from garbi.hyper.images.tiny.tree import Entry, build_tree
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.model.image import Image
from garbi.iaas.provisioning.node_files import MOUNT_OPTIONS

__all__ = ["place", "store"]

pytestmark = [pytest.mark.root, pytest.mark.libvirt]

GATEWAY = "10.0.2.2"
"""How a guest in QEMU's own network calls this host's loopback address."""

NFS_CLIENT = (
    "fscache", "netfs", "grace", "sunrpc", "dns_resolver", "lockd", "nfs_acl", "nfs", "auth_rpcgss", "oid_registry",
    "nfs_ssc", "nfsv4",
)  # fmt: skip
GUEST_S = 240

INIT = """\
#!/bin/sh
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do insmod "/lib/modules/$module" || echo "guest: no $module"; done </lib/modules/order
ip link set lo up
udhcpc -i eth0 -n -q -t 10 -T 1 -s /etc/dhcp >/dev/null 2>&1
mkdir -p /mnt
mount -t nfs4 -o {options} {server}:{path} /mnt && echo "guest: mounted"
echo "guest: $(busybox sha256sum /mnt/sha256/{digest})"
touch /mnt/sha256/new 2>/dev/null && echo "guest: wrote"
grep ' /mnt ' /proc/mounts | sed 's/^/guest: /'
poweroff -f
"""


@pytest.fixture
def image(store: ImageStore) -> Image:
    return add(store, "web", os.urandom(4 * MIB))


@pytest.fixture
def server(place: Path, image: Image) -> Iterator[NfsServer]:
    """As recommended, but for the privileged port: in QEMU's own network a guest has none to offer."""
    with nfs_server(place / "server", place / "controller" / "images", privileged="false") as made:
        yield made


def boot(place: Path, init: str) -> list[str]:
    """What a guest with that first program says."""
    found = kernel.find_kernel(Path.home() / ".cache/garbi")
    tree = build_tree(find_busybox()) | {"init": Entry(0o755, init.encode())}
    tree |= {f"lib/modules/{name}": Entry(0o644, content) for name, content in found.modules}
    tree |= {"lib/modules/order": Entry(0o644, "".join(f"{name}\n" for name, _ in found.modules).encode())}
    (place / "kernel").write_bytes(found.image)
    (place / "initramfs").write_bytes(initramfs(tree))
    machine = ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-nographic", "-no-reboot", "-nodefaults"]
    machine += ["-serial", "stdio", "-nic", "user,model=virtio-net-pci", "-append", "console=ttyS0 panic=1 quiet"]
    machine += ["-kernel", str(place / "kernel"), "-initrd", str(place / "initramfs")]
    done = subprocess.run(
        machine, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=GUEST_S, check=True
    )
    return [line.partition("guest: ")[2].strip() for line in done.stdout.splitlines() if "guest: " in line]


def test_a_kernel_mounts_the_share_with_the_options_of_the_playbook_and_reads_an_image(
    server: NfsServer, image: Image, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "WANTED", (*kernel.WANTED, *NFS_CLIENT))
    options = MOUNT_OPTIONS.replace(",_netdev", "")  # which is for systemd, not for the kernel
    options += f",addr={GATEWAY},clientaddr=10.0.2.15,port={server.port}"
    said = boot(place, INIT.format(options=options, server=GATEWAY, path=server.images, digest=image.sha256))
    assert "mounted" in said, said
    assert f"{image.sha256}  /mnt/sha256/{image.sha256}" in said
    assert "wrote" not in said
    mounted = next(line for line in said if " nfs4 " in line).split()[3].split(",")
    assert set(MOUNT_OPTIONS.split(",")) - {"_netdev"} <= set(mounted)
