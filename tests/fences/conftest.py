"""Power programs written for one test, each call of them noted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[[str], "PowerProgram"]


class PowerProgram:
    """A shell script as the power program; `calls` are the arguments of each run."""

    def __init__(self, directory: Path, script: str) -> None:
        self.path, self.log = directory / "power", directory / "calls"
        self.path.write_text(f'#!/bin/sh\nhere={directory}\necho "$*" >>$here/calls\n{script}\n')
        self.path.chmod(0o700)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write the program: `$1` is the verb, `$here` a directory of its own."""
    return lambda script: PowerProgram(tmp_path, script)
