"""What the docker driver lets an image archive, or a registry, do to the engine: make one image under our name."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import secrets
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.conformance.interruption import CrashError, crash, stopped_at
from tests.host.container_registry import Registry, debian_registry, registries, small_registry
from tests.host.docker_archives import (
    RUN_UNTIL_ASKED,
    busybox_tree,
    digest,
    image_config,
    image_file,
    oci_archive,
    saved_archive,
    tar_of,
)
from tests.host.docker_engines import Engine, eventually

from garbi.base.clock import SystemClock
from garbi.base.errors import ImageInUse, ImageRejected, InvalidField, UnknownImage
from garbi.hyper.drivers.docker import DockerDriver
from garbi.hyper.drivers.protocol import Condition, DriverContext, ImageFile, MachineDefinition
from garbi.hyper.model.image import ImageType

pytestmark = [pytest.mark.docker, pytest.mark.root]

SHELL = ["/bin/sh", "-c", RUN_UNTIL_ASKED]


@dataclass
class Shelf:
    """A cluster of the test's own on this host's engine, and an image that is somebody else's there."""

    directory: Path
    cluster_id: str = field(default_factory=lambda: secrets.token_hex(16))
    engine: Engine = field(default_factory=Engine)
    registries: str = ""

    def __post_init__(self) -> None:
        self.driver = self.make_driver()
        self.unique = secrets.token_bytes(16)
        self.victim = f"garbi-test-victim:{self.cluster_id[:8]}"

    def make_driver(self, registries: str = "") -> DockerDriver:
        settings = {"host": self.engine.host, "registries": registries}
        return DockerDriver(DriverContext(self.cluster_id, self.directory / "driver", SystemClock(), settings))

    def layers(self) -> list[bytes]:
        """Two layers that no other image has."""
        return [busybox_tree({"unique": self.unique}), tar_of({"upper": self.unique})]

    def saved(self, tags: tuple[str, ...] = ()) -> bytes:
        layers = self.layers()
        return saved_archive(layers, image_config(layers, SHELL), tags)

    def file(self, content: bytes, image_type: ImageType = ImageType.DOCKER) -> ImageFile:
        return image_file(self.directory / secrets.token_hex(4), content, image_type)

    def name(self, image: ImageFile) -> str:
        return f"garbi/{self.cluster_id[:8]}:{image.sha256}"

    def names(self) -> set[str]:
        """The names of images at the engine that are of this cluster."""
        return {name for name in self.engine.image_names() if name.startswith(f"garbi/{self.cluster_id[:8]}:")}

    def nameless(self, layer: str) -> list[str]:
        """The images without a name that consist of that layer alone."""
        ids = self.engine.docker("image", "ls", "-q", "--no-trunc", "--filter", "dangling=true").split()
        return [each for each in ids if layer in self.engine.docker("image", "inspect", each, check=False)]

    def run(self, image: ImageFile) -> str:
        machine_id = f"m-{secrets.token_hex(4)}"
        self.driver.add(MachineDefinition(machine_id, machine_id, image, 64, 1))
        self.driver.start(machine_id)
        return machine_id


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    tree = tmp_path / "victim.tar"
    tree.write_bytes(tar_of({"victim": shelf.unique}))
    shelf.engine.docker("import", str(tree), shelf.victim)
    try:
        yield shelf
    finally:
        shelf.driver.close()
        shelf.engine.sweep(shelf.cluster_id)
        shelf.engine.docker("image", "rm", "-f", shelf.victim, check=False)


