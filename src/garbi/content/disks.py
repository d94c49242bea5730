"""Checks a disk image before any hypervisor's tool sees it: that it is of the declared format, and leads nowhere else."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from garbi.base.errors import ImageRejected
from garbi.content.tarballs import rejected, shown

SECTOR = 512
PLAIN_HINT = "'qemu-img convert -O qcow2' makes a plain one of it"

_MAGICS = {
    b"QFI\xfb": "qcow2",
    b"QED\0": "qed",
    b"COWD": "vmdk",
    b"KDMV": "vmdk",
    b"conectix": "vhd",
    b"vhdxfile": "vhdx",
    b"LUKS\xba\xbe": "luks",
    b"WithoutFreeSpace": "parallels",
    b"WithouFreSpacExt": "parallels",
    b"Bochs Virtual HD Image": "bochs",
    b"#!/bin/sh\n#V2.0 Format": "cloop",
    b"# Disk DescriptorFile": "vmdk",
    b"OOOM": "cow",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
"""How files begin that are no raw disk; `format_inspector` looks deeper into those that it knows."""

_TRAILERS = {b"conectix": "vhd", b"koly": "dmg"}
"""How the last sector of a file begins that is no raw disk."""

_QCOW2_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_INCOMPATIBLE = {0: "was not closed", 1: "is marked corrupt", 2: "has an external data file", 4: "has subclusters"}
_COMPRESSION_BIT = 1 << 3
_EXTENSIONS = {
    0xE2792ACA: "a backing file's format",
    0x44415441: "an external data file",
    0x23852875: "bitmaps",
    0x0537BE77: "encryption",
}
_FEATURE_NAMES = 0x6803F857
_L1_LIMIT = 32 << 20
_REFCOUNT_TABLE_LIMIT = 8 << 20


def inspect_disk(path: Path, declared: str, max_virtual_bytes: int) -> int:
    """Check that the file is `declared` ("raw" or "qcow2"), alone and sane; return its virtual size in bytes."""
    size = path.stat().st_size
    found = _detect(path)
    if found != declared:
        raise ImageRejected("type", f"the file is declared {declared}, but it looks like {found}")
    virtual_size = _inspect_qcow2(path, size) if declared == "qcow2" else size
    if virtual_size % SECTOR or virtual_size == 0:
        raise rejected(f"the disk's size of {virtual_size} bytes is not a number of whole sectors: is it cut off?")
    if virtual_size > max_virtual_bytes:
        raise rejected(f"the disk unfolds to {virtual_size} bytes; {max_virtual_bytes} are allowed")
    return virtual_size


def _detect(path: Path) -> str:
    """The format by the file's own marks; raises ImageRejected when it bears those of several."""
    from oslo_utils.imageutils.format_inspector import ImageFormatError, SafetyCheckFailed, detect_file_format

    with path.open("rb") as file:
        start = file.read(SECTOR)
        file.seek(max(0, path.stat().st_size - SECTOR))
        end = file.read(SECTOR)
    own = {name for magic, name in _MAGICS.items() if start.startswith(magic)}
    own |= {name for magic, name in _TRAILERS.items() if end.startswith(magic)}
    if start[257:262] == b"ustar":
        own.add("tar")
    try:
        inspector = detect_file_format(str(path))
        found = str(inspector)
        if found == "qcow2" and inspector is not None:
            inspector.safety_check()
    except SafetyCheckFailed as error:
        raise rejected(f"the qcow2 file is not plain ({_reasons(error.failures)}); {PLAIN_HINT}") from error
    except ImageFormatError as error:
        raise rejected(f"the file bears the marks of several formats ({shown(str(error))})") from error
    except Exception as error:  # its parsers of other formats fail in ways of their own on what is none
        raise rejected(f"the file's format cannot be told ({type(error).__name__})") from error
    formats = own | ({"raw"} if found == "gpt" else {found})
    return " and ".join(sorted(formats - {"raw"})) or "raw"


def _reasons(failures: dict[str, Exception]) -> str:
    return ", ".join(shown(str(failure)).strip("'\"") for failure in failures.values())


def _inspect_qcow2(path: Path, size: int) -> int:
    """Check every field of the header against what `qemu-img convert` writes; return the virtual size."""
    with path.open("rb") as file:
        head = file.read(1 << 16).ljust(_QCOW2_HEADER.size, b"\0")
    fields = _QCOW2_HEADER.unpack_from(head)
    _, version, backing, _, cluster_bits, virtual_size = fields[:6]
    encryption, l1_size, l1_offset, table, table_clusters, snapshots = fields[6:12]
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        raise rejected(f"the qcow2 file's version {version} or cluster size is not a known one")
    cluster = 1 << cluster_bits
    for wrong, what in ((backing, "a backing file"), (encryption, "encryption"), (snapshots, "internal snapshots")):
        if wrong:
            raise rejected(f"the qcow2 file has {what}; {PLAIN_HINT}")
    _check_table("L1", l1_offset, l1_size * 8, cluster, size, _L1_LIMIT)
    _check_table("refcount", table, table_clusters * cluster, cluster, size, _REFCOUNT_TABLE_LIMIT)
    if l1_size * (cluster // 8) * cluster < virtual_size:
        raise rejected("the qcow2 file is corrupt: its L1 table is too small for its size")
    if version == 3:
        _check_features(head, cluster, fields)
    return int(virtual_size)


def _check_table(name: str, offset: int, length: int, cluster: int, size: int, limit: int) -> None:
    if length > limit:
        raise rejected(f"the qcow2 file's {name} table of {length} bytes is larger than QEMU takes")
    if length == 0 or offset == 0 or offset % cluster or offset + length > size:
        raise rejected(f"the qcow2 file is cut off or corrupt: its {name} table is not inside it")


def _check_features(head: bytes, cluster: int, fields: tuple[Any, ...]) -> None:
    incompatible, compatible, autoclear, order, length = fields[13:18]
    for bit, what in _INCOMPATIBLE.items():
        if incompatible & (1 << bit):
            raise rejected(f"the qcow2 file {what}; {PLAIN_HINT}")
    if incompatible & ~_COMPRESSION_BIT or compatible & ~1 or autoclear:
        raise rejected(f"the qcow2 file uses features that are not known; {PLAIN_HINT}")
    if order > 6 or not 104 <= length <= min(cluster, 4096) or length % 8:
        raise rejected("the qcow2 file is corrupt: its header's length or refcount width is wrong")
    if incompatible & _COMPRESSION_BIT and (length < 112 or head[104] not in (0, 1)):
        raise rejected("the qcow2 file names a compression that is not known")
    _check_extensions(head[: min(len(head), cluster)], length)


def _check_extensions(head: bytes, offset: int) -> None:
    """Header extensions are where qcow2 names other files; only the table of feature names may be there."""
    reader = io.BytesIO(head)
    reader.seek(offset)
    while True:
        start = reader.read(8)
        if len(start) < 8:
            raise rejected("the qcow2 file is corrupt: its header extensions do not end")
        kind, length = struct.unpack(">II", start)
        if kind == 0:
            return
        if kind != _FEATURE_NAMES:
            what = _EXTENSIONS.get(kind, f"an extension {kind:#010x} that is not known")
            raise rejected(f"the qcow2 file has {what}; {PLAIN_HINT}")
        reader.seek(-(-length // 8) * 8, io.SEEK_CUR)
