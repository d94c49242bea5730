"""The mix of faults: those that the product is to bear now, and all that there are (`--mishaps all`)."""

from __future__ import annotations

ALL = (
    "step-fails-once",
    "step-fails-for-a-while",
    "step-fails-for-good",
    "slow-steps",
    "drain-and-undrain",
    "cut-between-nodes",
    "agent-away",
    "database-lost",
    "database-emptied",
    "database-older",
    "data-dir-cloned",
    "disk-slow",
    "disk-full",
    "disk-read-only",
    "disk-failing",
    "starved",
    "clock-rate",
    "pause-wished",
    "node-removed",
)
"""Every kind in `mishaps`."""

BORNE = (
    "step-fails-once",
    "step-fails-for-a-while",
    "step-fails-for-good",
    "slow-steps",
    "drain-and-undrain",
    "cut-between-nodes",
    "agent-away",
    "database-lost",
    "data-dir-cloned",
    "disk-slow",
    "disk-full",
    "disk-read-only",
    "disk-failing",
    "starved",
    "clock-rate",
    "node-removed",
)
"""Those for which nothing is known that would have to be mended: the regular runs have these."""

MENDED = (
    "start-that-is-refused-once",
    "creation-that-is-refused-once",
    "stop-that-is-refused-once",
    "drain-that-is-taken-back",
    "host-whose-database-was-lost",
    "host-whose-database-was-emptied",
    "host-with-a-copy-of-another",
    "host-that-begins-from-a-copy-of-another",
)
"""Scripts of `mishap_scripts` that do no harm any more."""


def chosen(words: str) -> tuple[str, ...]:
    """Kinds by their names, with commas between them; `all`, or `borne`."""
    return {"all": ALL, "borne": BORNE}.get(words, tuple(filter(None, words.split(","))))
