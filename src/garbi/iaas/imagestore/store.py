"""The images of a cloud: a name that is registered first, and the content that comes after it, in one go or in several.

An image is `queued` until its content begins to come in, `uploading` until it is whole, and then `active` for ever, or
`failed`: then nothing of it is kept, and it may be uploaded again. Nodes may read the directory over NFS: they see whole and
inspected content only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import (
    AlreadyExists,
    Busy,
    ContentTooLarge,
    GarbiError,
    NoSpace,
    NotFound,
)
from garbi.base.failpoints import reach
from garbi.base.names import check_image_name
from garbi.content.blobs import Blobs, check_sha256
from garbi.content.uploads import ContentLimits, Received, converted, wrong_offset
from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.model.image import Image

EXPORTED_MODE = 0o755
"""An NFS server serves the directory to users of other hosts."""


class ImageRows(Protocol):
    """Where the names are kept. Each call is one transaction."""

    def insert(self, image: Image) -> None:
        """Write a new image; raises AlreadyExists when the name is taken."""

    def get(self, name: str) -> Image | None:
        """The image of that name."""

    def list(self) -> list[Image]:
        """Every image, by name."""

    def save(self, image: Image) -> None:
        """Write the image of that name anew; raises NotFound when it is gone."""

    def delete(self, name: str) -> None:
        """Delete the row; raises NotFound, or ImageInUse, which names machines made from it."""

    def digest_in_use(self, sha256: str) -> bool:
        """Whether a name or a machine still needs this content."""


class ImageStore:
    """The images below `root`, a directory that only this object writes to. Safe for use by several threads."""

    def __init__(
        self, root: Path, rows: ImageRows, limits: ContentLimits | None = None, clock: Clock | None = None
    ) -> None:
        self._rows = rows
        self._clock = clock or SystemClock()
        self._blobs = Blobs(root, rows.digest_in_use, limits or ContentLimits(), EXPORTED_MODE)

    def sweep(self) -> None:
        """Delete what a crash left. To be called at start, before anything is asked of the store."""
        self._blobs.sweep()
        arriving = {image.name: image for image in self._rows.list() if image.state is not ImageState.ACTIVE}
        for name in set(self._blobs.uploads.keys()) - arriving.keys():
            self._blobs.uploads.discard(name)
        for image in arriving.values():
            if image.state is ImageState.UPLOADING and not self._blobs.uploads.offset(image.name):
                self._rows.save(replace(image, state=ImageState.QUEUED))

    def register(self, name: str, type: ImageType) -> Image:
        """Make a name, whose content is to come. A `failed` image may be registered anew, also with another type.

        Raises InvalidField, AlreadyExists.
        """
        check_image_name("name", name)
        image = Image(name, type, 0, 0, "", ImageState.QUEUED, "", self._clock.now())
        present = self._rows.get(name)
        if present is not None and present.state is ImageState.FAILED:
            self._rows.save(image)
        else:
            self._rows.insert(image)
        return image

    def offset(self, name: str) -> int:
        """How many bytes of an image's content are here; raises NotFound."""
        image = self.get(name)
        return image.size if image.state is ImageState.ACTIVE else self._blobs.uploads.offset(name)

    def receive(
        self,
        name: str,
        offset: int,
        chunks: Iterable[bytes],
        sha256: str | None = None,
        complete: bool = True,
        size: int | None = None,
    ) -> Image:
        """Take in content from `offset` on (0: from the beginning, anew); with `complete` that is all of it.

        `sha256` (hexadecimal) and `size` (bytes) are what the whole content must have, if given. What has come stays when the
        sender goes away. The same content again is the same image. Raises NotFound, InvalidField, OffsetMismatch, Busy while
        another sends, AlreadyExists for other content; and, the image being `failed` then, ContentTooLarge, NoSpace,
        DigestMismatch, ImageRejected, DriverUnavailable (a program for the inspection is missing).
        """
        if sha256 is not None:
            check_sha256(sha256)
        image = self.get(name)
        if image.state is ImageState.ACTIVE:
            return self._compare(image, offset, chunks, sha256)
        with converted(f"image {name} cannot be stored"), self._blobs.uploads.continuing(name) as upload:
            image = self._begin(name)
            if offset == 0:
                upload.discard()
            try:
                upload.append(offset, chunks, size)
            except (ContentTooLarge, NoSpace) as error:
                self._fail(image, error)
                raise
            reach("imagestore.receive.appended")
            if not complete:
                return image
            try:
                return self._keep(image, upload.finish(sha256, size))
            except GarbiError as error:
                upload.discard()
                self._fail(image, error)
                raise

    def get(self, name: str) -> Image:
        """The image of that name; raises NotFound."""
        image = self._rows.get(name)
        if image is None:
            raise NotFound(f"no image is called {name[:80]!a}")
        return image

    def list(self) -> list[Image]:
        """Every image, by name."""
        return self._rows.list()

    def strays(self) -> Iterable[str]:
        """The digests of contents here that no row needs."""
        return self._blobs.strays()

    def missing(self) -> Iterable[Image]:
        """The images whose content is not here in its full size."""
        known = self._rows.list()
        return [
            each for each in known if each.state is ImageState.ACTIVE and not self._blobs.holds(each.sha256, each.size)
        ]

    def remove(self, name: str) -> None:
        """Delete the name, and the content when it was the last; raises NotFound, or ImageInUse, which names machines."""
        image = self.get(name)
        with self._blobs.releasing(image.sha256):
            self._rows.delete(name)
            reach("imagestore.remove.recorded")
        with suppress(Busy):  # who sends finds out that the name is gone
            self._blobs.uploads.discard(name)

    def path(self, image: Image) -> Path:
        """The file of an active image; raises NotFound when somebody has deleted it."""
        if not self._blobs.holds(image.sha256, image.size):
            raise NotFound(f"the content of image {image.name} is gone from the controller's disk: add it again")
        return self._blobs.path(image.sha256)

    # Helpers in the order in which they are called

    def _compare(self, image: Image, offset: int, chunks: Iterable[bytes], sha256: str | None) -> Image:
        """Tell repeated content from other content, without storing anything."""
        taken = AlreadyExists(f"an image called {image.name} is here already, with other content", field="name")
        if sha256 not in (None, image.sha256):
            raise taken
        if offset:
            raise wrong_offset(image.size, offset)
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > image.size:
                break
        if digest.hexdigest() != image.sha256:
            raise taken
        return image

    def _begin(self, name: str) -> Image:
        image = self.get(name)
        if image.state is ImageState.ACTIVE:  # another sender was faster
            raise Busy(f"the content of image {name} has just come from another sender")
        if image.state is not ImageState.UPLOADING:
            image = replace(image, state=ImageState.UPLOADING, reason="")
            self._rows.save(image)
            reach("imagestore.receive.begun")
        return image

    def _keep(self, image: Image, received: Received) -> Image:
        """Have whole content checked and named, and write its row."""
        virtual_size = self._blobs.inspect(received, image.type)
        reach("imagestore.receive.inspected")
        active = replace(
            image, size=received.size, virtual_size=virtual_size, sha256=received.sha256, state=ImageState.ACTIVE
        )
        with self._blobs.publishing(received):
            reach("imagestore.receive.renamed")
            if not self._is_ours(image):
                raise NotFound(f"image {image.name} was removed while its content came in")
            self._rows.save(active)
        reach("imagestore.receive.recorded")
        return active

    def _fail(self, image: Image, error: GarbiError) -> None:
        with suppress(GarbiError):  # a full disk may refuse even this; the sender is told in any case
            if self._is_ours(image):
                self._rows.save(replace(image, state=ImageState.FAILED, reason=error.detail))

    def _is_ours(self, image: Image) -> bool:
        """Whether the name is still the one that the content came for: it may have been removed and made again."""
        present = self._rows.get(image.name)
        return present is not None and present.created_at == image.created_at
