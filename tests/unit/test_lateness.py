"""How long a host that does not get the processor is waited for, and how long its lease is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leases.words import armed

from garbi.hyper.leases import asking, inquiry
from garbi.hyper.leases.inquiry import Inquiry
from garbi.hyper.leases.lateness import WINDOW_S, Lateness
from garbi.iaas.monitor.lateness import (
    LONGEST_LEASE_S,
    REMEMBERED_S,
    Slack,
    answer_limit_s,
    delay_of,
    lengthened,
    patience_s,
    strained,
)

TTL_S = 45.0


def test_a_host_that_is_not_late_has_the_usual_lease_and_limits() -> None:
    assert lengthened(TTL_S, 0.0) == TTL_S
    assert lengthened(TTL_S, 5.0) == TTL_S
    assert patience_s(10.0, 0.0) == 10.0
    assert answer_limit_s(3.0, 0, 0.0, TTL_S) == 3.0


@given(st.floats(5.0, 3600.0), st.floats(0.0, 120.0), st.floats(0.0, 120.0))
def test_who_is_later_has_a_lease_that_is_no_shorter_and_never_too_long(ttl_s: float, one: float, more: float) -> None:
    assert ttl_s <= lengthened(ttl_s, one) <= lengthened(ttl_s, one + more) <= max(ttl_s, LONGEST_LEASE_S)


def test_each_check_that_is_missed_lets_the_next_take_longer() -> None:
    assert [answer_limit_s(3.0, missed, 0.0, TTL_S) for missed in range(4)] == [3, 6, 11.25, 11.25]
    assert [answer_limit_s(3.0, missed, 0.0, 5.0) for missed in range(4)] == [3, 3, 3, 3]
    assert answer_limit_s(3.0, 0, 4.0, TTL_S) == 11.0


def test_a_delay_is_remembered_for_a_while_and_a_longer_one_takes_its_place() -> None:
    slack = strained(strained(Slack(), 10.0, 4.0), 20.0, 1.0)
    assert delay_of(slack, 20.0) == 4.0
    assert delay_of(strained(slack, 30.0, 6.0), 30.0) == 6.0
    assert delay_of(slack, 10.0 + REMEMBERED_S) == 0.0


def test_an_agent_tells_its_worst_delay_of_the_last_minute(tmp_path: Path) -> None:
    now = [100.0]
    lateness = Lateness(tmp_path, "boot", lambda: now[0])
    lateness.note(5.0)
    now[0] += 30
    lateness.note(0.0)
    assert lateness.worst_s == 5.0
    now[0] += WINDOW_S
    lateness.note(0.0)
    assert lateness.worst_s < 5.0


def test_a_watchdog_that_is_behind_is_a_delay_of_its_host(tmp_path: Path) -> None:
    (tmp_path / "watchdog.lock").write_text("1 boot 100.0\n")
    lateness = Lateness(tmp_path, "boot", lambda: 112.0)
    lateness.note(0.0)
    assert lateness.worst_s == 9.0


def test_who_is_kept_from_the_processor_while_it_asks_hears_what_was_said_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop stands still for longer than an answer may take; the answers are there when it goes on."""
    monkeypatch.setattr(asking, "LIMIT_S", 0.3)
    ready = threading.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        ready.set()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"age_s": 7.5}).encode())
        await writer.drain()
        writer.close()

    loop, ports = asyncio.new_event_loop(), list[int]()
    started = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(serve(), loop).result(60)
    real = asking._ask_one

    async def held_up(*given: str) -> bytes:
        asyncio.get_running_loop().call_later(0.05, threading.Event().wait, 2.0)
        await asyncio.sleep(0.1)
        return await real(*given)

    monkeypatch.setattr(asking, "_ask_one", held_up)
    try:
        peer = f"127.0.0.1:{ports[0]}"
        assert asking.ask_witnesses("c0" * 16, "k" * 32, [peer]) == {peer: 7.5}
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_round_that_took_too_long_by_itself_is_repeated_at_once() -> None:
    now, rounds = [1000.0], list[float]()
    lease = armed(now[0] - TTL_S)

    def ask(_controller: str, _key: str, peers: Sequence[str]) -> Mapping[str, float]:
        rounds.append(now[0])
        now[0] += inquiry.STALE_S + 3.0 if len(rounds) == 1 else 0.1
        return dict.fromkeys(peers, 40.0)

    asker = Inquiry(ask, lambda: now[0])
    asker.pursue(lease)
    assert len(rounds) == 2
    assert {word.at for word in asker.evidence.words.values()} == {rounds[1]}
