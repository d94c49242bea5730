"""A storm: what can happen to a cloud of real hosts happens in an order that a seed chooses, for as long as it is let.

`make storm` runs an hour of it: `python -m tests.cloud.storms --minutes 60 --seed 7`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import hosts
from .conftest import at_once
from .scene import NAMES, Scene, Turn, check, populate, take
from .turns import KINDS


def storm(seed: int, minutes: float) -> Iterator[tuple[Turn, str]]:
    """Turns for so many minutes: each kind once, in an order of its own, before one comes again."""
    chance = random.Random(seed)
    end = time.monotonic() + 60 * minutes
    while True:
        for turn in chance.sample(KINDS, len(KINDS)):
            if time.monotonic() >= end:
                return
            yield turn, chance.choice(NAMES)


def main() -> int:
    """Boot three hosts, and let it storm; the exit status is 1 when something was lost, doubled, orphaned or stuck."""
    parser = argparse.ArgumentParser(
        description="mix kills, refusals, drains and cuts on three real hosts in containers"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    print(f"storm: seed {chosen.seed}, {chosen.minutes:g} minutes", flush=True)
    image = hosts.packaged_image()
    with tempfile.TemporaryDirectory(prefix="garbi-storm-") as name:
        lab = hosts.Lab(Path(name))
        try:
            made = at_once(*[lambda: lab.add_host(image) for _ in NAMES])
            for host in made:
                host.wait_for("docker info >/dev/null && virsh -c qemu:///system uri")
            scene = Scene(lab, made, Path(name))
            try:
                populate(scene)
                take(scene, storm(chosen.seed, chosen.minutes))
                check(scene)
            except AssertionError as error:
                print(f"storm: seed {chosen.seed}: {error}", file=sys.stderr)
                return 1
            finally:
                scene.close()
        finally:
            lab.close()
    print(f"storm: seed {chosen.seed}: nothing was lost, doubled, orphaned or stuck")
    return 0


if __name__ == "__main__":
    sys.exit(main())
