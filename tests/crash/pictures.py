"""The images of a scene: an ordinary one, one whose machine turns a deaf ear to a stop, and one beside them."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.conformance.subjects import Subject
from tests.crash.scene import DEAF_IMAGE, IMAGE, SPARE_IMAGE
from tests.host.docker_archives import shell_image

from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.images.tiny import DISK_NAME, build_tiny
from garbi.hyper.model.image import ImageType

DEAF = "trap '' TERM; busybox httpd -f -p 80 -h /www"
PAGE = {"www/index.html": b"a page\n"}


def pictures(subject: Subject, type_name: str, directory: Path) -> dict[str, ImageFile]:
    """Each image by its name. Virtual machines and pretended ones are deaf by other means: the same image serves."""
    if type_name == "docker":
        scripts = {DEAF_IMAGE: DEAF, SPARE_IMAGE: DEAF + " # another"}
        others = {name: shell_image(directory / f"{name}.tar", script, PAGE) for name, script in scripts.items()}
        return {IMAGE: subject.image(), **others}
    if type_name == "libvirt":
        (directory / DISK_NAME).write_bytes(_tiny_disk())  # where its subject would build it, which takes a while
        (directory / DISK_NAME).chmod(0o444)
    blank = _blank(directory / IMAGE, 1) if type_name == "fake" else subject.image()
    return {IMAGE: blank, DEAF_IMAGE: blank, SPARE_IMAGE: _blank(directory / SPARE_IMAGE, 2)}


def _blank(path: Path, size_mib: int) -> ImageFile:
    """An empty disk."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "--", str(path), f"{size_mib}M"], check=True)
    return ImageFile(hashlib.sha256(path.read_bytes()).hexdigest(), ImageType.QCOW2, path, size_mib << 20)


@cache
def _tiny_disk() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        return build_tiny(Path(directory))[0].read_bytes()
