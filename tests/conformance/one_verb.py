"""One verb of one driver in a process of its own, which the suite kills on the way: reads what to do from standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.conformance.bench import Bench
from tests.conformance.subjects import make_subject


def main() -> None:
    """Do `verb` to the machine `machine_id` with the subject, work directory, cluster and data directory that are given."""
    request = json.load(sys.stdin)
    subject = make_subject(request["subject"], Path(request["work_dir"]))
    bench = Bench(subject, Path(request["work_dir"]), request["cluster_id"], Path(request["data_dir"]))
    driver = bench.driver()
    if request["verb"] == "add":
        bench.add(driver, request["machine_id"])
    else:
        getattr(driver, request["verb"])(request["machine_id"])
    driver.close()


if __name__ == "__main__":
    main()
