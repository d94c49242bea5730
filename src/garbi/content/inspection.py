"""Decides whether content may become an image: it must be what its type says, lead nowhere else, and be whole.

Nothing of it is ever parsed in the agent: first our own checks and `format_inspector` see it, then, for qcow2, `qemu-img`
with the format given, each alone in a sandbox. The file itself is kept as it is: its digest stays the one that its owner
knows, and what is accepted is no more than `qemu-img convert` would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from garbi.base.errors import DriverFailed, DriverUnavailable, ImageRejected
from garbi.content.sandbox import FILE, Ended, Limits, python_command, run_confined, sandbox_kind
from garbi.hyper_api.vocabulary import ImageType

__all__ = ["inspect_image", "sandbox_kind"]

_INSPECTOR = "garbi.content.inspector"
_BYTES_PER_CPU_S = 16 << 20


def inspect_image(path: Path, type: ImageType, max_virtual_bytes: int) -> int:
    """Return the bytes that the content unfolds to (of a disk: its virtual size).

    Raises ImageRejected, whose field is `type` when the content is another format's and `file` when it is corrupt or hostile;
    DriverUnavailable when a program that the inspection needs is not installed.
    """
    size = path.stat().st_size
    if size == 0:
        raise ImageRejected("file", "the file is empty")
    limits = Limits(cpu_s=60 + size // _BYTES_PER_CPU_S)
    ended = run_confined(python_command(_INSPECTOR, type.value, str(max_virtual_bytes), FILE), path, limits)
    verdict = _read_json(ended)
    if "rejected" in verdict:
        raise ImageRejected(str(verdict["field"]), str(verdict["rejected"]))
    virtual_size = int(verdict["virtual_size"])
    if type is ImageType.QCOW2:
        _check_with_qemu(path, size, virtual_size)
    return virtual_size


def _check_with_qemu(path: Path, size: int, virtual_size: int) -> None:
    """Have QEMU itself follow every table of the file: a reference that leads out of it, or to one place twice, is refused."""
    info = _qemu_img("info", path)
    if info.get("format") != "qcow2" or info.get("virtual-size") != virtual_size or "backing-filename" in info:
        raise ImageRejected("file", "QEMU sees another image in the file than its header says")
    check = _qemu_img("check", path)
    if check.get("corruptions") or check.get("check-errors"):
        raise ImageRejected(
            "file", f"the qcow2 file is corrupt: {check.get('corruptions') or 'some'} errors in its tables"
        )
    cluster = int(info.get("cluster-size") or 1)
    if int(check.get("image-end-offset") or 0) > -(-size // cluster) * cluster:
        raise ImageRejected("file", "the qcow2 file is cut off: it refers to places beyond its end")


def _qemu_img(verb: str, path: Path) -> dict[str, Any]:
    command = ["qemu-img", verb, "-f", "qcow2", "--output", "json", "--", FILE]
    ended = run_confined(command, path, Limits())
    if ended.code == 127 or "execvp qemu-img" in ended.errors or "failed to execute qemu-img" in ended.errors:
        raise DriverUnavailable("qcow2 images cannot be inspected: install qemu-utils (apt-get install qemu-utils)")
    if ended.killed:
        raise _too_much(ended)
    try:
        found = json.loads(ended.output)
    except ValueError:
        found = None
    if not isinstance(found, dict) or (verb == "info" and ended.code != 0):
        raise ImageRejected("file", f"the qcow2 file is corrupt: {_last_words(ended)}")
    return found


def _read_json(ended: Ended) -> dict[str, Any]:
    try:
        found = json.loads(ended.output)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if ended.killed:
        raise _too_much(ended)
    raise DriverFailed(f"the inspection of images does not work on this host: {_last_words(ended)}")


def _too_much(ended: Ended) -> ImageRejected:
    return ImageRejected(
        "file", f"looking into the file takes more time or memory than an honest one needs ({ended.code})"
    )


def _last_words(ended: Ended) -> str:
    lines = ended.errors.strip().splitlines()
    words = lines[-1] if lines else f"code {ended.code}"
    return "".join(char for char in words.replace("/image", "the file") if char.isprintable())[:300]
