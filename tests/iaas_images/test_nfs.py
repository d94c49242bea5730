"""The share over the real protocol: NFS-Ganesha serves the controller's image directory as recommended, agents read from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conformance.bench import eventually
from tests.free_ports import free_port
from tests.iaas_images.conftest import MIB, disk, sha256_of
from tests.iaas_images.relay import relay_to
from tests.iaas_images.test_distribution import NODE, Shared, add, client_of, ignore, sharing

from garbi.base.errors import DigestMismatch, MalformedRequest, ShareUnavailable
from garbi.hyper_api.vocabulary import ImageType
from garbi.iaas.imagestore import Distribution, ImageStore
from garbi.iaas.imagestore.nfs_export import find_flaws, ganesha_export, read_ganesha
from garbi.iaas.model.image import Image
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable

pytestmark = pytest.mark.root

LIMIT_S = 60.0
NOBODY = "65534"
SERVER = """
NFS_CORE_PARAM {{
    NFS_Port = {port}; Bind_Addr = 127.0.0.1; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false;
}}
NFSV4 {{ Grace_Period = 5; Lease_Lifetime = 5; RecoveryBackend = fs; RecoveryRoot = "{place}/recovery"; }}
"""


@dataclass
class NfsServer:
    """A running server, its export, and the clients that are let in."""

    place: Path
    images: Path
    port: int
    process: subprocess.Popen[bytes]

    def url(self, path: str = "", version: str = "") -> str:
        return f"nfs://127.0.0.1{self.images}{path}?nfsport={self.port}{version}"

    def read(self, path: str, *prefix: str) -> subprocess.CompletedProcess[bytes]:
        command = [*prefix, "nfs-cat", self.url(path, "&version=4")]
        return subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def nfs_server(place: Path, images: Path, client: str = "127.0.0.1", privileged: str = "true") -> Iterator[NfsServer]:
    """NFS-Ganesha with the export that `iaas doctor` recommends for a node at `client`."""
    export = ganesha_export(images, [client]).replace("PrivilegedPort = true", f"PrivilegedPort = {privileged}")
    port = free_port()
    place.mkdir()
    (place / "recovery").mkdir()
    (place / "conf").write_text(SERVER.format(port=port, place=place) + export)
    files = ["-f", str(place / "conf"), "-L", str(place / "log"), "-p", str(place / "pid")]
    process = subprocess.Popen(["ganesha.nfsd", "-F", *files], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = NfsServer(place, images, port, process)

    def serves() -> bool:
        assert process.poll() is None, (place / "log").read_text()
        return "NFS SERVER INITIALIZED" in (place / "log").read_text() if (place / "log").exists() else False

    try:
        eventually("the NFS server runs", serves, LIMIT_S)
        yield server
    finally:
        server.stop()


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="garbi-nfs-", dir="/var/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(place: Path, database: Database) -> ImageStore:
    """In a data directory that is closed to everybody, as the controller's is."""
    (place / "controller").mkdir(mode=0o700)
    return ImageStore(place / "controller" / "images", ImageTable(database))


@pytest.fixture
def image(store: ImageStore) -> Image:
    return add(store, "web", os.urandom(8 * MIB))


@pytest.fixture
def server(place: Path, image: Image) -> Iterator[NfsServer]:
    with nfs_server(place / "server", place / "controller" / "images") as made:
        yield made


def test_the_recommended_export_is_read_and_has_no_flaw(server: NfsServer, image: Image, store: ImageStore) -> None:
    assert server.read(f"/sha256/{image.sha256}").stdout == store.path(image).read_bytes()
    exports = read_ganesha((server.place / "conf").read_text())
    assert find_flaws(exports, server.images, ["127.0.0.1"]) == []


def test_a_node_takes_the_image_by_nfs_and_makes_a_machine_of_it(
    server: NfsServer, image: Image, store: ImageStore, place: Path
) -> None:
    with sharing(place / "node", server.url()) as host, relay_to(host.url) as wire:
        distribution = Distribution(store, Shared(server.url()))
        name = distribution.ensure(NODE, client_of(host, wire.url), image, ignore)
        assert wire.sent < 4000  # nothing of the content came from the controller
        blob = host.agent.settings.data_dir / "images" / "sha256" / image.sha256
        assert sha256_of(blob.read_bytes()) == image.sha256
        made = host.client.machines.add({"image": name, "type": "fake", "id": "web"})
        assert (made["state"], made["image_sha256"]) == ("running", image.sha256)


def test_a_client_can_write_delete_and_see_nothing_that_it_should_not(
    server: NfsServer, image: Image, store: ImageStore, tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    evil.write_bytes(b"evil")
    for target in (f"/sha256/{image.sha256}", "/sha256/new", "/new"):
        wrote = subprocess.run(
            ["nfs-cp", str(evil), server.url(target, "&version=4")], capture_output=True, timeout=LIMIT_S, check=False
        )
        assert wrote.returncode != 0, target
    assert sha256_of(store.path(image).read_bytes()) == image.sha256
    assert sorted(path.name for path in (server.images / "sha256").iterdir()) == [image.sha256]

    def gone() -> Iterator[bytes]:
        yield disk()
        raise MalformedRequest("the sender went away")

    store.register("half", ImageType.RAW)
    with pytest.raises(MalformedRequest):
        store.receive("half", 0, gone())
    assert (server.images / "incoming" / "half.part").exists()
    half = server.read("/incoming/half.part")
    assert (half.returncode != 0, half.stdout) == (True, b"")


def test_an_ordinary_user_of_a_node_is_not_answered(server: NfsServer, image: Image) -> None:
    asked = server.read(
        f"/sha256/{image.sha256}", "setpriv", "--reuid", NOBODY, "--clear-groups", "--bounding-set=-all"
    )
    assert (asked.returncode != 0, asked.stdout) == (True, b"")


def test_a_stranger_is_not_answered(place: Path, image: Image) -> None:
    with nfs_server(place / "server", place / "controller" / "images", client="192.0.2.7") as server:
        asked = server.read(f"/sha256/{image.sha256}")
        assert (asked.returncode != 0, asked.stdout) == (True, b"")


def test_a_poisoned_store_is_found_out_by_the_node(
    server: NfsServer, image: Image, store: ImageStore, place: Path
) -> None:
    path = store.path(image)
    path.chmod(0o644)
    with path.open("r+b") as content:
        content.write(b"poison")
    with sharing(place / "node", server.url()) as host:
        with pytest.raises(DigestMismatch):
            host.client.images.take("web", "raw", image.sha256, image.size)
        with pytest.raises(DigestMismatch):
            Distribution(store, Shared(server.url())).ensure(NODE, client_of(host), image, ignore)
        assert host.client.images.list() == []


def test_when_the_server_is_gone_the_controller_sends_the_content(
    server: NfsServer, image: Image, store: ImageStore, place: Path
) -> None:
    server.stop()
    with sharing(place / "node", server.url()) as host:
        with pytest.raises(ShareUnavailable):
            host.client.images.take("web", "raw", image.sha256, image.size)
        name = Distribution(store, Shared(server.url())).ensure(NODE, client_of(host), image, ignore)
        assert host.client.images.get(name)["sha256"] == image.sha256
