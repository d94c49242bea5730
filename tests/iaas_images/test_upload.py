"""`iaas img add` over HTTP: content that is cut off on its way, goes on, is used by a machine, and cannot go while it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.iaas_api.conftest import Cloud, StartCloud, cloud_in, empty_cloud, start_cloud
from tests.iaas_images.conftest import MIB, sha256_of
from tests.iaas_images.relay import relay_to

from garbi.base.errors import AlreadyExists, DigestMismatch, ImageInUse
from garbi.iaas.model.image import cached_name
from garbi.iaas_api.client import IaasClient

__all__ = ["empty_cloud", "start_cloud"]

SIZE = 6 * MIB


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


def stored(cloud: Cloud) -> list[str]:
    images: Path = cloud.controller.settings.data_dir / "images"
    return sorted(str(path.relative_to(images)) for path in images.rglob("*") if path.is_file())


def test_an_upload_that_is_cut_off_twice_goes_on_where_it_ended(empty_cloud: Cloud, content: bytes) -> None:
    asked_from: list[int] = []

    def blocks_from(offset: int) -> Iterator[bytes]:
        asked_from.append(offset)
        for start in range(offset, SIZE, 65536):
            yield content[start : start + 65536]

    with relay_to(empty_cloud.url, SIZE // 3, SIZE * 2 // 3) as wire:
        client = IaasClient(wire.url, token=empty_cloud.controller.secret)
        image = client.images.add("web", "raw", blocks_from, SIZE, sha256_of(content))
        assert wire.broken == 2
    assert (image["state"], image["sha256"], image["size"]) == ("active", sha256_of(content), SIZE)
    assert asked_from[0] == 0
    assert max(asked_from) > SIZE // 3
    assert stored(empty_cloud) == [f"sha256/{image['sha256']}"]


def test_what_came_stays_over_a_restart_of_the_controller(start_cloud: StartCloud, content: bytes) -> None:
    first = start_cloud()
    piece = {"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?0"}
    first.ask("POST", "/iaas/images", {"name": "web", "type": "raw"})
    first.ask("PATCH", "/iaas/images/web/file", raw=content[: 2 * MIB], headers=piece)
    first.stack.close()

    with cloud_in(first.place) as again:
        asked: list[int] = []

        def blocks_from(offset: int) -> list[bytes]:
            asked.append(offset)
            return [content[offset:]]

        image = again.client.images.add("web", "raw", blocks_from, SIZE, sha256_of(content))
        assert (asked, image["sha256"]) == ([2 * MIB], sha256_of(content))


def test_refused_content_is_failed_with_its_reason_and_other_content_is_taken_then(
    empty_cloud: Cloud, content: bytes
) -> None:
    images = empty_cloud.client.images
    with pytest.raises(DigestMismatch):
        images.add("web", "raw", [content], SIZE, sha256_of(content[1:]))
    failed = images.get("web")
    assert (failed["state"], failed["reason"].startswith("the content has sha256")) == ("failed", True)
    assert images.add("web", "raw", [content], SIZE, sha256_of(content))["state"] == "active"
    with pytest.raises(AlreadyExists):
        images.add("web", "raw", [content[::-1]], SIZE, sha256_of(content[::-1]))


def test_a_machine_is_made_of_the_image_on_a_node_that_gets_it_once(empty_cloud: Cloud, content: bytes) -> None:
    host = empty_cloud.add_node("n1")
    image = empty_cloud.client.images.add("web", "raw", [content], SIZE, sha256_of(content))
    for number in range(2):
        made = empty_cloud.client.machines.add({"image": "web", "type": "fake", "mem": 64}, wait_s=60)
        assert made["state"] == "running", number
    cached = host.agent.images.list()
    assert [(each.name, each.cached) for each in cached] == [(cached_name(image["sha256"]), True)]
    with pytest.raises(ImageInUse):
        empty_cloud.client.images.remove("web")
    for machine in empty_cloud.client.machines.list():
        empty_cloud.client.machines.remove(machine["id"], wait_s=60)
    empty_cloud.client.images.remove("web")
    assert stored(empty_cloud) == []
