"""What `make test` simulates, and `make soak` for longer: `python -m tests.simulation.check --node-days 200`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from tests.simulation.mix import chosen
from tests.simulation.paces import BRISK, DEFAULTS, LEISURELY
from tests.simulation.patching import patch
from tests.simulation.runs import Outcome, Plan, simulate_apart

STORM = Plan(hours=2.0, nodes=4, user_pause_s=120.0, chaos_gap_s=200.0, pace=BRISK)
LEASES = replace(STORM, nodes=5, ways_in=False)
"""Only leases prove that a node is dead."""

DEFAULT = Plan(hours=0.5, nodes=4, user_pause_s=60.0, chaos_gap_s=120.0, pace=DEFAULTS)
"""The periods of the product, as they are set where nobody sets them."""

WEEK = Plan(hours=96.0, nodes=6, user_pause_s=3600.0, chaos_gap_s=4 * 3600.0, pace=LEISURELY, preempt=0.02)
"""Many days in which little happens."""

SOAK = (STORM, LEASES, DEFAULT)


@dataclass(slots=True)
class Sum:
    """What was simulated so far."""

    runs: int = 0
    node_days: float = 0.0
    faults: int = 0
    moves: int = 0
    cpu_s: float = 0.0
    violated: int = 0

    def take(self, outcome: Outcome) -> None:
        """Count a run."""
        self.runs += 1
        self.node_days += outcome.node_days
        self.faults += outcome.faults
        self.moves += outcome.moves
        self.cpu_s += outcome.cpu_s
        self.violated += bool(outcome.violations)

    def words(self) -> str:
        """All of it on one line."""
        return (
            f"{self.node_days:.1f} node-days in {self.runs} runs, {self.faults} faults, {self.moves} moves, "
            f"{self.violated} runs with violations, {self.cpu_s:.0f} s"
        )


def regular(node_days: float, seed: int) -> Iterator[tuple[int, Plan]]:
    """The runs of `make test`: some storms, then calm weeks until there are enough days."""
    for plan in (STORM, LEASES, STORM, LEASES, DEFAULT):
        yield seed, plan
        seed += 1
    for number in count(seed):
        yield number, WEEK


def endless(seed: int) -> Iterator[tuple[int, Plan]]:
    """The runs of `make soak`: storms, one after the other."""
    for number in count(seed):
        yield number, SOAK[number % len(SOAK)]


def main() -> int:
    """Simulate until there are enough node-days, or until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node-days", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--mishaps", default="borne", help="kinds of faults beside the regular ones: borne, all, or names"
    )
    parser.add_argument(
        "--words", action="store_true", help="say what was violated, and nothing of how it came to that"
    )
    given = parser.parse_args()
    patch()
    total, began = Sum(), time.monotonic()
    runs = regular(given.node_days, given.seed) if given.node_days else endless(given.seed)
    for seed, plan in runs:
        outcome = simulate_apart(seed, replace(plan, mishaps=chosen(given.mishaps)))
        total.take(outcome)
        print(outcome.words(), flush=True)
        if outcome.violations:
            print(*(() if given.words else outcome.recent[-80:]), *outcome.violations, plan, sep="\n", flush=True)
        if given.node_days and total.node_days >= given.node_days:
            break
        if given.minutes and time.monotonic() - began >= given.minutes * 60:
            break
    print(total.words(), flush=True)
    return 1 if total.violated else 0


if __name__ == "__main__":
    sys.exit(main())
