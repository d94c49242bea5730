"""The images of one host: immutable files named by their sha256, and the names that point to them.

Content comes in as `garbi.content` has it: inspected, complete and on the disk before a name leads to it. What the controller
put here is a copy that can be fetched again: it is given up, the least recently used first, when something needs its space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import AlreadyExists, ContentTooLarge, NotFound
from garbi.base.failpoints import reach
from garbi.base.names import check_image_name
from garbi.content.blobs import Blobs, check_sha256
from garbi.content.uploads import ContentLimits, Received, converted
from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.image import Image, ImageState, ImageType


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of content: where it goes on, whether it is the `last`, and how many bytes there are in all, if known."""

    offset: int
    chunks: Iterable[bytes]
    last: bool = True
    size: int | None = None


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
    """The images below `root`, a directory that only this object writes to. Safe for use by several threads."""

    def __init__(
        self, root: Path, rows: ImageRows, limits: ContentLimits | None = None, clock: Clock | None = None
    ) -> None:
        self._rows = rows
        self._limits = limits = limits or ContentLimits()
        self._clock = clock or SystemClock()
        # A hypervisor of another user opens its disks here by name.
        self._blobs = Blobs(root, rows.digest_in_use, limits, mode=0o711)

    def sweep(self) -> None:
        """Delete what an interrupted `add` or `remove` left. To be called at start, before anything is added."""
        self._blobs.sweep()

    def when_full(self, give_up: Callable[[], bool]) -> None:
        """Before an image is refused for want of space, call `give_up` until it returns False: there is nothing left to give."""
        self._blobs.uploads.when_full(give_up)

    def add(
        self,
        name: str,
        type: ImageType,
        chunks: Iterable[bytes],
        sha256: str | None = None,
        size: int | None = None,
        cached: bool = False,
    ) -> Image:
        """Take in content under a new name; it is visible when it is whole, inspected and on the disk, or not at all.

        `sha256` (hexadecimal) and `size` (bytes) are what the content must have, if given; `cached` content may be given up.
        The same name with the same content and type again is the existing image. Raises InvalidField, AlreadyExists,
        ContentTooLarge, NoSpace, DigestMismatch, ImageRejected, DriverUnavailable (a program for the inspection is missing);
        nothing is kept then.
        """
        existing = self._existing(name, sha256)
        if size is not None and size > self._limits.max_bytes:
            raise ContentTooLarge(f"an image may have {self._limits.max_bytes} bytes", limit=self._limits.max_bytes)
        if existing is not None and self.holds(existing):
            return self._compare(existing, type, chunks, sha256)
        with converted(f"image {name} cannot be stored"), self._blobs.uploads.passing() as upload:
            upload.append(0, chunks, size)
            return self._keep(name, type, upload.finish(sha256, size), cached)

    def offset(self, name: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of the content are here, and whether the image is complete; raises InvalidField."""
        existing = self._existing(name, sha256)
        if existing is not None and existing.sha256 == sha256 and self.holds(existing):
            return existing.size, True
        return self._blobs.uploads.offset(sha256), False

    def append(self, name: str, type: ImageType, sha256: str, part: Part, cached: bool = False) -> Image | None:
        """Go on with content that was cut off; the image when that was the rest of it, None when more is to come.

        What comes stays for the next `append` when its sender goes away. Raises what `add` raises, OffsetMismatch when the
        content does not go on there, Busy while another sends the same content.
        """
        existing = self._existing(name, sha256)
        if existing is not None and self.holds(existing):
            return self._same(existing, type, sha256)
        with converted(f"image {name} cannot be stored"), self._blobs.uploads.continuing(sha256) as upload:
            if part.offset == 0:
                upload.discard()
            upload.append(part.offset, part.chunks, part.size)
            if not part.last:
                return None
            try:
                return self._keep(name, type, upload.finish(sha256), cached)
            finally:
                upload.discard()

    def link(self, name: str, type: ImageType, file: Path, sha256: str, size: int) -> Image:
        """Take in content that stays where it is, on a share of many hosts; it is read once and inspected as any other.

        Raises what `add` raises, ShareUnavailable when the file is not there.
        """
        existing = self._existing(name, sha256)
        if existing is not None and self.holds(existing):
            return self._same(existing, type, sha256)
        with (
            converted(f"image {name} cannot be stored"),
            self._blobs.uploads.pointing(file, sha256, size) as received,
        ):
            return self._keep(name, type, received, cached=True)

    def get(self, name: str) -> Image:
        """The image of that name, `failed` when its content is gone; raises NotFound."""
        image = self._rows.get(name)
        if image is None:
            raise NotFound(f"no image is called {name[:80]!a}")
        return self._as_it_is(image)

    def strays(self) -> Sequence[str]:
        """The digests of contents here that no row needs."""
        return self._blobs.strays()

    def list(self) -> list[Image]:
        """Every image, by name, `failed` where the content is gone."""
        return [self._as_it_is(image) for image in self._rows.list()]

    def holds(self, image: Image) -> bool:
        """Whether the content of an image is there."""
        return self._blobs.holds(image.sha256, image.size)

    def remove(self, name: str) -> None:
        """Delete the name, and the content when it was the last; raises NotFound, or ImageInUse, which names machines."""
        image = self.get(name)
        with self._blobs.releasing(image.sha256):
            self._rows.delete(name)
            reach("images.remove.recorded")
        reach("images.remove.deleted")

    def file(self, image: Image) -> ImageFile:
        """The content of an image as drivers take it."""
        return ImageFile(image.sha256, image.type, self._blobs.path(image.sha256), image.virtual_size)

    # Helpers in the order in which they are called

    def _existing(self, name: str, sha256: str | None) -> Image | None:
        check_image_name("name", name)
        if sha256 is not None:
            check_sha256(sha256)
        return self._rows.get(name)

    def _compare(self, existing: Image, type: ImageType, chunks: Iterable[bytes], sha256: str | None) -> Image:
        """Tell a repeated `add` from one of other content, without storing anything."""
        self._same(existing, type, sha256 or existing.sha256)
        digest = hashlib.sha256()
        size = 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > existing.size:
                break
        return self._same(existing, type, digest.hexdigest())

    def _same(self, existing: Image, type: ImageType, sha256: str) -> Image:
        if (existing.sha256, existing.type) != (sha256, type):
            raise AlreadyExists(f"an image called {existing.name} is here already, with other content", field="name")
        return existing

    def _keep(self, name: str, type: ImageType, received: Received, cached: bool) -> Image:
        """Have whole content checked and named, and write its row."""
        reach("images.add.received")
        virtual_size = self._blobs.inspect(received, type)
        reach("images.add.inspected")
        now = self._clock.now()
        image = Image(
            name, type, received.size, virtual_size, received.sha256, ImageState.ACTIVE, now, cached, used_at=now
        )
        with self._blobs.publishing(received):
            reach("images.add.renamed")
            existing = self._rows.get(name)
            if existing is not None:  # another thread was faster, or its content had gone
                return self._same(existing, type, received.sha256)
            self._rows.insert(image)
        reach("images.add.recorded")
        return image

    def _as_it_is(self, image: Image) -> Image:
        return image if self.holds(image) else replace(image, state=ImageState.FAILED)
