"""Sends content over a connection that may break: what arrived stays at the server, and the rest goes after it.

By draft-ietf-httpbis-resumable-upload: a HEAD tells how much has arrived, a PATCH appends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from garbi.base.calls import Calls, Document, parse
from garbi.base.errors import Busy, GarbiError, OffsetMismatch, ServerUnreachable

UPLOAD_S = 600.0
AWAY_S = 60.0
"""How long an upload that makes no progress is tried again."""

BUSY_S = 180.0
"""The same, while the server waits for more over the connection that broke, which it may take two minutes to find out."""

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between two tries, the last one for all further."""

PARTIAL = "application/partial-upload"

BlocksFrom = Callable[[int], Iterable[bytes]]
"""Gives the blocks of content from an offset on."""


class Resumption:
    """Content of `size` bytes on its way to `target`; `look_at` is where to ask how much is there, if it is not the same."""

    def __init__(self, calls: Calls, target: str, size: int, look_at: str | None = None) -> None:
        self._calls = calls
        self._target = target
        self._look_at = look_at or target
        self._size = size

    def look(self) -> tuple[int, bool]:
        """How many bytes have arrived, and whether that is all."""
        answer = self._calls.send("HEAD", self._look_at)
        answer.read()
        return int(answer.headers.get("upload-offset", "0")), answer.headers.get("upload-complete") == "?1"

    def send(self, blocks_from: BlocksFrom) -> Document | None:
        """Send what has not arrived; the document of the answer, or None when all of it has arrived before.

        Raises what the server refuses it for, ServerUnreachable when it stays away.
        """
        progress_at, tries, reached = time.monotonic(), 0, -1
        while True:
            try:
                offset, complete = self._arrived()
                if complete:
                    return None
                if offset > reached:
                    progress_at, tries, reached = time.monotonic(), 0, offset
                return self._append(blocks_from(offset), offset)
            except (ServerUnreachable, Busy, OffsetMismatch) as error:
                patience_s = AWAY_S if isinstance(error, ServerUnreachable) else BUSY_S
                if time.monotonic() - progress_at > patience_s:
                    raise
            time.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    def _arrived(self) -> tuple[int, bool]:
        """The same; a refusal, which has no words here, is left to what is sent then."""
        try:
            return self.look()
        except ServerUnreachable:
            raise
        except GarbiError:
            return 0, False

    def _append(self, blocks: Iterable[bytes], offset: int) -> Document:
        headers = {
            "Content-Type": PARTIAL,
            "Content-Length": str(self._size - offset),
            "Upload-Offset": str(offset),
            "Upload-Complete": "?1",
        }
        return parse(self._calls.send("PATCH", self._target, blocks, headers, UPLOAD_S).read())
