"""`iaas node what-if`: three tables that fit a terminal, the same for programs, and an error for a node that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pexpect
import pytest
from pydantic import TypeAdapter

from garbi.iaas_api.placement import WhatIf

from .conftest import IAAS, LIMIT_S, Run, Stranger, environment_of, read_all

PATH = "GET /iaas/nodes/n1/what-if"


@pytest.fixture
def foretold() -> dict[str, Any]:
    """The example of the contract, with reasons as long as they may be."""
    (document,) = TypeAdapter(WhatIf).json_schema()["examples"]
    assert isinstance(document, dict)
    document["machines"][0]["id"] = "a-machine-with-a-rather-long-name-0123456789"
    document["machines"][1]["why"] = f"it failed by itself: {'long words ' * 18}"
    return document


def test_it_is_told_in_tables_and_for_programs(stranger: Stranger, iaas: Run, foretold: dict[str, Any]) -> None:
    stranger.tell(PATH, (200, foretold))
    done = iaas("node", "what-if", "n1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "MACHINE\tFATE\tTO\tWHY"
    assert lines[3:] == [
        "big\tfits-nowhere\t-\tmemory on 1 node",
        "",
        "MACHINE\tNODE\tWHY NOT THERE",
        "big\tn2\tmemory: 2048 MiB asked for, 512 of 4096 MiB free",
        "",
        "FENCE\tAPPLIES\tCOVERS\tWITHIN\tWHY NOT",
        "power\tno\t-\t-\tno power program is set (GARBI_IAAS_POWER_COMMAND)",
        "lease\tyes\trecreatable\t66 s\t-",
    ]
    assert done.stderr == f"iaas: if n1 died now: {foretold['summary']}\n"
    assert json.loads(iaas("node", "what-if", "n1", "-o", "json").stdout) == foretold
    assert "within_s: 66.0" in iaas("node", "what-if", "n1", "-o", "yaml").stdout
    assert {each.method for each in stranger.asked} == {"GET"}
    nobody = {"code": "not-found", "title": "Not found", "detail": "no node is called 'nobody'", "status": 404}
    stranger.tell("GET /iaas/nodes/nobody/what-if", (404, nobody))
    refused = iaas("node", "what-if", "nobody")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "iaas: no node is called 'nobody'\n")


def test_the_tables_fit_a_terminal(stranger: Stranger, tmp_path: Path, foretold: dict[str, Any]) -> None:
    stranger.tell(PATH, (200, foretold))
    child = pexpect.spawn(
        IAAS[0],
        [*IAAS[1:], "node", "what-if", "n1"],
        env=environment_of(tmp_path, stranger.url),
        timeout=LIMIT_S,
        encoding="utf-8",
        dimensions=(40, 80),
        use_poll=True,
    )
    *shown, last = read_all(child).splitlines()
    assert child.exitstatus == 0
    assert last.startswith("iaas: if n1 died now: ")
    assert max(len(line) for line in shown) <= 80
    assert [line.split()[0] for line in shown if line.split() and line.split()[0] in ("MACHINE", "FENCE")] == [
        "MACHINE", "MACHINE", "FENCE",
    ]  # fmt: skip
