"""A renewal that was on its way while the host booted lets nothing run there."""

from __future__ import annotations

from dataclasses import replace

from garbi.hyper.leases.record import Lease, Renewal, renew
from garbi.hyper.leases.verdict import ACTIVE, judge

CONTROLLER = "c" * 32
FIRST = Renewal(
    CONTROLLER, "a", 1, 1, 45.0, arm=True, seen=100.0, seen_boot="old", peers=("b:1", "c:1"), witness_key="k" * 20
)
LAPSED = Lease(CONTROLLER, "a", 1, 1, boot_id="old", ttl_s=45.0, armed=True, seen=90.0, renewed=100.0)


def test_a_renewal_that_has_seen_an_earlier_boot_begins_nothing() -> None:
    for known in (None, LAPSED, replace(LAPSED, number=2), replace(LAPSED, term=2)):
        after = renew(known, replace(FIRST, term=2, number=2), "new", 5.0, guarded=True)
        assert judge(after, "new", 5.0) not in ACTIVE
        assert (after.term, after.number) == (2, 2)
        again = renew(after, replace(FIRST, term=2, number=2, seen_boot="new", seen=5.0), "new", 6.0, guarded=True)
        assert judge(again, "new", 6.0) in ACTIVE
        assert again.armed


def test_a_late_renewal_of_the_earlier_boot_changes_nothing() -> None:
    present = Lease(CONTROLLER, "a", 1, 1, boot_id="new", ttl_s=45.0, armed=True, seen=5.0, renewed=6.0)
    assert renew(present, replace(FIRST, arm=False), "new", 8.0, guarded=True) == present


def test_an_armed_lease_stays_armed_while_the_watchdog_is_away_until_it_is_said_otherwise() -> None:
    present = Lease(CONTROLLER, "a", 1, 1, boot_id="old", ttl_s=45.0, armed=True, seen=90.0, renewed=99.0)
    assert renew(present, FIRST, "old", 101.0, guarded=False).armed
    assert not renew(present, replace(FIRST, arm=False), "old", 101.0, guarded=False).armed
    assert not renew(None, FIRST, "old", 101.0, guarded=False).armed
