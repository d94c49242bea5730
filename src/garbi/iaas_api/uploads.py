"""Brings an image's content to the controller, also over a connection that breaks (draft-ietf-httpbis-resumable-upload)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from garbi.base.calls import Calls, Document, is_segment, parse, segment, target
from garbi.base.errors import AlreadyExists, InvalidField, ServerUnreachable

UPLOAD_S = 600.0
AWAY_S = 60.0
"""How long an upload that makes no progress is tried again."""

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between two tries, the last one for all further."""

Content = Iterable[bytes] | Callable[[int], Iterable[bytes]]
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
        return self._send_on(content)

    def offset(self) -> int:
        """How many bytes have arrived; raises NotFound."""
        return self._look()[0]

    def _register(self) -> Document | None:
        """Make the name ours to fill; the image itself when it is there with the same content already."""
        try:
            self._calls.document("POST", "/iaas/images", {"name": self._name, "type": self._type})
        except AlreadyExists:
            image = self._calls.document("GET", self._path)
            if image["type"] == self._type and image["state"] != "active":
                return None
            if image["type"] == self._type and image["sha256"] == self._sha256:
                return image
            raise
        return None

    def _send_on(self, blocks_from: Callable[[int], Iterable[bytes]]) -> Document:
        offset, complete, tries, progress_at = *self._look(), 0, time.monotonic()
        while not complete:
            try:
                return self._patch(blocks_from(offset), offset) if offset else self._put(blocks_from(0))
            except ServerUnreachable:
                if time.monotonic() - progress_at > AWAY_S:
                    raise
            reached, complete = self._look_when_back(progress_at, tries)
            if reached > offset:
                tries, progress_at = 0, time.monotonic()
            offset, tries = reached, tries + 1
        return self._calls.document("GET", self._path)

    def _look(self) -> tuple[int, bool]:
        """How much has arrived, and whether that is all."""
        answer = self._calls.send("HEAD", self._path + "/file")
        answer.read()
        return int(answer.headers.get("upload-offset", "0")), answer.headers.get("upload-complete") == "?1"

    def _look_when_back(self, progress_at: float, tries: int) -> tuple[int, bool]:
        while True:
            time.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            try:
                return self._look()
            except ServerUnreachable:
                if time.monotonic() - progress_at > AWAY_S:
                    raise
            tries += 1

    def _put(self, blocks: Iterable[bytes]) -> Document:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._size)}
        return self._content("PUT", blocks, headers)

    def _patch(self, blocks: Iterable[bytes], offset: int) -> Document:
        headers = {
            "Content-Type": "application/partial-upload",
            "Content-Length": str(self._size - offset),
            "Upload-Offset": str(offset),
            "Upload-Complete": "?1",
        }
        return self._content("PATCH", blocks, headers)

    def _content(self, method: str, blocks: Iterable[bytes], headers: dict[str, str]) -> Document:
        query = {} if self._sha256 is None else {"sha256": self._sha256}
        return parse(self._calls.send(method, target(self._path + "/file", query), blocks, headers, UPLOAD_S).read())
