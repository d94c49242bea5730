"""What disk a data directory is on, and what is left of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from garbi.base.checks import Finding, fail, ok, warn
from garbi.storage.writable import Writable

_GIB = 1 << 30
_SCARCE_BYTES, _TOO_LITTLE_BYTES = 10 * _GIB, _GIB
REMOTE_FILE_SYSTEMS = ("nfs", "cifs", "smb", "fuse.", "9p", "ceph", "glusterfs")


def disk_bytes(path: Path) -> tuple[int, int]:
    """Total and free bytes of the file system where `path` is, or will be once it is made."""
    usage = shutil.disk_usage(existing_parent(path))
    return usage.total, usage.free


def existing_parent(path: Path) -> Path:
    """`path`, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def examine_room(data_dir: Path) -> Finding:
    """Whether a data directory is on a local disk, with room; for the doctors."""
    place = existing_parent(data_dir)
    kind = file_system(place)
    if kind.startswith(REMOTE_FILE_SYSTEMS):
        return fail(f"{place} is on {kind}; a database needs a local disk", "choose another directory with --data-dir")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return fail(
            f"the file system of {place} is read-only", "look at the disk and at dmesg; then mount it for writing again"
        )
    failure = _failure(data_dir)
    if failure:
        return fail(
            failure, "look at the disk and at dmesg; what runs is left alone, and once a write succeeds all is well"
        )
    _, free = disk_bytes(data_dir)
    found = f"{free / _GIB:.1f} GiB free at {place} ({kind})"
    mend = f"free space on the file system of {place}, or choose another directory with --data-dir"
    if free < _TOO_LITTLE_BYTES:
        return fail(found, mend)
    return warn(found, mend) if free < _SCARCE_BYTES else ok(found)


def _failure(data_dir: Path) -> str:
    """Why a data directory that is there cannot be written, where its disk is the reason; one write tells."""
    if not data_dir.is_dir():
        return ""
    disk = Writable(data_dir)
    disk.try_out()
    return disk.failure()


def file_system(path: Path) -> str:
    """The type of the file system that `path` is on, by the last mount whose place is above it."""
    kind = "unknown"
    best = -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, this_kind, *_ = line.split()
        mounted = Path(place.replace("\\040", " "))
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:
            kind, best = this_kind, len(mounted.parts)
    return kind
