"""Since when nodes are silent: counted here, and for what was silent before this controller began, by when it was last heard."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.fences.nodes import a_node

from garbi.base.clock import SystemClock
from garbi.iaas.loops.silence import Silences
from garbi.iaas.model.node import NodeState
from garbi.iaas.monitor.failover import RECENTLY_S, long_gone

AT = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock(SystemClock):
    """A clock that stands still until it is moved; `day` is the time of day."""

    def __init__(self) -> None:
        self.passed_s, self.day = 1000.0, AT

    def monotonic(self) -> float:
        return self.passed_s

    def now(self) -> datetime:
        return self.day

    def pass_(self, seconds: float) -> None:
        self.passed_s += seconds
        self.day += timedelta(seconds=seconds)


def test_silence_goes_on_when_a_node_is_proven_dead_and_ends_when_it_answers() -> None:
    clock = HandClock()
    silences, node = Silences(clock), a_node(state=NodeState.READY, seen_at=AT)
    assert silences.conditions([node])[0].silent_s is None
    clock.pass_(10)
    silences.conditions([replace(node, state=NodeState.UNREACHABLE)])
    clock.pass_(60)
    dead = replace(node, state=NodeState.UNAVAILABLE)
    silences.conditions([dead])
    clock.pass_(5)
    [found] = silences.conditions([dead])
    assert (found.for_s, found.silent_s) == (5, 65)
    assert silences.conditions([node])[0].silent_s is None


def test_a_controller_that_begins_knows_who_was_silent_long_before_another() -> None:
    clock = HandClock()
    off = a_node(name="off", seen_at=AT - timedelta(days=20))
    fell = a_node(name="fell", seen_at=AT - timedelta(seconds=20))
    never = a_node(name="never", seen_at=None, created_at=AT - timedelta(days=3))
    assert long_gone(Silences(clock).conditions([off, fell, never])) == {"off", "never"}


def test_clocks_that_jump_change_nothing_of_what_is_counted_here() -> None:
    clock = HandClock()
    silences = Silences(clock)
    nodes = [a_node(name=name, state=NodeState.READY, seen_at=AT) for name in ("a", "b")]
    silences.conditions(nodes)
    silences.conditions([replace(nodes[0], state=NodeState.UNREACHABLE), nodes[1]])
    clock.day += timedelta(days=9)
    both = [replace(each, state=NodeState.UNREACHABLE) for each in nodes]
    assert long_gone(silences.conditions(both)) == set()
    clock.passed_s += 20 * RECENTLY_S
    assert long_gone(silences.conditions(both)) == set()
