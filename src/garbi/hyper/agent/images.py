"""Images, as a user asks for them: the library of the host, and the copies that daemons keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from garbi.base.failpoints import reach
from garbi.hyper.drivers.protocol import ImageKeeper
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.model.image import Image, ImageType
from garbi.hyper.store.images import ImageTable


class Images:
    """The verbs of images."""

    def __init__(
        self, library: ImageLibrary, table: ImageTable, drivers: DriverRegistry, used_drivers: Callable[[], list[str]]
    ) -> None:
        self._library = library
        self._table = table
        self._drivers = drivers
        self._used_drivers = used_drivers

    def add(
        self, name: str, type: ImageType, chunks: Iterable[bytes], sha256: str | None = None, size: int | None = None
    ) -> Image:
        """Take in the content of a new image; it is inspected, and visible only when all of it is on the disk.

        Raises InvalidField, ImageRejected, DigestMismatch, AlreadyExists, ContentTooLarge, NoSpace; nothing is kept of what
        was refused.
        """
        return self._library.add(name, type, chunks, sha256, size)

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

    def _drop_copies(self, image: Image) -> None:
        """Also those of drivers not asked for anything since the start; one whose library is gone is beyond reach."""
        for name in self._used_drivers():
            driver = self._drivers.find(name) if name in self._drivers.names() else None
            if driver is not None and image.type in driver.image_types and isinstance(driver, ImageKeeper):
                driver.drop_image(image.sha256)
