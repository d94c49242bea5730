"""Faults that are planted in our own code, to see that the simulation finds them: `python -m tests.simulation.planted NAME`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.simulation.patching import patch
from tests.simulation.runs import Outcome, Plan, simulate_apart


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what is wrong with it, where, and the seeds by which it was found."""

    name: str
    words: str
    places: tuple[tuple[str, Callable[[Any], Any]], ...]
    """Attributes by their whole path, and what becomes of what is there."""

    seeds: tuple[int, ...] = (1, 2, 3)
    plan: Plan = Plan(hours=3.0, chaos_gap_s=200.0)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Have the fault in the product's code, and take it out again."""
    undo: list[tuple[Any, str, Any]] = []
    try:
        for path, change in fault.places:
            owner, name = _owner(path)
            before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
            undo.append((owner, name, before))
            setattr(owner, name, change(getattr(owner, name)))
        yield
    finally:
        for owner, name, before in reversed(undo):
            setattr(owner, name, before)


def harmless(script: str, plan: Plan) -> bool:
    """Whether a script does no harm where nothing is planted: else it finds whatever is."""
    outcome = simulate_apart(1, plan)
    print(f"{script}, nothing planted: {', '.join(outcome.violations) or 'nothing found'}", flush=True)
    return not outcome.violations


def hunt(fault: Fault) -> tuple[Outcome | None, int]:
    """The first run that finds the fault, and how many runs that took; None when none does."""
    for number, seed in enumerate(fault.seeds, 1):
        with planted(fault):
            outcome = simulate_apart(seed, fault.plan)
        if outcome.violations:
            return outcome, number
    return None, len(fault.seeds)


def find_faults() -> tuple[Fault, ...]:
    """Every fault there is: those of each module here whose name ends with `faults`, in its constants named so."""
    found: list[Fault] = []
    for path in sorted(Path(__file__).parent.glob("*faults.py")):
        module = importlib.import_module(f"tests.simulation.{path.stem}")
        for name, value in vars(module).items():
            if name.endswith("FAULTS"):
                found += [each for each in value if each not in found]
    return tuple(found)


def _owner(path: str) -> tuple[Any, str]:
    """What has the attribute of that path: a module or a class in one."""
    *parts, name = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            owner = getattr(owner, part)
        return owner, name
    raise LookupError(path)


def constant(value: Any) -> Callable[[Any], Any]:
    """Put a function there that always answers that."""
    return lambda _real: lambda *_args, **_options: value


def main() -> int:
    """Hunt for the faults of the given names, or for all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=0, help="so many seeds in place of those that are recorded")
    parser.add_argument("--list", action="store_true", help="their names, and nothing more")
    given = parser.parse_args()
    if given.list:
        print(*(fault.name for fault in find_faults()), sep="\n")
        return 0
    patch()
    chosen = [fault for fault in find_faults() if not given.names or fault.name in given.names]
    scripts = {fault.plan.script: fault.plan for fault in chosen if fault.plan.script}
    missed = sum(not harmless(script, plan) for script, plan in scripts.items())
    for fault in chosen:
        hunted = fault if not given.seeds else replace(fault, seeds=tuple(range(1, given.seeds + 1)))
        outcome, runs = hunt(hunted)
        if outcome is None:
            missed += 1
            print(f"MISSED {fault.name}: {fault.words}; {runs} runs", flush=True)
        else:
            first = outcome.violations[0].partition("\n")[0]
            print(
                f"found {fault.name} by seed {outcome.seed} in {runs} runs, {outcome.cpu_s:.1f} s: {first}", flush=True
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
