"""The image store of a controller: states, uploads that go on, and what a kill, a full disk or a stranger's file leaves."""

from __future__ import annotations

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
from tests.iaas_images.conftest import MIB, disk, files, pieces, sha256_of

from garbi.base import errors
from garbi.base.failpoints import EXIT_CODE
from garbi.content.uploads import ContentLimits
from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable
from garbi.storage.engine import path_of


def gone(content: bytes) -> Iterator[bytes]:
    """A sender that goes away."""
    yield from pieces(content)
    raise errors.MalformedRequest("the upload ended before its content did")


def test_an_image_is_queued_uploading_and_active(store: ImageStore, root: Path) -> None:
    content = disk()
    assert store.register("web", ImageType.RAW).state is ImageState.QUEUED

    def watched() -> Iterator[bytes]:
        for piece in pieces(content):
            assert store.get("web").state is ImageState.UPLOADING
            assert not (root / "sha256" / sha256_of(content)).exists()
            yield piece

    image = store.receive("web", 0, watched(), sha256_of(content))
    assert (image.state, image.size, image.virtual_size, image.sha256) == (
        ImageState.ACTIVE, MIB, MIB, sha256_of(content),
    )  # fmt: skip
    assert store.list() == [store.get("web")] == [image]
    assert store.path(image).read_bytes() == content
    assert files(root) == [f"sha256/{image.sha256}"]


def test_an_nfs_server_may_serve_what_is_whole_and_nothing_else(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)
    with pytest.raises(errors.MalformedRequest):
        store.receive("web", 0, gone(disk()))
    modes = {str(each.relative_to(root)): each.stat().st_mode & 0o777 for each in root.rglob("*")}
    assert root.stat().st_mode & 0o777 == 0o755
    assert modes == {"sha256": 0o755, "incoming": 0o700, "incoming/web.part": 0o600}
    image = store.receive("web", MIB, [disk()])
    assert store.path(image).stat().st_mode & 0o777 == 0o444


def test_an_upload_that_was_cut_off_goes_on_where_it_ended(store: ImageStore) -> None:
    content = os.urandom(3 * MIB)
    store.register("web", ImageType.RAW)
    with pytest.raises(errors.MalformedRequest):
        store.receive("web", 0, gone(content[:MIB]))
    assert (store.offset("web"), store.get("web").state) == (MIB, ImageState.UPLOADING)
    assert store.receive("web", MIB, pieces(content[MIB : 2 * MIB]), complete=False).state is ImageState.UPLOADING
    image = store.receive("web", 2 * MIB, pieces(content[2 * MIB :]), sha256_of(content))
    assert (image.sha256, image.size, store.offset("web")) == (sha256_of(content), 3 * MIB, 3 * MIB)


def test_an_upload_goes_on_after_a_restart_of_the_controller(store: ImageStore, root: Path, database: Database) -> None:
    content = os.urandom(2 * MIB)
    store.register("web", ImageType.RAW)
    store.receive("web", 0, pieces(content[:MIB]), complete=False)
    restarted = ImageStore(root, ImageTable(database))
    restarted.sweep()
    assert (restarted.offset("web"), restarted.get("web").state) == (MIB, ImageState.UPLOADING)
    assert restarted.receive("web", MIB, pieces(content[MIB:])).sha256 == sha256_of(content)


@pytest.mark.parametrize("offset", [1, MIB - 1, MIB + 1, 1 << 40])
def test_content_that_does_not_go_on_there_is_refused_and_told_where(store: ImageStore, offset: int) -> None:
    store.register("web", ImageType.RAW)
    store.receive("web", 0, [disk()], complete=False)
    with pytest.raises(errors.OffsetMismatch) as caught:
        store.receive("web", offset, [disk()])
    assert caught.value.extra == {"expected_offset": MIB, "provided_offset": offset}
    assert store.offset("web") == MIB


def test_content_from_the_beginning_replaces_what_came_before(store: ImageStore) -> None:
    store.register("web", ImageType.RAW)
    store.receive("web", 0, [disk(1)], complete=False)
    assert store.receive("web", 0, [disk(2)]).sha256 == sha256_of(disk(2))


