"""What a lease proves: never that a host has stopped its machines while it might still run them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from garbi.iaas.monitor.lease import (
    Fellow,
    Fresh,
    Ledger,
    Quorum,
    answered,
    asked,
    begun,
    doubt,
    ends_at,
    least_margin,
    may_arm,
    proven,
    quorum,
    recalled,
    renewed,
)

TTL, MARGIN = 45.0, 20.0
SPAN = TTL / 2
PEERS = frozenset({"b:1", "c:1"})


def agreed(now: float = 0.0) -> Ledger:
    """The ledger of a node that has agreed twice that its lease ends by itself."""
    ledger = begun(now, True, PEERS, TTL)
    return answered(answered(ledger, now, armed=True), now, armed=True)


def test_a_lease_is_armed_once_the_node_has_agreed_twice() -> None:
    ledger = begun(0.0, True, PEERS, TTL)
    once = answered(ledger, 1.0, armed=True)
    assert not once.armed
    assert answered(once, 2.0, armed=True).armed


def test_what_is_asked_anew_is_not_agreed_to_yet() -> None:
    assert asked(agreed(), True, PEERS, TTL).armed
    assert not asked(agreed(), True, PEERS | {"d:1"}, TTL).armed
    assert not asked(agreed(), False, PEERS, TTL).armed
    assert not answered(agreed(), 3.0, armed=False).armed


def test_a_silent_node_is_proven_dead_when_its_lease_and_the_margin_are_over() -> None:
    assert not proven(agreed(), Quorum(0.0, TTL + MARGIN - 0.1), 0.0, MARGIN)
    assert proven(agreed(), Quorum(0.0, TTL + MARGIN), 0.0, MARGIN)


def test_nothing_is_proven_from_a_lease_that_does_not_end_by_itself() -> None:
    ledger = answered(answered(begun(0.0, False, PEERS, TTL), 0.0, armed=False), 0.0, armed=False)
    assert doubt(ledger, Quorum(0.0, 1e6), 0.0, MARGIN) == "its lease does not end by itself"


def test_nothing_is_proven_while_the_other_nodes_may_take_the_controller_for_dead() -> None:
    assert "too few" in str(doubt(agreed(), None, 0.0, MARGIN))


def test_a_controller_that_has_just_begun_waits_as_long_as_its_predecessor_may_have_renewed() -> None:
    assert not proven(agreed(), Quorum(0.0, 100.0), 90.0, MARGIN)
    assert proven(agreed(), Quorum(0.0, 90.0 + TTL + MARGIN), 90.0, MARGIN)


def test_only_nodes_that_can_tell_being_cut_off_from_a_dead_controller_are_armed() -> None:
    assert may_arm(3, True, 1)
    assert not may_arm(1, True, 0)
    assert not may_arm(3, False, 2)
    assert not may_arm(5, True, 1)
    assert may_arm(5, True, 2)


GOOD = Fellow(answers=True, hears=True, apart=True)


def test_of_two_nodes_one_is_armed_only_while_both_answer_and_hear_each_other_beside_the_controller() -> None:
    assert may_arm(2, True, 1, GOOD)
    assert not may_arm(2, True, 1)
    assert not may_arm(2, False, 1, GOOD)
    assert not may_arm(2, True, 0, GOOD)
    for fault in ("answers", "hears", "apart"):
        assert not may_arm(2, True, 1, replace(GOOD, **{fault: False}))
    assert not may_arm(1, True, 0, GOOD)
    assert may_arm(3, True, 1, None)


def test_the_longest_lease_that_a_node_may_have_been_told_counts_and_the_shortest_for_whom_it_asks() -> None:
    longer = asked(agreed(), True, PEERS, 2 * TTL)
    assert longer.armed
    assert (longer.shortest_s, longer.longest_s) == (TTL, 2 * TTL)
    assert ends_at(longer, 0.0, 0.0, MARGIN) == 2 * TTL + least_margin(2 * TTL)
    once = answered(longer, 1.0, armed=True)
    assert (once.shortest_s, once.longest_s) == (TTL, 2 * TTL)
    sure = answered(once, 2.0, armed=True)
    assert (sure.shortest_s, sure.longest_s) == (2 * TTL, 2 * TTL)
    shorter = answered(asked(sure, True, PEERS, TTL), 3.0, armed=True)
    assert (shorter.shortest_s, shorter.longest_s) == (TTL, 2 * TTL)
    assert ends_at(answered(shorter, 4.0, armed=True), 0.0, 0.0, MARGIN) == 4.0 + TTL + MARGIN


def test_what_an_earlier_controller_told_counts_whatever_is_set_now() -> None:
    ledger = recalled(0.0, PEERS, TTL, 2 * TTL)
    assert ledger.armed
    assert not proven(ledger, Quorum(0.0, TTL + MARGIN), 0.0, MARGIN)
    assert proven(ledger, Quorum(0.0, 2 * TTL + least_margin(2 * TTL)), 0.0, MARGIN)


@given(st.floats(5.0, 3600.0), st.floats(0.0, 3600.0), st.floats(0.8, 1.25))
def test_a_host_whose_clock_goes_slower_by_a_fifth_has_stopped_before_it_is_proven(
    ttl_s: float, margin_s: float, rate: float
) -> None:
    """`rate` is how many of its own seconds pass in one of the controller's."""
    ended = ttl_s / rate
    assert ends_at(recalled(0.0, PEERS, ttl_s, ttl_s), 0.0, 0.0, margin_s) >= ended + 5.0 - 1e-6


