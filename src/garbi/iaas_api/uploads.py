"""Brings an image to the controller: its name first, then its content, which goes on where an earlier connection broke."""

from __future__ import annotations

from collections.abc import Iterable

from garbi.base.calls import Calls, Document, is_segment, parse, segment, target
from garbi.base.errors import AlreadyExists, InvalidField
from garbi.base.resumption import UPLOAD_S, BlocksFrom, Resumption

Content = Iterable[bytes] | BlocksFrom
"""Blocks of content, or what gives them from an offset on, so that a broken upload can go on."""


class ImageUpload:
    """The content of one image on its way."""

    def __init__(self, calls: Calls, name: str, type: str, size: int, sha256: str | None = None) -> None:
        if not is_segment(name):
            raise InvalidField("name", f"name {name[:80]!r} is not allowed: it begins and ends with a letter or digit")
        self._calls = calls
        self._path = "/iaas/images/" + segment(name, "image is called")
        self._name = name
        self._type = type
        self._size = size
        self._sha256 = sha256

    def send(self, content: Content) -> Document:
        """Register the image and send its content; return it as it is then. What an earlier call has sent is not sent again."""
        present = self._register()
        if present is not None:
            return present
        if not callable(content):
            return self._put(content)
        return self._resumption().send(content) or self._present()

    def offset(self) -> int:
        """How many bytes have arrived; raises NotFound."""
        return self._resumption().look()[0]

    def _register(self) -> Document | None:
        """Make the name ours to fill; the image itself when it is there with the same content already."""
        try:
            self._calls.document("POST", "/iaas/images", {"name": self._name, "type": self._type})
        except AlreadyExists:
            image = self._present()
            if image["type"] == self._type and image["state"] != "active":
                return None
            if image["type"] == self._type and image["sha256"] == self._sha256:
                return image
            raise
        return None

    def _present(self) -> Document:
        return self._calls.document("GET", self._path)

    def _put(self, blocks: Iterable[bytes]) -> Document:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._size)}
        return parse(self._calls.send("PUT", self._file(), blocks, headers, UPLOAD_S).read())

    def _resumption(self) -> Resumption:
        return Resumption(self._calls, self._file(), self._size)

    def _file(self) -> str:
        return target(self._path + "/file", {} if self._sha256 is None else {"sha256": self._sha256})
