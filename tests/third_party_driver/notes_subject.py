"""The notes driver under the conformance suite: what its files say. Not a part of its distribution."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from tests.conformance.subjects import Limits

from garbi.base.clock import SystemClock
from garbi.base.names import check_name
from garbi.hyper.drivers.protocol import Driver, DriverContext, ImageFile
from garbi.hyper.model.image import ImageType


class NotesEvidence:
    """Reads the notes."""

    _files: dict[str, Path]

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        return str(self._lines(cluster_id, machine_id).count("running"))

    def limits_seen(self, cluster_id: str, machine_id: str) -> Limits:
        mem, cpus, *_ = self._lines(cluster_id, machine_id)
        return Limits(int(mem), float(cpus))

    def labels_kept(self, cluster_id: str, machine_id: str) -> Mapping[str, str]:
        return {}

    def leftovers(self, cluster_id: str) -> list[str]:
        return [str(note) for note in (self._files[cluster_id] / cluster_id).glob("*")]

    def _lines(self, cluster_id: str, machine_id: str) -> list[str]:
        return (self._files[cluster_id] / cluster_id / check_name("id", machine_id)).read_text().split()


class NotesSubject(NotesEvidence):
    """As much of a subject as the suite's file about the verbs asks for."""

    name = "notes"
    outlives_process = True
    serves_page = False
    console_text = b""
    notice_s = 10.0

    def __init__(self, work_dir: Path) -> None:
        self._image = work_dir / "image"
        self._image.write_bytes(b"any")
        self._files = {}

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        self._files[cluster_id] = data_dir
        (point,) = entry_points(group="garbi.drivers", name="notes")
        driver: Driver = point.load()(DriverContext(cluster_id, data_dir, SystemClock()))
        return driver

    def image(self) -> ImageFile:
        return ImageFile("0" * 64, ImageType.RAW, self._image, 3)

    def sweep(self, cluster_id: str) -> None:
        """The test's data directory is deleted anyway."""

    def remove_foreign(self) -> None:
        """None is ever made."""

    def close(self) -> None:
        """Nothing is outside of the work directory."""
