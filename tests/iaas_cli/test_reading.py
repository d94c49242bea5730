"""A file on its way: whatever offsets a broken upload goes on from, its digest is that of the whole file."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.base.errors import FinalError
from garbi.iaas.cli import images
from garbi.iaas.cli.images import Reading

CONTENT = bytes(range(256)) * 5


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> None:
    """Blocks that a small file has many of."""
    patch = pytest.MonkeyPatch()
    patch.setattr(images, "BLOCK", 100)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reading") / "content"
    path.write_bytes(CONTENT)
    return path


@given(st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 20)), max_size=6))
def test_the_digest_is_that_of_the_file_wherever_sending_goes_on(file: Path, tries: list[tuple[int, int]]) -> None:
    reading = Reading(file, len(CONTENT), "content")
    for offset, blocks in tries:
        sending = reading(offset)
        sent = b"".join(block for _, block in zip(range(blocks), sending, strict=False))
        assert CONTENT[offset:].startswith(sent)
    assert b"".join(reading(0)) == CONTENT
    assert reading.digest() == hashlib.sha256(CONTENT).hexdigest()


def test_a_file_that_becomes_shorter_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    reading = Reading(path, len(CONTENT) + 1, "content")
    with pytest.raises(FinalError, match="shorter"):
        b"".join(reading(0))
    path.unlink()
    with pytest.raises(FinalError, match="cannot be read"):
        b"".join(reading(0))


@pytest.mark.parametrize(
    ("content", "kind"), [(b"QFI\xfb" + bytes(600), "qcow2"), (bytes(600), "raw"), (b"hello", "raw")]
)
def test_what_a_file_is_is_guessed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, kind: str
) -> None:
    path = tmp_path / "thing"
    path.write_bytes(content)
    assert images._guess(path) == kind
    assert f"taken as {kind}" in capsys.readouterr().err


@pytest.mark.parametrize(("member", "kind"), [("manifest.json", "docker"), ("etc/passwd", "rootfs")])
def test_a_tar_is_an_image_of_docker_or_a_tree_of_files(tmp_path: Path, member: str, kind: str) -> None:
    path = tmp_path / "archive"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    assert images._guess(path) == kind
