"""Which disk images are accepted: of the declared format, plain, whole, and of bounded size."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from garbi.base.errors import DriverUnavailable, ImageRejected
from garbi.content import sandbox
from garbi.content.inspection import inspect_image
from garbi.hyper.model.image import ImageType

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


def convert(raw: Path, path: Path, format: str, *options: str) -> None:
    command = ["qemu-img", "convert", "-f", "raw", "-O", format, *options, "--", str(raw), str(path)]
    subprocess.run(command, check=True, capture_output=True)


def make(path: Path, format: str, *options: str, size: str = "8M", filled: bool = True) -> Path:
    raw = path.with_suffix(".content")
    raw.write_bytes(b"\x55" * MEBIBYTE if filled else b"")
    with raw.open("r+b") as file:
        file.truncate(int(size.removesuffix("M")) * MEBIBYTE)
    convert(raw, path, format, *options)
    return path


def patched(path: Path, offset: int, content: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    return path


@pytest.mark.parametrize(
    "options",
    [(), ("-o", "compat=0.10"), ("-o", "cluster_size=512"), ("-o", "cluster_size=2M"), ("-c",), ("-o", "lazy_refcounts=on"),
     ("-o", "preallocation=metadata"), ("-c", "-o", "compression_type=zstd"), ("-o", "refcount_bits=64")],
    ids=" ".join,
)  # fmt: skip
def test_what_qemu_img_convert_writes_is_accepted(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert inspect_image(make(tmp_path / "a", "qcow2", *options), ImageType.QCOW2, GIBIBYTE) == 8 * MEBIBYTE


def zeros(path: Path) -> None:
    path.write_bytes(bytes(MEBIBYTE))


def master_boot_record(path: Path) -> None:
    entry = struct.pack("<B3BB3BII", 0x80, 0, 2, 0, 0x83, 0, 3, 0, 1, 100)
    path.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(MEBIBYTE - 512))


def boot_sector_of_a_file_system(path: Path) -> None:
    path.write_bytes(b"\xeb\x58\x90" + b"\x99" * 507 + b"\x55\xaa" + bytes(MEBIBYTE - 512))


def fat(path: Path) -> None:
    zeros(path)
    subprocess.run(["/usr/sbin/mkfs.vfat", str(path)], check=True, capture_output=True)


def ext4(path: Path) -> None:
    zeros(path)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", str(path)], check=True, capture_output=True)


@pytest.mark.parametrize("write", [zeros, master_boot_record, boot_sector_of_a_file_system, fat, ext4])
def test_a_raw_disk_may_be_empty_partitioned_or_a_file_system(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "disk")
    assert inspect_image(tmp_path / "disk", ImageType.RAW, GIBIBYTE) == MEBIBYTE


OTHERS = ["qcow2", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels", "qcow"]


@pytest.mark.parametrize("format", OTHERS)
@pytest.mark.parametrize("declared", [ImageType.RAW, ImageType.QCOW2])
def test_a_disk_of_another_format_is_refused_whatever_it_is_declared(
    tmp_path: Path, format: str, declared: ImageType
) -> None:
    if format == declared:
        declared = ImageType.RAW
    path = make(tmp_path / "a", format)
    with pytest.raises(ImageRejected) as caught:
        inspect_image(path, declared, GIBIBYTE)
    assert caught.value.detail


def test_an_encrypted_an_optical_disc_and_a_fixed_vhd_are_not_taken_for_raw_disks(tmp_path: Path) -> None:
    disc = tmp_path / "disc"
    disc.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(2041) + bytes(MEBIBYTE))
    vhd = tmp_path / "vhd"
    vhd.write_bytes(bytes(MEBIBYTE) + b"conectix" + bytes(504))
    luks = tmp_path / "luks"
    luks.write_bytes(b"LUKS\xba\xbe\x00\x02" + bytes(MEBIBYTE - 8))
    for path, looks in ((disc, "iso"), (vhd, "vhd"), (luks, "luks")):
        with pytest.raises(ImageRejected, match=f"looks like {looks}"):
            inspect_image(path, ImageType.RAW, GIBIBYTE)


def test_a_vmdk_descriptor_of_text_is_not_taken_for_a_raw_disk(tmp_path: Path) -> None:
    text = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n\nRW 1 FLAT "/etc/passwd" 0\n'
    (tmp_path / "a").write_bytes(text.ljust(MEBIBYTE, b"\0"))
    with pytest.raises(ImageRejected, match="looks like"):
        inspect_image(tmp_path / "a", ImageType.RAW, GIBIBYTE)


def test_a_disk_that_unfolds_to_more_than_allowed_is_refused_though_it_is_small(tmp_path: Path) -> None:
    path = tmp_path / "a"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "--", str(path), "4T"], check=True)
    with pytest.raises(ImageRejected, match="unfolds to 4398046511104 bytes"):
        inspect_image(path, ImageType.QCOW2, 2 << 40)


CORRUPT: dict[str, tuple[int, bytes, str]] = {
    "a backing file": (8, struct.pack(">QI", 512, 4), "not plain"),
    "encryption": (32, struct.pack(">I", 1), "encryption"),
    "internal snapshots": (60, struct.pack(">I", 1), "internal snapshots"),
    "clusters of 2 GiB": (20, struct.pack(">I", 31), "cluster size"),
    "version 4": (4, struct.pack(">I", 4), "not plain"),
    "a mark of corruption": (72, struct.pack(">Q", 2), "corrupt"),
    "an unclean end": (72, struct.pack(">Q", 1), "not closed"),
    "an external data file": (72, struct.pack(">Q", 4), "not plain"),
    "subclusters": (72, struct.pack(">Q", 16), "not plain"),
    "a feature of the future": (72, struct.pack(">Q", 1 << 40), "not plain"),
    "a compatible feature of the future": (80, struct.pack(">Q", 1 << 20), "not known"),
    "raw external data": (88, struct.pack(">Q", 2), "not known"),
    "an L1 table beyond the end": (40, struct.pack(">Q", 1 << 40), "L1 table is not inside"),
    "an L1 table that is not aligned": (40, struct.pack(">Q", 0x30001), "L1 table is not inside"),
    "an L1 table of 16 GiB": (36, struct.pack(">I", 0x80000000), "larger than QEMU takes"),
    "an L1 table for nothing": (36, struct.pack(">I", 0), "L1 table is not inside"),
    "a refcount table beyond the end": (48, struct.pack(">Q", 1 << 50), "refcount table is not inside"),
    "a header without an end": (100, struct.pack(">I", 0xFFFFFFF8), "header's length"),
    "a size of half a sector": (24, struct.pack(">Q", 8 * MEBIBYTE - 256), "whole sectors"),
    "a size of exabytes": (24, struct.pack(">Q", 1 << 62), "too small for its size"),
    "a name for its external data file": (112, struct.pack(">II", 0x44415441, 8) + b"/etc/pwd", "external data file"),
    "a backing format": (112, struct.pack(">II", 0xE2792ACA, 4) + b"raw\0\0\0\0\0", "backing file's format"),
    "an unknown extension": (112, struct.pack(">II", 0x12345678, 4) + bytes(8), "0x12345678"),
    "extensions without an end": (112, struct.pack(">II", 0x6803F857, 0xFFFFFF), "do not end"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_qcow2_header_is_refused_with(tmp_path: Path, name: str) -> None:
    offset, content, reason = CORRUPT[name]
    path = patched(make(tmp_path / "a", "qcow2"), offset, content)
    with pytest.raises(ImageRejected, match=reason) as caught:
        inspect_image(path, ImageType.QCOW2, GIBIBYTE)
    assert caught.value.extra["field"] == "file"
    assert caught.value.detail.isprintable()


def test_a_qcow2_file_whose_tables_qemu_finds_wrong_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "qcow2")
    header = path.read_bytes()[:112]
    l1_offset, refcounts = struct.unpack_from(">QQ", header, 40)
    for number, (offset, content) in enumerate(
        [
            (l1_offset, struct.pack(">Q", (1 << 63) | 0x10000)),  # the L2 table is the refcount table
            (l1_offset, struct.pack(">Q", (1 << 63) | (1 << 45))),  # ... far beyond the end
            (l1_offset, b"\xff" * 8),
            (refcounts, struct.pack(">Q", 1 << 45)),
        ]
    ):
        broken = patched(make(tmp_path / f"b{number}", "qcow2"), offset, content)
        with pytest.raises(ImageRejected, match="corrupt"):
            inspect_image(broken, ImageType.QCOW2, GIBIBYTE)


@pytest.mark.parametrize("left", [0, 3, 100, 600, 0x10000, 0x30000, 0x50000, 0x100000])
def test_a_truncated_qcow2_file_is_refused_wherever_it_ends(tmp_path: Path, left: int) -> None:
    path = make(tmp_path / "a", "qcow2")
    assert path.stat().st_size > left
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ImageRejected):
        inspect_image(path, ImageType.QCOW2, GIBIBYTE)


def test_a_raw_file_that_is_not_of_whole_sectors_is_refused_as_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    with pytest.raises(ImageRejected, match="is it cut off"):
        inspect_image(tmp_path / "a", ImageType.RAW, GIBIBYTE)


def test_a_qcow2_file_also_made_to_look_partitioned_is_refused(tmp_path: Path) -> None:
    path = patched(make(tmp_path / "a", "qcow2"), 510, b"\x55\xaa")
    with pytest.raises(ImageRejected, match="several formats"):
        inspect_image(path, ImageType.QCOW2, GIBIBYTE)


def test_inspection_works_with_limits_alone_where_bubblewrap_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("prlimit", "unshare"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    good = make(tmp_path / "good", "qcow2")
    bad = patched(make(tmp_path / "bad", "qcow2"), 40, struct.pack(">Q", 1 << 40))
    with monkeypatch.context() as only:
        only.setenv("PATH", str(programs))
        sandbox.sandbox_kind.cache_clear()
        assert sandbox.sandbox_kind() in ("network namespace", "limits")
        assert inspect_image(good, ImageType.QCOW2, GIBIBYTE) == 8 * MEBIBYTE
        with pytest.raises(ImageRejected, match="L1 table"):
            inspect_image(bad, ImageType.QCOW2, GIBIBYTE)
        (programs / "prlimit").unlink()
        with pytest.raises(DriverUnavailable, match="apt-get install util-linux"):
            inspect_image(good, ImageType.QCOW2, GIBIBYTE)
    sandbox.sandbox_kind.cache_clear()
