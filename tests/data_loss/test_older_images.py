"""Images write no events: a copy of the database may pass for the newest, and the files of names tell what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from tests.data_loss.services import Service, copy_of, lose, roll_back

from garbi.base.clock import SystemClock
from garbi.base.errors import GarbiError
from garbi.hyper.model.image import Image, ImageState, ImageType
from garbi.hyper.store.database import Database
from garbi.hyper.store.image_files import ImageFiles
from garbi.hyper.store.images import ImageTable
from garbi.hyper.store.migrate import migrate

SIZE = 1 << 16


def test_what_was_added_since_a_copy_was_made_stays(hyper: Service, place: Path) -> None:
    def add(name: str, fill: int) -> None:
        hyper.hyper.images.add(name, "raw", [bytes([fill]) * SIZE], SIZE)

    hyper.serve()
    add("before", 1)
    add("replaced", 2)
    copy_of(hyper.database, place / "early.db")
    add("since", 3)
    hyper.hyper.images.remove("replaced")
    add("replaced", 4)
    expected = hyper.hyper.images.list()
    hyper.kill()
    roll_back(hyper.database, place / "early.db")
    for _ in range(2):
        hyper.serve()
        assert hyper.hyper.images.list() == expected
        assert {image["state"] for image in expected} == {"active"}
        assert hyper.hyper.audit() == []
        hyper.kill()
    lose(hyper.database)
    hyper.serve("--adopt")  # the files are right, too
    assert hyper.hyper.images.list() == expected


@pytest.mark.parametrize("at", ["images.remove.recorded", "images.remove.deleted"])
def test_a_removal_that_is_killed_leaves_no_name(hyper: Service, at: str) -> None:
    hyper.settings["GARBI_CRASH_AT"] = at
    hyper.serve()
    for name in ("one", "other"):  # of the same content, which stays
        hyper.hyper.images.add(name, "raw", [bytes(SIZE)], SIZE)
    with pytest.raises(GarbiError):
        hyper.hyper.images.remove("one")
    del hyper.settings["GARBI_CRASH_AT"]
    hyper.kill()
    hyper.serve()
    assert [image["name"] for image in hyper.hyper.images.list()] == ["other"]


def test_the_file_of_a_name_goes_before_its_row_and_does_not_outlive_a_refused_one(tmp_path: Path) -> None:
    """Whatever moment a crash chooses, a start finds the row, or neither."""
    migrate(tmp_path / "hyper.db")
    database, file = Database(tmp_path / "hyper.db"), tmp_path / "image-names" / "web.json"
    table = ImageTable(database, ImageFiles(tmp_path))
    now = SystemClock().now()
    image = Image("web", ImageType.RAW, 1, 1, "a" * 64, ImageState.ACTIVE, now, False, used_at=now)
    with refused(database, "INSERT"), pytest.raises(IntegrityError):
        table.insert(image)
    assert not file.exists()
    table.insert(image)
    assert file.exists()
    with refused(database, "DELETE"), pytest.raises(IntegrityError):
        table.delete("web")
    assert (file.exists(), table.get("web")) == (False, image)
    table.repair()
    assert file.exists()
    table.delete("web")
    assert not file.exists()


@contextmanager
def refused(database: Database, verb: str) -> Iterator[None]:
    """Have the database refuse rows of images at the last moment."""
    with database.write() as transaction:
        refusal = f"CREATE TRIGGER refusal AFTER {verb} ON images BEGIN SELECT RAISE(ABORT, 'refused'); END"
        transaction.connection.exec_driver_sql(refusal)
    yield
    with database.write() as transaction:
        transaction.connection.exec_driver_sql("DROP TRIGGER refusal")
