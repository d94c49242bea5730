"""/iaas/images over HTTP: a name first, then content that streams in, goes on after a cut, and is checked."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.iaas_api.conftest import LIMIT_S, SPEC, Cloud, Reply, eventually

from garbi.base.errors import AlreadyExists, DigestMismatch, ImageRejected, ServerUnreachable
from garbi.base.http import HttpTransport, Request
from garbi.iaas_api.client import IaasClient

MIB = 2**20
PARTIAL = {"Content-Type": "application/partial-upload"}


@pytest.fixture
def disk() -> bytes:
    """A raw disk whose content is like no other."""
    return os.urandom(3 * MIB)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def register(cloud: Cloud, name: str, type: str = "raw") -> Reply:
    return cloud.ask("POST", "/iaas/images", {"name": name, "type": type})


def append(cloud: Cloud, name: str, offset: int, piece: bytes, last: bool, query: str = "") -> Reply:
    headers = {**PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": "?1" if last else "?0"}
    return cloud.ask("PATCH", f"/iaas/images/{name}/file{query}", raw=piece, headers=headers)


def arrived(cloud: Cloud, name: str) -> tuple[int, str]:
    answer = cloud.ask("HEAD", f"/iaas/images/{name}/file")
    assert (answer.status, answer.body) == (204, b"")
    return int(answer.headers["upload-offset"]), answer.headers["upload-complete"]


def cut_off(cloud: Cloud, method: str, target: str, headers: dict[str, str], piece: bytes, size: int) -> None:
    """Announce `size` bytes, send a piece of them, hang up."""
    connection = HTTPConnection(urlsplit(cloud.url).netloc, timeout=LIMIT_S)
    with closing(connection):
        connection.putrequest(method, target)
        for name, value in {**cloud.identity, **headers, "Content-Length": str(size)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(piece)


def test_an_image_is_registered_filled_listed_and_removed(cloud: Cloud, disk: bytes) -> None:
    made = register(cloud, "small")
    assert (made.status, made.headers["location"]) == (201, "/iaas/images/small")
    assert (made.json()["state"], made.json()["size"]) == ("queued", 0)
    assert arrived(cloud, "small") == (0, "?0")
    filled = cloud.ask("PUT", f"/iaas/images/small/file?sha256={sha256_of(disk)}", raw=disk)
    assert (filled.status, filled.json()["state"], filled.json()["sha256"]) == (200, "active", sha256_of(disk))
    assert (filled.json()["size"], filled.json()["virtual_size"]) == (len(disk), len(disk))
    assert arrived(cloud, "small") == (len(disk), "?1")
    assert cloud.ask("GET", "/iaas/images/small").json() == filled.json()
    assert cloud.ask("GET", "/iaas/images?type=raw&state=active").json() == [filled.json()]
    assert cloud.ask("GET", "/iaas/images?type=docker").json() == []
    assert cloud.ask("DELETE", "/iaas/images/small").status == 204
    assert cloud.ask("DELETE", "/iaas/images/small").json()["code"] == "not-found"


def test_content_may_come_in_pieces(cloud: Cloud, disk: bytes) -> None:
    register(cloud, "small")
    first = append(cloud, "small", 0, disk[:MIB], last=False)
    assert (first.status, first.json()["state"]) == (200, "uploading")
    assert (first.headers["upload-offset"], first.headers["upload-complete"]) == (str(MIB), "?0")
    assert arrived(cloud, "small") == (MIB, "?0")
    wrong = append(cloud, "small", 5, b"x", last=False)
    assert (wrong.status, wrong.json()["code"]) == (409, "offset-mismatch")
    assert (wrong.headers["upload-offset"], wrong.json()["expected_offset"]) == (str(MIB), MIB)
    last = append(cloud, "small", MIB, disk[MIB:], last=True, query=f"?sha256={sha256_of(disk)}")
    assert (last.status, last.json()["state"], last.json()["sha256"]) == (200, "active", sha256_of(disk))
    assert last.headers["upload-complete"] == "?1"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_upload_that_is_cut_off_goes_on_where_it_ended(cloud: Cloud, disk: bytes, method: str) -> None:
    register(cloud, "half")
    headers = {**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?1"} if method == "PATCH" else {}
    cut_off(cloud, method, "/iaas/images/half/file", headers, disk[:MIB], len(disk))
    eventually(lambda: arrived(cloud, "half") == (MIB, "?0"), "what came is kept")
    assert cloud.client.images.get("half")["state"] == "uploading"
    refused = cloud.ask("POST", "/iaas/machines", {**SPEC, "image": "half", "type": "libvirt"})
    assert refused.status in (409, 422)
    done: list[Reply] = []

    def goes_on() -> bool:
        done.append(append(cloud, "half", MIB, disk[MIB:], last=True))
        return done[-1].status != 503  # the server has seen the end of the first connection

    eventually(goes_on, "the upload goes on")
    assert (done[-1].status, done[-1].json()["sha256"]) == (200, sha256_of(disk))


class BreakingTransport(HttpTransport):
    """A connection that breaks in the middle of each of the first uploads."""

    def __init__(self, url: str, breaks: int) -> None:
        super().__init__(url)
        self.breaks = breaks
        self.sent: list[tuple[str, str]] = []

    def send(self, request: Request) -> Any:
        self.sent.append((request.method, request.headers.get("Upload-Offset", "")))
        if request.method == "PATCH" and self.breaks:
            self.breaks -= 1
            request = Request(request.method, request.target, request.headers, _broken(request.body), request.timeout_s)
        return super().send(request)


def _broken(blocks: Any) -> Iterator[bytes]:
    for number, block in enumerate(blocks):
        if number == 1:
            raise OSError("cut")
        yield block


def test_the_client_goes_on_after_a_broken_connection(cloud: Cloud, disk: bytes) -> None:
    transport = BreakingTransport(cloud.url, breaks=2)
    client = IaasClient(transport=transport, token=cloud.controller.secret)
    image = client.images.add(
        "small",
        "raw",
        lambda offset: (disk[start : start + MIB] for start in range(offset, len(disk), MIB)),
        len(disk),
        sha256_of(disk),
    )
    assert (image["state"], image["sha256"]) == ("active", sha256_of(disk))
    offsets = [int(offset) for method, offset in transport.sent if method == "PATCH"]
    assert offsets[0] == 0
    assert offsets[-1] == 2 * MIB, "what had arrived was not sent again"
    assert client.images.offset("small") == len(disk)


def test_the_client_sends_nothing_twice_and_raises_what_was_refused(cloud: Cloud, disk: bytes) -> None:
    images = cloud.client.images
    with pytest.raises(DigestMismatch):
        images.add("small", "raw", [disk], len(disk), "0" * 64)
    assert cloud.client.images.get("small")["state"] == "failed"
    with pytest.raises(ImageRejected):
        images.add("other", "qcow2", lambda offset: [disk[offset:]], len(disk))
    images.add("small", "raw", lambda offset: [disk[offset:]], len(disk), sha256_of(disk))

    def nothing(offset: int) -> Iterator[bytes]:
        raise AssertionError(f"content is sent again from {offset}")

    assert images.add("small", "raw", nothing, len(disk), sha256_of(disk))["state"] == "active"
    with pytest.raises(AlreadyExists):
        images.add("small", "raw", nothing, len(disk), "1" * 64)
    with pytest.raises(ServerUnreachable):
        IaasClient("http://127.0.0.1:1").images.get("small")


def test_an_image_in_use_stays(cloud: Cloud, disk: bytes) -> None:
    cloud.client.images.add("small", "raw", [disk], len(disk))
    cloud.client.machines.add({"image": "small", "type": "fake", "id": "web"})
    refused = cloud.ask("DELETE", "/iaas/images/small")
    assert (refused.status, refused.json()["code"], refused.json()["machines"]) == (409, "image-in-use", ["web"])


def test_a_name_that_is_taken_is_refused(cloud: Cloud, disk: bytes) -> None:
    register(cloud, "small")
    assert register(cloud, "small").json()["code"] == "already-exists"
    cloud.ask("PUT", "/iaas/images/small/file", raw=disk)
    other = cloud.ask("PUT", "/iaas/images/small/file", raw=b"\0" * (10 * MIB))
    assert (other.status, other.json()["code"]) == (409, "already-exists")
    assert cloud.ask("PUT", "/iaas/images/small/file", raw=disk).json()["state"] == "active"


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_a_digest_may_come_in_a_header(cloud: Cloud, disk: bytes, header: str) -> None:
    register(cloud, "small")
    wrong = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    refused = cloud.ask("PUT", "/iaas/images/small/file", raw=disk, headers={header: f"sha-256=:{wrong}:"})
    assert (refused.status, refused.json()["code"]) == (422, "digest-mismatch")


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"Upload-Offset": "0", "Upload-Complete": "?1", "Content-Type": "text/plain"}, 415, None),
        ({**PARTIAL, "Upload-Complete": "?1"}, 422, "upload-offset"),
        ({**PARTIAL, "Upload-Offset": "0"}, 422, "upload-complete"),
        ({**PARTIAL, "Upload-Offset": "-1", "Upload-Complete": "?1"}, 422, "Upload-Offset"),
        ({**PARTIAL, "Upload-Offset": "9" * 40, "Upload-Complete": "?1"}, 422, "Upload-Offset"),
        ({**PARTIAL, "Upload-Offset": "0", "Upload-Complete": "yes"}, 422, "Upload-Complete"),
    ],
)
def test_a_piece_says_where_it_belongs(
    still_cloud: Cloud, headers: dict[str, str], status: int, field: str | None
) -> None:
    refused = still_cloud.ask("PATCH", "/iaas/images/x/file", raw=b"x", headers=headers)
    assert (refused.status, refused.json().get("field")) == (status, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "UPPER", "type": "raw"}, "name"),
        ({"name": "a..b", "type": "raw"}, "name"),
        ({"name": "x\n", "type": "raw"}, "name"),
        ({"name": "../x", "type": "raw"}, "name"),
        ({"name": "x" * 64, "type": "raw"}, "name"),
        ({"name": "x", "type": "iso"}, "type"),
        ({"name": "x"}, "type"),
        ({"type": "raw"}, "name"),
        ({"name": "x", "type": "raw", "sha256": "x"}, "sha256"),
    ],
)
def test_a_wrong_field_of_an_image_is_named(still_cloud: Cloud, body: dict[str, Any], field: str) -> None:
    refused = still_cloud.ask("POST", "/iaas/images", body)
    assert (refused.status, refused.json()["field"]) == (422, field)
    assert still_cloud.ask("GET", "/iaas/images").json() == []


def test_an_upload_is_not_held_in_memory(cloud: Cloud, tmp_path: Path) -> None:
    size = 300 * MIB
    path = tmp_path / "large.raw"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(size)
    before = peak_memory()
    with path.open("rb") as file:
        cloud.client.images.add("large", "raw", iter(lambda: file.read(MIB), b""), size)
    assert cloud.client.images.get("large")["size"] == size
    assert peak_memory() - before < size // 3


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


def test_an_upload_without_a_token_is_refused_before_it_is_read(still_cloud: Cloud) -> None:
    address = urlsplit(still_cloud.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=LIMIT_S) as connection:
        head = "PUT /iaas/images/x/file HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
