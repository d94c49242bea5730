"""The name of each image of a host once more, as a small file: which content it points to, and of which type that is.

A file is written before its row is, and deleted before its row is gone. So one without a row is what an older database does not
know yet, or a create that a crash cut off; the content decides: without that, it names nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from garbi.base.clock import from_wire, to_wire
from garbi.hyper.model.image import Image, ImageState, ImageType
from garbi.storage.whole_files import delete_file, replace_file

DIRECTORY = "image-names"
SUFFIX = ".json"
CONTENTS = Path("images", "sha256")
"""Where the content of each digest lies."""


class ImageFiles:
    """The files in one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY
        self._contents = data_dir / CONTENTS
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def write(self, image: Image) -> None:
        """Write the file of an image; raises NoSpace or FinalError."""
        replace_file(self._path(image.name), json.dumps(to_values(image)).encode() + b"\n")

    def delete(self, name: str) -> None:
        """Delete it; nothing happens when there is none. Raises NoSpace, StorageFailed or FinalError."""
        delete_file(self._path(name))

    def has_content(self, image: Image) -> bool:
        """Whether the content that an image names is in the data directory, in its full size."""
        with suppress(OSError):
            return (self._contents / image.sha256).stat().st_size == image.size
        return False

    def read(self) -> list[Image]:
        """What all of them say; what cannot be read names nothing."""
        found = []
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                found.append(of_values(json.loads(path.read_bytes())))
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return found

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{SUFFIX}"


def to_values(image: Image) -> dict[str, Any]:
    """An image as a row and as a file have it."""
    return {
        "name": image.name,
        "type": image.type,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "sha256": image.sha256,
        "state": image.state,
        "created_at": to_wire(image.created_at),
        "cached": image.cached,
        "used_at": to_wire(image.used_at),
    }


def of_values(values: Mapping[str, Any]) -> Image:
    """The image that was written so; raises KeyError, TypeError or ValueError."""
    return Image(
        name=str(values["name"]),
        type=ImageType(values["type"]),
        size=int(values["size"]),
        virtual_size=int(values["virtual_size"]),
        sha256=str(values["sha256"]),
        state=ImageState(values["state"]),
        created_at=from_wire(values["created_at"]),
        cached=bool(values["cached"]),
        used_at=from_wire(values["used_at"]),
    )


def read_row(row: Row[Any]) -> Image:
    """The image in a row."""
    return of_values(dict(row._mapping))
