"""A data directory that was copied to another host: its agent starts nothing there, and its fence swears to nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.data_loss.services import LIMIT_S, Service, service
from tests.leases.words import eventually

from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.host import identity

OTHER = "0" * 32


@pytest.fixture
def copy(hyper: Service, tmp_path: Path) -> Service:
    """An agent that was killed, and a copy of its directory as another host would find it; a machine of it is to run."""
    with service("hyper", tmp_path / "original", GARBI_HYPER_MEM_LIMIT_MIB="4096") as one:
        one.serve()
        one.hyper.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 64}, wait_s=LIMIT_S)
        one.kill()
        shutil.copytree(one.data_dir, hyper.data_dir)
    FakeWorld.at(hyper.data_dir / "drivers" / "fake").end("web")
    path = hyper.data_dir / identity.FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, "machine-id": OTHER, "name": "elsewhere"}))
    return hyper


def running(one: Service) -> list[str]:
    return [each.id for each in FakeWorld.at(one.data_dir / "drivers" / "fake").machines() if each.powered]


def test_a_copy_is_refused_with_the_way_on_and_a_moved_directory_is_taken_up(copy: Service) -> None:
    words = copy.refusal()
    assert "is that of another host, last called 'elsewhere': its machine-id differs from the one here" in words
    assert "`hyper serve --moved`" in words
    assert "give the agent an empty directory" in words
    assert running(copy) == []
    assert "--moved" in copy.run("doctor", "--data-dir", str(copy.data_dir)).stdout
    copy.serve("--moved")
    eventually("its agent has seen that it ended", lambda: copy.hyper.machines.get("web")["state"] == "stopped")
    copy.hyper.machines.wish("web", "running", wait_s=LIMIT_S)
    assert running(copy) == ["web"]
    copy.end()
    copy.serve()  # it is of this host from now on
    assert [each["id"] for each in copy.hyper.machines.list()] == ["web"]


def test_neither_adoption_nor_a_lost_database_makes_it_another(copy: Service) -> None:
    copy.database.unlink()
    assert "is that of another host" in copy.refusal("--adopt")
    assert running(copy) == []


def test_a_fence_proves_nothing_where_the_directory_is_that_of_another_host(copy: Service) -> None:
    done = copy.run("fence", "--data-dir", str(copy.data_dir), "--controller", "c" * 32, "--number", "1")
    assert done.returncode != 0, done.stdout
    assert "is that of another host" in done.stderr


def test_what_is_unknown_tells_no_hosts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without an id, a user who may not read that of the hardware, a file that a power cut emptied."""
    marks = {"machine-id": tmp_path / "machine-id", "product-uuid": tmp_path / "uuid"}
    monkeypatch.setattr(identity, "MARKS", marks)
    marks["machine-id"].write_text("uninitialized\n")
    identity.keep_host(tmp_path)
    marks["machine-id"].write_text("aa\n")
    marks["product-uuid"].write_text("BB\n")
    assert identity.find_copied(tmp_path) is None
    identity.keep_host(tmp_path)
    marks["product-uuid"].unlink()
    assert identity.find_copied(tmp_path) is None
    identity.keep_host(tmp_path)
    marks["product-uuid"].write_text("bb\n")
    assert identity.find_copied(tmp_path) is None
    marks["product-uuid"].write_text("cc\n")
    found = identity.find_copied(tmp_path)
    assert found is not None
    assert found.differ == ("product-uuid",)
    marks["machine-id"].write_text("dd\n")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"97 29 0:25 /machine-id {marks['machine-id']} ro - tmpfs tmpfs rw\n")
    monkeypatch.setattr(identity, "MOUNTS", mounts)  # an id that the system made for one boot
    found = identity.find_copied(tmp_path)
    assert found is not None
    assert found.differ == ("product-uuid",)
    (tmp_path / identity.FILE).write_bytes(b"")
    assert identity.find_copied(tmp_path) is None
