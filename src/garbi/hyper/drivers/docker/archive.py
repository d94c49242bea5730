"""An image archive as the engine may have it: the one image inside, under our name, and nothing else.

An archive names its image itself, in several places, and the engine would move any tag of the host to it. So it is never
passed on as it is: configuration and layers are picked out of it, and sent with a list of contents that we write. Both
kinds are read: what `docker save` writes, and an OCI image layout. Its content is hostile: only headers and small JSON
files are looked at, sizes are bounded before they are read, and no name in it becomes a path.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from garbi.base.errors import ImageRejected

CHUNK = 256 * 1024
MOST_MEMBERS = 2000
MOST_LAYERS = 125
MOST_VOLUMES = 64
LARGEST_JSON = 4 * 1024 * 1024
LARGEST_HEADER = 64 * 1024

_COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_BROKEN = (
    tarfile.TarError,
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    ValueError,
    OSError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of the archive: where its bytes lie in the (unpacked) tar."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The image in an archive: the bytes of its configuration, and its layers from the lowest to the highest."""

    config: bytes
    layers: tuple[Member, ...]


def image_archive(path: Path, name: str, platform: str) -> Iterator[bytes]:
    """The archive at `path` as a `docker save` archive in pieces, its only image called `name`.

    `platform` is the engine's, "linux/amd64": it chooses where an OCI layout holds an image for several. Raises
    ImageRejected before the first piece when the archive is corrupt or not of one image, later only when it is cut short.
    """
    with _opened(path) as file:
        contents = _contents(file, platform)
    return _written(path, name, contents)


def plain_tar(path: Path) -> Iterator[bytes]:
    """The file at `path` in pieces, as it is."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _written(path: Path, name: str, contents: Contents) -> Iterator[bytes]:
    ordered = sorted(set(contents.layers), key=lambda layer: layer.offset)
    names = {layer: f"{number}/layer.tar" for number, layer in enumerate(ordered)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [names[layer] for layer in contents.layers]}]
    yield from _file("manifest.json", json.dumps(manifest).encode())
    yield from _file("config.json", contents.config)
    with _opened(path) as file:
        for layer in ordered:
            yield _header(names[layer], layer.size)
            yield from _copied(file, layer)
            yield _padding(layer.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content)) + content + _padding(len(content))


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _copied(file: IO[bytes], member: Member) -> Iterator[bytes]:
    file.seek(member.offset)
    left = member.size
    while left:
        piece = file.read(min(CHUNK, left))
        if not piece:
            raise _rejected("it ends in the middle of a layer")
        left -= len(piece)
        yield piece


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The tar at `path`, unpacked while it is read; what is wrong with its form becomes ImageRejected."""
    try:
        with path.open("rb") as packed:
            start = packed.read(6)
            packed.seek(0)
            unpack = next((opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), None)
            if unpack is None:
                yield packed
                return
            with unpack(packed) as file:
                yield file
    except _BROKEN as error:
        raise _rejected(f"it cannot be read ({type(error).__name__}: {error})") from error


class _Bounded(io.RawIOBase):
    """A file that refuses to read much at once: a header of a hostile tar may claim gigabytes for a name."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Index:
    """The members of one archive by name; a link leads to the regular file that it means, inside the archive."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}
        self._twice: set[str] = set()
        with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:
            for number, info in enumerate(tar):
                if number >= MOST_MEMBERS:
                    raise _rejected(f"it has more than {MOST_MEMBERS} members")
                self._add(info)

    def has(self, name: str) -> bool:
        return name in self._members or name in self._links

    def member(self, name: str) -> Member:
        """The file of that name; raises ImageRejected."""
        name = _normal(name)
        for _ in range(8):
            if name in self._twice:
                raise _rejected(f"it holds {_shown(name)} twice")
            if name in self._members:
                return self._members[name]
            if name not in self._links:
                break
            name = self._links[name]
        raise _rejected(f"{_shown(name)} is missing in it")

    def content(self, name: str) -> bytes:
        """The bytes of a small file; raises ImageRejected."""
        member = self.member(name)
        if member.size > LARGEST_JSON:
            raise _rejected(f"{_shown(name)} is too long")
        return b"".join(_copied(self._file, member))

    def json(self, name: str) -> Any:
        return _parsed(self.content(name), name)

    def _add(self, info: tarfile.TarInfo) -> None:
        name = _normal(info.name)
        if self.has(name):
            self._twice.add(name)
        if info.size < 0:
            raise _rejected("a size in it is negative")
        if info.isreg() and info.sparse is None:
            self._members[name] = Member(info.offset_data, info.size)
        elif info.issym():
            self._links[name] = _normal(posixpath.join(posixpath.dirname(name), info.linkname))
        elif info.islnk():
            self._links[name] = _normal(info.linkname)


