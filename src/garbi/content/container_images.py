"""Checks an archive of a container image, as `docker save` or an OCI layout has it: all that it names is there, and is it."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from garbi.content.tarballs import Budget, ForwardReader, check_members, members, rejected, shown, unpacked

LARGEST_JSON = 4 << 20
MOST_LAYERS = 125
MOST_FILES = 20_000
MOST_IMAGES = 16

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_LINK_STEPS = 8
_JSON_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _File:
    offset: int
    size: int


@dataclass(slots=True)
class _Contents:
    """What is in the archive: regular files by name, links by name, and the bytes of the small files."""

    files: dict[str, _File] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    small_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as a manifest names it, with the digest that its unpacked content must have."""

    name: str
    diff_id: str


def inspect_container(path: Path, max_bytes: int) -> int:
    """Check the archive; return the bytes that its layers unfold to. Raises ImageRejected."""
    packed = path.stat().st_size
    budget = Budget(packed, max_bytes)
    with path.open("rb") as file, unpacked(file) as (plain, seekable):
        reader = ForwardReader(plain, packed + budget.limit, seekable=seekable)
        contents = _read_contents(reader, Budget(packed, budget.limit + packed))
        reader.finish()
    if "manifest.json" in contents.files:
        layers = list(_saved_layers(contents))
    elif "index.json" in contents.files:
        layers = list(_oci_layers(contents))
    else:
        raise rejected("the archive has neither manifest.json (docker save) nor index.json (OCI image layout)")
    with path.open("rb") as file, unpacked(file) as (plain, _):
        _check_layers(plain, contents, layers, budget)
    return budget.used


def _read_contents(reader: ForwardReader, budget: Budget) -> _Contents:
    contents = _Contents()
    for count, member in enumerate(members(reader, budget), start=1):
        name = posixpath.normpath(member.name)
        if count > MOST_FILES:
            raise rejected(f"the archive has more than {MOST_FILES} files, which no container image has")
        if name in contents.files or name in contents.links:
            raise rejected(f"the archive holds {shown(name)} twice")
        if member.isreg() and not member.issparse():
            contents.files[name] = _File(member.offset_data, member.size)
            _keep_small(reader, contents, name, member.size)
        elif member.issym():
            contents.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            contents.links[name] = posixpath.normpath(member.linkname)
        elif not member.isdir():
            raise rejected(f"the archive holds {shown(name)}, which is neither a file, a directory nor a link")
    return contents


def _keep_small(reader: ForwardReader, contents: _Contents, name: str, size: int) -> None:
    """Keep what may be JSON: in a compressed archive there is no cheap way back to it."""
    if size > LARGEST_JSON or contents.small_bytes + size > 16 * LARGEST_JSON:
        return
    content = b""
    while len(content) < size:
        block = reader.read(min(size - len(content), _JSON_BLOCK))
        content += block
        if not block or not content.lstrip().startswith((b"{", b"[")):
            return
    contents.small[name] = content
    contents.small_bytes += size


def _saved_layers(contents: _Contents) -> Iterator[_Layer]:
    manifest = _json(contents, "manifest.json")
    if not isinstance(manifest, list) or len(manifest) != 1:
        raise rejected("manifest.json of the archive must name exactly one image")
    config_name = _text(manifest[0], "Config")
    stem = posixpath.basename(config_name).removesuffix(".json")
    if _HEX.match(stem):
        _check_digest(contents, config_name, stem)
    names = [_string(name, "a layer") for name in _list(manifest[0], "Layers")]
    yield from _with_diff_ids(names, _json(contents, config_name))


def _oci_layers(contents: _Contents) -> Iterator[_Layer]:
    manifests = list(_oci_manifests(contents, _json(contents, "index.json"), depth=3))
    if not 1 <= len(manifests) <= MOST_IMAGES:
        raise rejected(f"index.json of the archive must lead to an image, and to at most {MOST_IMAGES}")
    for name in manifests:
        manifest = _json(contents, name)
        config = _blob(contents, _object(manifest, "config"), checked=True)
        names = [_blob(contents, layer, checked=False) for layer in _list(manifest, "layers")]
        yield from _with_diff_ids(names, _json(contents, config))


def _oci_manifests(contents: _Contents, index: Any, depth: int) -> Iterator[str]:
    for descriptor in _list(index, "manifests"):
        kind = descriptor.get("mediaType") if isinstance(descriptor, dict) else None
        if isinstance(kind, str) and ("index" in kind or "manifest.list" in kind):
            if depth == 0:
                raise rejected("index.json of the archive nests too deeply")
            yield from _oci_manifests(contents, _json(contents, _blob(contents, descriptor, checked=True)), depth - 1)
        elif not _is_attestation(descriptor):
            yield _blob(contents, descriptor, checked=True)


