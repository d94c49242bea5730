"""One run of a simulated cloud, from an empty start to the last check: `python -m tests.simulation.runs --seed 7`."""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from tests.simulation.chaos import Chaos
from tests.simulation.checks import Checks, settled_s
from tests.simulation.cloud import Cloud
from tests.simulation.databases import prepare
from tests.simulation.mix import MENDED, chosen
from tests.simulation.nodes import PORT
from tests.simulation.paces import BRISK, Pace, constants
from tests.simulation.pairs import PAIR_SCRIPTS
from tests.simulation.patching import patch
from tests.simulation.scripts import Scene, find_scripts
from tests.simulation.user import User

from garbi.iaas.model.node import NodeSpec, NodeState

ALL_SCRIPTS = {**find_scripts(), **PAIR_SCRIPTS}

HOUR = 3600.0
LOOK_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated: how many nodes for how long, how often something is asked for, how often something breaks."""

    hours: float = 6.0
    nodes: int = 4
    user_pause_s: float = 120.0
    chaos_gap_s: float = 300.0
    kinds: tuple[str, ...] = ()
    pace: Pace = BRISK
    preempt: float = 0.05
    ways_in: bool = True
    """Whether there are SSH and a power program; without them only leases prove that a node is dead."""

    mishaps: tuple[str, ...] = ()
    """Kinds of faults beside the regular ones, by their names in `mishaps`."""

    script: str = ""
    """What happens, in place of users and of faults that a seed chooses: a name in `scripts`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run."""

    seed: int
    digest: str
    node_days: float
    switches: int
    messages: int
    faults: int
    asked: int
    moves: int
    starts: int
    violations: tuple[str, ...]
    recent: tuple[str, ...]
    cpu_s: float

    def words(self) -> str:
        """All of it on one line."""
        return (
            f"seed {self.seed}: {self.node_days:.2f} node-days, {self.faults} faults, {self.asked} requests, "
            f"{self.starts} starts, {self.moves} moves, {self.messages} messages, {self.switches} turns, "
            f"trace {self.digest}, {len(self.violations)} violations, {self.cpu_s:.1f} s"
        )


def simulate(seed: int, plan: Plan = Plan()) -> Outcome:
    """Simulate a cloud by a plan; the same seed and plan give the same trace."""
    with constants(plan.pace):
        return _simulate(seed, plan)


def _simulate(seed: int, plan: Plan) -> Outcome:
    began = time.process_time()
    with closing(seed, plan) as cloud:
        kernel = cloud.kernel
        user, chaos = User(cloud, plan.user_pause_s), Chaos(cloud, plan.chaos_gap_s, plan.kinds, plan.mishaps)
        chaos.on_pauses = user.take_to_pausing
        checks = Checks(cloud, user, chaos, grace_s=20 * plan.pace.unreachable_s)
        with watched(checks):
            begin_cloud(cloud)
            if plan.script:
                play(plan, cloud, user, chaos)
            else:
                rage(plan, cloud, user, chaos)
            end_cloud(cloud, user, chaos, checks)
        return Outcome(
            seed=seed,
            digest=kernel.digest(),
            node_days=kernel.now / 86400 * plan.nodes,
            switches=kernel.switches,
            messages=cloud.network.sent,
            faults=chaos.done,
            asked=user.asked,
            moves=checks.moves,
            starts=cloud.worlds.starts,
            violations=tuple(kernel.violations),
            recent=tuple(kernel.recent),
            cpu_s=time.process_time() - began,
        )


def rage(plan: Plan, cloud: Cloud, user: User, chaos: Chaos) -> None:
    """Let a user ask for things, and things break, for as long as the plan says."""
    kernel = cloud.kernel
    user.start()
    if plan.chaos_gap_s:
        chaos.start()
    kernel.run(kernel.now + plan.hours * HOUR, lambda: bool(kernel.violations))


def play(plan: Plan, cloud: Cloud, user: User, chaos: Chaos) -> None:
    """Let happen what a script tells."""
    kernel, over = cloud.kernel, list[str]()

    def act() -> None:
        ALL_SCRIPTS[plan.script](Scene(cloud, user, chaos))
        over.append(plan.script)

    cloud.nature.spawn("script", act)
    kernel.run(kernel.now + 24 * HOUR, lambda: bool(over or kernel.violations))
    if not over and not kernel.violations:
        kernel.violate(f"the script {plan.script} did not end")


def simulate_apart(seed: int, plan: Plan) -> Outcome:
    """The same in a process of its own: what it killed takes no memory afterwards."""
    prepare()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(simulate(seed, plan), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    if not content:
        raise RuntimeError(f"the run of seed {seed} ended without an outcome")
    outcome: Outcome = pickle.loads(content)
    return outcome


@contextmanager
def closing(seed: int, plan: Plan) -> Iterator[Cloud]:
    """A cloud whose files are in memory where that is possible, and gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="garbi-simulation-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    cloud = Cloud(seed, root, plan.nodes, plan.pace, plan.preempt, plan.ways_in)
    try:
        yield cloud
    finally:
        cloud.close()


