"""What the operating system says of a disk, told apart by its numbers: it is full, it has failed, or it is something else."""

from __future__ import annotations

import errno

from garbi.base.errors import GarbiError, NoSpace, StorageFailed

FULL = (errno.ENOSPC, errno.EDQUOT)
FAILED = (errno.EROFS, errno.EIO, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.ESTALE, errno.ESHUTDOWN)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def kind_of(error: OSError, otherwise: type[GarbiError]) -> type[GarbiError]:
    """The error of Garbi for one of the operating system's that came from a disk; `otherwise` if it is not the disk's."""
    if error.errno in FULL:
        return NoSpace
    return StorageFailed if error.errno in FAILED else otherwise


def size_text(size: int) -> str:
    """A size in bytes, for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size) >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