def _is_attestation(descriptor: Any) -> bool:
    platform = descriptor.get("platform") if isinstance(descriptor, dict) else None
    return isinstance(platform, dict) and platform.get("os") == "unknown"


def _with_diff_ids(names: list[str], config: Any) -> Iterator[_Layer]:
    diff_ids = _list(_object(config, "rootfs"), "diff_ids")
    if config.get("os", "linux") not in ("linux", ""):
        raise rejected(f"the image is for {shown(str(config['os']))}, not for Linux")
    if len(names) > MOST_LAYERS:
        raise rejected(f"the image has {len(names)} layers; {MOST_LAYERS} are allowed")
    if len(diff_ids) != len(names):
        raise rejected("the image's configuration lists other layers than its manifest")
    for name, diff_id in zip(names, diff_ids, strict=True):
        digest = _string(diff_id, "a layer's digest").removeprefix("sha256:")
        if not _HEX.match(digest):
            raise rejected(f"a layer's digest is no sha256: {shown(digest)}")
        yield _Layer(name, digest)


def _check_layers(plain: IO[bytes], contents: _Contents, layers: list[_Layer], budget: Budget) -> None:
    """Unfold each layer once, in the order of the archive: its digest, its size and its members."""
    wanted: dict[_File, str] = {}
    for layer in layers:
        if wanted.setdefault(_resolve(contents, layer.name), layer.diff_id) != layer.diff_id:
            raise rejected(f"the image lists layer {shown(layer.name)} with two digests")
    for file in sorted(wanted, key=lambda file: file.offset):
        plain.seek(file.offset)
        with unpacked(io.BufferedReader(_Section(plain, file.size))) as (layer_tar, _):
            reader = ForwardReader(layer_tar, file.size + budget.limit, digest=True)
            check_members(reader, budget, may_be_empty=True)
            if reader.finish() != wanted[file]:
                raise rejected("a layer is not what the image's configuration says: its sha256 differs")


class _Section(io.RawIOBase):
    """The next `size` bytes of a file, as a file that can be rewound only while its buffer holds the start."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(min(len(buffer), self._left))
        buffer[: len(block)] = block
        self._left -= len(block)
        return len(block)


def _resolve(contents: _Contents, name: str) -> _File:
    """The regular file that a name leads to, inside the archive."""
    return contents.files[_resolve_name(contents, name)]


def _resolve_name(contents: _Contents, name: str) -> str:
    name = posixpath.normpath(name)
    for _ in range(_LINK_STEPS):
        if name in contents.files:
            return name
        if name not in contents.links:
            break
        name = contents.links[name]
    raise rejected(f"{shown(name)} is named in the archive, but not in it")


def _json(contents: _Contents, name: str) -> Any:
    found = _resolve_name(contents, name)
    if found not in contents.small:
        raise rejected(f"{shown(name)} is larger than any description of an image ({contents.files[found].size} bytes)")
    try:
        return json.loads(contents.small[found])
    except (ValueError, RecursionError):
        raise rejected(f"{shown(name)} in the archive is not JSON") from None


def _blob(contents: _Contents, descriptor: Any, checked: bool) -> str:
    """The name of what an OCI descriptor names; `checked` compares small content with the digest (layers have their own)."""
    algorithm, _, digest = _text(descriptor, "digest").partition(":")
    if algorithm != "sha256" or not _HEX.match(digest):
        raise rejected(f"a digest in the archive is no sha256: {shown(digest)}")
    name = f"blobs/sha256/{digest}"
    if checked:
        _check_digest(contents, name, digest)
    return name


def _check_digest(contents: _Contents, name: str, digest: str) -> None:
    content = contents.small.get(_resolve_name(contents, name))
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        raise rejected(f"{shown(name)} is not what its name says: its sha256 differs")


def _object(node: Any, key: str) -> dict[str, Any]:
    found = node.get(key) if isinstance(node, dict) else None
    if not isinstance(found, dict):
        raise rejected(f"the image's description lacks the object {key!r}")
    return found


def _list(node: Any, key: str) -> list[Any]:
    found = node.get(key) if isinstance(node, dict) else None
    if not isinstance(found, list):
        raise rejected(f"the image's description lacks the list {key!r}")
    return found


def _text(node: Any, key: str) -> str:
    return _string(node.get(key) if isinstance(node, dict) else None, key)


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise rejected(f"the image's description should hold a text for {what}")
    return value