def _with_repositories(shelf: Shelf) -> bytes:
    """As old engines wrote it: a file `repositories` gives the tag once more, and a link stands for a layer."""
    layers = shelf.layers()
    name, tag = shelf.victim.split(":")
    content = io.BytesIO()
    files = {"a/layer.tar": layers[0], "c.json": image_config([layers[0], layers[0]], SHELL)}
    manifest = [{"Config": "c.json", "RepoTags": [shelf.victim], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path, data in {
            **files,
            "manifest.json": json.dumps(manifest).encode(),
            "repositories": json.dumps({name: {tag: "a"}}).encode(),
        }.items():
            entry = tarfile.TarInfo("./" + path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
    return content.getvalue()


def _oci(shelf: Shelf) -> bytes:
    layers = shelf.layers()
    return oci_archive(layers, image_config(layers, SHELL), f"docker.io/library/{shelf.victim}")


@pytest.mark.parametrize(
    "make",
    [
        lambda shelf: shelf.saved((shelf.victim,)),
        lambda shelf: gzip.compress(shelf.saved((shelf.victim,)), 1),
        lambda shelf: bz2.compress(shelf.saved((shelf.victim,)), 1),
        lambda shelf: lzma.compress(shelf.saved((shelf.victim,)), preset=0),
        _with_repositories,
        _oci,
    ],
    ids=["saved", "gzip", "bzip2", "xz", "old", "oci"],
)
def test_an_archive_becomes_one_image_under_our_name_and_moves_no_tag(
    shelf: Shelf, make: Callable[[Shelf], bytes]
) -> None:
    victim = shelf.engine.inspect(shelf.victim, "image")["Id"]
    image = shelf.file(make(shelf))
    shelf.driver.prepare(image)
    assert shelf.engine.inspect(shelf.victim, "image")["Id"] == victim
    assert shelf.engine.inspect(shelf.name(image), "image")["RepoTags"] == [shelf.name(image)]
    assert shelf.names() == {f"{shelf.name(image)}@<none>"}
    assert shelf.driver.observe(shelf.run(image))[0].condition is Condition.RUNNING


def test_prepare_sends_nothing_that_the_engine_has(shelf: Shelf) -> None:
    image = shelf.file(shelf.saved())
    shelf.driver.prepare(image)
    image.path.unlink()
    shelf.driver.prepare(image)
    assert shelf.driver.observe(shelf.run(image))


def test_threads_that_prepare_the_same_image_make_one(shelf: Shelf) -> None:
    image = shelf.file(busybox_tree({"unique": shelf.unique}, init=True), ImageType.ROOTFS)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(shelf.driver.prepare, image) for _ in range(6)]:
            done.result()
    assert shelf.names() == {f"{shelf.name(image)}@<none>"}
    assert shelf.nameless(digest(image.path.read_bytes())) == []  # as each further import would leave one


def test_a_root_file_system_runs_its_init(shelf: Shelf) -> None:
    init = b"#!/bin/sh\necho init is $0\n" + RUN_UNTIL_ASKED.encode()
    image = shelf.file(busybox_tree({"sbin/init": init}), ImageType.ROOTFS)
    shelf.driver.prepare(image)
    machine_id = shelf.run(image)
    eventually("init runs", lambda: b"init is /sbin/init" in shelf.driver.console_log(machine_id, 1000))


def _two_images(shelf: Shelf) -> bytes:
    return tar_of({"manifest.json": json.dumps([{}, {}]).encode()})


def _layer_missing(shelf: Shelf) -> bytes:
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["none"]}]
    return tar_of({"c.json": image_config([b""], SHELL), "manifest.json": json.dumps(manifest).encode()})


