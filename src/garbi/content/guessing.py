"""What a file seems to be, for people who did not say it. A server never guesses: it holds content to what was declared."""

from __future__ import annotations

from pathlib import Path

from garbi.base.errors import FinalError, InvalidField

TYPES = ("qcow2", "raw", "docker", "rootfs")
QCOW2_MAGIC = b"QFI\xfb"
ARCHIVE_MARKS = ("manifest.json", "oci-layout")
SUFFIXES = {".qcow2": "qcow2", ".raw": "raw"}
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def guess_type(file: Path) -> str | None:
    """What a file's first bytes and name say it is; None when they say nothing. Raises InvalidField for a tar that is broken."""
    try:
        with file.open("rb") as content:
            head = content.read(512)
    except OSError as error:
        raise FinalError(f"{file} cannot be read: {error.strerror}") from error
    if head.startswith(QCOW2_MAGIC):
        return "qcow2"
    if head[257:262] == b"ustar" or file.name.lower().endswith(TAR_SUFFIXES):
        return "docker" if _is_image_archive(file) else "rootfs"
    if head[510:512] == b"\x55\xaa":
        return "raw"
    return SUFFIXES.get(file.suffix.lower())


def _is_image_archive(file: Path) -> bool:
    """Whether a tar is an image as `docker save` or an OCI layout has it, rather than a tree of files."""
    import tarfile

    try:
        with tarfile.open(file) as archive:
            return any(member.name.removeprefix("./") in ARCHIVE_MARKS for member in archive)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidField("file", f"{file.name} cannot be read as a tar: {error}") from error
