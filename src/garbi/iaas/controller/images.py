"""Images, as a user asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from garbi.hyper_api.vocabulary import ImageType
from garbi.iaas.model.image import Image


class Images:
    """The verbs of images."""

    def register(self, name: str, type: ImageType) -> Image:
        """Make a name whose content will follow; raises InvalidField, AlreadyExists."""
        raise NotImplementedError

    def receive(
        self, name: str, offset: int, chunks: Iterable[bytes], sha256: str | None = None, complete: bool = True
    ) -> Image:
        """Take in content from `offset` on; when it is `complete` it is inspected and, if it is good, active.

        Raises NotFound, Conflict, ImageRejected, DigestMismatch, ContentTooLarge, NoSpace.
        """
        raise NotImplementedError

    def offset(self, name: str) -> int:
        """How many bytes of an image's content are here; raises NotFound."""
        raise NotImplementedError

    def get(self, name: str) -> Image:
        """The image of that name; raises NotFound."""
        raise NotImplementedError

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Image]:
        """The images whose fields equal the filters, by name; raises UnknownFilter."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Delete an image; raises NotFound, ImageInUse, which names machines."""
        raise NotImplementedError
