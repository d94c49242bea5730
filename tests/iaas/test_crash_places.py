"""Every place that the controller's sources mark is one where a test kills a controller, or it is said here why none does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.crash.marks import places_under
from tests.iaas import stages, test_crash_pairs, test_failover_crashes, test_tombstones
from tests.iaas_images import test_image_store
from tests.iaas_store import test_crashes as test_store_crashes
from tests.leadership import test_gaining

IAAS = Path(__file__).parents[2] / "src/garbi/iaas"

KILLED = frozenset(
    {
        *(place for places in stages.LEAST.values() for place in places),
        *test_crash_pairs.OPENING,
        *test_gaining.PLACES,
        *test_failover_crashes.FALLING,
        *test_failover_crashes.RETURNING,
        *test_failover_crashes.UNPROVEN,
        *test_failover_crashes.RECORDS,
        test_failover_crashes.RENEWED,
        *test_tombstones.TOLD,
        *(place for _, places in test_store_crashes.DEEDS.values() for place in places),
        *(place.partition("@")[0] for _, place in test_image_store.STEPS),
    }
)
"""What the tests that kill say of themselves; each of them fails when it does not come by there."""

ELSEWHERE: Mapping[str, str] = {
    "leadership.lost": "another leads by then, whatever becomes of this one: tests/leadership kills leaders at any time",
    "audit.recorded": "what an audit found is found again by the next one: tests/observability",
}
"""The places where nobody is killed, and why."""


def test_a_controller_is_killed_at_every_place_that_the_sources_mark() -> None:
    marked = places_under([IAAS]) - ELSEWHERE.keys()
    assert {place for place in marked if not any(re.fullmatch(place, name) for name in KILLED)} == set()


def test_no_place_where_a_controller_is_killed_is_gone_from_the_sources() -> None:
    marked = places_under([IAAS])
    assert {name for name in KILLED if not any(re.fullmatch(place, name) for place in marked)} == set()
    assert ELSEWHERE.keys() <= marked