def _link_out(shelf: Shelf) -> bytes:
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["layer.tar"]}]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, target in (("c.json", "/etc/passwd"), ("layer.tar", "../../../../etc/shadow")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        data = json.dumps(manifest).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def _two_lists(shelf: Shelf) -> bytes:
    content = io.BytesIO(shelf.saved())
    with tarfile.open(fileobj=content, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
    return content.getvalue()


def _long_header(shelf: Shelf) -> bytes:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 6 * 1024**3
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def _other_content(shelf: Shelf) -> bytes:
    layers = shelf.layers()
    return saved_archive([layers[0], layers[0]], image_config(layers, SHELL))


def _no_command(shelf: Shelf) -> bytes:
    layers = shelf.layers()
    return saved_archive(layers, image_config(layers, []))


HOSTILE: dict[str, Callable[[Shelf], bytes]] = {
    "empty": lambda shelf: b"",
    "no tar": lambda shelf: b"this is no archive " * 100,
    "a tar of something": lambda shelf: tar_of({"a": b"b"}),
    "cut short": lambda shelf: shelf.saved()[:100_000],
    "gzip cut short": lambda shelf: gzip.compress(shelf.saved(), 1)[:100_000],
    "two images": _two_images,
    "no JSON": lambda shelf: tar_of({"manifest.json": b"{" * 100_000}),
    "JSON of another shape": lambda shelf: tar_of({"manifest.json": b'[{"Config": 7, "Layers": {"a": 1}}]'}),
    "a list too long": lambda shelf: tar_of({"manifest.json": bytes(5 * 1024 * 1024)}),
    "many members": lambda shelf: tar_of({str(number): b"" for number in range(3000)}),
    "a layer missing": _layer_missing,
    "links out of it": _link_out,
    "two lists": _two_lists,
    "a header of gigabytes": _long_header,
    "a layer of other content": _other_content,
    "no command": _no_command,
    "an OCI digest that is a path": lambda shelf: tar_of(
        {"index.json": b'{"manifests": [{"mediaType": "", "digest": "sha256:../../../etc/passwd"}]}'}
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_is_corrupt_or_hostile_is_refused_and_leaves_nothing(shelf: Shelf, kind: str) -> None:
    image = shelf.file(HOSTILE[kind](shelf))
    with pytest.raises(ImageRejected):
        shelf.driver.prepare(image)
    assert shelf.names() == set()


def test_a_root_file_system_that_is_no_tar_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ImageRejected):
        shelf.driver.prepare(shelf.file(b"this is no tar " * 1000, ImageType.ROOTFS))


def test_a_disk_is_no_image_for_containers(shelf: Shelf) -> None:
    with pytest.raises(ImageRejected):
        shelf.driver.prepare(shelf.file(b"QFI\xfb", ImageType.QCOW2))


def test_content_that_is_not_on_this_host_is_refused(shelf: Shelf) -> None:
    image = shelf.file(shelf.saved())
    with pytest.raises(ImageRejected, match="No such file"):
        shelf.driver.prepare(replace(image, path=image.path.with_name("none")))


def test_an_image_is_dropped_unless_a_container_needs_it(shelf: Shelf) -> None:
    image = shelf.file(shelf.saved())
    shelf.driver.prepare(image)
    machine_id = shelf.run(image)
    with pytest.raises(ImageInUse):
        shelf.driver.drop_image(image.sha256)
    shelf.driver.remove(machine_id)
    shelf.driver.drop_image(image.sha256)
    shelf.driver.drop_image(image.sha256)
    assert f"{shelf.name(image)}@<none>" not in shelf.engine.image_names()


def test_a_name_of_the_host_for_the_same_content_survives_that_the_image_is_dropped(shelf: Shelf) -> None:
    image = shelf.file(shelf.saved())
    shelf.driver.prepare(image)
    theirs = f"garbi-test-kept:{shelf.cluster_id[:8]}"
    shelf.engine.docker("tag", shelf.name(image), theirs)
    try:
        shelf.driver.drop_image(image.sha256)
        assert shelf.engine.inspect(theirs, "image")
    finally:
        shelf.engine.docker("image", "rm", theirs)


def test_add_brings_an_image_back_that_somebody_cleaned_up(shelf: Shelf) -> None:
    image = shelf.file(shelf.saved())
    shelf.driver.prepare(image)
    shelf.engine.docker("image", "rm", shelf.name(image))
    assert shelf.driver.observe(shelf.run(image))[0].condition is Condition.RUNNING


@pytest.fixture(params=registries())
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    with small_registry() if request.param == "small" else debian_registry(tmp_path) as registry:
        yield registry


def _push(shelf: Shelf, registry: Registry) -> str:
    layers = shelf.layers()
    return registry.push("tests/tiny", "v1", image_config(layers, SHELL), layers)


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_an_image_is_pulled_and_pinned_and_leaves_no_name_but_ours(shelf: Shelf, registry: Registry, by: str) -> None:
    sha256 = _push(shelf, registry)
    names = shelf.engine.image_names()
    driver = shelf.make_driver(f"example.org, {registry.address}")
    reference = f"{registry.address}/tests/tiny" + (":v1" if by == "tag" else f"@sha256:{sha256}")
    assert driver.pull(reference) == driver.pull(reference) == sha256
    ours = f"garbi/{shelf.cluster_id[:8]}:{sha256}"
    assert [name for name in shelf.engine.image_names() - names if registry.address in name] == []
    pulled = ImageFile(sha256, ImageType.DOCKER, shelf.directory / "none", 0)
    driver.prepare(pulled)
    assert shelf.engine.inspect(ours, "image")
    assert shelf.driver.observe(shelf.run(pulled))[0].condition is Condition.RUNNING
    driver.close()


def test_what_the_host_pulled_itself_stays_as_it_is(shelf: Shelf, registry: Registry) -> None:
    sha256 = _push(shelf, registry)
    reference = f"{registry.address}/tests/tiny:v1"
    shelf.engine.docker("pull", reference)
    try:
        driver = shelf.make_driver(registry.address)
        driver.pull(reference)
        driver.drop_image(sha256)
        image = shelf.engine.inspect(reference, "image")
        assert image["RepoTags"] == [reference]
        assert image["RepoDigests"] == [f"{registry.address}/tests/tiny@sha256:{sha256}"]
        driver.close()
    finally:
        shelf.engine.docker("image", "rm", "-f", reference, check=False)


@pytest.mark.parametrize(
    "place", ["docker.pull.fetch", "docker.pull.fetched", "docker.pull.tagged", "docker.pull.untagged"]
)
def test_a_pull_that_crashed_anywhere_is_completed_by_another(shelf: Shelf, registry: Registry, place: str) -> None:
    sha256 = _push(shelf, registry)
    reference = f"{registry.address}/tests/tiny:v1"
    with pytest.raises(CrashError):
        stopped_at(place, lambda: shelf.make_driver(registry.address).pull(reference) and None, crash)
    assert shelf.make_driver(registry.address).pull(reference) == sha256
    assert shelf.engine.inspect(f"garbi/{shelf.cluster_id[:8]}:{sha256}", "image")["RepoDigests"] == []
    assert list((shelf.directory / "driver").rglob("*")) == [shelf.directory / "driver" / "fetches"]


@pytest.mark.parametrize("registries", ["", "example.org", "127.0.0.1"])
def test_no_registry_is_asked_that_is_not_allowed(shelf: Shelf, registries: str) -> None:
    driver = shelf.make_driver(registries)
    for reference in ("debian", "debian:latest", "docker.io/debian", "127.0.0.1:1/tests/tiny:v1"):
        with pytest.raises(InvalidField) as caught:
            driver.pull(reference)
        assert caught.value.extra["field"] == "image"
    driver.close()


@pytest.mark.parametrize(
    "reference",
    ["", "a b", "UPPER/case", "../../etc", "a\nb", "-x", "http://a/b", "127.0.0.1:1/x@sha256:12", "a" * 500],
)
def test_what_does_not_name_an_image_is_refused(shelf: Shelf, reference: str) -> None:
    with pytest.raises(InvalidField):
        shelf.driver.pull(reference)


def test_an_image_that_the_registry_does_not_have_is_unknown(shelf: Shelf, registry: Registry) -> None:
    driver = shelf.make_driver(registry.address)
    for reference in (f"{registry.address}/tests/none:v1", f"{registry.address}/tests/none@{digest(b'none')}"):
        with pytest.raises(UnknownImage):
            driver.pull(reference)
    driver.close()
