"""Images that were added once are there where their machines are put."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_spec

from garbi.base.errors import ImageInUse, InvalidField, NotFound, UnknownFilter, UnknownImage
from garbi.hyper.images.tiny.archives import docker_archive
from garbi.hyper.images.tiny.tools import find_busybox
from garbi.hyper.images.tiny.tree import build_tree
from garbi.hyper_api.vocabulary import ImageState, ImageType, State
from garbi.iaas.model.image import cached_name

MakeNodes = Callable[..., list[FakeHost]]
CONTENT = os.urandom(1 << 20)


def take_in(cloud: Cloud, name: str, type: ImageType, content: bytes) -> None:
    cloud.controller.images.register(name, type)
    image = cloud.controller.images.receive(name, 0, [content], hashlib.sha256(content).hexdigest())
    assert image.state is ImageState.ACTIVE


def test_images_are_listed_by_what_is_asked_for(cloud: Cloud) -> None:
    images = cloud.controller.images
    take_in(cloud, "b", ImageType.RAW, CONTENT)
    images.register("a", ImageType.QCOW2)
    assert [image.name for image in images.list()] == ["a", "b"]
    assert [image.name for image in images.list({"state": "active"})] == ["b"]
    assert [image.name for image in images.list(limit=1, marker="a")] == ["b"]
    with pytest.raises(UnknownFilter):
        images.list({"colour": "blue"})
    with pytest.raises(InvalidField):
        images.list({"size": "many"})


def test_a_machine_without_its_image_is_refused(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1)
    with pytest.raises(UnknownImage):
        cloud.controller.machines.add(machine_spec(type=None, image="tiny"))


@pytest.mark.docker
def test_an_image_is_brought_to_the_node_of_its_first_machine_and_kept_while_it_is_used(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1, simulated=False)
    archive = docker_archive(build_tree(find_busybox()), "amd64")
    take_in(cloud, "tiny", ImageType.DOCKER, archive)
    name = cached_name(hashlib.sha256(archive).hexdigest())
    try:
        first = cloud.add(image="tiny", type=None)
        second = cloud.add(image="tiny", type=None)
        assert (first.type, first.state, second.state) == ("docker", State.RUNNING, State.RUNNING)
        assert [image["name"] for image in host.client.images.list()] == [name]
        with pytest.raises(ImageInUse, match=first.id):
            cloud.controller.images.remove("tiny")
        cloud.sound()
    finally:
        operation = cloud.finished(cloud.controller.nodes.remove("n1", force=True))
        left = host.client.machines.list()
        for machine in left:
            host.client.machines.remove(machine["id"])
    assert (operation.error, left) == (None, [])
    assert host.client.images.list() == []
    cloud.controller.images.remove("tiny")
    with pytest.raises(NotFound):
        cloud.controller.images.get("tiny")


@pytest.mark.docker
def test_a_machine_whose_content_is_gone_from_the_controller_is_refused(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1, simulated=False)
    archive = docker_archive(build_tree(find_busybox()), "amd64")
    take_in(cloud, "tiny", ImageType.DOCKER, archive)
    for path in (cloud.settings.data_dir / "images").rglob(hashlib.sha256(archive).hexdigest()):
        path.unlink()
    machine = cloud.add(id="web", image="tiny", type=None)
    assert (machine.state, machine.refused) == (State.FAILED, True)
    assert "add it again" in machine.reason
    cloud.controller.machines.remove("web")
    eventually("it is gone", lambda: cloud.ids() == [])
