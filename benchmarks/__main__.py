"""`make bench`: every figure in one run, as the table that stands in docs/benchmarks.md; ARGS="repair cloud" runs some groups."""

from __future__ import annotations

import compileall
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import garbi
from benchmarks import controllers, failover, footprint, repair
from benchmarks.bed import Bed
from benchmarks.cloud import Cloud
from benchmarks.cloud_bed import CloudBed
from benchmarks.containers import Containers
from benchmarks.pairs import Row, table
from benchmarks.uploads import Uploads
from benchmarks.virtual_machines import VirtualMachines
from garbi.hyper.images.tiny import build_tiny


def measure_hyper() -> list[Row]:
    """One agent: containers, virtual machines, what it costs."""
    with Bed() as bed:
        idle = bed.resident_mib()
        bed.hyper("images", "build", "tiny")
        rows = [*Containers(bed).rows(), *VirtualMachines(bed).rows()]
        return rows + footprint.rows(bed, idle, bed.resident_mib())


def measure_cloud() -> list[Row]:
    """A controller and two nodes."""
    with tempfile.TemporaryDirectory(prefix="garbi-bench-") as place, CloudBed(nodes=2) as cloud:
        return [*Cloud(cloud, build_tiny(Path(place))[1]).rows(), *Uploads(cloud).rows()]


GROUPS: Mapping[str, Callable[[], list[Row]]] = {
    "hyper": measure_hyper,
    "cloud": measure_cloud,
    "repair": repair.measure,
    "failover": failover.measure,
    "controllers": controllers.measure,
}
"""What can be measured alone, each on what it makes itself and removes."""


def main(names: Sequence[str]) -> int:
    """Measure the groups of these names (none: all), print the table; exit 1 when a target is missed."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"no group is called {unknown[0]!r}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    compileall.compile_dir(Path(garbi.__file__).parent, quiet=1)  # as an installed Garbi is
    rows = [row for name, measure in GROUPS.items() if not names or name in names for row in measure()]
    print(f"{_machine()}\n\n{table(rows)}")
    return 0 if all(row.met for row in rows) else 1


def _machine() -> str:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return f"{os.cpu_count()} processors, {gib:.0f} GiB, {kind}, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
