"""Images, as a user asks for them: the library of the host, and the copies that daemons keep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from garbi.base.errors import ImageInUse, NotFound, TemporaryError
from garbi.base.failpoints import reach
from garbi.content.blobs import check_sha256
from garbi.hyper.drivers.protocol import ImageKeeper
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.images.library import ImageLibrary, Part
from garbi.hyper.images.share import ImageShare
from garbi.hyper.model.image import Image, ImageType
from garbi.hyper.store.images import ImageTable

log = logging.getLogger(__name__)


class Images:
    """The verbs of images."""

    def __init__(
        self,
        library: ImageLibrary,
        table: ImageTable,
        share: ImageShare,
        drivers: DriverRegistry,
        used_drivers: Callable[[], list[str]],
    ) -> None:
        self._library = library
        self._table = table
        self._share = share
        self._drivers = drivers
        self._used_drivers = used_drivers
        library.when_full(self._give_up_one)

    def add(
        self,
        name: str,
        type: ImageType,
        chunks: Iterable[bytes],
        sha256: str | None = None,
        size: int | None = None,
        cached: bool = False,
    ) -> Image:
        """Take in the content of a new image; it is inspected, and visible only when all of it is on the disk.

        `cached` content is given up when another needs its space, unless a machine was made from it. Raises InvalidField,
        ImageRejected, DigestMismatch, AlreadyExists, ContentTooLarge, NoSpace; nothing is kept of what was refused.
        """
        return self._library.add(name, type, chunks, sha256, size, cached)

    def offset(self, name: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of that content are here, and whether the image is complete; raises InvalidField."""
        return self._library.offset(name, sha256)

    def append(self, name: str, type: ImageType, sha256: str, part: Part, cached: bool = False) -> Image | None:
        """Go on with content that was cut off; the image when that was the rest of it, None when more is to come.

        Raises what `add` raises, and OffsetMismatch, Busy.
        """
        return self._library.append(name, type, sha256, part, cached)

    def take(self, name: str, type: ImageType, sha256: str, size: int) -> Image:
        """Take the content from the image share of this host, to be used there or copied; it may be given up again.

        Raises ShareUnavailable, and what `add` raises: the share is believed in nothing.
        """
        check_sha256(sha256)
        file = self._share.file(sha256)
        if file is not None:
            return self._library.link(name, type, file, sha256, size)
        return self._library.add(name, type, self._share.blocks(sha256), sha256, size, cached=True)

    def get(self, name: str) -> Image:
        """The image of that name; raises NotFound."""
        return self._library.get(name)

    def list(self) -> list[Image]:
        """Every image of the host, by name."""
        return self._library.list()

    def remove(self, name: str) -> None:
        """Delete an image and every copy of its content; raises NotFound, ImageInUse, DriverUnavailable.

        The copies go first: as long as one may be left, the name is there to be removed again.
        """
        image = self._library.get(name)
        if not self._table.needed_beside(image):
            self._drop_copies(image)
            reach("images.remove.dropped")
        self._library.remove(name)

    def _give_up_one(self) -> bool:
        """Give up the least recently used of what can be fetched again; False when there is nothing."""
        for image in self._table.evictable():
            try:
                self.remove(image.name)
            except (ImageInUse, NotFound):  # somebody was quicker
                continue
            except TemporaryError as error:
                log.warning("kept", extra={"image": image.name, "reason": error.detail})
                continue
            log.info("given up", extra={"image": image.name})
            return True
        return False

    def _drop_copies(self, image: Image) -> None:
        """Also those of drivers not asked for anything since the start; one whose library is gone is beyond reach."""
        for name in self._used_drivers():
            driver = self._drivers.find(name) if name in self._drivers.names() else None
            if driver is not None and image.type in driver.image_types and isinstance(driver, ImageKeeper):
                driver.drop_image(image.sha256)
