"""Whether QEMU can use the content of an image: its first bytes, and whether QEMU's user may read it.

The image was inspected when it was added; this is the driver's own look at the file that it is given, before each use. It
reads one header and opens nothing that the header names.
"""

from __future__ import annotations

import os
import pwd
import struct
from pathlib import Path

from garbi.base.errors import DriverFailed, ImageRejected
from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.image import ImageType

QEMU_USERS = ("libvirt-qemu", "qemu")
_QCOW2 = struct.Struct(">4sIQIIQ")
_FEATURES = struct.Struct(">Q")
_FEATURES_AT = 72
_EXTERNAL_DATA = 1 << 2


def check_content(image: ImageFile) -> None:
    """Raise ImageRejected when the file is missing or is not what it is declared to be."""
    try:
        with image.path.open("rb") as file:
            header = file.read(104)
    except OSError as error:
        raise ImageRejected("image", f"the content of the image cannot be read: {error.strerror}") from error
    if image.type is ImageType.QCOW2:
        _check_qcow2(header, image.virtual_size)


def _check_qcow2(header: bytes, virtual_size: int) -> None:
    if len(header) < _FEATURES_AT:
        raise ImageRejected("image", "the content of the image is not qcow2: it is too short")
    magic, version, backing_offset, _, _, size = _QCOW2.unpack_from(header)
    if magic != b"QFI\xfb" or version not in (2, 3):
        raise ImageRejected("image", "the content of the image is not qcow2")
    features = _FEATURES.unpack_from(header, _FEATURES_AT)[0] if version == 3 and len(header) >= 80 else 0
    if backing_offset or features & _EXTERNAL_DATA:
        raise ImageRejected("image", "the image refers to another file")
    if size != virtual_size:
        raise ImageRejected("image", f"the image unfolds to {size} bytes, not to {virtual_size}")


def check_readable(path: Path) -> None:
    """Raise DriverFailed, saying what to do, when the user that QEMU runs as cannot reach and read the file."""
    user = _qemu_user()
    if user is None:
        return
    for each in [*reversed(path.resolve().parents), path]:
        need = 0o1 if each.is_dir() else 0o4
        if not _allows(each, user, need):
            mend = f"chmod o+{'x' if need == 0o1 else 'r'} {each}"
            raise DriverFailed(f"QEMU, which runs as {user.pw_name}, may not pass {each}: allow it with `{mend}`")


def _qemu_user() -> pwd.struct_passwd | None:
    for name in QEMU_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _allows(path: Path, user: pwd.struct_passwd, need: int) -> bool:
    status = path.stat()
    if "system.posix_acl_access" in os.listxattr(path):
        return True  # somebody arranged it in detail
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & (need << 6))
    if status.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return bool(status.st_mode & (need << 3))
    return bool(status.st_mode & need)
