"""The controller that recovers from the death of another dies too: while it opens, then where it takes up what was begun.

Each place of the first death is followed by one of the opening and by one of what is taken up then, in turn, so that all of both
come round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import cycle

import pytest
from tests.iaas.clouds import Cloud, FakeHost
from tests.iaas.stages import LEAST, Stage

from garbi.base.failpoints import EXIT_CODE

MakeNodes = Callable[..., list[FakeHost]]

OPENING = (
    "controller.open.migrated", "controller.open.named", "leadership.lock.taken", "leadership.term.written",
    "leadership.term.recorded", "controller.open.swept", "leadership.gained",
)  # fmt: skip
"""What each controller passes while it opens."""


class Pairs:
    """The deaths of one operation, and those of the controllers that took it up."""

    def __init__(self, stage: Stage, route: list[str]) -> None:
        self.stage = stage
        self.route = route
        self.firsts: set[str] = set()
        self.seconds: Counter[str] = Counter()
        self.passed: dict[str, str] = {}
        """What controllers passed that took something up, their opening left out, and where the one before them had died."""
        self._openings = cycle(OPENING)

    def kill(self, place: str) -> None:
        """Kill the operation there, and those that take it up: one while it opens, one where few have died so far."""
        taken_up = self.kill_again(place, self._rarest(self.route[self.route.index(place) :]))
        if taken_up:  # not where it was expected, but it does take something up
            self.kill_again(place, self._rarest(taken_up))

    def missing(self, places: Iterable[str]) -> dict[str, str]:
        """Those of the places that were passed by who took something up, and where nobody has died: after which first death."""
        return {place: self.passed[place] for place in places if place in self.passed and not self.seconds[place]}

    def kill_again(self, place: str, then: str) -> list[str]:
        """What the last of them took up, when it came to rest and did not die at `then`."""
        stage = self.stage
        stage.prepare()
        first = stage.run(place)
        if place not in first.visited:  # several threads work, and did not come by there this time
            stage.check(first.answered)
            return []
        assert (first.code, first.visited[-1]) == (EXIT_CODE, place)
        self.firsts.add(place)
        opening = next(self._openings)
        second = stage.run(opening, recover=True)
        assert (second.code, second.visited[-1]) == (EXIT_CODE, opening)
        third = stage.run(then, recover=True)
        died = third.code == EXIT_CODE
        assert (third.visited[-1] == then) if died else (third.code == 0 and then not in third.visited), third
        stage.check(first.answered)
        found = [name for name in dict.fromkeys(third.visited) if name not in OPENING]
        self.passed |= dict.fromkeys(found, place)
        self.seconds[then] += died
        return [] if died else found

    def _rarest(self, places: Iterable[str]) -> str:
        return min(places, key=lambda place: self.seconds[place])


@pytest.mark.parametrize("operation", LEAST)
def test_a_recovery_that_is_killed_is_taken_up_by_the_next_controller(
    cloud: Cloud, fake_nodes: MakeNodes, operation: str
) -> None:
    fake_nodes(2)
    stage = Stage(cloud, operation)
    stage.prepare()
    undisturbed = stage.run("")
    assert undisturbed.code == 0
    stage.check(answered=True)
    pairs = Pairs(stage, [*dict.fromkeys(undisturbed.visited)])
    for place in pairs.route:
        pairs.kill(place)
    assert LEAST[operation] <= pairs.firsts
    for then, place in pairs.missing(sorted(LEAST[operation])).items():
        pairs.kill_again(place, then)
    assert pairs.missing(LEAST[operation]) == {}
    print(f"{operation}: killed at {len(pairs.firsts)} places, then at {dict(+pairs.seconds)}")