def _contents(file: IO[bytes], platform: str) -> Contents:
    index = _Index(file)
    if index.has("manifest.json"):
        config_name, layer_names = _saved(index)
    elif index.has("index.json"):
        config_name, layer_names = _laid_out(index, platform)
    else:
        raise _rejected("it has neither manifest.json (docker save) nor index.json (OCI image layout)")
    if len(layer_names) > MOST_LAYERS:
        raise _rejected(f"it has {len(layer_names)} layers, more than {MOST_LAYERS}")
    config = index.content(config_name)
    _check_config(_parsed(config, "the image configuration"), len(layer_names))
    return Contents(config, tuple(index.member(name) for name in layer_names))


def _saved(index: _Index) -> tuple[str, list[str]]:
    """Names of configuration and layers by the list that `docker save` writes."""
    manifest = index.json("manifest.json")
    if not isinstance(manifest, list) or len(manifest) != 1:
        raise _rejected("it must hold exactly one image")
    return _text(manifest[0], "Config"), [_string(name) for name in _list(manifest[0], "Layers")]


def _laid_out(index: _Index, platform: str) -> tuple[str, list[str]]:
    """Names of configuration and layers by an OCI image layout, whose index may lead to further ones."""
    fitting = list(_manifests(index, index.json("index.json"), depth=3))
    if len(fitting) > 1:
        fitting = [found for found in fitting if _platform(found) in (platform, None)]
    if len(fitting) != 1:
        raise _rejected(f"it must hold exactly one image for {platform}")
    manifest = index.json(_blob(fitting[0]))
    return _blob(_get(manifest, "config")), [_blob(layer) for layer in _list(manifest, "layers")]


def _manifests(index: _Index, node: Any, depth: int) -> Iterator[Any]:
    for descriptor in _list(node, "manifests"):
        nested = "index" in str(_get(descriptor, "mediaType")) or "manifest.list" in str(_get(descriptor, "mediaType"))
        if nested and depth:
            yield from _manifests(index, index.json(_blob(descriptor)), depth - 1)
        elif _platform(descriptor) != "unknown/unknown":  # these are attestations
            yield descriptor


def _platform(descriptor: Any) -> str | None:
    platform = descriptor.get("platform") if isinstance(descriptor, dict) else None
    return f"{platform.get('os')}/{platform.get('architecture')}" if isinstance(platform, dict) else None


def _check_config(config: Any, layers: int) -> None:
    if _get(config, "os") not in ("linux", ""):
        raise _rejected("it is not for Linux")
    if len(_list(_get(config, "rootfs"), "diff_ids")) != layers:
        raise _rejected("its configuration does not fit its layers")
    run = _get(config, "config")
    if not (isinstance(run, dict) and (run.get("Cmd") or run.get("Entrypoint"))):
        raise _rejected("it names no command to run")
    volumes = run.get("Volumes") or {}
    if not isinstance(volumes, dict) or len(volumes) > MOST_VOLUMES:
        raise _rejected(f"it declares more than {MOST_VOLUMES} volumes, each a directory of the host")


def _blob(descriptor: Any) -> str:
    digest = _text(descriptor, "digest")
    if not _DIGEST.match(digest):
        raise _rejected(f"digest {_shown(digest)} is not a sha256")
    return "blobs/" + digest.replace(":", "/")


def _parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _rejected(f"{_shown(name)} is not JSON") from error


def _get(node: Any, key: str) -> Any:
    if not isinstance(node, dict):
        raise _rejected(f"a JSON object with {key!r} was expected")
    return node.get(key, "")


def _text(node: Any, key: str) -> str:
    return _string(_get(node, key))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _rejected("a JSON string was expected")
    return value


def _list(node: Any, key: str) -> list[Any]:
    found = _get(node, key)
    if not isinstance(found, list):
        raise _rejected(f"{key!r} must be a JSON list")
    return found


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _rejected(why: str) -> ImageRejected:
    return ImageRejected("image", f"the image archive is refused: {why}")
