"""The image library on a real database: what is visible, what stays on the disk, and what a crash or a full disk leaves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert

from garbi.base import errors
from garbi.base.failpoints import EXIT_CODE
from garbi.content.uploads import ContentLimits
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.model.image import ImageState, ImageType
from garbi.hyper.store.database import Database
from garbi.hyper.store.images import ImageTable
from garbi.hyper.store.migrate import migrate
from garbi.hyper.store.schema import machines
from garbi.storage.engine import path_of

MEBIBYTE = 1 << 20


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("database") / "hyper.db"
    migrate(path)
    return path.read_bytes()


@pytest.fixture
def database(tmp_path: Path, empty_database: bytes) -> Iterator[Database]:
    path = tmp_path / "hyper.db"
    path.write_bytes(empty_database)
    opened = Database(path)
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def library(root: Path, database: Database) -> ImageLibrary:
    return ImageLibrary(root, ImageTable(database))


def disk(fill: int = 1, size: int = MEBIBYTE) -> bytes:
    return bytes([fill]) * size


def pieces(content: bytes, size: int = 65536) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def use(database: Database, machine: str, image: str, digest: str) -> None:
    """Record a machine that was made from an image."""
    text = dict.fromkeys(
        ("node", "wish", "state", "reason", "restart", "on_node_failure", "boot_id", "created_at", "updated_at"), "-"
    )
    numbers = dict.fromkeys(("mem", "cpus", "generation", "settled_generation"), 1)
    row = {
        "id": machine,
        "name": machine,
        "type": "fake",
        "image": image,
        "image_sha256": digest,
        "labels": {},
        "full_copy": False,
    }
    with database.write() as transaction:
        transaction.connection.execute(insert(machines).values(**row, **text, **numbers))


def gone(library: ImageLibrary) -> list[str]:
    """The images whose content is not there."""
    return [image.name for image in library.list() if image.state is ImageState.FAILED]


def test_an_added_image_is_listed_described_and_readable_by_a_hypervisor(library: ImageLibrary, root: Path) -> None:
    content = disk()
    image = library.add("one", ImageType.RAW, pieces(content), sha256(content), len(content))
    assert (image.name, image.type, image.size, image.virtual_size) == ("one", ImageType.RAW, MEBIBYTE, MEBIBYTE)
    assert (image.sha256, image.state) == (sha256(content), ImageState.ACTIVE)
    assert library.list() == [library.get("one")] == [image]
    file = library.file(image)
    assert (file.sha256, file.type, file.virtual_size) == (image.sha256, image.type, image.virtual_size)
    assert file.path == root / "sha256" / image.sha256
    assert file.path.read_bytes() == content
    assert file.path.stat().st_mode & 0o777 == 0o444
    assert [(root / folder).stat().st_mode & 0o001 for folder in (".", "sha256")] == [1, 1]
    assert gone(library) == []


def test_neither_digest_nor_size_have_to_be_given(library: ImageLibrary) -> None:
    assert library.add("one", ImageType.RAW, [disk()]).sha256 == sha256(disk())


def test_the_same_name_and_content_again_is_the_same_image(library: ImageLibrary, root: Path) -> None:
    first = library.add("one", ImageType.RAW, [disk()])
    assert library.add("one", ImageType.RAW, pieces(disk())) == first
    assert library.add("one", ImageType.RAW, pieces(disk()), sha256(disk())) == first
    assert len(files(root)) == 1


def test_a_name_keeps_its_content_for_ever(library: ImageLibrary, root: Path) -> None:
    first = library.add("one", ImageType.RAW, [disk(1)])
    attempts = [
        (ImageType.RAW, disk(2), None),
        (ImageType.RAW, disk(1, 2 * MEBIBYTE), None),
        (ImageType.RAW, disk(1), sha256(disk(2))),
        (ImageType.QCOW2, disk(1), None),
        (ImageType.RAW, b"", None),
    ]
    for type, content, digest in attempts:
        with pytest.raises(errors.AlreadyExists, match="called one is here already"):
            library.add("one", type, [content], digest)
    assert library.list() == [first]
    assert files(root) == [f"sha256/{first.sha256}"]


def test_two_names_of_one_content_share_one_file_until_the_last_goes(library: ImageLibrary, root: Path) -> None:
    for name in ("one", "two"):
        library.add(name, ImageType.RAW, [disk()])
    assert len(files(root)) == 1
    library.remove("one")
    assert len(files(root)) == 1
    library.remove("two")
    assert files(root) == []
    assert library.list() == []


def test_an_image_that_machines_use_stays_and_they_are_named(
    library: ImageLibrary, database: Database, root: Path
) -> None:
    image = library.add("one", ImageType.RAW, [disk()])
    library.add("alias", ImageType.RAW, [disk()])
    use(database, "web-7", "one", image.sha256)
    with pytest.raises(errors.ImageInUse, match="web-7"):
        library.remove("one")
    library.remove("alias")
    assert library.list() == [image]
    assert files(root) == [f"sha256/{image.sha256}"]


def test_what_is_not_there_is_not_found(library: ImageLibrary) -> None:
    for verb in (library.get, library.remove):
        with pytest.raises(errors.NotFound, match="no image is called"):
            verb("nope\x1b[0m")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "a\n", "a\0b", "a" * 64, "-a", "a'b", "..", "a..b", "."])
def test_a_name_that_could_mean_a_path_is_refused_before_anything_is_read(
    library: ImageLibrary, root: Path, name: str
) -> None:
    def untouched() -> Iterator[bytes]:
        raise AssertionError("the content was read")
        yield b""

    with pytest.raises(errors.InvalidField) as caught:
        library.add(name, ImageType.RAW, untouched())
    assert caught.value.extra["field"] == "name"
    assert files(root) == []


@pytest.mark.parametrize("digest", ["", "x" * 64, "A" * 64, "0" * 63, "0" * 65, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_digest_that_is_none_is_refused(library: ImageLibrary, digest: str) -> None:
    with pytest.raises(errors.InvalidField) as caught:
        library.add("one", ImageType.RAW, [disk()], digest)
    assert caught.value.extra["field"] == "sha256"


def test_content_that_is_not_what_its_digest_says_leaves_nothing(library: ImageLibrary, root: Path) -> None:
    with pytest.raises(errors.DigestMismatch, match=sha256(disk(1))):
        library.add("one", ImageType.RAW, pieces(disk(1)), sha256(disk(2)))
    assert (library.list(), files(root)) == ([], [])


def test_content_that_ends_early_leaves_nothing(library: ImageLibrary, root: Path) -> None:
    with pytest.raises(errors.ImageRejected, match="cut off"):
        library.add("one", ImageType.RAW, pieces(disk()), size=MEBIBYTE + 512)
    assert (library.list(), files(root)) == ([], [])


def test_a_sender_that_goes_away_leaves_nothing(library: ImageLibrary, root: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield disk()
        assert len(files(root)) == 1
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(errors.DriverFailed, match="Connection reset"):
        library.add("one", ImageType.RAW, broken())
    assert (library.list(), files(root)) == ([], [])


def test_content_of_another_type_leaves_nothing(library: ImageLibrary, root: Path) -> None:
    with pytest.raises(errors.ImageRejected) as caught:
        library.add("one", ImageType.QCOW2, [disk()])
    assert caught.value.extra["field"] == "type"
    assert (library.list(), files(root)) == ([], [])


def test_content_over_the_limit_is_refused_by_its_announcement_and_when_it_comes(
    root: Path, database: Database
) -> None:
    library = ImageLibrary(root, ImageTable(database), ContentLimits(MEBIBYTE, MEBIBYTE))
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    with pytest.raises(errors.ContentTooLarge):
        library.add("one", ImageType.RAW, endless(), size=MEBIBYTE + 1)
    assert sent == 0
    with pytest.raises(errors.ContentTooLarge, match="1048576"):
        library.add("one", ImageType.RAW, endless())
    assert sent == MEBIBYTE + 65536
    assert (library.list(), files(root)) == ([], [])


def test_nothing_of_an_upload_is_visible_before_its_end(library: ImageLibrary, root: Path) -> None:
    def watched() -> Iterator[bytes]:
        for piece in pieces(disk()):
            assert library.list() == []
            assert not any(path.startswith("sha256/") for path in files(root))
            yield piece

    library.add("one", ImageType.RAW, watched())
    assert len(library.list()) == 1


def test_concurrent_adds_of_one_name_agree_on_one_content(library: ImageLibrary, root: Path) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> str:
        def together() -> Iterator[bytes]:
            barrier.wait(60)
            yield disk(number % 2 + 1)

        try:
            return library.add("one", ImageType.RAW, together()).sha256
        except errors.AlreadyExists:
            return "taken"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    winner = library.get("one").sha256
    assert sorted(set(outcomes)) == sorted({winner, "taken"})
    assert outcomes.count(winner) == 4
    assert files(root) == [f"sha256/{winner}"]


def test_adds_and_removes_of_one_content_never_leave_a_name_without_its_file(library: ImageLibrary, root: Path) -> None:
    def churn(name: str) -> None:
        for _ in range(6):
            image = library.add(name, ImageType.RAW, [disk()])
            assert library.file(image).path.stat().st_size == MEBIBYTE
            library.remove(name)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(churn, name) for name in ("a", "b", "c", "d")]:
            done.result()
    assert files(root) == []


def test_a_database_that_refuses_the_row_leaves_no_file(library: ImageLibrary, database: Database, root: Path) -> None:
    with database.write() as transaction:
        transaction.connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON images BEGIN SELECT RAISE(ABORT, 'no more rows'); END"
        )
    with pytest.raises(Exception, match="no more rows"):
        library.add("one", ImageType.RAW, [disk()])
    assert (library.list(), files(root)) == ([], [])


def test_content_that_vanished_is_reported(library: ImageLibrary) -> None:
    image = library.add("one", ImageType.RAW, [disk()])
    library.file(image).path.unlink()
    assert gone(library) == [image.name]
    assert library.add("two", ImageType.RAW, [disk()]).sha256 == image.sha256
    assert gone(library) == []


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--", str(path)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("spare", [0, 2 * MEBIBYTE])
def test_a_full_disk_is_a_clear_error_and_removes_still_work(
    tmp_path: Path, database: Database, announced: bool, spare: int
) -> None:
    with small_disk(tmp_path / "small", 8) as root:
        library = ImageLibrary(root / "images", ImageTable(database), ContentLimits(spare_bytes=spare))
        kept = library.add("kept", ImageType.RAW, pieces(disk(1, 2 * MEBIBYTE)))
        large = disk(2, 20 * MEBIBYTE)
        with pytest.raises(errors.NoSpace):
            library.add("large", ImageType.RAW, pieces(large), size=len(large) if announced else None)
        assert library.list() == [kept]
        assert files(root) == [f"images/sha256/{kept.sha256}"]
        library.add("more", ImageType.RAW, pieces(disk(3, 2 * MEBIBYTE)))
        library.remove("kept")
        library.remove("more")
        assert files(root) == []


PROGRAM = """
import json, sys
from pathlib import Path
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.model.image import ImageType
from garbi.hyper.store.database import Database
from garbi.hyper.store.images import ImageTable

