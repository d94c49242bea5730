"""Images on their way to nodes: real agents over HTTP, bytes counted on the wire, and a share that comes and goes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.api.conftest import Server, serving
from tests.databases import put_agent_database
from tests.iaas_images.conftest import MIB, disk, sha256_of
from tests.iaas_images.relay import relay_to

from garbi.base.errors import NotFound, ShareUnavailable
from garbi.hyper.main import open_agent
from garbi.hyper.settings import Settings
from garbi.hyper_api.client import HyperClient
from garbi.hyper_api.vocabulary import ImageType
from garbi.iaas.imagestore import Distribution, ImageStore
from garbi.iaas.model.image import Image, cached_name
from garbi.iaas.model.node import Amounts, Load, Node, NodeState, Overcommit, Ssh

SIZE = 8 * MIB


@dataclass(frozen=True)
class Shared:
    image_share: str = ""


NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODE = Node(
    name="n1", host="127.0.0.1", port=1, provision=False, ssh=Ssh(), labels={}, overcommit=Overcommit(),
    state=NodeState.READY, reason="", draining=False, has=Amounts(), limit=Amounts(), reserved=Amounts(), load=Load(),
    architecture="", drivers=(), versions={}, cluster_id="", boot_id="", epoch=1, operation=None, seen_at=None,
    created_at=NOW, updated_at=NOW,
)  # fmt: skip


def add(store: ImageStore, name: str, content: bytes, type: ImageType = ImageType.RAW) -> Image:
    store.register(name, type)
    return store.receive(name, 0, [content])


@pytest.fixture
def image(store: ImageStore) -> Image:
    return add(store, "web", os.urandom(SIZE))


def ignore(_fraction: float, _text: str) -> None:
    pass


def client_of(host: Server, url: str = "") -> HyperClient:
    return HyperClient(url or host.url, token=host.agent.secret)


def test_an_image_is_sent_once_and_a_second_start_costs_no_transfer(
    store: ImageStore, image: Image, host: Server
) -> None:
    distribution = Distribution(store, Shared())
    with relay_to(host.url) as wire:
        client = client_of(host, wire.url)
        name = distribution.ensure(NODE, client, image, ignore)
        assert wire.sent > SIZE
        client.machines.add({"image": name, "type": "fake", "id": "first"})
        before = wire.sent
        assert distribution.ensure(NODE, client, image, ignore) == name == cached_name(image.sha256)
        assert wire.sent - before < 2000
    found = host.client.images.get(name)
    assert (found["sha256"], found["size"], found["cached"], found["state"]) == (image.sha256, SIZE, True, "active")


def test_progress_is_told_from_begin_to_end(store: ImageStore, image: Image, host: Server) -> None:
    told: list[tuple[float, str]] = []
    Distribution(store, Shared()).ensure(NODE, client_of(host), image, lambda *each: told.append(each))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1], len(set(fractions)) > 5) == (0.0, 1.0, True)
    assert told[0][1] == "sending image web to node n1: 0 of 8 MiB"


def test_a_transfer_that_is_cut_off_twice_goes_on_where_it_ended(store: ImageStore, image: Image, host: Server) -> None:
    with relay_to(host.url, SIZE // 3, SIZE * 2 // 3) as wire:
        name = Distribution(store, Shared()).ensure(NODE, client_of(host, wire.url), image, ignore)
        assert wire.broken == 2
        assert wire.sent < SIZE * 1.6  # what was on the way when the wire broke is sent again, no more
    assert host.client.images.get(name)["sha256"] == image.sha256


def test_one_transfer_at_a_time_and_the_others_wait_for_it(store: ImageStore, image: Image, host: Server) -> None:
    distribution = Distribution(store, Shared())
    barrier = threading.Barrier(6)
    with relay_to(host.url) as wire:

        def ensure(_number: int) -> str:
            barrier.wait(60)
            return distribution.ensure(NODE, client_of(host, wire.url), image, ignore)

        with ThreadPoolExecutor(6) as pool:
            names = set(pool.map(ensure, range(6)))
        assert names == {cached_name(image.sha256)}
        assert wire.sent < SIZE * 1.5


def test_two_nodes_get_an_image_at_the_same_time(
    store: ImageStore, image: Image, host: Server, start_server: Callable[..., Server]
) -> None:
    other = start_server()
    distribution = Distribution(store, Shared())
    meeting = threading.Barrier(2)
    met: set[str] = set()

    def ensure(name: str, server: Server) -> None:
        def meet(_fraction: float, _text: str) -> None:
            if name not in met:
                met.add(name)
                meeting.wait(60)  # passes only when both are on their way

        distribution.ensure(replace(NODE, name=name), client_of(server), image, meet)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(ensure, "n1", host), pool.submit(ensure, "n2", other)]:
            done.result(120)


def test_a_node_that_lost_the_image_or_its_content_gets_it_again(store: ImageStore, image: Image, host: Server) -> None:
    distribution = Distribution(store, Shared())
    name = distribution.ensure(NODE, client_of(host), image, ignore)
    host.client.images.remove(name)
    assert distribution.ensure(NODE, client_of(host), image, ignore) == name
    blob = host.agent.settings.data_dir / "images" / "sha256" / image.sha256
    blob.unlink()
    assert host.client.images.get(name)["state"] == "failed"
    distribution.ensure(NODE, client_of(host), image, ignore)
    assert host.client.images.get(name)["state"] == "active"
    assert sha256_of(blob.read_bytes()) == image.sha256


def test_content_that_is_gone_at_the_controller_is_a_clear_error(
    store: ImageStore, image: Image, host: Server, root: Path
) -> None:
    (root / "sha256" / image.sha256).unlink()
    with pytest.raises(NotFound, match="add it again"):
        Distribution(store, Shared()).ensure(NODE, client_of(host), image, ignore)


@contextmanager
def sharing(place: Path, share: Path | str, use: str = "in-place", **more: object) -> Iterator[Server]:
    """An agent with an image share."""
    settings = Settings(
        data_dir=place, mem_limit_mib=4096, drivers={"fake": {"persist": "true"}}, image_share=str(share),
        image_use=use, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    put_agent_database(place)
    with serving(open_agent(settings), 15.0) as server:
        yield server


@pytest.mark.parametrize("use", ["in-place", "copy"])
def test_a_node_takes_an_image_from_a_mounted_share_without_a_transfer(
    store: ImageStore, image: Image, root: Path, data_dir: Path, use: str
) -> None:
    with sharing(data_dir / "n", root, use) as host, relay_to(host.url) as wire:
        distribution = Distribution(store, Shared("nfs://controller/images"))
        name = distribution.ensure(NODE, client_of(host, wire.url), image, ignore)
        assert wire.sent < 4000
        blob = host.agent.settings.data_dir / "images" / "sha256" / image.sha256
        assert blob.is_symlink() is (use == "in-place")
        assert sha256_of(blob.read_bytes()) == image.sha256
        made = host.client.machines.add({"image": name, "type": "fake", "id": "web"})
        assert made["state"] == "running"
        host.client.machines.remove("web")
        host.client.images.remove(name)
    assert store.path(image).exists()  # the share's file is the controller's


@pytest.mark.parametrize("use", ["in-place", "copy"])
def test_a_poisoned_share_is_found_out_by_the_digest_and_the_controller_sends_the_content(
    store: ImageStore, image: Image, root: Path, data_dir: Path, tmp_path: Path, use: str
) -> None:
    poisoned = tmp_path / "poisoned"
    shutil.copytree(root, poisoned)
    file = poisoned / "sha256" / image.sha256
    file.chmod(0o644)
    with file.open("r+b") as content:
        content.seek(SIZE // 2)
        content.write(b"x")
    with sharing(data_dir / "n", poisoned, use) as host:
        name = Distribution(store, Shared("nfs://c/images")).ensure(NODE, client_of(host), image, ignore)
        blob = host.agent.settings.data_dir / "images" / "sha256" / image.sha256
        assert (name, blob.is_symlink()) == (cached_name(image.sha256), False)
        assert sha256_of(blob.read_bytes()) == image.sha256


@pytest.mark.parametrize("share", ["", "/nonexistent/share", "nfs://127.0.0.1/nothing?nfsport=1&mountport=1&version=3"])
def test_without_a_share_that_works_the_controller_sends_the_content(
    store: ImageStore, image: Image, data_dir: Path, share: str
) -> None:
    with sharing(data_dir / "n", share) as host:
        with pytest.raises(ShareUnavailable):
            host.client.images.take("one", "raw", image.sha256, image.size)
        told: list[str] = []
        distribution = Distribution(store, Shared("nfs://c/images"))
        name = distribution.ensure(NODE, client_of(host), image, lambda _, text: told.append(text))
        assert told[0] == "node n1 takes image web from the share"
        assert told[1].startswith("sending image web to node n1")
        assert host.client.images.get(name)["sha256"] == image.sha256


def test_a_share_that_went_away_under_a_cached_image_is_mended_over_http(
    store: ImageStore, image: Image, root: Path, data_dir: Path
) -> None:
    mounted = data_dir / "mounted"
    shutil.copytree(root, mounted)
    with sharing(data_dir / "n", mounted) as host:
        distribution = Distribution(store, Shared("nfs://c/images"))
        name = distribution.ensure(NODE, client_of(host), image, ignore)
        shutil.rmtree(mounted)
        assert host.client.images.get(name)["state"] == "failed"
        distribution.ensure(NODE, client_of(host), image, ignore)
        assert host.client.images.get(name)["state"] == "active"


def test_a_link_on_the_share_leads_to_no_file_of_the_host(image: Image, data_dir: Path, tmp_path: Path) -> None:
    share = tmp_path / "share"
    (share / "sha256").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(disk())
    (share / "sha256" / sha256_of(disk())).symlink_to(secret)
    for use in ("in-place", "copy"):
        with sharing(data_dir / use, share, use) as host:
            with pytest.raises(ShareUnavailable, match="is no file"):
                host.client.images.take("stolen", "raw", sha256_of(disk()), MIB)
            assert host.client.images.list() == []
