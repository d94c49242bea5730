"""Threats D: images made to read, write or exhaust the host. Each attack goes through the library, as an upload would."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from garbi.base.errors import ImageRejected
from garbi.content.inspection import inspect_image
from garbi.content.inspector import look_into
from garbi.content.uploads import ContentLimits
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.model.image import ImageType
from garbi.hyper.store.database import Database
from garbi.hyper.store.images import ImageTable
from garbi.hyper.store.migrate import migrate
from garbi.hyper_api.vocabulary import ImageState
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.store import database as iaas_database
from garbi.iaas.store import images as iaas_images
from garbi.iaas.store import migrate as iaas_migrate

CANARY = b"canary-of-the-host-7d1f0c"
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
MUTANTS = 500
FOLLOWED = 25
"""How many of the mutants of a format that pass the first checks are followed through QEMU."""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.write_bytes(CANARY.ljust(MEBIBYTE, b"."))
    return path


class Library(Protocol):
    """Where an upload ends: both services take images in, and neither believes the other."""

    def add(self, name: str, type: ImageType, chunks: Iterable[bytes]) -> Any: ...

    def list(self) -> Sequence[Any]: ...


class Controller:
    """The image store of a controller, asked like the library of a host."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def add(self, name: str, type: ImageType, chunks: Iterable[bytes]) -> Any:
        self._store.register(name, type)
        return self._store.receive(name, 0, chunks)

    def list(self) -> Sequence[Any]:
        """What can be used; of what was refused only the reason is left, which gives nothing away."""
        images = self._store.list()
        assert CANARY.decode() not in " ".join(image.reason for image in images)
        return [image for image in images if image.state is not ImageState.FAILED]


@pytest.fixture(params=["hyper", "iaas"])
def library(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Library]:
    limits = ContentLimits(max_virtual_bytes=GIBIBYTE)
    if request.param == "hyper":
        migrate(tmp_path / "hyper.db")
        database = Database(tmp_path / "hyper.db")
        yield ImageLibrary(tmp_path / "images", ImageTable(database), limits)
        database.close()
        return
    url = f"sqlite:///{tmp_path / 'iaas.db'}"
    iaas_migrate.migrate(url)
    cloud = iaas_database.Database(url, tmp_path)
    yield Controller(ImageStore(tmp_path / "images", iaas_images.ImageTable(cloud), limits))
    cloud.close()


def create(path: Path, *options: str, size: str = "", format: str = "qcow2") -> None:
    command = ["qemu-img", "create", "-f", format, *options, "--", str(path), *([size] if size else [])]
    subprocess.run(command, check=True, capture_output=True)


def convert(raw: Path, path: Path, format: str, *options: str) -> None:
    command = ["qemu-img", "convert", "-f", "raw", "-O", format, *options, "--", str(raw), str(path)]
    subprocess.run(command, check=True, capture_output=True)


def assert_refused(library: Library, path: Path, *types: ImageType) -> None:
    """Refused under each type, with nothing kept."""
    for type in types:
        with pytest.raises(ImageRejected) as caught:
            library.add("hostile", type, [path.read_bytes()])
        assert CANARY.decode() not in str(caught.value)
    assert library.list() == []
    assert not [path for path in path.parent.joinpath("images").rglob("*") if path.is_file()]


DISKS = (ImageType.QCOW2, ImageType.RAW)


def test_cve_2015_5163_qcow2_backing_file_of_the_host(library: Library, canary: Path) -> None:
    path = canary.with_name("a")
    create(path, "-F", "raw", "-b", str(canary))
    assert_refused(library, path, *DISKS)


def test_cve_2024_32498_qcow2_external_data_file_of_the_host(library: Library, canary: Path) -> None:
    path = canary.with_name("a")
    data = canary.with_name("data")
    create(path, "-o", f"data_file={data},data_file_raw=on", size="1M")
    assert_refused(library, path, *DISKS)
    cleared = bytearray(path.read_bytes())
    cleared[72:80] = bytes(8)  # without the feature bit: only the header extension still names the file
    path.write_bytes(cleared)
    assert_refused(library, path, *DISKS)


def test_cve_2022_47951_vmdk_that_is_a_flat_view_of_a_file_of_the_host(library: Library, canary: Path) -> None:
    path = canary.with_name("a")
    descriptor = f'# Disk DescriptorFile\nversion=1\nCID=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "{canary}" 0\n'
    path.write_text(descriptor)
    assert_refused(library, path, *DISKS)
    path.write_bytes(descriptor.encode().ljust(MEBIBYTE, b"\0"))
    assert_refused(library, path, *DISKS)
    sparse = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 1, 3, 2048, 128, 1, 1, 512, 0, 0, 128)
    path.write_bytes(sparse.ljust(512, b"\0") + descriptor.encode().ljust(MEBIBYTE, b"\0"))
    assert_refused(library, path, *DISKS)


