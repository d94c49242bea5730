"""Small files of which a reader, and a start after a power cut, finds all or the former: written beside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import FinalError, GarbiError

BESIDE = ".new"
"""What the name of a file ends with that is not in its place yet; what a crash leaves of it is overwritten, or ignored."""

OPENED = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def write_beside(path: Path, content: bytes, *, durable: bool = True, word: str = "") -> Path:
    """Write the content of a file to be, for its owner's eyes only; raises NoSpace or FinalError, and leaves nothing then.

    `word` tells it from what others write beside the same file at the same time.
    """
    beside = Path(f"{path}{word}{BESIDE}")
    try:
        file = os.open(beside, OPENED, 0o600)
        try:
            written = os.write(file, content)
            if written != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise _converted(path, error) from error
    return beside


def put_in_place(beside: Path, path: Path, *, durable: bool = True) -> None:
    """Give what was written beside its name, in place of the former content; raises NoSpace or FinalError."""
    try:
        os.replace(beside, path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        raise _converted(path, error) from error


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Give a file new content, all or nothing; raises NoSpace or FinalError."""
    put_in_place(write_beside(path, content, durable=durable), path, durable=durable)


def delete_file(path: Path) -> None:
    """Delete a file, if it is there, for good: also after a power cut. Raises NoSpace, StorageFailed or FinalError."""
    try:
        path.unlink()
        sync_directory(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _converted(path, error) from error


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _converted(path: Path, error: OSError) -> GarbiError:
    return kind_of(error, FinalError)(f"the file {path} cannot be written: {error.strerror}")
