"""Asks many nodes over HTTP at once, in one thread, and waits two seconds for all of them together.

Time in which it was kept from the processor does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from time import monotonic

LIMIT_S = 2.0
LATE_S, PATIENCE = 0.5, 3
"""Who is so much later than it wanted waits once more, so many times in all."""

MAX_ANSWER = 16 * 1024
NO_ANSWER = (OSError, EOFError, ValueError, LookupError, TypeError, asyncio.LimitOverrunError)
"""What comes of asking a node that is down, or a stranger."""


def ask_witnesses(controller: str, key: str, peers: Sequence[str]) -> Mapping[str, float]:
    """How many seconds ago each peer's lease of that controller was renewed, by those who answered in time."""
    return asyncio.run(_ask_all(controller, key, peers)) if peers else {}


async def _ask_all(controller: str, key: str, peers: Sequence[str]) -> dict[str, float]:
    said: dict[str, float] = {}
    late = {asyncio.create_task(_ask_into(said, peer, controller, key)) for peer in peers}
    for _ in range(PATIENCE):
        began = monotonic()
        _, late = await asyncio.wait(late, timeout=LIMIT_S)
        if not late or monotonic() - began < LIMIT_S + LATE_S:
            break  # else it was this process that did not get the processor: the answers may be here
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return said


async def _ask_into(said: dict[str, float], peer: str, controller: str, key: str) -> None:
    with contextlib.suppress(*NO_ANSWER):
        said[peer] = _age_in(await _ask_one(peer, controller, key))


async def _ask_one(peer: str, controller: str, key: str) -> bytes:
    host, _, port = peer.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=MAX_ANSWER)
    try:
        head = f"GET /hyper/leases/{controller}/witness HTTP/1.1\r\nHost: {peer}\r\n"
        writer.write(f"{head}Authorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode())
        return await reader.readuntil(b"}") if await _says_yes(reader) else b""
    finally:
        writer.close()


async def _says_yes(reader: asyncio.StreamReader) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ", 2)[1] == b"200"


def _age_in(body: bytes) -> float:
    age_s = float(json.loads(body[body.index(b"{") :])["age_s"])
    if not 0 <= age_s < math.inf:
        raise ValueError("an age is a number of seconds")
    return age_s
