"""`python -m tests.leases.other_home serve …`: a controller as on another host than the nodes of a test."""

from __future__ import annotations

import sys

from garbi.iaas import main
from garbi.iaas.cli import main as run

if __name__ == "__main__":
    main.boot_id = lambda: "another-host"
    sys.exit(run())
