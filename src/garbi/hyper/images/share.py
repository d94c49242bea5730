"""The images that a controller shares with its hosts: files named by their sha256, in a directory or on an NFS server.

The share is believed in nothing: what comes from it is checked by its digest and inspected like any upload.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from garbi.base.errors import InvalidField, ShareUnavailable

IN_PLACE, COPY = "in-place", "copy"
USES = (IN_PLACE, COPY)
_NFS = "nfs://"
_FOLDER = "sha256"
_BLOCK = 1 << 20
_READER = "nfs-cat"
_VERSION = "version=4"  # one port, and no helpers beside the server
SILENCE_S = 30.0
"""How long a server may say nothing before the share counts as gone."""


class ImageShare:
    """The share at `place`: the directory where it is mounted, an nfs:// URL for hosts that cannot mount, empty for none.

    Only files of a directory can be used in place; those of an NFS server are copied. Raises InvalidField for settings that
    cannot be understood.
    """

    def __init__(self, place: str, use: str) -> None:
        if use not in USES:
            raise InvalidField("image_use", f"image_use {use!r} is not allowed: it takes {', '.join(USES)}", list(USES))
        if place and not place.startswith((_NFS, "/")):
            rule = "a directory (/…) or nfs://server/export/path"
            raise InvalidField("image_share", f"image_share {place!r} is not allowed: it takes {rule}", allowed=rule)
        self._place = place
        self._use = use

    def file(self, sha256: str) -> Path | None:
        """The file to be used where it is; None when images of this share are copied. Raises ShareUnavailable."""
        return self._checked_file(sha256) if self._use == IN_PLACE and self._is_directory else None

    def blocks(self, sha256: str) -> Iterator[bytes]:
        """The content, as the share has it. Raises ShareUnavailable, at the latest when the last block was asked for."""
        if not self._place:
            raise ShareUnavailable("this host has no image share: GARBI_HYPER_IMAGE_SHARE says where one is")
        return self._read_file(sha256) if self._is_directory else self._read_server(sha256)

    @property
    def _is_directory(self) -> bool:
        return self._place.startswith("/")

    def _checked_file(self, sha256: str) -> Path:
        """A link on the share could lead to anything on this host."""
        path = Path(self._place) / _FOLDER / sha256
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ShareUnavailable(f"what the image share has under {sha256} is no file")
        except OSError as error:
            raise ShareUnavailable(f"{sha256} is not on the image share {self._place}: {error.strerror}") from error
        return path

    def _read_file(self, sha256: str) -> Iterator[bytes]:
        path = self._checked_file(sha256)
        try:
            with path.open("rb", buffering=0) as file:
                while block := file.read(_BLOCK):
                    yield block
        except OSError as error:
            raise ShareUnavailable(f"{sha256} of the image share cannot be read: {error.strerror}") from error

    def _read_server(self, sha256: str) -> Iterator[bytes]:
        """By libnfs in a process of its own, which cannot hang the agent for good: it ends when nobody reads on."""
        url = urlsplit(self._place)
        path = f"{url.path.rstrip('/')}/{_FOLDER}/{sha256}"
        query = url.query if "version=" in url.query else "&".join(filter(None, (url.query, _VERSION)))
        command = [_READER, urlunsplit(url._replace(path=path, query=query))]
        try:
            reader = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
            )
        except OSError as error:
            words = "install libnfs-utils (apt-get install libnfs-utils)"
            raise ShareUnavailable(f"{_READER} cannot be run ({error.strerror}): {words}") from error
        with reader:
            assert reader.stdout is not None and reader.stderr is not None  # noqa: S101, PT018 - both are pipes
            try:
                yield from self._until_silence(reader.stdout.fileno())
                words = reader.stderr.read(4096).decode("utf-8", "replace").strip()
            except BaseException:
                reader.kill()
                raise
        if reader.returncode != 0:
            raise ShareUnavailable(f"{sha256} is not to be had from {self._place}: {words or reader.returncode}")

    def _until_silence(self, pipe: int) -> Iterator[bytes]:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _BLOCK)
        while True:
            if not select.select([pipe], [], [], SILENCE_S)[0]:
                raise ShareUnavailable(f"{self._place} has not answered for {SILENCE_S:.0f} seconds")
            block = os.read(pipe, _BLOCK)
            if not block:
                return
            yield block