def test_a_controller_that_was_frozen_sees_by_the_clocks_of_the_others_that_they_did_not_hear_it() -> None:
    first = renewed(None, 0.0, Fresh(0.0, 0.0, "boot", 1000.0), SPAN)
    assert renewed(first, 3.0, Fresh(0.0, 3.0, "boot", 1003.0), SPAN).since == 0.0
    assert renewed(first, 3.0, Fresh(0.0, 3.0, "boot", 4000.0), SPAN).since == 3.0
    assert renewed(first, 3.0, Fresh(0.0, 3.0, "another", 3.0), SPAN).since == 3.0


pauses = st.one_of(st.floats(0.1, 8.0), st.floats(0.1, 40.0))
renewals = st.lists(
    st.tuples(st.sampled_from("abcd"), pauses, st.floats(0.0, 3.0), st.sampled_from([0.0, 0.0, 0.0, 100.0])),
    max_size=60,
)


@given(renewals, st.floats(0.0, 20.0), st.integers(1, 4))
def test_at_every_moment_of_a_quorum_enough_peers_would_say_that_they_hear_the_controller(
    steps: list[tuple[str, float, float, float]], after: float, count: int
) -> None:
    """`frozen` is time that passes for everybody but the controller, just before it sends."""
    peers = "abcd"[:count]
    fresh: dict[str, Fresh] = {}
    accepted: dict[str, list[float]] = {peer: [] for peer in "abcd"}
    real_of: list[tuple[float, float]] = [(0.0, 0.0)]
    now = real = 0.0
    for peer, pause, took, frozen in steps:
        now, real = now + pause, real + pause
        real_of += [(now, real), (now, real + frozen)]
        sent, real = now, real + frozen
        now, real = now + took, real + took
        real_of.append((now, real))
        accepted[peer].append(real)  # as late as can be: it answers at once
        fresh[peer] = renewed(fresh.get(peer), now, Fresh(0.0, sent, "boot", 500.0 + real), SPAN)
    now += after
    found = quorum(peers, fresh, now, SPAN)
    if found is None:
        return
    needed = -(-(count + 1) // 2)
    for moment in (real for here, real in real_of if found.since < here < found.until):
        ages = [min((moment - each for each in accepted[peer] if each <= moment), default=1e9) for peer in peers]
        assert sum(age < SPAN for age in ages) >= needed


@dataclass
class Host:
    """A host with a lease as an agent keeps it: renewals that speak of an older moment than the last one change nothing."""

    offset: float
    seen: float = float("-inf")
    armed: bool = False

    def take(self, seen: float | None, arm: bool, now: float) -> tuple[float, bool]:
        moment = float("-inf") if seen is None else seen
        if moment >= self.seen:
            self.seen, self.armed = moment, arm
        return now + self.offset, self.armed

    def runs(self, now: float) -> bool:
        """Whether its machines may run: until an armed lease has ended, here at once."""
        return not self.armed or now + self.offset < self.seen + TTL


@dataclass
class Network:
    """Requests on their way: when each arrives, and what it says."""

    late: list[tuple[float, float | None, bool]] = field(default_factory=list)

    def deliver(self, host: Host, now: float) -> None:
        for moment, seen, arm in sorted(self.late, key=lambda each: each[0]):
            if moment <= now:
                host.take(seen, arm, moment)
        self.late = [each for each in self.late if each[0] > now]


fates = st.sampled_from(["answered", "answered", "answered", "lost", "late", "unheard"])


@given(st.lists(st.tuples(fates, st.booleans(), st.floats(0.1, 40.0)), max_size=40), st.floats(-1e6, 1e6))
def test_a_host_whose_requests_come_late_twice_or_never_runs_nothing_once_it_is_proven_dead(
    renewals: list[tuple[str, bool, float]], offset: float
) -> None:
    host, network, now, seen = Host(offset), Network(), 0.0, None
    ledger = begun(0.0, False, PEERS, TTL)
    silent = False
    for fate, wanted, delay in renewals:
        arm = ledger.arm if silent else wanted  # a silent node is asked for nothing new
        ledger = asked(ledger, arm, PEERS, TTL)
        if fate in ("late", "answered"):
            network.late.append((now + delay, seen, arm))  # it comes once more, or only then
        silent = fate != "answered"
        if fate == "unheard":
            host.take(seen, arm, now)
        if fate == "answered":
            seen, armed = host.take(seen, arm, now)
            ledger = answered(ledger, now, armed)
        for _ in range(30):
            now += 2.0 if silent else 0.1
            network.deliver(host, now)
            assert not (proven(ledger, Quorum(0.0, now), 0.0, MARGIN) and host.runs(now))
