"""Content on its way in: a file per key that grows by appending, and what is known of it. Nobody sees it before it is whole.

An upload that was cut off goes on where it ended, also after a restart of the service; one that nobody goes on with is
deleted after a while. Content that may not be kept (too large, or more than the disk has room for) is deleted at once.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from garbi.base.disks import FULL, kind_of, size_text
from garbi.base.errors import (
    Busy,
    ContentTooLarge,
    DigestMismatch,
    DriverFailed,
    GarbiError,
    ImageRejected,
    NoSpace,
    OffsetMismatch,
    ShareUnavailable,
)

if TYPE_CHECKING:
    from hashlib import _Hash

KEPT_S = 24 * 3600.0
_PARTIAL = ".part"
_SPACE_CHECK_BYTES = 16 << 20
_BLOCK = 1 << 20
_LIBC = ctypes.CDLL(None)
_SYNC_FILE_RANGE_WRITE = 2


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """`max_bytes` bounds the content of one image, `max_virtual_bytes` what it unfolds to.

    `spare_bytes` of the file system are left free, so that the service can go on recording and removing. An upload that
    nobody went on with for `kept_s` seconds is deleted.
    """

    max_bytes: int = 64 << 30
    max_virtual_bytes: int = 2 << 40
    spare_bytes: int = 64 << 20
    kept_s: float = KEPT_S


@dataclass(frozen=True, slots=True)
class Received:
    """Whole content that is on the disk, at a place that it will leave for good or be deleted from."""

    path: Path
    size: int
    sha256: str


class Uploads:
    """The uploads below `directory`, which only this object writes to. Safe for use by several threads."""

    def __init__(self, directory: Path, limits: ContentLimits) -> None:
        self._directory = directory
        self.limits = limits
        self._free_something: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._digests: dict[str, tuple[int, _Hash]] = {}

    def when_full(self, free_something: Callable[[], bool]) -> None:
        """Before content is refused for want of space, call `free_something` until it returns False: it gave nothing up."""
        self._free_something = free_something

    def offset(self, key: str) -> int:
        """How many bytes of the upload of that key are here."""
        return _size_of(self._directory / (key + _PARTIAL))

    def keys(self) -> list[str]:
        """The keys of all uploads that can go on."""
        return [path.name.removesuffix(_PARTIAL) for path in self._directory.glob("*" + _PARTIAL)]

    @contextmanager
    def continuing(self, key: str) -> Iterator[Upload]:
        """The upload of that key, as far as it came; it stays when the block ends. Raises Busy while another has it."""
        self.drop_old()
        with self._alone(key):
            upload = Upload(self, self._directory / (key + _PARTIAL), self._digests.pop(key, None))
            try:
                yield upload
            finally:
                if upload.path.exists():
                    self._digests[key] = (upload.size, upload.digest)

    @contextmanager
    def passing(self) -> Iterator[Upload]:
        """An upload that is over when the block ends, whole or not."""
        path = self._directory / secrets.token_hex(16)
        try:
            yield Upload(self, path, None)
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def pointing(self, file: Path, sha256: str, size: int) -> Iterator[Received]:
        """A link to content elsewhere that is whole and what it should be, for a block that gives the link its place.

        Raises DigestMismatch, ImageRejected when bytes are missing, ShareUnavailable when it cannot be read.
        """
        path = self._directory / secrets.token_hex(16)
        path.symlink_to(file)
        try:
            try:
                upload = Upload(self, path, None)
            except OSError as error:
                raise ShareUnavailable(f"{file.name} of the image share cannot be read: {error.strerror}") from error
            yield upload.check(sha256, size)
        finally:
            path.unlink(missing_ok=True)

    def discard(self, key: str) -> None:
        """Delete the upload of that key, if there is one. Raises Busy while somebody has it."""
        with self._alone(key):
            self._forget(key)

    def sweep(self) -> None:
        """Delete what cannot go on. To be called at start, before anything comes in."""
        for path in self._directory.iterdir():
            if path.suffix != _PARTIAL:
                path.unlink(missing_ok=True)
        self.drop_old()

    def drop_old(self) -> None:
        """Delete the uploads that nobody went on with for long."""
        for key in self.keys():
            with suppress(FileNotFoundError, Busy):
                if time.time() - (self._directory / (key + _PARTIAL)).stat().st_mtime > self.limits.kept_s:
                    self.discard(key)

    def require_room(self, more: int) -> None:
        """Refuse before the disk is full: a full disk would stop the service's own records. Raises NoSpace."""
        while (free := self._free_bytes()) - more < self.limits.spare_bytes:
            if not self._free_something():
                spare = self.limits.spare_bytes
                raise NoSpace(
                    f"the disk has {size_text(free)} left; {size_text(more)} more for an image, and {size_text(spare)} to spare, "
                    "do not fit"
                )

    def _free_bytes(self) -> int:
        space = os.statvfs(self._directory)
        return space.f_bavail * space.f_frsize

    def _forget(self, key: str) -> None:
        self._digests.pop(key, None)
        (self._directory / (key + _PARTIAL)).unlink(missing_ok=True)

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with self._lock:
            if key in self._busy:
                raise Busy("this content is coming in already, from another sender")
            self._busy.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(key)