@pytest.mark.parametrize("format", ["qcow2", "qed"])
def test_cve_2024_40767_an_image_with_a_backing_file_disguised_as_raw(
    library: Library, canary: Path, format: str
) -> None:
    path = canary.with_name("a")
    create(path, "-F", "raw", "-b", str(canary), format=format)
    assert_refused(library, path, ImageType.RAW, ImageType.QCOW2)


def test_cve_2024_44082_other_formats_are_never_probed(library: Library, canary: Path) -> None:
    for format in ("vdi", "vhdx", "vpc", "parallels", "qcow"):
        path = canary.with_name("a")
        convert(canary, path, format)
        assert_refused(library, path, *DISKS)


@pytest.mark.parametrize("name", ["json:{...}", "nbd://host/", "/dev/sda", "file:x", "fat:/etc"])
def test_cve_2024_4467_backing_names_that_are_protocols(library: Library, canary: Path, name: str) -> None:
    path = canary.with_name("a")
    target = name.replace("{...}", json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(canary)}}))
    create(path, "-u", "-F", "raw", "-b", target, size="1M")
    assert_refused(library, path, *DISKS)


def test_cve_2013_2096_a_small_file_with_a_huge_virtual_size(library: Library, canary: Path) -> None:
    path = canary.with_name("a")
    create(path, size="2G")
    assert_refused(library, path, *DISKS)


def test_cve_2015_5162_tables_that_would_take_all_memory(library: Library, canary: Path) -> None:
    path = canary.with_name("a")
    create(path, size="64M")
    good = path.read_bytes()
    for offset in (36, 56, 60):
        hostile = canary.with_name("b")
        hostile.write_bytes(good[:offset] + b"\xff\xff\xff\xff" + good[offset + 4 :])
        assert_refused(library, hostile, *DISKS)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, content


def docker_archive(*layers: bytes, **container: object) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["x"], **container},
        "rootfs": {"diff_ids": diff_ids},
    }
    manifest = [
        {"Config": "config.json", "RepoTags": ["x:y"], "Layers": [f"{index}.tar" for index in range(len(layers))]}
    ]
    return archive(
        member("config.json", content=json.dumps(config).encode()),
        *[member(f"{index}.tar", content=layer) for index, layer in enumerate(layers)],
        member("manifest.json", content=json.dumps(manifest).encode()),
    )


def test_cve_2026_48749_a_directory_replaced_by_a_link_and_written_through(library: Library, canary: Path) -> None:
    attack = archive(
        member("etc", tarfile.DIRTYPE),
        member("etc", tarfile.SYMTYPE, str(canary.parent)),
        member("etc/canary", content=b"x"),
    )
    for content, type in ((attack, ImageType.ROOTFS), (docker_archive(attack), ImageType.DOCKER)):
        path = canary.with_name("a")
        path.write_bytes(content)
        assert_refused(library, path, type)
    assert canary.read_bytes().startswith(CANARY)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_cve_2025_4517_links_that_lead_out_of_the_tree(library: Library, canary: Path, kind: bytes) -> None:
    for target in (str(canary), "../" * 20 + str(canary)):
        content = archive(member("a", kind, target), member("a/x", content=b"x"))
        canary.with_name("a").write_bytes(content)
        assert_refused(library, canary.with_name("a"), ImageType.ROOTFS)


def test_cve_2026_34178_two_manifests_of_which_one_is_checked(library: Library, canary: Path) -> None:
    good = docker_archive(archive(member("a", content=b"x")))
    with tarfile.open(fileobj=io.BytesIO(good)) as opened:
        entries = [(info, opened.extractfile(info).read()) for info in opened]  # type: ignore[union-attr]
    twice = [*entries, member("./manifest.json", content=b"[]")]
    canary.with_name("a").write_bytes(archive(*twice))
    assert_refused(library, canary.with_name("a"), ImageType.DOCKER)


def test_cve_2013_4463_a_compressed_archive_that_unfolds_without_end(library: Library, canary: Path) -> None:
    zeros = tarfile.TarInfo("zeros")
    zeros.size = 600 * MEBIBYTE
    packer = io.BytesIO()
    with gzip.GzipFile(fileobj=packer, mode="wb", compresslevel=1) as packed:
        packed.write(zeros.tobuf())
        for _ in range(600):
            packed.write(bytes(MEBIBYTE))
        packed.write(bytes(1024))
    path = canary.with_name("a")
    path.write_bytes(packer.getvalue())
    assert path.stat().st_size < 3 * MEBIBYTE
    assert_refused(library, path, ImageType.ROOTFS, ImageType.DOCKER)


