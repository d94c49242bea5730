"""Image archives for the tests of the docker driver, made from Debian's static busybox: no download, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.image import ImageType

BUSYBOX = Path("/bin/busybox")

RUN_UNTIL_ASKED = "trap 'exit 0' TERM; echo the machine is ready; while :; do busybox sleep 60 & wait $!; done"
"""For a shell: run until SIGTERM, and end without error then."""


def busybox_tree(files: Mapping[str, bytes] | None = None, init: bool = False) -> bytes:
    """A root file system as a tar: busybox, /bin/sh, the given files, and /sbin/init when wanted."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _write(tar, "bin/busybox", BUSYBOX.read_bytes())
        for name in ("bin/sh", *(["sbin/init"] if init and "sbin/init" not in (files or {}) else [])):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(link)
        for name, data in (files or {}).items():
            _write(tar, name, data)
    return content.getvalue()


def image_config(layers: Sequence[bytes], command: Sequence[str], **config: Any) -> bytes:
    """The configuration of an image that runs the command."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin:/sbin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    return json.dumps(document, sort_keys=True).encode()


def saved_archive(layers: Sequence[bytes], config: bytes, tags: Sequence[str] = ()) -> bytes:
    """An archive as `docker save` writes it, with its own tags."""
    names = [f"{digest(layer)[7:]}/layer.tar" for layer in layers]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]).encode()
    return tar_of({**dict(zip(names, layers, strict=True)), "config.json": config, "manifest.json": manifest})


def oci_archive(layers: Sequence[bytes], config: bytes, reference: str = "") -> bytes:
    """An archive of an OCI image layout, its image called `reference`."""
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        }
    ).encode()
    named = _descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")
    named["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    blobs = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in (config, manifest, *layers)}
    index = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    return tar_of({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs})


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            _write(tar, name, data)
    return content.getvalue()


def image_file(path: Path, content: bytes, image_type: ImageType = ImageType.DOCKER) -> ImageFile:
    """Write the content to `path` and describe it as the agent would."""
    path.write_bytes(content)
    return ImageFile(hashlib.sha256(content).hexdigest(), image_type, path, len(content))


def shell_image(path: Path, script: str, files: Mapping[str, bytes] | None = None, **config: Any) -> ImageFile:
    """A saved image whose machine runs a shell script."""
    layers = [busybox_tree(files)]
    return image_file(path, saved_archive(layers, image_config(layers, ["/bin/sh", "-c", script], **config)))


def digest(content: bytes) -> str:
    """sha256:HEX of the content."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _descriptor(blob: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _write(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755
    tar.addfile(entry, io.BytesIO(data))
