"""What machines may reserve of a host, all together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capacity:
    """The limits of a host: memory in MiB, processors (already multiplied by the over-commit ratio)."""

    mem: int
    cpus: int
    cpus_per_machine: int
