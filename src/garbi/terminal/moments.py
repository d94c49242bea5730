"""Moments in words: how long ago something was, for people."""

from __future__ import annotations

from datetime import UTC, datetime

from garbi.terminal.output import Document, on_terminal, plain

NEVER = "never"


def seen_text(document: Document) -> str:
    """How long ago a node or a machine was last heard of; in a pipe, when."""
    seen = plain(document.get("seen_at"))
    if not seen:
        return NEVER
    return ago_text(seen) if on_terminal() else seen


def ago_text(moment: str) -> str:
    """How long ago a moment of an answer was, by the clock of this host; the moment itself when it cannot be read."""
    try:
        passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return moment
    return f"{age_text(passed)} ago"


def age_text(seconds: float) -> str:
    """A time that has passed, for people."""
    number = max(0, round(seconds))
    for unit, size in (("s", 60), ("min", 60), ("h", 48)):
        if number < size:
            return f"{number} {unit}"
        number //= size if unit != "h" else 24
    return f"{number} d"


def with_ages(document: Document) -> Document:
    """A node or a machine for `show`: beside when it was last heard of stands how long ago that was."""
    seen = plain(document.get("seen_at"))
    shown = {**document, "seen_at": f"{seen} ({ago_text(seen)})" if seen else NEVER}
    if plain(document.get("state")) == "unknown":
        shown["state"] = f"unknown (last heard of {ago_text(seen)})" if seen else "unknown (never heard of)"
    return shown


def clock_text(moment: str) -> str:
    """A moment of an answer as the clock of this host shows it, with the day when that is not today."""
    try:
        local = datetime.fromisoformat(moment).astimezone()
    except (ValueError, TypeError, OverflowError):
        return moment
    same_day = local.date() == datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M:%S}" if same_day else f"{local:%Y-%m-%d %H:%M:%S}"
