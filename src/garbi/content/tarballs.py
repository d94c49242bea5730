"""Reads tar archives of strangers, plain or gzip, without ever extracting them: what may be in one, and how much."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from garbi.base.errors import ImageRejected

LARGEST_HEADER = 1 << 20
"""Bytes of one header: long names and extended attributes; Linux allows 4 KiB of path and 64 KiB of each attribute."""

MOST_MEMBERS = 1_000_000
LONGEST_PATH = 4095
LONGEST_PART = 255

RATIO = 100
RATIO_FROM = 256 << 20
"""An archive may unfold to 256 MiB, and beyond that to RATIO times its own size."""

_GZIP = b"\x1f\x8b"
_OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_BLOCK = 1 << 20
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)


def rejected(detail: str) -> ImageRejected:
    """The error of every check on an image's content."""
    return ImageRejected("file", detail)


def shown(name: str) -> str:
    """A name of a stranger, short and without control characters."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


class Budget:
    """What an archive may still unfold to, in bytes and members; raises ImageRejected when it is used up."""

    def __init__(self, packed: int, max_bytes: int) -> None:
        self.limit = min(max_bytes, max(RATIO_FROM, RATIO * packed))
        self.used = 0
        self._members = 0

    def take(self, size: int) -> None:
        """Count one more member of `size` bytes."""
        if size < 0:
            raise rejected("the archive holds a member of negative size")
        self.used += size
        self._members += 1
        if self.used > self.limit:
            raise rejected(f"the archive unfolds to more than the {self.limit} bytes that are allowed for its size")
        if self._members > MOST_MEMBERS:
            raise rejected(f"the archive has more than {MOST_MEMBERS} members")


class ForwardReader:
    """A file that is only read forward, with bounded reads, up to a limit, and that keeps a digest if asked.

    tarfile needs no more than this; it would read a header of any length into memory.
    """

    def __init__(self, file: IO[bytes], limit: int, digest: bool = False, seekable: bool = False) -> None:
        self._file = file
        self._limit = limit
        self._position = 0
        self._seekable = seekable
        self._digest = hashlib.sha256() if digest else None
        self.last = b""
        """What the last read gave."""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise rejected("the archive holds a header of more than 1 MiB")
        return self._take(size)

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise rejected("the archive leads back to an earlier place in it")
        if position > self._limit:
            raise rejected(f"the archive unfolds to more than {self._limit} bytes")
        if self._seekable:
            self._file.seek(position)
            self._position = position
        while self._position < position and self._take(min(_BLOCK, position - self._position)):
            pass

    def finish(self) -> str:
        """Read to the end, which proves checksums; return the sha256 if one was kept."""
        while not self._seekable and self._take(_BLOCK):
            pass
        return self._digest.hexdigest() if self._digest else ""

    def _take(self, size: int) -> bytes:
        block = self._file.read(size)
        self._position += len(block)
        self.last = block
        if self._position > self._limit:
            raise rejected(f"the archive unfolds to more than {self._limit} bytes")
        if self._digest:
            self._digest.update(block)
        return block


@contextmanager
def unpacked(file: io.BufferedReader[Any]) -> Iterator[tuple[IO[bytes], bool]]:
    """The bytes of a tar, plain or gzip, and whether they are plain; what is wrong with its form becomes ImageRejected."""
    start = file.peek(8)
    for magic, name in _OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise rejected(f"the archive is compressed by {name}; plain tar and gzip are taken")
    try:
        if start.startswith(_GZIP):
            with gzip.GzipFile(fileobj=file, mode="rb") as plain:
                yield plain, False  # type: ignore[misc]
        else:
            yield file, True
    except _BROKEN as error:
        raise rejected(f"the archive is corrupt or no tar: {shown(str(error))}") from error


def members(reader: ForwardReader, budget: Budget, may_be_empty: bool = False) -> Iterator[tarfile.TarInfo]:
    """Each member of a tar with its name checked; raises ImageRejected at the first that is not sane, or at a cut."""
    with tarfile.open(fileobj=reader, mode="r:") as archive:  # type: ignore[call-overload]
        count = 0
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile would keep every header
            budget.take(member.size)
            _check_path(member.name)
            count += 1
            yield member
        if count == 0 and not may_be_empty:
            raise rejected("the archive is empty")
        _check_end(reader, archive.offset)


def _check_end(reader: ForwardReader, offset: int) -> None:
    """tarfile takes a header that it cannot read for the end; a real end is a block of zeros."""
    after = reader.tell() - offset
    if after == 0:
        raise rejected("the archive is cut off: its end mark is missing")
    if after != tarfile.BLOCKSIZE or reader.last.strip(b"\0"):
        raise rejected("the archive is corrupt: a header in it cannot be read")


def _check_path(name: str) -> None:
    parts = name.split("/")
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_PATH or any(len(part) > LONGEST_PART for part in parts):
        raise rejected(f"the archive holds a path that is too long: {shown(name)}")
    if ".." in parts:
        raise rejected(f"the archive holds a path that leads out of it: {shown(name)}")
    if name.startswith("/"):
        raise rejected(f"the archive holds an absolute path: {shown(name)}")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the archive has made so far: names by a short digest of them, to stay small with many members."""

    directories: set[bytes]
    others: set[bytes]
    links: set[str]


def check_members(reader: ForwardReader, budget: Budget, may_be_empty: bool = False) -> set[str]:
    """Walk a file tree in a tar; return its top-level names. Devices and absolute links are normal there.

    Refused: a name twice unless both are directories (a directory that turns into a link), a path through a symbolic link
    of the same archive, a hard link that leads out.
    """
    seen = _Seen(set(), set(), set())
    top = set()
    for member in members(reader, budget, may_be_empty):
        name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
        _check_new(name, member, seen)
        _check_parents(name, seen)
        if member.issym():
            seen.links.add(name)
        if member.islnk() and (member.linkname.startswith("/") or ".." in member.linkname.split("/")):
            raise rejected(f"the archive holds a hard link that leads out of it: {shown(member.name)}")
        top.add(name.partition("/")[0])
    return top


def _check_new(name: str, member: tarfile.TarInfo, seen: _Seen) -> None:
    key = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    if key in seen.others or (key in seen.directories and not member.isdir()):
        raise rejected(f"the archive holds {shown(name)} twice")
    (seen.directories if member.isdir() else seen.others).add(key)


def _check_parents(name: str, seen: _Seen) -> None:
    if not seen.links:
        return
    parent = name.rpartition("/")[0]
    while parent:
        if parent in seen.links:
            raise rejected(f"the archive writes through a symbolic link of its own: {shown(name)}")
        parent = parent.rpartition("/")[0]


def inspect_rootfs(path: Path, max_bytes: int) -> int:
    """Check the tar of a root file system; return the bytes that it unfolds to. Raises ImageRejected."""
    budget = Budget(path.stat().st_size, max_bytes)
    with path.open("rb") as file, unpacked(file) as (plain, seekable):
        reader = ForwardReader(plain, budget.limit + path.stat().st_size, seekable=seekable)
        top = check_members(reader, budget)
        reader.finish()
    if top & {"manifest.json", "index.json"} and not top & {"bin", "usr", "sbin", "etc"}:
        raise ImageRejected("type", "the file is a container image, not a root file system: its type is docker")
    return budget.used