class Upload:
    """One upload in the hands of one thread. `size` is how many bytes have come, `digest` their sha256 so far."""

    def __init__(self, uploads: Uploads, path: Path, known: tuple[int, _Hash] | None) -> None:
        self.path = path
        self.size = _size_of(path)
        self._uploads = uploads
        self.digest = known[1] if known is not None and known[0] == self.size else _digest_of(path)

    def append(self, offset: int, chunks: Iterable[bytes], size: int | None = None) -> None:
        """Write the chunks at `offset`, which is where the upload ended; `size` is how many bytes it will have, if known.

        What came before the chunks failed stays. Raises OffsetMismatch; ContentTooLarge, NoSpace: nothing stays then.
        """
        if offset != self.size:
            raise wrong_offset(self.size, offset)
        with self._or_nothing():
            if size is not None and size > self._uploads.limits.max_bytes:
                raise self._too_large()
            self._uploads.require_room(max((size or 0) - self.size, 0))
            self._make_writable()
            with self.path.open("r+b") as file:
                file.seek(self.size)
                try:
                    for chunk in chunks:
                        crossed = self._admit(len(chunk))
                        file.write(chunk)
                        self.digest.update(chunk)
                        self.size += len(chunk)
                        if crossed:
                            _begin_writing(file.fileno())
                finally:
                    file.flush()
                    os.fsync(file.fileno())

    def finish(self, sha256: str | None = None, size: int | None = None) -> Received:
        """The whole content, from now on read-only. Raises DigestMismatch, or ImageRejected when bytes are missing."""
        received = self.check(sha256, size)
        if self.size == 0:
            self.path.touch()
        self.path.chmod(0o444)
        return received

    def check(self, sha256: str | None, size: int | None) -> Received:
        """The content as it is here, if it is what it should be; raises what `finish` raises."""
        if size is not None and self.size != size:
            raise ImageRejected("file", f"the content has {self.size} bytes, but {size} were announced: it was cut off")
        digest = self.digest.hexdigest()
        if sha256 is not None and digest != sha256:
            raise DigestMismatch("sha256", f"the content has sha256 {digest}, not {sha256}")
        return Received(self.path, self.size, digest)

    def discard(self) -> None:
        """Delete what came; the upload begins anew."""
        self.path.unlink(missing_ok=True)
        self.size, self.digest = 0, hashlib.sha256()

    def _make_writable(self) -> None:
        """Also what was whole when the service was killed, before it had its place."""
        self.path.touch(0o600)
        self.path.chmod(0o600)

    def _admit(self, more: int) -> bool:
        """Let more come if it may; whether it is time to look after the disk."""
        before, after = self.size, self.size + more
        if after > self._uploads.limits.max_bytes:
            raise self._too_large()
        crossed = after // _SPACE_CHECK_BYTES != before // _SPACE_CHECK_BYTES
        if crossed:
            self._uploads.require_room(_SPACE_CHECK_BYTES)
        return crossed

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        try:
            yield
        except (ContentTooLarge, NoSpace):
            self.discard()
            raise
        except OSError as error:
            if error.errno in FULL:
                self.discard()
                raise NoSpace(f"the content does not fit on the disk: {error.strerror}") from error
            raise

    def _too_large(self) -> ContentTooLarge:
        limit = self._uploads.limits.max_bytes
        return ContentTooLarge(f"an image may have {limit} bytes", limit=limit)


def wrong_offset(expected: int, provided: int) -> OffsetMismatch:
    """The error for an upload that would go on elsewhere than where it ended."""
    return OffsetMismatch(
        f"{expected} bytes of the content are here; it cannot go on at {provided}",
        expected_offset=expected,
        provided_offset=provided,
    )


@contextmanager
def converted(what: str) -> Iterator[None]:
    """Say what the operating system refused: a full disk by its own error, the rest in its words."""
    try:
        yield
    except GarbiError:
        raise
    except OSError as error:
        raise kind_of(error, DriverFailed)(f"{what}: {error.strerror}") from error


def _begin_writing(file: int) -> None:
    """Have the kernel write what came while more comes, so that there is little left to wait for at the end."""
    begin = getattr(_LIBC, "sync_file_range", None)
    if begin is not None:  # what it cannot do is done at the end
        begin(file, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _digest_of(path: Path) -> _Hash:
    digest = hashlib.sha256()
    with suppress(FileNotFoundError), path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest
