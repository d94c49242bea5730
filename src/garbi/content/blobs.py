"""A directory of immutable files named by their sha256: what the image stores of both services are made of.

Content grows beside its final place, is inspected there, and gets its name by one rename when it is whole; then a row is
written. So a name always leads to complete content, and what a crash leaves is found and deleted by `sweep`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from garbi.base.errors import GarbiError, InvalidField
from garbi.content.inspection import inspect_image
from garbi.content.uploads import ContentLimits, Received, Uploads, converted
from garbi.hyper_api.vocabulary import ImageType

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
INCOMING_MODE = 0o700


class Blobs:
    """The content below `root`, a directory that only this object writes to. Safe for use by several threads.

    `in_use` tells whether a row needs the content of that digest. Others may do with the directory of the content what
    `mode` allows; content on its way in is nobody's business.
    """

    def __init__(self, root: Path, in_use: Callable[[str], bool], limits: ContentLimits, mode: int) -> None:
        self._content = root / "sha256"
        self._in_use = in_use
        self._limits = limits
        self._naming = threading.Lock()  # a row that comes and the last row that goes must not cross at one content
        incoming = root / "incoming"
        self.uploads = Uploads(incoming, limits)
        with converted("the image directory cannot be made"):
            for directory, allowed in ((root, mode), (self._content, mode), (incoming, INCOMING_MODE)):
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(allowed)

    def sweep(self) -> None:
        """Delete what a crash left. To be called at start, before anything comes in."""
        self.uploads.sweep()
        for blob in self._content.iterdir():
            if not self._in_use(blob.name):
                blob.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the content of that digest is, if it is here."""
        return self._content / sha256

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the content of that digest is here, in its full size."""
        with suppress(OSError):
            return self.path(sha256).stat().st_size == size
        return False

    def strays(self) -> list[str]:
        """The digests of contents that nothing needs: none, but for what came in behind our back or was cut off."""
        with self._naming:
            return sorted(blob.name for blob in self._content.iterdir() if not self._in_use(blob.name))

    def inspect(self, received: Received, type: ImageType) -> int:
        """The bytes that the content unfolds to; raises ImageRejected, DriverUnavailable (a program is missing)."""
        return inspect_image(received.path, type, self._limits.max_virtual_bytes)

    @contextmanager
    def publishing(self, received: Received) -> Iterator[None]:
        """Give content its final name for a block that writes down who needs it; what nobody needs then goes again."""
        with self._naming:
            if self.holds(received.sha256, received.size):
                received.path.unlink(missing_ok=True)
            else:
                received.path.replace(self.path(received.sha256))
                _sync_directory(self._content)
            try:
                yield
            except BaseException:
                with suppress(GarbiError):  # what cannot be asked now is asked by the next sweep
                    self._drop_unused(received.sha256)
                raise

    @contextmanager
    def releasing(self, sha256: str) -> Iterator[None]:
        """Delete content after a block that deletes a row, if no other row needs it."""
        with self._naming:
            yield
            if sha256:
                self._drop_unused(sha256)

    def _drop_unused(self, sha256: str) -> None:
        if not self._in_use(sha256):
            self.path(sha256).unlink(missing_ok=True)


def check_sha256(sha256: str) -> str:
    """Return `sha256` if it is a digest in hexadecimal; raise InvalidField otherwise."""
    if not _SHA256.match(sha256):
        raise InvalidField("sha256", "sha256 takes 64 hexadecimal digits in lower case")
    return sha256


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
