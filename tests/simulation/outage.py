"""The controller is down for a day and comes back: no machine ends, none is started, none is moved."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from tests.simulation.chaos import Chaos
from tests.simulation.checks import Checks
from tests.simulation.paces import LEISURELY, constants
from tests.simulation.patching import patch
from tests.simulation.runs import HOUR, Plan, begin_cloud, closing, end_cloud, watched
from tests.simulation.user import User

DAY_S = 24 * HOUR
PLAN = Plan(
    nodes=6, user_pause_s=60.0, chaos_gap_s=0.0, pace=replace(LEISURELY, check_s=15.0, unreachable_s=60.0, ttl_s=180.0)
)


def simulate_outage(seed: int) -> list[str]:
    """What must not be, and was."""
    with constants(PLAN.pace), closing(seed, PLAN) as cloud:
        kernel = cloud.kernel
        user, chaos = User(cloud, PLAN.user_pause_s), Chaos(cloud, PLAN.chaos_gap_s)
        checks = Checks(cloud, user, chaos, grace_s=0.0)
        with watched(checks):
            begin_cloud(cloud)
            user.start()
            kernel.run(kernel.now + HOUR)
            user.leaving = True
            kernel.run(kernel.now + HOUR)
            before = cloud.worlds.starts, cloud.worlds.ends, checks.moves
            cloud.kill_controller()
            kernel.run(kernel.now + DAY_S)
            cloud.start_controller()
            kernel.run(kernel.now + HOUR)
            after = cloud.worlds.starts, cloud.worlds.ends, checks.moves
            if before != after:
                kernel.violate(
                    f"starts, ends and moves were {before}, and are {after} after a day without a controller"
                )
            end_cloud(cloud, user, chaos, checks)
        print(
            f"seed {seed}: {before[0]} starts, {before[1]} ends, {before[2]} moves, then a day without a controller: {after}"
        )
        return kernel.violations


def main() -> int:
    """Simulate one such day."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    patch()
    violations = simulate_outage(given.seed)
    print("\n".join(violations))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
