"""`make bench`: every figure in one run, as the table that stands in docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import footprint
from benchmarks.bed import Bed
from benchmarks.cloud import Cloud
from benchmarks.cloud_bed import CloudBed
from benchmarks.containers import Containers
from benchmarks.pairs import Row, table
from benchmarks.uploads import Uploads
from benchmarks.virtual_machines import VirtualMachines
from garbi.hyper.images.tiny import build_tiny


def main() -> int:
    """Measure, print the table; exit 1 when a target is missed."""
    rows: list[Row] = []
    with Bed() as bed:
        idle = bed.resident_mib()
        bed.hyper("images", "build", "tiny")
        rows += Containers(bed).rows()
        rows += VirtualMachines(bed).rows()
        rows += footprint.rows(bed, idle, bed.resident_mib())
    with tempfile.TemporaryDirectory(prefix="garbi-bench-") as place, CloudBed(nodes=2) as cloud:
        rows += Cloud(cloud, build_tiny(Path(place))[1]).rows()
        rows += Uploads(cloud).rows()
    print(f"{_machine()}\n\n{table(rows)}")
    return 0 if all(row.met for row in rows) else 1


def _machine() -> str:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return f"{os.cpu_count()} processors, {gib:.0f} GiB, {kind}, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
