"""What it costs to have the controller take an image in: received, hashed, written to the disk and inspected."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bed import run
from benchmarks.cloud_bed import CloudBed
from benchmarks.pairs import Row, compare_rates, in_pairs, seconds

SIZE = 1 << 30
BLOCK = 1 << 20
PAIRS = 3
LEAST = 0.7


class Uploads:
    """A raw image of 1 GiB, against a copy of the file and `sha256sum` of the copy."""

    def __init__(self, bed: CloudBed) -> None:
        self._client = bed.client()
        self._file = bed.data_dir / "large.raw"
        self._copy = bed.data_dir / "copy.raw"

    def rows(self) -> list[Row]:
        """The row of the table."""
        self._sha256 = _make(self._file)
        try:
            ours, theirs = in_pairs(self._upload, self._copy_and_hash, PAIRS)
        finally:
            self._file.unlink()
        mib = SIZE / (1 << 20)
        what = "upload of a 1 GiB image, `cp` and `sha256sum`: MiB"
        return [compare_rates(what, [mib / each for each in ours], [mib / each for each in theirs], LEAST)]

    def _upload(self) -> float:
        images = self._client.images
        taken = seconds(lambda: images.add("large", "raw", self._blocks, SIZE, self._sha256))
        images.remove("large")
        return taken

    def _copy_and_hash(self) -> float:
        """On the disk when it ends, as an image is."""
        command = ["cp", "--reflink=never", "--sparse=never", "--", str(self._file), str(self._copy)]
        hashed = ["sha256sum", "--", str(self._copy)]
        taken = seconds(lambda: (run(command), run(hashed)))
        self._copy.unlink()
        return taken

    def _blocks(self, offset: int) -> Iterator[bytes]:
        with self._file.open("rb", buffering=0) as file:
            file.seek(offset)
            while block := file.read(BLOCK):
                yield block


def _make(path: Path) -> str:
    """A file of random blocks, none of which is empty; its sha256."""
    blocks = [os.urandom(BLOCK) for _ in range(16)]
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(SIZE // BLOCK):
            file.write(blocks[number % len(blocks)])
            digest.update(blocks[number % len(blocks)])
    return digest.hexdigest()
