"""Brings an image to a node: from the share where the node has one, over HTTP otherwise; never twice at a time.

The node checks what comes by its digest, whichever way it came, and keeps it as long as it has the space.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from garbi.base.errors import DigestMismatch, ImageRejected, NotFound, ShareUnavailable
from garbi.hyper_api.client import HyperClient
from garbi.iaas.imagestore.store import ImageStore
from garbi.iaas.model.image import Image, cached_name
from garbi.iaas.model.node import Node

OnProgress = Callable[[float, str], None]
"""Called with how much is done, from 0 to 1, and what is being done."""

BLOCK = 1 << 20
STEPS = 100
"""How often progress is told on the way."""

log = logging.getLogger(__name__)


class DistributionSettings(Protocol):
    """What it needs of the settings of a controller."""

    @property
    def image_share(self) -> str: ...


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Distribution:
    """The way of images to nodes. Safe for use by several threads."""

    def __init__(self, store: ImageStore, settings: DistributionSettings) -> None:
        self._store = store
        self._shared = bool(settings.image_share)
        self._lock = threading.Lock()
        self._turns: dict[tuple[str, str], _Turn] = {}

    def ensure(self, node: Node, client: HyperClient, image: Image, on_progress: OnProgress) -> str:
        """Have the node have the image, and return the name under which it has it. Nothing is sent when it has it already.

        Raises NotFound when the content is gone here, NoSpace and what else the node refuses it for, ServerUnreachable.
        """
        name = cached_name(image.sha256)
        if _has(client, name, image):
            return name
        with self._turn(node.name, image.sha256):
            if not _has(client, name, image):
                self._bring(node, client, image, name, on_progress)
                on_progress(1.0, f"image {image.name} is on node {node.name}")
        return name

    @contextmanager
    def _turn(self, node: str, sha256: str) -> Iterator[None]:
        """One at a time; who waited finds that the image is there."""
        key = (node, sha256)
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[key]

    def _bring(self, node: Node, client: HyperClient, image: Image, name: str, on_progress: OnProgress) -> None:
        if self._shared:
            on_progress(0.0, f"node {node.name} takes image {image.name} from the share")
            try:
                client.images.take(name, image.type, image.sha256, image.size)
                return
            except (ShareUnavailable, DigestMismatch, ImageRejected) as error:
                told = {"node": node.name, "image": image.name, "reason": error.detail}
                log.warning("the image share cannot be used", extra=told)
        path = self._store.path(image)
        client.images.add(
            name,
            image.type,
            lambda offset: _blocks(path, offset, image.size, f"image {image.name} to node {node.name}", on_progress),
            image.size,
            image.sha256,
            cached=True,
        )


def _has(client: HyperClient, name: str, image: Image) -> bool:
    """Whether the node has the content, not only the name."""
    try:
        found = client.images.get(name)
    except NotFound:
        return False
    return (found["sha256"], found["state"]) == (image.sha256, "active")


def _blocks(path: Path, offset: int, size: int, what: str, on_progress: OnProgress) -> Iterator[bytes]:
    told = -1
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while block := file.read(BLOCK):
            step = offset * STEPS // size
            if step > told:
                told = step
                on_progress(offset / size, f"sending {what}: {offset >> 20} of {size >> 20} MiB")
            yield block
            offset += len(block)