root, database, verb = sys.argv[1:]
library = ImageLibrary(Path(root), ImageTable(Database(Path(database))))
library.sweep()
if verb == "add":
    library.add("one", ImageType.RAW, [bytes(1 << 20)])
elif verb == "remove":
    library.remove("one")
print(json.dumps([image.name for image in library.list()]))
"""


def run_program(root: Path, database: Path, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(root), str(database), verb]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


ADD_STEPS = ["received", "inspected", "renamed", "recorded"]
REMOVE_STEPS = ["recorded", "deleted"]
STEPS = [("add", step) for step in ADD_STEPS] + [("remove", step) for step in REMOVE_STEPS]


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_a_kill_at_any_step_leaves_all_of_it_or_nothing_and_the_next_start_sweeps(
    root: Path, database: Database, library: ImageLibrary, verb: str, step: str
) -> None:
    if verb == "remove":
        library.add("one", ImageType.RAW, [bytes(MEBIBYTE)])
    killed = run_program(root, path_of(database.url), verb, GARBI_CRASH_AT=f"images.{verb}.{step}")
    assert killed.returncode == EXIT_CODE, killed.stderr
    done = run_program(root, path_of(database.url), "look")
    names = json.loads(done.stdout)
    there = verb == "add" and step == "recorded"
    assert names == (["one"] if there else [])
    assert files(root) == ([f"sha256/{sha256(bytes(MEBIBYTE))}"] if there else [])
    again = run_program(root, path_of(database.url), "add")
    assert json.loads(again.stdout) == ["one"]
    assert gone(ImageLibrary(root, ImageTable(database))) == []


def test_every_step_that_is_killed_at_is_one_that_is_passed(root: Path, database: Database, tmp_path: Path) -> None:
    for verb in ("add", "remove"):
        run_program(root, path_of(database.url), verb, GARBI_FAILPOINT_LOG=str(tmp_path / "passed"))
    passed = [line for line in (tmp_path / "passed").read_text().splitlines() if line.startswith("images.")]
    assert passed == [f"images.{verb}.{step}" for verb, step in STEPS]


def test_the_sweep_keeps_what_is_in_use(library: ImageLibrary, root: Path) -> None:
    image = library.add("one", ImageType.RAW, [disk()])
    (root / "incoming" / "left").write_bytes(b"half of an upload")
    (root / "sha256" / ("0" * 64)).write_bytes(b"content without a name")
    library.sweep()
    assert files(root) == [f"sha256/{image.sha256}"]


def test_looking_into_images_does_not_stay_in_the_memory_of_the_agent(tmp_path: Path, empty_database: bytes) -> None:
    database = tmp_path / "hyper.db"
    database.write_bytes(empty_database)
    program = (
        PROGRAM + "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('oslo_utils', 'tarfile')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "images"), str(database), "add"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ['["one"]', "[]"]
