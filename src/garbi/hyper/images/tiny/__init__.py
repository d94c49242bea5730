"""Builds the tiny images, a virtual machine and a container that serve a page, of the distribution's packages alone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from garbi.base.errors import DriverFailed, DriverUnavailable, NoSpace
from garbi.base.failpoints import reach
from garbi.hyper.images.tiny.archives import docker_archive, initramfs
from garbi.hyper.images.tiny.disk import make_disk
from garbi.hyper.images.tiny.kernel import Kernel, find_kernel
from garbi.hyper.images.tiny.tools import find_busybox, require_tools
from garbi.hyper.images.tiny.tree import READY_LINE, Entry, build_tree

__all__ = ["DISK_NAME", "DOCKER_NAME", "READY_LINE", "build_tiny"]

DISK_NAME = "tiny.qcow2"
DOCKER_NAME = "tiny-docker.tar"

_WORK_PREFIX = ".tiny-"


def build_tiny(target_dir: Path, cache_dir: Path | None = None) -> tuple[Path, Path]:
    """Make `tiny.qcow2` and `tiny-docker.tar` in `target_dir` and return their paths.

    Each file appears complete or not at all; what a killed build left is cleared away by the next. The same packages
    give the same bytes. The kernel package is kept in `cache_dir` (default: `garbi` in the user's cache directory).
    Raises DriverUnavailable naming the packages to install, DriverFailed with a program's own words, NoSpace.
    """
    if os.uname().machine != "x86_64":
        raise DriverUnavailable(f"the tiny images are for x86_64 hosts, this one is {os.uname().machine}")
    require_tools()
    try:
        target_dir.mkdir(parents=True, exist_ok=True)
        tree = build_tree(find_busybox())
        kernel = find_kernel(cache_dir or _default_cache())
        with _work_dir(target_dir) as work_dir:
            return _build(target_dir, work_dir, tree, kernel)
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else DriverFailed
        raise kind(f"the tiny images cannot be written to {target_dir}: {error.strerror}") from error


def _build(target_dir: Path, work_dir: Path, tree: dict[str, Entry], kernel: Kernel) -> tuple[Path, Path]:
    archive = work_dir / "docker.tar"
    archive.write_bytes(docker_archive(tree, "amd64"))
    disk = make_disk(work_dir, kernel.image, initramfs(_with_modules(tree, kernel)))
    reach("tiny.built")
    disk.replace(target_dir / DISK_NAME)
    reach("tiny.disk-in-place")
    archive.replace(target_dir / DOCKER_NAME)
    return target_dir / DISK_NAME, target_dir / DOCKER_NAME


def _with_modules(tree: dict[str, Entry], kernel: Kernel) -> dict[str, Entry]:
    modules = {f"lib/modules/{name}": Entry(0o644, content) for name, content in kernel.modules}
    order = "".join(f"{name}\n" for name, _ in kernel.modules)
    return tree | modules | {"lib/modules/order": Entry(0o644, order.encode())}


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "garbi"


@contextmanager
def _work_dir(target_dir: Path) -> Iterator[Path]:
    """A directory beside the results, locked, so that the next build can tell a dead build's from a live one's."""
    _sweep(target_dir)
    work_dir = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=target_dir))
    lock = os.open(work_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield work_dir
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)
        os.close(lock)


def _sweep(target_dir: Path) -> None:
    for leftover in target_dir.glob(_WORK_PREFIX + "*"):
        lock = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
