"""Which archives become images: container images and root file systems, whole, sane and of bounded size."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garbi.base.errors import ImageRejected
from garbi.content import tarballs
from garbi.content.inspector import look_into
from garbi.hyper.model.image import ImageType

GIBIBYTE = 1 << 30
Entry = tuple[str, bytes] | tarfile.TarInfo


def tar(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LAYER = tar(("bin/sh", b"#!"), special("lib", tarfile.SYMTYPE, "/usr/lib"), special("dev/null", tarfile.CHRTYPE))


def docker_config(*layers: bytes, **changes: Any) -> bytes:
    diff_ids = [f"sha256:{sha256(layer)}" for layer in layers]
    return json.dumps({"os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": diff_ids}} | changes).encode()


def docker_tar(
    *layers: bytes,
    config: bytes | None = None,
    manifest: Any = None,
    extra: tuple[Entry, ...] = (),
    packed: bool = False,
) -> bytes:
    config = docker_config(*layers) if config is None else config
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "c.json", "RepoTags": ["debian:latest"], "Layers": names}] if manifest is None else manifest
    stored = [gzip.compress(layer) if packed else layer for layer in layers]
    entries: list[Entry] = [("c.json", config), *zip(names, stored, strict=True), *extra]
    return tar(*entries, ("manifest.json", json.dumps(manifest).encode()))


def oci_tar(layer: bytes, drop: str = "", spoil: str = "") -> bytes:
    packed = gzip.compress(layer)
    config = docker_config(layer)
    manifest = json.dumps({"config": described(config), "layers": [described(packed)]}).encode()
    index = json.dumps({"manifests": [described(manifest)]}).encode()
    blobs = {"layer": packed, "config": config, "manifest": manifest}
    entries = [
        (f"blobs/sha256/{sha256(blob)}", blob + b" " * (what == spoil)) for what, blob in blobs.items() if what != drop
    ]
    return tar(*entries, ("index.json", index), ("oci-layout", b"{}"))


def without_end(archive: bytes) -> bytes:
    """The archive up to the last block that is not zero: its members are whole, its end mark is missing."""
    content = archive.rstrip(b"\0")
    return content + bytes(-len(content) % 512)


def described(blob: bytes) -> dict[str, Any]:
    return {"digest": f"sha256:{sha256(blob)}", "size": len(blob)}


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., int]:
    def look(content: bytes, type: ImageType = ImageType.DOCKER, max_bytes: int = GIBIBYTE) -> int:
        path = tmp_path / "image"
        path.write_bytes(content)
        return look_into(path, type, max_bytes)

    return look


ACCEPTED: dict[str, bytes] = {
    "one layer": docker_tar(LAYER),
    "two layers": docker_tar(LAYER, tar(("etc/passwd", b"x"))),
    "the whole archive compressed": gzip.compress(docker_tar(LAYER, tar(("etc/passwd", b"x")))),
    "compressed layers": docker_tar(LAYER, packed=True),
    "an empty layer": docker_tar(bytes(1024), LAYER),
    "the same layer twice": docker_tar(LAYER, LAYER),
    "a layer by a link, as older versions wrote": docker_tar(
        LAYER,
        manifest=[{"Config": "c.json", "Layers": ["9/layer.tar"]}],
        extra=(special("9/layer.tar", tarfile.SYMTYPE, "../0/layer.tar"),),
    ),
    "an OCI layout": oci_tar(LAYER),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_container_image_is_accepted_with(look: Callable[..., int], name: str) -> None:
    assert look(ACCEPTED[name]) > 0


def test_the_size_that_a_container_image_unfolds_to_is_that_of_the_files_in_its_layers(
    look: Callable[..., int],
) -> None:
    assert look(docker_tar(tar(("a", bytes(3000))), tar(("b", bytes(500))), packed=True)) == 3500


REFUSED: dict[str, tuple[bytes, str]] = {
    "no tar at all": (b"hello world" * 200, "corrupt or no tar"),
    "no manifest": (tar(("a", b"")), "neither manifest.json"),
    "two images": (docker_tar(LAYER, manifest=[{}, {}]), "exactly one image"),
    "a manifest that is no list": (docker_tar(LAYER, manifest={"a": 1}), "exactly one image"),
    "a manifest of other things": (docker_tar(LAYER, manifest=[3]), "text for Config"),
    "a layer that is missing": (docker_tar(LAYER, manifest=[{"Config": "c.json", "Layers": ["x"]}]), "not in it"),
    "a layer outside": (docker_tar(LAYER, manifest=[{"Config": "c.json", "Layers": ["../../etc/passwd"]}]), "not in it"),
    "a configuration outside": (docker_tar(LAYER, manifest=[{"Config": "/etc/passwd", "Layers": []}]), "not in it"),
    "links in a circle": (
        docker_tar(
            LAYER,
            manifest=[{"Config": "c.json", "Layers": ["x"]}],
            extra=(special("x", tarfile.SYMTYPE, "y"), special("y", tarfile.SYMTYPE, "x")),
        ),
        "not in it",
    ),
    "another layer than configured": (docker_tar(LAYER, config=docker_config(b"other")), "sha256 differs"),
    "fewer layers than configured": (docker_tar(LAYER, config=docker_config(LAYER, LAYER)), "other layers"),
    "a layer that is no tar": (docker_tar(b"x" * 4096), "corrupt or no tar"),
    "a layer in zstd": (docker_tar(b"\x28\xb5\x2f\xfd" + bytes(600)), "zstd"),
    "Windows": (docker_tar(LAYER, config=docker_config(LAYER, os="windows")), "not for Linux"),
    "a configuration that is no JSON": (docker_tar(LAYER, config=b"{'os': linux}"), "not JSON"),
    "a configuration nested 100000 deep": (docker_tar(LAYER, config=b"[" * 100_000), "not JSON"),
    "a configuration of null": (docker_tar(LAYER, config=b"[null]"), "lacks the object 'rootfs'"),
    "a configuration of 5 MiB": (docker_tar(LAYER, config=b"[" + b" " * (5 << 20) + b"]"), "larger than any description"),
    "two configurations": (docker_tar(LAYER, extra=(("c.json", b"{}"),)), "twice"),
    "a device": (docker_tar(LAYER, extra=(special("dev", tarfile.BLKTYPE),)), "neither a file"),
    "an absolute path": (docker_tar(LAYER, extra=(("/etc/cron.d/x", b"x"),)), "absolute path"),
    "a path that leads out": (docker_tar(LAYER, extra=(("a/../../x", b"x"),)), "leads out of it"),
    "a layer's path that leads out": (docker_tar(tar(("../x", b"x"))), "leads out of it"),
    "126 layers": (docker_tar(*[LAYER] * 126), "126 layers"),
    "an OCI layout without its layer": (oci_tar(LAYER, drop="layer"), "not in it"),
    "an OCI layout with another layer": (oci_tar(LAYER, spoil="manifest"), "sha256 differs"),
    "an OCI layout with another configuration": (oci_tar(LAYER, spoil="config"), "sha256 differs"),
    "an OCI index of nothing": (tar(("index.json", b'{"manifests": []}')), "lead to an image"),
    "an end that is cut off": (without_end(docker_tar(LAYER)), "cut off"),
    "a layer that is cut off": (docker_tar(LAYER)[:5000], "corrupt or no tar"),
    "a gzip that is cut off": (gzip.compress(docker_tar(LAYER))[:-4], "corrupt or no tar"),
    "a gzip with a wrong checksum": (gzip.compress(docker_tar(LAYER))[:-8] + bytes(8), "corrupt or no tar"),
    "a header in the middle that is no header": (tar(("a", b"")) [:512] + b"\xff" * 512 + bytes(1024), "header in it cannot"),
    "bzip2": (b"BZh91AY" + bytes(600), "bzip2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_container_image_is_refused_with(look: Callable[..., int], name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(ImageRejected, match=reason) as caught:
        look(content)
    assert caught.value.extra["field"] == "file"


def test_a_root_file_system_may_have_devices_absolute_links_and_hard_links(look: Callable[..., int]) -> None:
    content = tar(
        special(".", tarfile.DIRTYPE),
        special("./etc", tarfile.DIRTYPE),
        ("./etc/passwd", b"root"),
        special("./etc/passwd-", tarfile.LNKTYPE, "./etc/passwd"),
        special("./dev/tty", tarfile.CHRTYPE),
        special("./etc/mtab", tarfile.SYMTYPE, "/proc/mounts"),
        special("./run/lock", tarfile.SYMTYPE, "../../var/lock"),
        special("./pipe", tarfile.FIFOTYPE),
    )
    assert look(content, ImageType.ROOTFS) == 4
    assert look(gzip.compress(content), ImageType.ROOTFS) == 4


REFUSED_ROOTFS: dict[str, tuple[bytes, str]] = {
    "nothing in it": (bytes(10240), "empty"),
    "a directory that turns into a link": (
        tar(special("etc", tarfile.DIRTYPE), special("etc", tarfile.SYMTYPE, "/etc")),
        "'etc' twice",
    ),
    "a link that turns into a directory": (
        tar(special("etc", tarfile.SYMTYPE, "/etc"), special("./etc/", tarfile.DIRTYPE)),
        "'etc' twice",
    ),
    "a file twice": (tar(("a/b", b"1"), ("a//b", b"2")), "'a/b' twice"),
    "a path through a link": (
        tar(special("a", tarfile.SYMTYPE, "/etc"), ("a/cron.d/x", b"x")),
        "symbolic link of its own",
    ),
    "a hard link to the host": (tar(special("a", tarfile.LNKTYPE, "/etc/shadow")), "hard link that leads out"),
    "a hard link upwards": (tar(special("a", tarfile.LNKTYPE, "../etc/shadow")), "hard link that leads out"),
    "a path of 5000 characters": (tar(("a/" * 2500, b"")), "too long"),
    "a name of 300 characters": (tar(("a" * 300, b"")), "too long"),
}


@pytest.mark.parametrize("name", REFUSED_ROOTFS)
def test_a_root_file_system_is_refused_with(look: Callable[..., int], name: str) -> None:
    content, reason = REFUSED_ROOTFS[name]
    with pytest.raises(ImageRejected, match=reason):
        look(content, ImageType.ROOTFS)


def test_a_container_image_declared_as_a_root_file_system_is_told_so(look: Callable[..., int]) -> None:
    with pytest.raises(ImageRejected, match="its type is docker") as caught:
        look(docker_tar(LAYER), ImageType.ROOTFS)
    assert caught.value.extra["field"] == "type"


def test_an_archive_that_unfolds_to_more_than_allowed_is_refused(look: Callable[..., int]) -> None:
    content = tar(("a", bytes(2 << 20)))
    assert look(content, ImageType.ROOTFS, 4 << 20) == 2 << 20
    with pytest.raises(ImageRejected, match="unfolds to more"):
        look(content, ImageType.ROOTFS, 1 << 20)


def test_a_gzip_bomb_is_refused_before_it_is_unfolded(
    look: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarballs, "RATIO_FROM", 1 << 20)
    bomb = gzip.compress(tar(("zeros", bytes(64 << 20))))
    for content, type in (
        (bomb, ImageType.ROOTFS),
        (docker_tar(tar(("zeros", bytes(64 << 20))), packed=True), ImageType.DOCKER),
    ):
        with pytest.raises(ImageRejected, match="unfolds to more"):
            look(content, type)


def test_a_claim_of_exabytes_is_refused_by_its_number(look: Callable[..., int]) -> None:
    info = tarfile.TarInfo("a")
    info.size = 1 << 60
    with pytest.raises(ImageRejected, match="unfolds to more"):
        look(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024), ImageType.ROOTFS)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_claims_a_gigabyte_for_a_name_is_refused(look: Callable[..., int], kind: bytes) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1 << 30
    with pytest.raises(ImageRejected, match="more than 1 MiB"):
        look(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096), ImageType.ROOTFS)


def test_the_number_of_members_is_bounded(look: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarballs, "MOST_MEMBERS", 100)
    with pytest.raises(ImageRejected, match="more than 100 members"):
        look(tar(*[(f"f{number}", b"") for number in range(101)]), ImageType.ROOTFS)


def test_control_characters_of_a_name_do_not_reach_the_message(look: Callable[..., int]) -> None:
    with pytest.raises(ImageRejected) as caught:
        look(tar(("../\x1b[2J\n", b"")), ImageType.ROOTFS)
    assert caught.value.detail.isprintable()
