"""Writes the tree of a tiny image as an initramfs and as a Docker archive; the same input gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Mapping

from garbi.hyper.images.tiny.tree import Entry

EPOCH = 1_700_000_000
"""The time in every archive, in place of the present one."""

_CREATED = "2023-11-14T22:13:20Z"


def initramfs(tree: Mapping[str, Entry]) -> bytes:
    """The tree as a gzip-compressed cpio archive, the format that Linux unpacks at boot."""
    out = io.BytesIO()
    for number, (path, entry) in enumerate(tree.items(), start=1):
        _write_cpio(out, number, path, _cpio_mode(entry), _payload(entry))
    _write_cpio(out, 0, "TRAILER!!!", 0, b"")
    return gzip.compress(out.getvalue(), compresslevel=9, mtime=0)


def docker_archive(tree: Mapping[str, Entry], architecture: str) -> bytes:
    """The tree as a one-layer image in the format of `docker save`, with no name: who loads it names it."""
    layer = _layer(tree)
    config = json.dumps(_config(hashlib.sha256(layer).hexdigest(), architecture), sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_name = hashlib.sha256(layer).hexdigest() + "/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": None, "Layers": [layer_name]}], sort_keys=True).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in ((config_name, config), (layer_name, layer), ("manifest.json", manifest)):
            archive.addfile(_member(name, 0o644, tarfile.REGTYPE, len(content)), io.BytesIO(content))
    return out.getvalue()


def _config(diff_id: str, architecture: str) -> dict[str, object]:
    return {
        "architecture": architecture,
        "os": "linux",
        "created": _CREATED,
        "config": {
            "Cmd": ["/sbin/init"],
            "Env": ["PATH=/bin:/sbin"],
            "ExposedPorts": {"80/tcp": {}, "7/udp": {}},
            "StopSignal": "SIGTERM",
        },
        "history": [{"created": _CREATED, "created_by": "garbi"}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }


def _layer(tree: Mapping[str, Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, entry in tree.items():
            if entry.link is not None:
                member = _member(path, entry.mode, tarfile.SYMTYPE, 0)
                member.linkname = entry.link
                archive.addfile(member)
            elif entry.content is None:
                archive.addfile(_member(path, entry.mode, tarfile.DIRTYPE, 0))
            else:
                member = _member(path, entry.mode, tarfile.REGTYPE, len(entry.content))
                archive.addfile(member, io.BytesIO(entry.content))
    return out.getvalue()


def _member(name: str, mode: int, kind: bytes, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.size, member.mtime = mode, kind, size, EPOCH
    member.uname = member.gname = "root"
    return member


def _cpio_mode(entry: Entry) -> int:
    if entry.link is not None:
        return stat.S_IFLNK | entry.mode
    return (stat.S_IFDIR if entry.content is None else stat.S_IFREG) | entry.mode


def _payload(entry: Entry) -> bytes:
    return entry.link.encode() if entry.link is not None else entry.content or b""


def _write_cpio(out: io.BytesIO, number: int, path: str, mode: int, payload: bytes) -> None:
    """Append a member in the "new ASCII" format: 13 fields of 8 hexadecimal digits, name and data padded to 4 bytes."""
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, EPOCH, len(payload), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    out.write(header + name + bytes(-(len(header) + len(name)) % 4))
    out.write(payload + bytes(-len(payload) % 4))
