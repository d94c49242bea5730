"""Disks that do not answer: who reads or writes there waits, and hears of no error, until the block ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

IMAGE_BYTES = 64 << 20
SILENT = "rootmode=40711,user_id=0,group_id=0,allow_other"


@contextmanager
def mounted_disk(place: Path, image: Path) -> Iterator[None]:
    """An ext4 file system of its own at `place`, in a file."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        place.chmod(0o711)
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def frozen(place: Path) -> Iterator[None]:
    """Writes to the file system at `place` hang, and what needs one, such as to open a database; most reads are answered."""
    subprocess.run(["fsfreeze", "--freeze", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(place)], check=True)


@contextmanager
def silent(place: Path) -> Iterator[None]:
    """Whatever is asked of `place` hangs: the file system there is served by nobody."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={device},{SILENT}"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "silent", str(place)], check=True, pass_fds=[device]
        )
        try:
            yield
        finally:
            os.close(device)  # who waits is told that the connection is gone
            device = -1
            subprocess.run(["umount", "-l", str(place)], check=True)
    finally:
        if device >= 0:
            os.close(device)


Hang = Callable[[Path], AbstractContextManager[None]]
HANGS: Mapping[str, Hang] = {"frozen": frozen, "silent": silent}


@contextmanager
def disk_that_can_hang(place: Path, image: Path) -> Iterator[ExitStack]:
    """A disk at `place`, and where hangs of it are entered that end before it does."""
    with mounted_disk(place, image), ExitStack() as hangs:
        yield hangs


def lose_most(image: Path) -> None:
    """Most of a disk that is in use is gone: what is written or read there is answered with an error."""
    found = subprocess.run(
        ["losetup", "-j", str(image), "-O", "NAME", "-n"], capture_output=True, text=True, check=True
    )
    os.truncate(image, 64 << 10)
    subprocess.run(["losetup", "-c", found.stdout.strip()], check=True)
