"""The images of one host: immutable files named by their sha256, and the names that point to them.

Content streams to a file beside its final place, is inspected there, and gets its name by one rename when it is whole; then
the row is written. So a name always leads to complete content, and what a crash leaves is found and deleted by `sweep`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import (
    AlreadyExists,
    ContentTooLarge,
    DigestMismatch,
    DriverFailed,
    GarbiError,
    ImageRejected,
    InvalidField,
    NoSpace,
    NotFound,
)
from garbi.base.failpoints import reach
from garbi.base.names import check_image_name
from garbi.content.inspection import inspect_image
from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.image import Image, ImageState, ImageType

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SPACE_CHECK_BYTES = 16 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ImageRows(Protocol):
    """Where the names are kept. Each call is one transaction."""

    def insert(self, image: Image) -> None:
        """Write a new image; raises AlreadyExists when the name is taken."""

    def get(self, name: str) -> Image | None:
        """The image of that name."""

    def list(self) -> list[Image]:
        """Every image, by name."""

    def delete(self, name: str) -> None:
        """Delete the row; raises NotFound, or ImageInUse, which names machines made from it."""

    def digest_in_use(self, sha256: str) -> bool:
        """Whether a name or a machine still needs this content."""


class ImageLibrary:
    """The images below `root`, a directory that only this object writes to. Safe for use by several threads.

    `max_bytes` bounds the content of one image, `max_virtual_bytes` what it unfolds to; `spare_bytes` of the file system are
    left free, so that the agent can go on recording and removing.
    """

    def __init__(
        self,
        root: Path,
        rows: ImageRows,
        *,
        max_bytes: int = 64 << 30,
        max_virtual_bytes: int = 2 << 40,
        spare_bytes: int = 64 << 20,
        clock: Clock | None = None,
    ) -> None:
        self._blobs = root / "sha256"
        self._incoming = root / "incoming"
        self._rows = rows
        self._max_bytes = max_bytes
        self._max_virtual_bytes = max_virtual_bytes
        self._spare_bytes = spare_bytes
        self._clock = clock or SystemClock()
        self._naming = threading.Lock()  # a name that comes and the last name that goes must not cross at one content
        with _converted("the image directory cannot be made"):
            for directory in (root, self._blobs, self._incoming):
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(0o711)  # a hypervisor of another user opens its disks here by name

    def sweep(self) -> None:
        """Delete what an interrupted `add` or `remove` left. To be called at start, before anything is added."""
        for leftover in self._incoming.iterdir():
            leftover.unlink(missing_ok=True)
        for blob in self._blobs.iterdir():
            if not self._rows.digest_in_use(blob.name):
                blob.unlink(missing_ok=True)

    def add(
        self, name: str, type: ImageType, chunks: Iterable[bytes], sha256: str | None = None, size: int | None = None
    ) -> Image:
        """Take in content under a new name; it is visible when it is whole, inspected and on the disk, or not at all.

        `sha256` (hexadecimal) and `size` (bytes) are what the content must have, if given. The same name with the same content
        and type again is the existing image. Raises InvalidField, AlreadyExists, ContentTooLarge, NoSpace, DigestMismatch,
        ImageRejected, DriverUnavailable (a program for the inspection is missing); nothing is kept then.
        """
        check_image_name("name", name)
        if sha256 is not None and not _SHA256.match(sha256):
            raise InvalidField("sha256", "sha256 takes 64 hexadecimal digits in lower case")
        if size is not None and size > self._max_bytes:
            raise self._too_large()
        existing = self._rows.get(name)
        if existing is not None:
            return self._compare(existing, type, chunks, sha256)
        with _converted(f"image {name} cannot be stored"), self._temporary() as path:
            image = self._receive(path, name, type, chunks, sha256, size)
            return self._publish(path, image)

    def get(self, name: str) -> Image:
        """The image of that name; raises NotFound."""
        image = self._rows.get(name)
        if image is None:
            raise NotFound(f"no image is called {name[:80]!a}")
        return image

    def missing(self) -> list[Image]:
        """The images whose content is not there in its full size: none, unless somebody else worked on the directory."""
        return [image for image in self._rows.list() if _size_of(self._blobs / image.sha256) != image.size]

    def list(self) -> list[Image]:
        """Every image, by name."""
        return self._rows.list()

    def remove(self, name: str) -> None:
        """Delete the name, and the content when it was the last; raises NotFound, or ImageInUse, which names machines."""
        image = self.get(name)
        with self._naming:
            self._rows.delete(name)
            reach("images.remove.recorded")
            self._drop_unused(image.sha256)
        reach("images.remove.deleted")

    def file(self, image: Image) -> ImageFile:
        """The content of an image as drivers take it."""
        return ImageFile(image.sha256, image.type, self._blobs / image.sha256, image.virtual_size)

    def _compare(self, existing: Image, type: ImageType, chunks: Iterable[bytes], sha256: str | None) -> Image:
        """Tell a repeated `add` from one of other content, without storing anything."""
        taken = AlreadyExists(f"an image called {existing.name} is here already, with other content", field="name")
        if type is not existing.type or (sha256 is not None and sha256 != existing.sha256):
            raise taken
        digest = hashlib.sha256()
        size = 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > existing.size:
                raise taken
        if digest.hexdigest() != existing.sha256:
            raise taken
        return existing

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _receive(
        self, path: Path, name: str, type: ImageType, chunks: Iterable[bytes], sha256: str | None, size: int | None
    ) -> Image:
        """Write the content to `path`, on the disk and checked, and return what its row will be."""
        self._check_space(size or 0)
        received, digest = self._write(path, chunks, size)
        if sha256 is not None and digest != sha256:
            raise DigestMismatch("sha256", f"the content has sha256 {digest}, not {sha256}")
        reach("images.add.received")
        virtual_size = inspect_image(path, type, self._max_virtual_bytes)
        reach("images.add.inspected")
        return Image(name, type, received, virtual_size, digest, ImageState.ACTIVE, self._clock.now())

    def _write(self, path: Path, chunks: Iterable[bytes], size: int | None) -> tuple[int, str]:
        digest = hashlib.sha256()
        received = 0
        with path.open("xb") as file:
            os.fchmod(file.fileno(), 0o444)
            for chunk in chunks:
                before, received = received, received + len(chunk)
                if received > self._max_bytes:
                    raise self._too_large()
                if received // _SPACE_CHECK_BYTES != before // _SPACE_CHECK_BYTES:
                    self._check_space(_SPACE_CHECK_BYTES)
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if size is not None and received != size:
            raise ImageRejected("file", f"the content has {received} bytes, but {size} were announced: it was cut off")
        return received, digest.hexdigest()

    def _publish(self, path: Path, image: Image) -> Image:
        blob = self._blobs / image.sha256
        with self._naming:
            existing = self._rows.get(image.name)
            if existing is not None:  # another thread was faster
                return self._same(existing, image)
            if _size_of(blob) != image.size:
                path.replace(blob)
                _sync_directory(self._blobs)
            reach("images.add.renamed")
            try:
                self._rows.insert(image)
            except BaseException:
                with suppress(GarbiError):  # what cannot be asked now is asked by the next sweep
                    self._drop_unused(image.sha256)
                raise
        reach("images.add.recorded")
        return image

    def _same(self, existing: Image, image: Image) -> Image:
        if (existing.sha256, existing.type) != (image.sha256, image.type):
            raise AlreadyExists(f"an image called {existing.name} is here already, with other content", field="name")
        return existing

    def _drop_unused(self, sha256: str) -> None:
        if not self._rows.digest_in_use(sha256):
            (self._blobs / sha256).unlink(missing_ok=True)

    def _check_space(self, more: int) -> None:
        """Refuse before the disk is full: a full disk would stop the agent's own records, and machines that write."""
        space = os.statvfs(self._incoming)
        free = space.f_bavail * space.f_frsize
        if free - more < self._spare_bytes:
            raise NoSpace(
                f"the disk has {free} bytes left; {more} more for an image, and {self._spare_bytes} to spare, do not fit"
            )

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(f"an image may have {self._max_bytes} bytes", limit=self._max_bytes)


def _size_of(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return None


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _converted(what: str) -> Iterator[None]:
    """Say what the operating system refused: a full disk by its own error, the rest in its words."""
    try:
        yield
    except GarbiError:
        raise
    except OSError as error:
        kind = NoSpace if error.errno in _FULL else DriverFailed
        raise kind(f"{what}: {error.strerror}") from error
