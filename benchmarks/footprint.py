"""What it costs to have Garbi there: the start of a command, the memory of the agent."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.bed import Bed, run
from benchmarks.pairs import Row, in_pairs, seconds

LIST_PAIRS = 31


def rows(bed: Bed, idle_mib: float, used_mib: float) -> list[Row]:
    """The cost of `hyper list`, of an agent that has done nothing yet, and of one that has used every driver."""
    system_python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    ours, bare = in_pairs(
        lambda: seconds(lambda: bed.hyper("list")),
        lambda: seconds(lambda: run([system_python, "-c", "pass"])),
        LIST_PAIRS,
    )
    median = sorted(ours)[len(ours) // 2]
    ratio = median / sorted(bare)[len(bare) // 2]
    return [
        Row(
            "`hyper list` as a process, `python3 -c pass`",
            f"{median * 1000:.0f} ms",
            f"{sorted(bare)[len(bare) // 2] * 1000:.0f} ms",
            ratio,
            "≤ 250 ms and ≤ 8 ×",
            median <= 0.25 and ratio <= 8,
        ),
        Row("agent: resident memory after start", f"{idle_mib:.0f} MiB", "", None, "≤ 80 MiB", idle_mib <= 80),
        Row(
            "agent: the same at idle, once both drivers were used",
            f"{used_mib:.0f} MiB",
            "",
            None,
            "≤ 80 MiB",
            used_mib <= 80,
        ),
    ]