def test_the_same_content_again_is_the_same_image_and_other_content_is_refused(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)
    image = store.receive("web", 0, [disk()])
    assert store.receive("web", 0, pieces(disk())) == image
    assert store.receive("web", 0, pieces(disk()), image.sha256) == image
    for content, digest in ((disk(2), None), (disk(1, 2 * MIB), None), (disk(), sha256_of(disk(2))), (b"", None)):
        with pytest.raises(errors.AlreadyExists, match="with other content"):
            store.receive("web", 0, [content], digest)
    with pytest.raises(errors.OffsetMismatch):
        store.receive("web", 512, [disk()])
    with pytest.raises(errors.AlreadyExists):
        store.register("web", ImageType.RAW)
    assert store.list() == [image]
    assert files(root) == [f"sha256/{image.sha256}"]


@pytest.mark.parametrize(
    ("type", "content", "digest", "error"),
    [
        (ImageType.QCOW2, disk(), None, errors.ImageRejected),
        (ImageType.RAW, disk(), sha256_of(disk(2)), errors.DigestMismatch),
        (ImageType.RAW, b"", None, errors.ImageRejected),
        (ImageType.RAW, disk(1, 5 * MIB), None, errors.ContentTooLarge),
    ],
)
def test_what_is_refused_is_failed_with_the_reason_and_may_come_again(
    root: Path, database: Database, type: ImageType, content: bytes, digest: str | None, error: type[Exception]
) -> None:
    store = ImageStore(root, ImageTable(database), ContentLimits(max_bytes=4 * MIB))
    store.register("web", type)
    with pytest.raises(error) as caught:
        store.receive("web", 0, pieces(content), digest)
    failed = store.get("web")
    assert (failed.state, failed.reason) == (ImageState.FAILED, str(caught.value))
    assert (store.offset("web"), files(root)) == (0, [])
    assert store.register("web", ImageType.RAW).state is ImageState.QUEUED
    assert store.receive("web", 0, [disk(3)]).state is ImageState.ACTIVE


def test_a_failed_image_may_be_uploaded_again_without_a_new_registration(store: ImageStore) -> None:
    store.register("web", ImageType.RAW)
    with pytest.raises(errors.DigestMismatch):
        store.receive("web", 0, [disk()], sha256_of(disk(2)))
    image = store.receive("web", 0, [disk()], sha256_of(disk()))
    assert (image.state, image.reason) == (ImageState.ACTIVE, "")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "a\n", "a\0b", "a" * 64, "-a", "..", "a..b", ".part"])
def test_a_name_that_could_mean_a_path_is_refused(store: ImageStore, name: str) -> None:
    with pytest.raises(errors.InvalidField):
        store.register(name, ImageType.RAW)


def test_what_was_not_registered_is_not_found(store: ImageStore) -> None:
    for ask in (store.get, store.offset, store.remove, lambda name: store.receive(name, 0, [disk()])):
        with pytest.raises(errors.NotFound):
            ask("nope")


def test_a_second_sender_of_one_image_is_told_to_wait(store: ImageStore) -> None:
    store.register("web", ImageType.RAW)

    def intruded() -> Iterator[bytes]:
        with pytest.raises(errors.Busy):
            store.receive("web", 0, [disk(2)])
        yield disk(1)

    assert store.receive("web", 0, intruded()).sha256 == sha256_of(disk(1))


def test_many_senders_of_one_image_agree_on_one_content(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)
    barrier = threading.Barrier(8)

    def attempt(number: int) -> str:
        barrier.wait(60)
        try:
            return store.receive("web", 0, pieces(disk(number % 2 + 1))).sha256
        except (errors.AlreadyExists, errors.Busy):
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(attempt, range(8)))
    winner = store.get("web").sha256
    assert winner in outcomes <= {winner, "refused"}
    assert files(root) == [f"sha256/{winner}"]


def test_an_image_removed_while_its_content_comes_leaves_nothing(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)

    def removed() -> Iterator[bytes]:
        store.remove("web")
        store.register("web", ImageType.RAW)
        yield disk()

    with pytest.raises(errors.NotFound):
        store.receive("web", 0, removed())
    assert store.get("web").state is ImageState.QUEUED
    assert files(root) == []


def test_two_names_of_one_content_share_one_file_until_the_last_goes(store: ImageStore, root: Path) -> None:
    for name in ("one", "two"):
        store.register(name, ImageType.RAW)
        store.receive(name, 0, [disk()])
    assert len(files(root)) == 1
    store.remove("one")
    assert len(files(root)) == 1
    store.remove("two")
    assert (store.list(), files(root)) == ([], [])


def test_what_was_begun_and_removed_is_gone(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)
    store.receive("web", 0, [disk()], complete=False)
    store.remove("web")
    assert files(root) == []


