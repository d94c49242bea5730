"""Simulations in processes of their own, for the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 3000


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Simulate in a process whose hashes are the same each time."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.simulation.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
