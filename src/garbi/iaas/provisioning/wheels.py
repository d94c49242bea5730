"""What a node installs: our package and all that it needs, as wheels in one archive, so that a node needs no package index.

An archive is made once for each version of ours, Python and processor, and kept; a node has what it has by its digest.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path

PACKAGE = "garbi"
LOCK = "requirements-node.txt"
"""Pins what a node installs by version and digest: a copy of the project's own lock."""

LONG_AGO = (1980, 1, 1, 0, 0, 0)
GLIBC_MINORS = range(36, 4, -1)
"""Wheels for these versions of glibc run on every release that is taken."""

DOWNLOAD_TIMEOUT_S = 900
_LOCK = threading.Lock()


class WheelsMissing(Exception):
    """The wheels for a node could not be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Wheels:
    """An archive of wheels, and the name of what it installs."""

    archive: Path
    release: str


def wheels_for(python: str, architecture: str, data_dir: Path) -> Wheels:
    """The wheels for hosts with that Python ("3.11") and processor ("x86_64"); raises WheelsMissing."""
    with _LOCK:
        return _wheels_for(python, architecture, data_dir / "wheels")


def _wheels_for(python: str, architecture: str, kept: Path) -> Wheels:
    lock = files("garbi.iaas.provisioning").joinpath(LOCK).read_bytes()
    version = metadata.version(PACKAGE)
    content = own_wheel()
    digest = hashlib.sha256(b"\0".join((lock, content, python.encode(), architecture.encode()))).hexdigest()
    release = f"{version}-{digest[:16]}"
    suffix = f"-{python}-{architecture}.tar"
    archive = kept / (release + suffix)
    if not archive.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as place:
            folder = Path(place)
            _download(folder, lock, python, architecture)
            name = f"{PACKAGE}-{version}-py3-none-any.whl"
            (folder / name).write_bytes(content)
            pin = f"{PACKAGE}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
            (folder / "requirements.txt").write_bytes(pin.encode() + lock)
            _pack(folder, archive)
        for outdated in set(kept.glob(f"*{suffix}")) - {archive}:
            outdated.unlink()
    return Wheels(archive, release)


def _download(folder: Path, lock: bytes, python: str, architecture: str) -> None:
    (folder / LOCK).write_bytes(lock)
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in GLIBC_MINORS]
    legacy = [
        f"manylinux2014_{architecture}",
        *(["manylinux2010_x86_64", "manylinux1_x86_64"] if architecture == "x86_64" else []),
    ]
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(folder / LOCK)]
    command += ["--dest", str(folder), "--implementation", "cp", "--python-version", python]
    command += [f"--abi={abi}" for abi in ("cp" + python.replace(".", ""), "abi3", "none")]
    command += [f"--platform={platform}" for platform in (*platforms, *legacy)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise WheelsMissing(f"pip did not end within {DOWNLOAD_TIMEOUT_S} s") from None
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelsMissing("\n".join(errors) or result.stderr)
    (folder / LOCK).unlink()


def _pack(folder: Path, archive: Path) -> None:
    beside = archive.with_suffix(".new")
    with tarfile.open(beside, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=_plain)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.rename(archive)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


@cache
def own_wheel() -> bytes:
    """Our package as a wheel, made of what is installed here: the node runs what the controller runs, byte by byte the same."""
    distribution = metadata.distribution(PACKAGE)
    info = f"{PACKAGE}-{distribution.version}.dist-info"
    entries = dict(_sources())
    entries[f"{info}/METADATA"] = _text(distribution, "METADATA")
    entries[f"{info}/entry_points.txt"] = _text(distribution, "entry_points.txt")
    entries[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: garbi\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries[f"{info}/RECORD"] = _record(entries, f"{info}/RECORD")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in entries.items():
            member = zipfile.ZipInfo(name, LONG_AGO)
            member.external_attr = 0o100644 << 16
            wheel.writestr(member, content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _sources() -> Iterator[tuple[str, bytes]]:
    root = Path(str(files(PACKAGE)))
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
            yield f"{PACKAGE}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _text(distribution: metadata.Distribution, name: str) -> bytes:
    text = distribution.read_text(name)
    if text is None:
        raise WheelsMissing(f"the installed {PACKAGE} has no {name}: install it anew")
    return text.encode()


def _record(entries: dict[str, bytes], own_name: str) -> bytes:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for name, content in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        writer.writerow((name, f"sha256={digest}", len(content)))
    writer.writerow((own_name, "", ""))
    return lines.getvalue().encode()
