"""Images that come in pieces, over connections that break, or again when they were given up: /hyper/images over HTTP."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alembic import command
from alembic.config import Config
from tests.api.conftest import Server, serving
from tests.api.test_images import leftovers, sha256_of
from tests.conformance.bench import eventually
from tests.databases import put_agent_database

from garbi.base.errors import AlreadyExists, ImageInUse, NoSpace
from garbi.hyper.main import open_agent
from garbi.hyper.settings import Settings
from garbi.hyper.store.migrate import migrate
from garbi.storage.engine import make_engine

MIB = 1 << 20
LIMIT_S = 60.0
PIECE = {"Content-Type": "application/partial-upload", "Upload-Complete": "?1"}


@pytest.fixture
def content() -> bytes:
    return os.urandom(4 * MIB)


def place_of(name: str, content: bytes) -> str:
    return f"/hyper/images/{name}?type=raw&sha256={sha256_of(content)}"


def arrived(server: Server, name: str, content: bytes) -> tuple[int, str]:
    headers = server.ask("HEAD", place_of(name, content)).headers
    return int(headers["upload-offset"]), headers["upload-complete"]


def send_a_part(server: Server, place: str, part: bytes, announced: int) -> None:
    """A sender that goes away in the middle."""
    address = urlsplit(server.url)
    head = f"PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\nUpload-Offset: 0\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (PIECE | server.identity).items()) + "\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + part)


def test_an_upload_that_is_cut_off_goes_on_where_it_ended(server: Server, content: bytes) -> None:
    place = place_of("web", content)
    assert arrived(server, "web", content) == (0, "?0")
    send_a_part(server, place, content[:MIB], len(content))
    eventually("one MiB is kept", lambda: arrived(server, "web", content) == (MIB, "?0"), LIMIT_S)
    assert server.client.images.list() == []
    made = server.ask("PATCH", place, raw=content[MIB:], headers={**PIECE, "Upload-Offset": str(MIB)})
    assert (made.status, made.json()["sha256"]) == (201, sha256_of(content))
    assert arrived(server, "web", content) == (len(content), "?1")
    assert len(leftovers(server)) == 1


def test_pieces_are_kept_until_the_last(server: Server, content: bytes) -> None:
    place = place_of("web", content)
    for start in range(0, len(content), MIB):
        last = start + MIB == len(content)
        headers = {**PIECE, "Upload-Offset": str(start), "Upload-Complete": "?1" if last else "?0"}
        answer = server.ask("PATCH", place, raw=content[start : start + MIB], headers=headers)
        assert (answer.status, answer.headers["upload-offset"]) == (201 if last else 204, str(start + MIB))
    assert server.client.images.get("web")["size"] == len(content)


def test_a_wrong_offset_is_refused_and_the_right_one_named(server: Server, content: bytes) -> None:
    place = place_of("web", content)
    first = {**PIECE, "Upload-Offset": "0", "Upload-Complete": "?0"}
    server.ask("PATCH", place, raw=content[:MIB], headers=first)
    refused = server.ask("PATCH", place, raw=content, headers={**PIECE, "Upload-Offset": "7"})
    problem = refused.json()
    assert (refused.status, problem["code"], problem["expected_offset"]) == (409, "offset-mismatch", MIB)


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"Upload-Offset": "-1"}, 422, "Upload-Offset"),
        ({"Upload-Offset": "0", "Upload-Complete": "yes"}, 422, "Upload-Complete"),
        ({"Upload-Offset": "0", "Content-Type": "application/octet-stream"}, 415, None),
    ],
)
def test_a_piece_must_say_what_it_is(
    still_server: Server, content: bytes, headers: dict[str, str], status: int, field: str | None
) -> None:
    refused = still_server.ask("PATCH", place_of("web", content), raw=content[:100], headers=PIECE | headers)
    assert (refused.status, refused.json().get("field")) == (status, field)


def test_a_piece_without_a_digest_is_refused(still_server: Server) -> None:
    refused = still_server.ask("PATCH", "/hyper/images/web?type=raw", raw=b"x", headers={**PIECE, "Upload-Offset": "0"})
    assert (refused.status, refused.json()["field"]) == (422, "sha256")


def test_pieces_that_are_not_what_the_digest_says_leave_nothing(server: Server, content: bytes) -> None:
    refused = server.ask("PATCH", place_of("web", content), raw=content[::-1], headers={**PIECE, "Upload-Offset": "0"})
    assert (refused.status, refused.json()["code"]) == (422, "digest-mismatch")
    assert leftovers(server) == []


def test_a_taken_name_is_refused_also_for_pieces(server: Server, content: bytes) -> None:
    server.client.images.add("web", "raw", [bytes(MIB)], MIB)
    with pytest.raises(AlreadyExists):
        server.client.images.add("web", "raw", lambda offset: [content[offset:]], len(content), sha256_of(content))


def test_what_came_stays_over_a_restart_of_the_agent(data_dir: Path, content: bytes) -> None:
    settings = Settings(data_dir=data_dir / "n", mem_limit_mib=4096)
    put_agent_database(settings.data_dir)
    with serving(open_agent(settings), 15.0) as server:
        headers = {**PIECE, "Upload-Offset": "0", "Upload-Complete": "?0"}
        server.ask("PATCH", place_of("web", content), raw=content[:MIB], headers=headers)
    sent: list[int] = []

    def blocks_from(offset: int) -> Iterator[bytes]:
        sent.append(offset)
        yield content[offset:]

    with serving(open_agent(settings), 15.0) as server:
        made = server.client.images.add("web", "raw", blocks_from, len(content), sha256_of(content))
    assert (made["sha256"], sent) == (sha256_of(content), [MIB])


@contextmanager
def small_host(place: Path, mebibytes: int) -> Iterator[Server]:
    """An agent whose images are on a disk of their own that is soon full."""
    images = place / "n" / "images"
    images.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(images)], check=True)
    try:
        settings = Settings(data_dir=place / "n", mem_limit_mib=4096, drivers={"fake": {"persist": "true"}})
        put_agent_database(settings.data_dir)
        with serving(open_agent(settings), 15.0) as server:
            yield server
    finally:
        subprocess.run(["umount", "--", str(images)], check=True)


@pytest.mark.root
def test_a_full_disk_gives_up_what_can_be_fetched_again_the_least_recently_used_first(data_dir: Path) -> None:
    def add(name: str, fill: int, cached: bool = True) -> None:
        disk = bytes([fill]) * (8 * MIB)
        server.client.images.add(name, "raw", [disk], len(disk), sha256_of(disk), cached)

    def names() -> list[str]:
        return [image["name"] for image in server.client.images.list()]

    with small_host(data_dir, 64 + 36) as server:  # 64 are spared
        add("own", 1, cached=False)
        for number, name in enumerate(("used", "old", "new"), 2):
            add(name, number)
        server.client.machines.add({"image": "used", "type": "fake", "id": "web"})
        server.client.machines.add({"image": "old", "type": "fake", "id": "brief"})
        server.client.machines.remove("brief")  # so that `new` is the least recently used
        add("more", 5)
        assert names() == ["more", "old", "own", "used"]
        add("again", 6)
        add("last", 7)
        assert names() == ["again", "last", "own", "used"]
        add("own-too", 8, cached=False)
        add("own-as-well", 9, cached=False)
        with pytest.raises(NoSpace):
            add("too-much", 10)
        assert names() == ["own", "own-as-well", "own-too", "used"]
        with pytest.raises(ImageInUse):
            server.client.images.remove("used")
        assert server.agent.audit() == []


def test_a_database_of_the_first_version_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "hyper.db"
    path.touch(0o600)
    config = Config()
    config.set_main_option("script_location", "garbi.hyper.store:migrations")
    with make_engine(f"sqlite:///{path}").connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO images VALUES ('web', 'raw', 512, 512, 'aa', 'active', '2026-01-02T03:04:05.000000Z')"
        )
        connection.commit()
    migrate(path)
    with sqlite3.connect(path) as opened:
        assert opened.execute("SELECT name, sha256, cached, used_at FROM images").fetchall() == [
            ("web", "aa", 0, "2026-01-02T03:04:05.000000Z")
        ]
    opened.close()
