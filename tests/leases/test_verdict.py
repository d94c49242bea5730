"""When a lease has ended, decided from values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leases.words import BOOT, PEERS, TTL_S, armed, renewal

from garbi.base.errors import StaleOrder
from garbi.hyper.leases.record import Lease, refuse_stale, renew
from garbi.hyper.leases.verdict import ACTIVE, VALID_S, Evidence, Verdict, Word, heard, judge

SEEN = 1000.0
PAST = SEEN + TTL_S + 0.1
MISSED_LONG = TTL_S / 2 + 9


def said(now: float, *ages: float) -> Evidence:
    """What the other nodes said just now."""
    return Evidence({peer: Word(age, now) for peer, age in zip(PEERS, ages, strict=False)}, asked=True)


@pytest.mark.parametrize(
    ("lease", "now", "evidence", "verdict"),
    [
        (armed(SEEN), SEEN + TTL_S, said(SEEN), Verdict.RUN),
        (armed(SEEN), PAST, said(PAST), Verdict.ENDED),
        (armed(SEEN), PAST, said(PAST, 1.0, 2.0), Verdict.ENDED),
        (armed(SEEN), PAST, said(PAST, 30.0), Verdict.HOLD_ON),
        (armed(SEEN), PAST, said(PAST, TTL_S / 2, 1.0), Verdict.HOLD_ON),
        (armed(SEEN), PAST, said(PAST, TTL_S / 2 - 0.1, 1.0), Verdict.ENDED),
        (armed(SEEN), PAST, said(PAST - VALID_S - 0.1, 30.0, 30.0), Verdict.ENDED),
        (armed(SEEN), PAST, Evidence(), Verdict.RUN),
        (armed(SEEN, peers=(*PEERS, "d:1", "e:1")), PAST, said(PAST, 30.0), Verdict.ENDED),
        (armed(SEEN, peers=(*PEERS, "d:1", "e:1")), PAST, said(PAST, 30.0, 30.0), Verdict.HOLD_ON),
        (armed(SEEN, peers=(*PEERS, "d:1")), PAST, said(PAST, 30.0), Verdict.ENDED),
        (armed(SEEN), PAST, Evidence(missed_at=PAST - TTL_S + 1, asked=True), Verdict.RUN),
        (armed(SEEN), PAST, Evidence(missed_at=PAST - TTL_S - 1, asked=True), Verdict.ENDED),
        (replace(armed(SEEN), armed=False), PAST + 10_000, said(PAST), Verdict.RUN),
        (replace(armed(SEEN), fenced=1), SEEN, said(SEEN), Verdict.FENCED),
        (replace(armed(SEEN, number=2), fenced=1), SEEN, said(SEEN), Verdict.RUN),
        (replace(armed(SEEN), boot_id="another"), SEEN, said(SEEN), Verdict.LAPSED),
        (Lease("c", fenced=3), SEEN, said(SEEN), Verdict.FENCED),
    ],
)
def test_the_verdict_on_a_lease(lease: Lease, now: float, evidence: Evidence, verdict: Verdict) -> None:
    assert judge(lease, BOOT, now, evidence) is verdict


def test_a_controller_that_most_have_missed_for_long_has_the_length_of_a_lease_to_be_heard_by_all() -> None:
    lease = armed(SEEN)
    missed = heard(lease, PAST, Evidence(), {PEERS[0]: MISSED_LONG, PEERS[1]: MISSED_LONG}, PAST)
    assert missed.missed_at == PAST
    # It is back: the others were renewed at once, this host is yet to be.
    back = heard(lease, PAST + 3, missed, {PEERS[0]: 0.5, PEERS[1]: 0.5}, PAST + 3)
    assert judge(lease, BOOT, PAST + 3, back) is Verdict.RUN
    assert judge(lease, BOOT, PAST + TTL_S + 1, back) is Verdict.ENDED


def test_a_word_of_a_moment_ago_proves_less_than_one_that_its_controller_must_share() -> None:
    lease = armed(SEEN)
    missed = heard(lease, PAST, Evidence(), {PEERS[0]: TTL_S / 2 + 1, PEERS[1]: 1.0}, PAST)
    assert judge(lease, BOOT, PAST, missed) is Verdict.HOLD_ON
    assert missed.missed_at is None
    assert judge(lease, BOOT, PAST + VALID_S + 0.1, missed) is Verdict.ENDED


def test_who_is_no_node_of_the_cloud_has_no_say() -> None:
    strangers = {f"stranger{number}:1": 10_000.0 for number in range(9)}
    evidence = heard(armed(SEEN), PAST, Evidence(), strangers, PAST)
    assert judge(armed(SEEN), BOOT, PAST, evidence) is Verdict.ENDED


@given(
    nodes=st.integers(2, 40),
    missing=st.integers(0, 40),
    age=st.floats(0, 1000),
    late=st.floats(0.1, 10_000),
)
def test_a_lease_goes_on_beyond_its_end_only_if_most_nodes_miss_the_controller(
    nodes: int, missing: int, age: float, late: float
) -> None:
    peers = tuple(f"node{number}:1" for number in range(1, nodes))
    lease = armed(SEEN, peers=peers)
    now = SEEN + TTL_S + late
    words = {peer: Word(age if index < missing else 0.0, now) for index, peer in enumerate(peers)}
    verdict = judge(lease, BOOT, now, Evidence(words, asked=True))
    most = 1 + (min(missing, len(peers)) if age >= TTL_S / 2 else 0) > nodes / 2
    assert verdict is (Verdict.HOLD_ON if most else Verdict.ENDED)


moments = st.lists(st.floats(1, 1000), min_size=1, max_size=8)


@given(seen=moments, order=st.randoms(), arms=st.lists(st.booleans(), min_size=8, max_size=8))
def test_renewals_that_come_late_or_twice_or_in_another_order_extend_nothing(
    seen: list[float], order: object, arms: list[bool]
) -> None:
    now = 2000.0
    sent = [renewal(moment, arm) for moment, arm in zip(seen, arms, strict=False)]
    messages = [*sent, *sent]
    order.shuffle(messages)  # type: ignore[attr-defined]
    lease = None
    for message in messages:
        lease = renew(lease, message, BOOT, now, guarded=True)
        assert lease.expiry is not None
        assert lease.expiry <= max(seen) + TTL_S
    assert lease is not None
    assert lease.expiry == max(seen) + TTL_S


@given(early=st.floats(1, 500), late=st.floats(501, 1000), arm=st.booleans())
def test_what_a_later_renewal_said_is_not_taken_back_by_an_earlier_one(early: float, late: float, arm: bool) -> None:
    lease = renew(None, renewal(late, arm), BOOT, 2000.0, guarded=True)
    delayed = renewal(early, not arm, ttl_s=3600.0, peers=("elsewhere:1",), witness_key="x" * 20)
    after = renew(lease, delayed, BOOT, 3000.0, guarded=True)
    assert after == replace(lease, renewed=3000.0)


@given(seen=st.floats(0, 1e6), now=st.floats(0, 1e6), boot=st.sampled_from([BOOT, "another", ""]))
def test_only_a_moment_of_this_boot_that_has_passed_begins_a_term(seen: float, now: float, boot: str) -> None:
    lease = renew(None, renewal(seen, seen_boot=boot), BOOT, now, guarded=True)
    counts = boot == BOOT and seen <= now
    assert lease.armed == counts
    assert lease.seen == (seen if counts else None)
    if boot == "another":
        assert judge(lease, BOOT, now) not in ACTIVE


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"term": 4}, "controller"),
        ({"holder": "bb"}, "controller"),
        ({"number": 2}, "lease"),
        ({"term": 6, "number": 2}, "lease"),
    ],
)
def test_a_renewal_that_was_overtaken_is_refused(change: dict[str, object], stale: str) -> None:
    known = replace(armed(SEEN, number=3), term=5)
    refuse_stale(known, renewal(SEEN, term=5, number=3))
    refuse_stale(known, renewal(SEEN, term=6, number=4, holder="bb"))
    with pytest.raises(StaleOrder) as refused:
        refuse_stale(known, renewal(SEEN, **{"term": 5, "number": 3, **change}))
    assert refused.value.extra["stale"] == stale


def test_another_controller_or_another_number_begins_a_lease_that_does_not_end_by_itself() -> None:
    known = armed(SEEN)
    for later in (renewal(None, term=2, holder="bb"), renewal(None, number=2)):
        after = renew(known, later, BOOT, PAST, guarded=True)
        assert not after.armed
        assert judge(after, BOOT, PAST + 10_000, said(PAST + 10_000)) is Verdict.RUN


def test_without_a_watchdog_no_lease_begins_to_end_by_itself() -> None:
    assert not renew(None, renewal(SEEN), BOOT, SEEN + 1, guarded=False).armed
