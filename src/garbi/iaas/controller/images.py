"""Images, as a user asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from garbi.base.errors import InvalidField
from garbi.base.filters import check_filters
from garbi.hyper_api.vocabulary import ImageType
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.model.image import Image
from garbi.iaas.model.query import IMAGE_FILTERS
from garbi.iaas.store.database import Database

SIZES = ("size", "virtual_size")


class Images:
    """The verbs of images. The leader alone writes to the image directory: `require_lead` raises NotLeading elsewhere."""

    def __init__(self, store: ImageStore, database: Database, require_lead: Callable[[str], None]) -> None:
        self._store = store
        self._database = database
        self._require_lead = require_lead

    def register(self, name: str, type: ImageType) -> Image:
        """Make a name whose content will follow; raises InvalidField, AlreadyExists, NoSpace, NotLeading."""
        self._require_lead("taking in an image")
        self._database.require_room()
        return self._store.register(name, type)

    def receive(
        self,
        name: str,
        offset: int,
        chunks: Iterable[bytes],
        sha256: str | None = None,
        complete: bool = True,
        size: int | None = None,
    ) -> Image:
        """Take in content from `offset` on; when it is `complete` it is inspected and, if it is good, active.

        `sha256` and `size` (bytes) are what the whole content must have, if given. Raises NotFound, OffsetMismatch, Busy,
        AlreadyExists, ImageRejected, DigestMismatch, ContentTooLarge, NoSpace, NotLeading.
        """
        self._require_lead("taking in an image")
        return self._store.receive(name, offset, chunks, sha256, complete, size)

    def offset(self, name: str) -> int:
        """How many bytes of an image's content are here; raises NotFound."""
        return self._store.offset(name)

    def get(self, name: str) -> Image:
        """The image of that name; raises NotFound."""
        return self._store.get(name)

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Image]:
        """The images whose fields equal the filters, by name; raises UnknownFilter, InvalidField."""
        asked = filters or {}
        check_filters(asked, IMAGE_FILTERS)
        for name in SIZES:
            if not asked.get(name, "0").isdecimal():
                raise InvalidField(name, f"filter {name} takes a whole number, not {asked[name][:80]!r}")
        found = (
            image
            for image in self._store.list()
            if (marker is None or image.name > marker)
            and all(str(getattr(image, name)) == value for name, value in asked.items())
        )
        return [*islice(found, limit)]

    def remove(self, name: str) -> None:
        """Delete an image; raises NotFound, ImageInUse, which names machines, and NotLeading."""
        self._require_lead("removing an image")
        self._store.remove(name)
