"""Measures in pairs: ours, theirs, ours, theirs, …, so that a machine that grows slower slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: medians of ours and theirs, the ratio, and what it should be."""

    what: str
    ours: str
    theirs: str
    ratio: float | None
    target: str
    met: bool


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes, in seconds."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def in_pairs(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """The figures of each, taken in turn, after one of each that does not count."""
    ours(), theirs()
    mine: list[float] = []
    other: list[float] = []
    for _ in range(pairs):
        mine.append(ours())
        other.append(theirs())
    return mine, other


def compare_times(what: str, ours: list[float], theirs: list[float], most: float | None = None) -> Row:
    """A row for durations: the median of the ratios of the pairs must not pass `most`, where a target is set."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Row(what, _ms(ours), _ms(theirs), ratio, f"≤ {most} ×" if most else "", most is None or ratio <= most)


def compare_rates(what: str, ours: list[float], theirs: list[float], least: float) -> Row:
    """A row for rates per second: the median of the ratios of the pairs must reach `least`."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Row(what, _rate(ours), _rate(theirs), ratio, f"≥ {least} ×", ratio >= least)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | Garbi | bare tool | ratio | target | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.what} | {row.ours} | {row.theirs} | {ratio} | {row.target} | {_met(row)} |")
    return "\n".join(lines)


def _met(row: Row) -> str:
    if not row.target:
        return ""
    return "yes" if row.met else "**no**"


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.0f} ms ({min(values) * 1000:.0f}–{max(values) * 1000:.0f})"


def _rate(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}/s ({min(values):.1f}–{max(values):.1f})"