def test_an_upload_that_nobody_goes_on_with_is_deleted_after_its_time(root: Path, database: Database) -> None:
    store = ImageStore(root, ImageTable(database), ContentLimits(kept_s=3600))
    for name in ("old", "new", "other"):
        store.register(name, ImageType.RAW)
        store.receive(name, 0, [disk()], complete=False)
    os.utime(root / "incoming" / "old.part", (0, 0))
    store.receive("other", MIB, [disk()])  # whoever comes next finds out
    assert (store.offset("old"), store.offset("new")) == (0, MIB)
    store.sweep()
    assert (store.get("old").state, store.get("new").state) == (ImageState.QUEUED, ImageState.UPLOADING)


def test_content_that_somebody_deleted_is_said_to_be_gone(store: ImageStore, root: Path) -> None:
    store.register("web", ImageType.RAW)
    image = store.receive("web", 0, [disk()])
    (root / "sha256" / image.sha256).unlink()
    with pytest.raises(errors.NotFound, match="gone from the controller's disk"):
        store.path(image)


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--", str(path)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("spare", [0, 2 * MIB])
def test_a_full_disk_is_a_clear_error_and_removes_still_work(tmp_path: Path, database: Database, spare: int) -> None:
    with small_disk(tmp_path / "small", 8) as place:
        store = ImageStore(place / "images", ImageTable(database), ContentLimits(spare_bytes=spare))
        for name in ("kept", "large"):
            store.register(name, ImageType.RAW)
        kept = store.receive("kept", 0, pieces(disk(1, 2 * MIB)))
        with pytest.raises(errors.NoSpace):
            store.receive("large", 0, pieces(disk(2, 20 * MIB)))
        assert (store.get("large").state, store.offset("large")) == (ImageState.FAILED, 0)
        assert files(place) == [f"images/sha256/{kept.sha256}"]
        store.remove("kept")
        assert store.receive("large", 0, pieces(disk(3, 2 * MIB))).state is ImageState.ACTIVE


PROGRAM = """
import json, sys
from pathlib import Path
from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable

root, database, verb = sys.argv[1:]
store = ImageStore(Path(root), ImageTable(Database(Path(database))))
store.sweep()
if verb == "add":
    if not store.list():
        store.register("one", ImageType.RAW)
    half = 1 << 19
    if store.get("one").state is not ImageState.ACTIVE:
        if store.offset("one") < half:
            store.receive("one", 0, [bytes(half)], complete=False)
        store.receive("one", store.offset("one"), [bytes(2 * half - store.offset("one"))])
elif verb == "remove":
    store.remove("one")
print(json.dumps([[image.name, image.state, image.sha256] for image in store.list()]))
"""


def run_program(root: Path, database: Path, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(root), str(database), verb]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


STEPS = [
    *[("add", f"imagestore.receive.{step}") for step in ("begun", "appended", "inspected", "renamed", "recorded")],
    ("add", "imagestore.receive.appended@2"),
    ("remove", "imagestore.remove.recorded"),
]


@pytest.mark.parametrize(("verb", "step"), STEPS)
def test_a_kill_at_any_step_leaves_all_of_it_or_nothing_visible_and_it_goes_on(
    root: Path, database: Database, store: ImageStore, verb: str, step: str
) -> None:
    if verb == "remove":
        store.register("one", ImageType.RAW)
        store.receive("one", 0, [bytes(MIB)])
    killed = run_program(root, path_of(database.url), verb, GARBI_CRASH_AT=step)
    assert killed.returncode == EXIT_CODE, killed.stderr
    done = run_program(root, path_of(database.url), "look")
    there = step.endswith("recorded") and verb == "add"
    visible = [each for each in json.loads(done.stdout) if each[1] == "active"]
    assert visible == ([["one", "active", sha256_of(bytes(MIB))]] if there else [])
    assert [each for each in files(root) if each.startswith("sha256/")] == (
        [f"sha256/{sha256_of(bytes(MIB))}"] if there else []
    )
    again = run_program(root, path_of(database.url), "add")
    assert json.loads(again.stdout) == [["one", "active", sha256_of(bytes(MIB))]], again.stderr
    assert files(root) == [f"sha256/{sha256_of(bytes(MIB))}"]


def test_every_step_that_is_killed_at_is_one_that_is_passed(root: Path, database: Database, tmp_path: Path) -> None:
    for verb in ("add", "remove"):
        run_program(root, path_of(database.url), verb, GARBI_FAILPOINT_LOG=str(tmp_path / "passed"))
    passed = {line for line in (tmp_path / "passed").read_text().splitlines() if line.startswith("imagestore.")}
    assert passed == {step.partition("@")[0] for _, step in STEPS}
