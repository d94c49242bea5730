"""The engine's copies of our images: loaded once under our own name, fetched from registries, dropped when not needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docker.api.client import APIClient

from garbi.base.errors import (
    Conflict,
    DriverFailed,
    FinalError,
    GarbiError,
    ImageInUse,
    ImageRejected,
    InvalidField,
    NoSpace,
    NotFound,
    UnknownImage,
)
from garbi.base.failpoints import reach
from garbi.hyper.drivers.docker.archive import image_archive, plain_tar
from garbi.hyper.drivers.docker.containers import Marks
from garbi.hyper.drivers.docker.engine import CONTENT_TIMEOUT_S, Engine
from garbi.hyper.drivers.docker.reference import Reference
from garbi.hyper.drivers.docker.refusals import refusal
from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.image import ImageType

ROOTFS_COMMAND = 'CMD ["/sbin/init"]'


class Images:
    """Our images at one engine, by the sha256 of their content. Several threads may ask for the same one at once."""

    def __init__(self, engine: Engine, marks: Marks, registries: frozenset[str], data_dir: Path) -> None:
        self._engine = engine
        self._marks = marks
        self._registries = registries
        self._claims = data_dir / "fetches"
        self._working = threading.Lock()

    def prepare(self, image: ImageFile) -> None:
        """Have the engine keep the content under our name; nothing is sent when it does already."""
        if self._has(self._marks.image(image.sha256)):
            return
        with self._working:
            if self._has(self._marks.image(image.sha256)):
                return
            reach("docker.prepare.send")
            self._send(image)
            reach("docker.prepare.sent")
            if not self._has(self._marks.image(image.sha256)):
                raise ImageRejected("image", "Docker Engine took the image in, but does not have it")

    def drop(self, sha256: str) -> None:
        """Take our name off the content, which goes when it has no other; raises ImageInUse."""
        reach("docker.drop_image.drop")
        try:
            with self._engine.talk() as client:
                client.remove_image(self._marks.image(sha256))
        except NotFound:
            pass
        except Conflict as error:
            raise ImageInUse(error.detail) from error
        reach("docker.drop_image.dropped")

    def drop_all(self) -> None:
        """Take our name off everything; raises ImageInUse."""
        with self._engine.talk() as client:
            listed = client.images(name=self._marks.repository)
        prefix = self._marks.image("")
        for name in [name for image in listed for name in image.get("RepoTags") or []]:
            if name.startswith(prefix):
                self.drop(name.removeprefix(prefix))

    def pull(self, text: str) -> str:
        """Fetch what `text` names and give it our name; return the sha256 of its manifest. The host's tags stay as they are."""
        reference = Reference.parse(text)
        if reference.registry not in self._registries:
            allowed = sorted(self._registries)
            shown = f"allowed are: {', '.join(allowed)}" if allowed else "none is"
            raise InvalidField("image", f"registry {reference.registry} is not allowed here; {shown}", allowed=allowed)
        with self._working:
            try:
                sha256 = reference.sha256 or self._digest(reference)
                self._fetch(reference.by_digest(sha256), sha256)
            except NotFound as error:
                raise UnknownImage("image", error.detail) from error
        return sha256

    def _has(self, name: str) -> bool:
        try:
            with self._engine.talk() as client:
                client.inspect_image(name)  # type: ignore[no-untyped-call]
        except NotFound:
            return False
        return True

    def _send(self, image: ImageFile) -> None:
        try:
            image.path.open("rb").close()
        except OSError as error:
            raise ImageRejected("image", f"the content of the image cannot be read: {error.strerror}") from error
        platform = self._engine.version().system
        try:
            with self._engine.talk_alone(CONTENT_TIMEOUT_S) as client:
                if image.type is ImageType.ROOTFS:
                    self._import(client, image)
                else:
                    named = image_archive(image.path, self._marks.image(image.sha256), platform)
                    _check_said(client.load_image(named, quiet=True))  # type: ignore[no-untyped-call]
        except (NoSpace, ImageRejected):
            raise
        except FinalError as error:
            raise ImageRejected("image", error.detail) from error

    def _import(self, client: APIClient, image: ImageFile) -> None:
        said = client.import_image_from_data(
            plain_tar(image.path),
            repository=self._marks.repository,
            tag=image.sha256,
            changes=ROOTFS_COMMAND,
        )
        _check_said(json.loads(line) for line in str(said).splitlines() if line.strip())

    def _digest(self, reference: Reference) -> str:
        """Ask the registry which content the tag means at this moment."""
        with self._engine.talk_alone(CONTENT_TIMEOUT_S) as client:
            described: dict[str, Any] = client.inspect_distribution(reference.by_tag)  # type: ignore[no-untyped-call]
        algorithm, _, sha256 = str(described["Descriptor"]["digest"]).partition(":")
        if algorithm != "sha256":
            raise DriverFailed(f"the registry names the image by {algorithm}, not by sha256")
        return sha256

    def _fetch(self, by_digest: str, sha256: str) -> None:
        """Pull by digest, which moves no tag, and put our name in the place of the digest's own.

        A name by digest that was there before is somebody's, and stays. The claim is a file that tells the two apart when
        the agent was killed in between.
        """
        ours, claim = self._marks.image(sha256), self._claims / sha256
        if not claim.exists() and not self._has(by_digest):
            claim.parent.mkdir(parents=True, exist_ok=True)
            claim.touch()
        if not self._has(ours):
            reach("docker.pull.fetch")
            with self._engine.talk_alone(CONTENT_TIMEOUT_S) as client:
                _check_said(client.pull(by_digest, stream=True, decode=True))
            reach("docker.pull.fetched")
            with self._engine.talk() as client:
                client.tag(by_digest, self._marks.repository, sha256)
            reach("docker.pull.tagged")
        if claim.exists():
            self._untag(by_digest)
            reach("docker.pull.untagged")
            claim.unlink()

    def _untag(self, name: str) -> None:
        try:
            with self._engine.talk() as client:
                client.remove_image(name, noprune=True)
        except NotFound:
            pass


def _check_said(messages: Iterable[Any]) -> None:
    """Read the engine's report to its end; raise what went wrong, which it tells only there."""
    wrong: GarbiError | None = None
    for message in messages:
        if isinstance(message, dict) and message.get("error"):
            wrong = refusal(str(message["error"]))
    if wrong is not None:
        raise wrong