@contextmanager
def watched(checks: Checks) -> Iterator[None]:
    """Let checks hear what the product logs."""
    log = logging.getLogger("garbi")
    log.addHandler(checks)
    propagated, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(checks)
        log.propagate = propagated


def begin_cloud(cloud: Cloud) -> None:
    """Start everything, and make the hosts nodes."""
    kernel = cloud.kernel
    for node in cloud.nodes.values():
        cloud.start_agent(node)
        cloud.start_watchdog(node)
    cloud.start_controller()
    kernel.run(kernel.now + 5)

    def add_nodes() -> None:
        for node in cloud.nodes.values():
            spec = NodeSpec(node.name, node.host.address, PORT, provision=False)
            cloud.ask(lambda controller, spec=spec, node=node: controller.nodes.add(spec, node.token))  # type: ignore[misc]

    cloud.nature.spawn("add-nodes", add_nodes)
    kernel.run(kernel.now + 30)
    assert cloud.controller is not None
    states = {node.name: node.state for node in cloud.controller.nodes.list()}
    if set(states.values()) != {NodeState.READY} or len(states) != len(cloud.nodes):
        kernel.violate(f"not all nodes are ready: {states}")


def end_cloud(cloud: Cloud, user: User, chaos: Chaos, checks: Checks) -> None:
    """Mend everything, wait until all has settled, and look at all of it."""
    kernel = cloud.kernel
    if kernel.violations:
        return
    over: list[str] = []
    bound_s = settled_s(cloud.pace)

    def last() -> None:
        user.leaving = True
        chaos.heal()
        deadline = kernel.now + bound_s
        while kernel.now < deadline:
            kernel.sleep(LOOK_S)
            why = "the user waits" if user.busy else checks.settled()
            if not why:
                break
        else:
            kernel.violate(f"I7 not settled {bound_s:.0f} s after all was mended: {why}")
            over.append("late")
            return
        kernel.sleep(2 * LOOK_S)
        checks.final()
        over.append("done")

    cloud.home.process("last").spawn("last", last)
    kernel.run(kernel.now + 2 * bound_s, lambda: bool(over or kernel.violations))
    if not over and not kernel.violations:
        kernel.violate("the last look did not end")


def main() -> int:
    """Run seeds from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gap", type=float, default=300.0)
    parser.add_argument("--pause", type=float, default=120.0)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--mishaps", default="")
    parser.add_argument("--script", default="", help="names of scripts, or `mended`: those that did harm once")
    parser.add_argument("--leases-only", action="store_true")
    parser.add_argument("--trace", type=int, default=60)
    given = parser.parse_args()
    patch()
    failed = 0
    scripts = MENDED if given.script == "mended" else tuple(given.script.split(","))
    plan = Plan(
        given.hours,
        given.nodes,
        given.pause,
        given.gap,
        tuple(filter(None, given.kinds.split(","))),
        ways_in=not given.leases_only,
        mishaps=chosen(given.mishaps),
    )
    for seed, script in product(range(given.seed, given.seed + given.runs), scripts):
        outcome = simulate_apart(seed, replace(plan, script=script))
        print(*filter(None, (script, outcome.words())), sep=": ", flush=True)
        if outcome.violations:
            failed += 1
            print(
                *(outcome.recent[-given.trace :] if given.trace else ()), *outcome.violations[:10], sep="\n", flush=True
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
