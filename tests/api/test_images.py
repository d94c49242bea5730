"""/hyper/images over HTTP: content streams in, is checked, and is never half there."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import Server

from garbi.base.errors import AlreadyExists, DigestMismatch, ImageRejected
from garbi.web.content import read_digest_header

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    """A small qcow2 disk."""
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
    return path.read_bytes()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def leftovers(server: Server) -> list[Path]:
    return [path for path in (server.agent.settings.data_dir / "images").rglob("*") if path.is_file()]


def test_an_image_comes_in_is_listed_and_goes(server: Server, disk: bytes) -> None:
    made = server.ask("PUT", f"/hyper/images/small?type=qcow2&sha256={sha256_of(disk)}", raw=disk)
    assert (made.status, made.headers["location"]) == (201, "/hyper/images/small")
    assert made.json()["sha256"] == sha256_of(disk)
    assert (made.json()["size"], made.json()["virtual_size"], made.json()["state"]) == (len(disk), 8 * MIB, "active")
    assert server.ask("GET", "/hyper/images/small").json() == made.json()
    assert server.ask("GET", "/hyper/images?type=qcow2").json() == [made.json()]
    assert server.ask("GET", "/hyper/images?type=docker").json() == []
    assert server.ask("DELETE", "/hyper/images/small").status == 204
    assert server.ask("DELETE", "/hyper/images/small").json()["code"] == "not-found"
    assert leftovers(server) == []


def test_images_are_paged_by_name(server: Server, disk: bytes) -> None:
    for name in ("b", "a", "c"):
        server.ask("PUT", f"/hyper/images/{name}?type=qcow2", raw=disk)
    page = server.ask("GET", "/hyper/images?limit=2")
    assert [image["name"] for image in page.json()] == ["a", "b"]
    assert page.headers["link"] == '</hyper/images?limit=2&marker=b>; rel="next"'
    assert [image["name"] for image in server.ask("GET", "/hyper/images?marker=b").json()] == ["c"]


def test_an_image_in_use_stays(server: Server, disk: bytes) -> None:
    server.ask("PUT", "/hyper/images/small?type=qcow2", raw=disk)
    server.client.machines.add({"image": "small", "type": "fake", "id": "web"})
    refused = server.ask("DELETE", "/hyper/images/small")
    assert (refused.status, refused.json()["code"], refused.json()["machines"]) == (409, "image-in-use", ["web"])


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_a_digest_may_come_in_a_header(server: Server, disk: bytes, header: str) -> None:
    right = base64.b64encode(hashlib.sha256(disk).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    refused = server.ask("PUT", "/hyper/images/small?type=qcow2", raw=disk, headers={header: f"sha-256=:{wrong}:"})
    assert (refused.status, refused.json()["code"]) == (422, "digest-mismatch")
    assert leftovers(server) == []
    made = server.ask(
        "PUT", "/hyper/images/small?type=qcow2", raw=disk, headers={header: f"sha-512=:eA==:, sha-256=:{right}:"}
    )
    assert made.status == 201


@pytest.mark.parametrize("header", ["sha-256=abc", "sha-256=:eA==:", "sha-256=:%%:", "sha-256=::"])
def test_a_digest_that_is_none_is_refused(still_server: Server, header: str) -> None:
    refused = still_server.ask("PUT", "/hyper/images/x?type=raw", raw=b"x", headers={"Content-Digest": header})
    assert (refused.status, refused.json()["field"]) == (422, "Content-Digest")


def test_a_header_without_sha256_says_nothing() -> None:
    assert read_digest_header("Content-Digest", "md5=:eA==:") is None
    assert read_digest_header("Content-Digest", "") is None


def test_two_digests_that_differ_are_refused(still_server: Server) -> None:
    header = "sha-256=:" + base64.b64encode(hashlib.sha256(b"x").digest()).decode() + ":"
    target = f"/hyper/images/x?type=raw&sha256={sha256_of(b'y')}"
    refused = still_server.ask("PUT", target, raw=b"x", headers={"Content-Digest": header})
    assert (refused.status, refused.json()["code"]) == (422, "digest-mismatch")


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/hyper/images/x", "type"),
        ("/hyper/images/x?type=iso", "type"),
        ("/hyper/images/x?type=raw&sha256=12", "sha256"),
        ("/hyper/images/UPPER?type=raw", "name"),
        ("/hyper/images/a..b?type=raw", "name"),
        ("/hyper/images/x%0A?type=raw", "name"),
    ],
)
def test_a_wrong_field_of_an_upload_is_named(still_server: Server, target: str, field: str) -> None:
    refused = still_server.ask("PUT", target, raw=b"content")
    assert (refused.status, refused.json()["field"]) == (422, field)


def test_hostile_content_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "hostile.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path, "1M"], check=True
    )
    refused = server.ask("PUT", "/hyper/images/hostile?type=qcow2", raw=path.read_bytes())
    assert (refused.status, refused.json()["code"]) == (422, "image-rejected")
    assert leftovers(server) == []


def test_a_taken_name_is_refused_also_when_the_content_is_large(server: Server, disk: bytes) -> None:
    server.ask("PUT", "/hyper/images/small?type=qcow2", raw=disk)
    refused = server.ask("PUT", "/hyper/images/small?type=qcow2", raw=b"\0" * (40 * MIB))
    assert (refused.status, refused.json()["code"]) == (409, "already-exists")


def test_the_same_content_under_the_same_name_changes_nothing(server: Server, disk: bytes) -> None:
    made = server.ask("PUT", "/hyper/images/small?type=qcow2", raw=disk)
    again = server.ask("PUT", "/hyper/images/small?type=qcow2", raw=disk)
    assert (made.status, again.status) == (201, 200)
    assert again.json() == made.json()


def test_content_of_unknown_length_streams_in(server: Server, disk: bytes) -> None:
    def chunks() -> list[bytes]:
        return [disk[start : start + 1000] for start in range(0, len(disk), 1000)]

    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks()) + b"0\r\n\r\n"
    made = server.ask("PUT", "/hyper/images/small?type=qcow2", raw=body, headers={"Transfer-Encoding": "chunked"})
    assert (made.status, made.json()["sha256"]) == (201, sha256_of(disk))


def test_an_upload_that_is_cut_off_leaves_nothing(server: Server, disk: bytes) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        head = "PUT /hyper/images/half?type=qcow2 HTTP/1.1\r\nHost: localhost\r\n"
        fields = f"Authorization: Bearer {server.agent.secret}\r\nContent-Length: {len(disk)}\r\n\r\n"
        connection.sendall(f"{head}{fields}".encode() + disk[:1000])
    made = server.ask("PUT", "/hyper/images/half?type=qcow2", raw=disk)
    assert made.status in (201, 409)
    assert server.ask("GET", "/hyper/images/half").json()["sha256"] == sha256_of(disk)


def test_an_upload_is_not_held_in_memory(server: Server, tmp_path: Path) -> None:
    size = 300 * MIB
    path = tmp_path / "large.raw"
    with path.open("wb") as file:
        file.write(os.urandom(MIB))
        file.truncate(size)
    before = peak_memory()
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(MIB), b"")
        server.client.images.add("large", "raw", blocks, size)
    assert server.client.images.get("large")["size"] == size
    assert peak_memory() - before < size // 3


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


def test_the_client_raises_what_the_host_refused(server: Server, disk: bytes) -> None:
    images = server.client.images
    with pytest.raises(DigestMismatch):
        images.add("small", "qcow2", [disk], len(disk), "0" * 64)
    with pytest.raises(ImageRejected):
        images.add("small", "raw", [disk], len(disk))
    images.add("small", "qcow2", [disk], len(disk), sha256_of(disk))
    other = disk + b"\0" * 65536
    with pytest.raises(AlreadyExists):
        images.add("small", "qcow2", [other], len(other))
