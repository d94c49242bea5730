"""What a request asks for beside its body: how long it waits (Prefer, RFC 7240) and its Idempotency-Key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from garbi.base.errors import InvalidField

DEFAULT_WAIT_S = 30.0
MAX_WAIT_S = 600.0
MAX_KEY = 255
_PRINTABLE = re.compile(r"[ -~]+\Z")


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a request waits for a machine to settle, and what of its preferences that honours."""

    wait_s: float
    applied: str = ""

    def declare(self, response: Response) -> None:
        """Say in the response which preference was applied (RFC 7240 section 3)."""
        if self.applied:
            response.headers["Preference-Applied"] = self.applied


def read_patience(values: list[str], default_s: float = DEFAULT_WAIT_S) -> Patience:
    """The patience that Prefer headers ask for; what cannot be understood is ignored, as the RFC wants."""
    preferences: dict[str, str] = {}
    for token in ",".join(values).split(","):
        name, _, value = token.partition(";")[0].partition("=")
        preferences.setdefault(name.strip().lower(), value.strip().strip('"'))
    asked = preferences.get("wait", "")
    if asked.isascii() and asked.isdigit():
        seconds = min(float(asked[:9]), MAX_WAIT_S)
        return Patience(seconds, f"wait={seconds:.0f}")
    if "respond-async" in preferences:
        return Patience(0.0, "respond-async")
    return Patience(default_s)


PreferHeader = Annotated[
    str | None,
    Header(
        description="`respond-async`: answer at once; `wait=N`: wait up to N seconds until the machine settles (RFC 7240)",
        examples=["wait=60"],
    ),
]


async def _patience(request: Request, prefer: PreferHeader = None) -> Patience:
    return read_patience(request.headers.getlist("prefer"))


async def _short_patience(request: Request, prefer: PreferHeader = None) -> Patience:
    return read_patience(request.headers.getlist("prefer"), default_s=0.0)


async def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(description="one key and body make one machine, however often they are sent", examples=["7f3c2a10"]),
    ] = None,
) -> str | None:
    if idempotency_key is None:
        return None
    if len(idempotency_key) > MAX_KEY or not _PRINTABLE.match(idempotency_key):
        rule = f"1 to {MAX_KEY} printable ASCII characters"
        raise InvalidField("Idempotency-Key", f"Idempotency-Key takes {rule}", allowed=rule)
    return idempotency_key


Waiting = Annotated[Patience, Depends(_patience)]
"""For requests that change a machine: they wait unless told otherwise."""

Looking = Annotated[Patience, Depends(_short_patience)]
"""For requests that look at one: they wait only when told to."""

IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]
