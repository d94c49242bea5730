"""Finds a Linux kernel and the modules that a tiny virtual machine needs: installed, or from the package.

The package is only downloaded (apt checks its signature) and read, never installed, and no root is needed.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from garbi.base.errors import DriverFailed, DriverUnavailable
from garbi.hyper.images.tiny.tools import run, tool

WANTED = ("virtio_pci", "virtio_net", "virtio_blk", "virtio_balloon", "pvpanic_mmio", "pvpanic_pci", "button", "evdev")
"""The modules that the guest loads, each after those that it depends on; what the kernel has built in is left out."""

META_PACKAGES = {"linux-image-cloud-amd64": "linux-image-", "linux-image-virtual": "linux-modules-"}
"""Packages that name the present kernel of a distribution (Debian, Ubuntu), and how the one with its modules begins."""

_MODULE = re.compile(r"(?:usr/)?lib/modules/[^/]+/kernel/.*?([^/]+)\.ko(\.xz|\.zst)?\Z")
_KERNEL = re.compile(r"boot/vmlinuz-([^/]+)\Z")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_DOWNLOAD_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image and its modules, `(file name, content)` in the order in which they can be loaded."""

    release: str
    image: bytes
    modules: tuple[tuple[str, bytes], ...]


def find_kernel(cache_dir: Path, root: Path = Path("/")) -> Kernel:
    """The installed cloud kernel if there is one, else the distribution's package, else any installed kernel.

    Packages are kept in `cache_dir`. Raises DriverUnavailable saying what to install when there is no kernel to be had.
    """
    installed = _installed_releases(root)
    for release in installed:
        if release.endswith("-cloud-amd64"):
            return _installed(root, release)
    try:
        return _downloaded(cache_dir)
    except DriverUnavailable:
        if not installed:
            raise
        return _installed(root, installed[0])


def _installed_releases(root: Path) -> list[str]:
    found = [path for path in sorted(root.glob("boot/vmlinuz-*"), reverse=True) if os.access(path, os.R_OK)]
    releases = [path.name.removeprefix("vmlinuz-") for path in found]
    return [release for release in releases if (root / "lib/modules" / release / "kernel").is_dir()]


def _installed(root: Path, release: str) -> Kernel:
    def files() -> Iterator[tuple[str, Callable[[], bytes]]]:
        for path in (root / "lib/modules" / release / "kernel").rglob("*.ko*"):
            yield str(path.relative_to(root)), path.read_bytes

    return _assemble(release, (root / f"boot/vmlinuz-{release}").read_bytes(), _select_modules(files()))


def _downloaded(cache_dir: Path) -> Kernel:
    with _locked(cache_dir):
        packages = [_download(name, cache_dir) for name in _package_names()]
    images: dict[str, bytes] = {}
    modules: dict[str, bytes] = {}
    for package in packages:
        _read_package(package, images, modules)
    if not images:
        raise DriverFailed(f"the package {packages[0].name} holds no kernel")
    release, image = next(iter(images.items()))
    return _assemble(release, image, modules)


def _package_names() -> list[str]:
    apt_cache = tool("apt-cache", "apt")
    for meta, modules_prefix in META_PACKAGES.items():
        depends = run([apt_cache, "depends", "--", meta], check=False)
        found = re.search(r"Depends: (linux-image-[0-9][a-z0-9.+-]*)$", depends, re.MULTILINE)
        if found:
            image = found[1]
            return list(dict.fromkeys((image, image.replace("linux-image-", modules_prefix))))
    raise DriverUnavailable(
        f"apt knows no kernel package (looked for {' and '.join(META_PACKAGES)}); run 'apt-get update', then try again",
        packages=list(META_PACKAGES),
    )


def _download(name: str, cache_dir: Path) -> Path:
    """The file of a package, fetched into `cache_dir` unless it is there already."""
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []  # the user _apt cannot write there
    command = [tool("apt-get", "apt"), "-qq", *sandbox, "download", "--", name]
    try:
        run(command, cwd=cache_dir, timeout_s=_DOWNLOAD_TIMEOUT_S)
    except DriverFailed as error:
        detail = f"the kernel package {name} cannot be downloaded: {error.detail}"
        raise DriverUnavailable(detail, packages=[name]) from error
    return max(cache_dir.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)


class _locked:  # noqa: N801 - reads as a word in a `with` line
    """Holds a directory, made if missing, for one process at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)


def _read_package(package: Path, images: dict[str, bytes], modules: dict[str, bytes]) -> None:
    command = [tool("dpkg-deb", "dpkg"), "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    _take_member(archive, member, images, modules)
        except tarfile.TarError as error:
            package.unlink(missing_ok=True)
            raise DriverFailed(f"the package {package.name} is damaged and was deleted ({error}); try again") from error
        finally:
            process.kill()


def _take_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, images: dict[str, bytes], modules: dict[str, bytes]
) -> None:
    path = member.name.removeprefix("./")
    kernel = _KERNEL.match(path)
    content = archive.extractfile(member) if member.isreg() and (kernel or _MODULE.match(path)) else None
    if content is None:
        return
    if kernel:
        images[kernel[1]] = content.read()
    else:
        modules |= _select_modules([(path, content.read)])


def _select_modules(files: Iterable[tuple[str, Callable[[], bytes]]]) -> dict[str, bytes]:
    """The modules that may be needed, uncompressed, by name with `_` for `-`."""
    candidates = set(WANTED) | {"virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"}
    candidates |= {"failover", "net_failover", "pvpanic", "fw_cfg", "af_packet"}
    chosen = {}
    for path, read in files:
        found = _MODULE.match(path)
        if found and found[1].replace("-", "_") in candidates:
            chosen[found[1].replace("-", "_")] = _uncompressed(read(), found[2])
    return chosen


def _uncompressed(content: bytes, suffix: str | None) -> bytes:
    if suffix == ".xz":
        return lzma.decompress(content)
    if suffix == ".zst":
        result = subprocess.run([tool("zstd", "zstd"), "-dcq"], input=content, capture_output=True, check=True)
        return result.stdout
    return content


def _assemble(release: str, image: bytes, modules: dict[str, bytes]) -> Kernel:
    """Order the modules: each after what its own `depends=` names."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in modules:
            return
        depends = _DEPENDS.search(modules[name])
        for other in depends[1].decode("ascii", "replace").split(",") if depends else ():
            visit(other.replace("-", "_"))
        order.append(name)

    for name in ("af_packet", *WANTED):
        visit(name)
    return Kernel(release, image, tuple((str(PurePosixPath(name + ".ko")), modules[name]) for name in order))
