"""Whoever listens where the controller should: a command may be told anything, must print it harmless, and must not break."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, Stranger
from .documents import image, machine, node, operation

HOSTILE = "a\x1b]0;title\x07\x1b[2J\u202e\r\x9b1m\u2028\n{{7919*7919}}"
PROBLEM = {
    "code": HOSTILE, "title": HOSTILE, "detail": HOSTILE, "errors": [{"detail": HOSTILE}], "field": HOSTILE,
    "task": HOSTILE, "host": HOSTILE, "words": HOSTILE, "verdicts": [{"node": HOSTILE, "reason": HOSTILE}, 7],
}  # fmt: skip


def poisoned(document: dict[str, Any], **kept: Any) -> dict[str, Any]:
    """The document with something hostile in every field but those that are kept."""
    bad = dict.fromkeys(document, HOSTILE)
    return bad | {"ports": [dict.fromkeys(("node_port", "machine_port", "protocol"), HOSTILE)], HOSTILE: HOSTILE} | kept


MACHINE = poisoned(machine(), settled=True, labels={HOSTILE: HOSTILE})
NODE = poisoned(
    node(), use={"mem": HOSTILE}, limit={"mem": HOSTILE}, drivers=[{"name": HOSTILE, "available": True}, HOSTILE]
)
VERDICT = dict.fromkeys(("node", "fits", "filter", "reason", "score"), HOSTILE)
COMMANDS: dict[str, tuple[str, str, int, Any]] = {
    "machines": ("vm ls", "GET /iaas/machines", 200, [MACHINE]),
    "ids": ("vm ls -q", "GET /iaas/machines", 200, [MACHINE]),
    "yaml": ("vm ls -o yaml", "GET /iaas/machines", 200, [MACHINE]),
    "json": ("vm ls -o json", "GET /iaas/machines", 200, [MACHINE]),
    "machine": ("vm show web", "GET /iaas/machines/web", 200, MACHINE),
    "start": ("vm start web", "PUT /iaas/machines/web", 200, MACHINE),
    "added": ("vm add tiny", "POST /iaas/machines", 201, MACHINE),
    "many": ("vm add tiny --count 2", "POST /iaas/machines", 201, MACHINE),
    "explained": (
        "vm add tiny --explain",
        "POST /iaas/machines/explain",
        200,
        {"chosen": HOSTILE, "summary": HOSTILE, "verdicts": [VERDICT, HOSTILE]},
    ),
    "nothing fits": ("vm add tiny", "POST /iaas/machines", 409, {**PROBLEM, "code": "nothing-fits", "errors": 5}),
    "log": ("vm log web", "GET /iaas/machines/web/log", 200, HOSTILE.encode()),
    "nodes": ("node ls", "GET /iaas/nodes", 200, [NODE]),
    "node": ("node show n1", "GET /iaas/nodes/n1", 200, NODE),
    "undrain": ("node undrain n1", "PUT /iaas/nodes/n1", 200, NODE),
    "images": ("img ls", "GET /iaas/images", 200, [poisoned(image())]),
    "audit": ("audit", "GET /iaas/audit", 200, [dict.fromkeys(("invariant", "subject", "detail"), HOSTILE)]),
    "events": ("events", "GET /iaas/events", 200, f"data: {json.dumps({'seq': HOSTILE, 'id': HOSTILE})}\n\n".encode()),
    "refusal": ("vm start web", "PUT /iaas/machines/web", 409, PROBLEM),
    "several": ("vm show web", "GET /iaas/machines/web", 422, {**PROBLEM, "code": "invalid-field"}),
}


def assert_harmless(said: str) -> None:
    assert "Traceback" not in said
    assert said
    hidden = ("Cc", "Cf", "Zl", "Zp")
    assert [char for char in said if unicodedata.category(char) in hidden and char not in "\n\t"] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_that_a_server_says_moves_the_cursor(stranger: Stranger, iaas: Run, name: str) -> None:
    command, request, status, document = COMMANDS[name]
    stranger.tell(request, (status, document))
    done = iaas(*command.split())
    assert_harmless(done.stdout + done.stderr)


def test_the_words_of_a_host_that_failed_move_no_cursor(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/nodes", (202, node(operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="failed", message=HOSTILE, error=PROBLEM)))
    done = iaas("node", "add", "n1", "10.0.0.5:8081")
    assert done.returncode == 1
    assert_harmless(done.stderr)


def test_a_host_that_failed_with_a_flood_of_words_is_told_of_in_a_few(stranger: Stranger, iaas: Run) -> None:
    error = {"code": "provisioning-failed", "detail": "no", "task": "t", "host": "h", "words": "line\n" * 10_000}
    stranger.tell("POST /iaas/nodes", (202, node(operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="failed", error=error)))
    done = iaas("node", "add", "n1", "10.0.0.5:8081")
    assert "9980 lines before" in done.stderr
    assert len(done.stderr.splitlines()) < 40


NOT_OURS: dict[str, tuple[int, Any]] = {
    "a page": (200, b"<html>It works!</html>"),
    "nothing": (200, b""),
    "an empty document": (200, {}),
    "a number": (200, 7),
    "null": (200, None),
    "a list of numbers": (200, [7]),
    "a list of empty documents": (200, [{}]),
    "documents of nothing": (200, [{"id": None, "name": None, "ports": None, "drivers": None, "use": 3, "limit": []}]),
    "a deep nest": (200, b"[" * 100_000),
    "no UTF-8": (200, b'["\xff\xfe"]'),
    "an error without words": (500, {}),
    "an error that is a page": (502, b"<html>Bad gateway</html>"),
    "an error that is a list": (500, [1]),
    "a redirection": (302, b""),
}
ASKED = (
    "vm ls", "vm ls -q", "vm show x", "vm add tiny", "vm add tiny --count 2", "vm add tiny --explain", "vm stop x", "vm rm x",
    "vm stats", "node ls", "node show n1", "node add n1 10.0.0.5:8081", "node drain n1", "node rm n1", "node undrain n1",
    "img ls", "img ls -q", "img rm x", "audit", "events",
)  # fmt: skip


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_server_that_is_not_ours_breaks_no_command(stranger: Stranger, iaas: Run, name: str) -> None:
    stranger.fallback = NOT_OURS[name]
    for command in ASKED:
        done = iaas(*command.split())
        assert done.returncode in (0, 1, 3), command
        assert done.returncode == 0 or done.stdout + done.stderr, command


@pytest.mark.parametrize("name", ["a page", "an empty document", "a list of empty documents"])
def test_an_image_is_not_taken_for_sent_by_a_server_that_is_not_ours(
    stranger: Stranger, iaas: Run, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"content")
    stranger.fallback = NOT_OURS[name]
    done = iaas("img", "add", "disk", str(file))
    assert done.returncode in (1, 3)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_names_that_are_paths_or_options_reach_no_other_place(stranger: Stranger, iaas: Run) -> None:
    for name in ("../machines", "..", "a/b", "%2e%2e", "a?b", "a#b", "a b", "$(id)", "{{7*7}}", "a\nb"):
        for command in (["vm", "show"], ["node", "show"], ["img", "rm"]):
            done = iaas(*command, name)
            assert done.returncode == 1, name
    targets = {each.target for each in stranger.asked}
    assert all(target.count("/") == 3 and "?" not in target and "#" not in target for target in targets)
