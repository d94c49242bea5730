"""What the name of an image in a registry says: which registry, which repository, which tag or digest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from garbi.base.errors import InvalidField

DEFAULT_REGISTRY = "docker.io"
LONGEST = 400

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>localhost(?::\d{{1,5}})?|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+(?::\d{{1,5}})?|[a-zA-Z0-9-]+:\d{{1,5}})/)?"
    rf"(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@sha256:(?P<sha256>[0-9a-f]{{64}}))?\Z"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry. `sha256` is empty where only a tag is given; where both are given the digest counts."""

    registry: str
    path: str
    tag: str
    sha256: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that the text is, with the engine's defaults for registry and tag; raises InvalidField."""
        found = _REFERENCE.match(text) if len(text) <= LONGEST else None
        if found is None:
            shown = repr(text if len(text) <= 80 else text[:77] + "...")
            raise InvalidField(
                "image",
                f"{shown} does not name an image in a registry",
                allowed="[registry/]path[:tag][@sha256:digest]",
            )
        return cls(
            found["registry"] or DEFAULT_REGISTRY, found["path"], found["tag"] or "latest", found["sha256"] or ""
        )

    @property
    def by_tag(self) -> str:
        return f"{self.registry}/{self.path}:{self.tag}"

    def by_digest(self, sha256: str) -> str:
        """The name of exactly that content."""
        return f"{self.registry}/{self.path}@sha256:{sha256}"
