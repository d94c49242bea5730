"""Makes the bootable disk of the tiny virtual machine: a FAT file system with syslinux, kernel, initramfs, as qcow2."""

from __future__ import annotations

from pathlib import Path

from garbi.hyper.images.tiny.tools import require_tools, run

_SECTOR = 512
_ALIGN_MIB = 4
_SPARE_KIB = 1024

_BOOT_OPTIONS = "console=ttyS0 quiet panic=-1 no_timer_check random.trust_cpu=on"
"""`panic=-1`: a crashed guest tells its hypervisor (pvpanic) and restarts at once instead of hanging."""

_SYSLINUX = f"""\
PROMPT 0
TIMEOUT 0
DEFAULT tiny
LABEL tiny
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND {_BOOT_OPTIONS}
"""


def make_disk(work_dir: Path, kernel: bytes, initrd: bytes) -> Path:
    """Write the disk image into `work_dir` and return its path; the same input gives the same bytes."""
    tools = require_tools()
    disk, result = work_dir / "disk.raw", work_dir / "disk.qcow2"
    files = {"vmlinuz": kernel, "initrd": initrd, "syslinux.cfg": _SYSLINUX.encode()}
    for name, content in files.items():
        (work_dir / name).write_bytes(content)
    with disk.open("wb") as file:
        file.truncate(_disk_size(sum(map(len, files.values()))))
    run([tools["mkfs.vfat"], "--invariant", "-F", "16", "-n", "TINY", "--", str(disk)])
    run([tools["mcopy"], "-i", str(disk), "--", *(str(work_dir / name) for name in files), "::/"])
    run([tools["syslinux"], "--install", str(disk)])
    run([tools["qemu-img"], "convert", "-f", "raw", "-O", "qcow2", "--", str(disk), str(result)])
    return result


def _disk_size(content: int) -> int:
    """Bytes of the disk: the content, room for the file system and the boot loader, rounded up."""
    unit = _ALIGN_MIB << 20
    return -(-(content + (_SPARE_KIB << 10)) // unit) * unit
