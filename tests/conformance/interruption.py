"""Stops a verb at the places that the driver marks with `reach`: by a crash, by a failure, or by the death of the process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garbi.base import failpoints
from garbi.base.errors import DriverFailed

ROOT = Path(__file__).parents[2]


class CrashError(BaseException):
    """The process would be gone here: nothing may catch it, nothing may undo because of it."""


def crash() -> None:
    """Stop the verb as the end of the process would."""
    raise CrashError


def fail() -> None:
    """Stop the verb as a refusal of its daemon would."""
    raise DriverFailed("the suite lets this step fail")


@contextlib.contextmanager
def visits(visit: Callable[[str], None]) -> Iterator[None]:
    """Inside, `visit` is called with the name of each place that this thread reaches."""
    me = threading.get_ident()

    def mine_only(name: str) -> None:
        if threading.get_ident() == me:
            visit(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "_target", "(the conformance suite)")
        patch.setattr(failpoints, "_visit", mine_only)
        yield


def places(verb: Callable[[], object]) -> list[str]:
    """Run the verb; return the places that it passed, each as NAME or, from the second visit on, NAME@N."""
    passed: list[str] = []
    with visits(passed.append):
        verb()
    return [_numbered(name, passed[: index + 1].count(name)) for index, name in enumerate(passed)]


def stopped_at(place: str, verb: Callable[[], object], stop: Callable[[], None]) -> None:
    """Run the verb, and `stop` at that place; an error that comes out of the verb is passed on."""
    counts: dict[str, int] = {}

    def visit(name: str) -> None:
        counts[name] = counts.get(name, 0) + 1
        if _numbered(name, counts[name]) == place:
            stop()

    with visits(visit):
        verb()


def die_in_child(place: str, request: dict[str, str]) -> int:
    """Run one verb in a process of its own that dies at that place; return its exit code. See one_verb for the request."""
    environment = os.environ | {"GARBI_CRASH_AT": place, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    child = subprocess.run(
        [sys.executable, "-m", "tests.conformance.one_verb"],
        input=json.dumps(request),
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    return child.returncode


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}@{count}"