def test_a_gzip_inside_a_gzip_is_not_unfolded_twice(library: Library, canary: Path) -> None:
    canary.with_name("a").write_bytes(gzip.compress(gzip.compress(archive(member("a")))))
    assert_refused(library, canary.with_name("a"), ImageType.ROOTFS, ImageType.DOCKER)


def test_cve_2026_53488_labels_of_an_image_change_nothing_of_what_is_kept(library: Library) -> None:
    hostile = {
        "Labels": {"org.garbi.machine": "x", "a\n$(reboot)": "{{7*7}}"},
        "User": "0:0\n",
        "Volumes": {"/:/host": {}},
    }
    content = docker_archive(archive(member("bin/x", content=b"x")), **hostile)
    image = library.add("labels", ImageType.DOCKER, [content])
    assert (image.name, image.type, image.sha256) == ("labels", ImageType.DOCKER, hashlib.sha256(content).hexdigest())


def seeds(tmp_path: Path) -> dict[ImageType, bytes]:
    """One good file of each type; the disks are full of what no output may hold from elsewhere."""
    raw = tmp_path / "seed.raw"
    raw.write_bytes(b"seed" * 16384)
    convert(raw, tmp_path / "seed.qcow2", "qcow2", "-o", "cluster_size=4k")
    tree = archive(
        member("etc", tarfile.DIRTYPE), member("etc/x", content=b"x" * 700), member("l", tarfile.SYMTYPE, "/etc")
    )
    return {
        ImageType.QCOW2: (tmp_path / "seed.qcow2").read_bytes(),
        ImageType.RAW: raw.read_bytes(),
        ImageType.ROOTFS: tree,
        ImageType.DOCKER: docker_archive(tree, archive(member("b", content=b"b"))),
    }


MAGICS = [
    b"QFI\xfb\0\0\0\3",
    b"QFI\xfb\0\0\0\2",
    b"KDMV\1\0\0\0",
    b"# Disk DescriptorFile\n",
    b"conectix",
    b"vhdxfile",
    b"QED\0",
]
MAGICS += [
    b"LUKS\xba\xbe\0\1",
    b"\x1f\x8b\x08\0",
    b"\x7fELF",
    b"<<< Oracle VM VirtualBox Disk Image >>>\n",
    b"WithoutFreeSpace",
]


def mutate(content: bytes, chance: random.Random, canary: Path) -> bytes:
    """Change a few places, mostly near the start, where formats keep what they are."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = int(chance.triangular(0, min(len(changed) - 1, chance.choice((128, 1024, 65536))), 0))
        kind = chance.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place : place + 8] = struct.pack(
                chance.choice("<>") + "Q", chance.choice((0, 1, 112, 1 << 31, (1 << 64) - 1))
            )
        elif kind == 2:
            changed[place : place + 4] = chance.randbytes(4)
        elif kind == 3:
            start = chance.choice((0, place))
            magic = chance.choice(MAGICS)
            changed[start : start + len(magic)] = magic
        elif kind == 4:
            name = str(canary).encode()
            changed[place : place + len(name)] = name
            changed[8:20] = struct.pack(">QI", place, len(name)) if chance.random() < 0.5 else changed[8:20]
        else:
            changed = changed[: max(1, chance.randrange(len(changed)))]
    return bytes(changed)


@pytest.mark.parametrize("type", list(ImageType))
def test_500_mutants_of_each_format_are_refused_or_harmless(tmp_path: Path, canary: Path, type: ImageType) -> None:
    seed, chance, passed = seeds(tmp_path)[type], random.Random(f"garbi {type}"), 0
    path = tmp_path / "mutant"
    for number in range(MUTANTS):
        path.write_bytes(mutate(seed, chance, canary))
        refusal = refusal_of(path, type)
        if refusal:
            assert refusal.isprintable(), number
            continue
        passed += 1
        if passed <= FOLLOWED:
            assert_harmless(path, type)
    assert 0 < passed < MUTANTS


def refusal_of(path: Path, type: ImageType) -> str:
    try:
        look_into(path, type, GIBIBYTE)
    except ImageRejected as refused:
        return refused.detail
    return ""


def assert_harmless(path: Path, type: ImageType) -> None:
    """What the whole inspection lets through holds nothing of the host, whatever QEMU makes of it."""
    try:
        virtual_size = inspect_image(path, type, GIBIBYTE)
    except ImageRejected:
        return
    if type not in DISKS:
        return
    output = path.with_name("output")
    subprocess.run(["qemu-img", "convert", "-f", type, "-O", "raw", "--", str(path), str(output)], check=True)
    assert output.stat().st_size == virtual_size
    assert CANARY not in output.read_bytes()
