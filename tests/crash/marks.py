"""The places that the sources mark with `reach`, read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

HYPER = Path(__file__).parents[2] / "src/garbi/hyper"
SHARED = ("main.py", "purge.py", "agent", "loops", "publishing", "store", "images/library.py")

FIRST_USE = "made or deleted once for all machines: tests/crash/test_first_use.py"
PULL = "needs a registry: tests/host/test_docker_images.py"
ELSEWHERE: Mapping[str, str] = {
    "agent.open.migrated": FIRST_USE,
    "agent.open.named": FIRST_USE,
    "agent.open.swept": FIRST_USE,
    "orphan.removed": "only where a record was lost; what is left is removed by the next call: tests/iaas/test_disappeared.py",
    "agent.open.adopted": "only where a database was lost: tests/data_loss/test_lost_agents.py",
    "purge.withdrawn": FIRST_USE,
    "purge.unpublished": FIRST_USE,
    "purge.emptied": FIRST_USE,
    "libvirt.network.defined": FIRST_USE,
    "libvirt.network.started": FIRST_USE,
    "libvirt.network.gone": FIRST_USE,
    "docker.prepare.send": FIRST_USE,
    "docker.prepare.sent": FIRST_USE,
    "libvirt.pool.defined": FIRST_USE,
    "libvirt.pool.built": FIRST_USE,
    "libvirt.pool.autostarts": FIRST_USE,
    "libvirt.pool.deleted": FIRST_USE,
    "store.migrate.written": "in a process of its own: tests/crash/test_sigkill.py",
    "docker.pull.fetch": PULL,
    "docker.pull.fetched": PULL,
    "docker.pull.tagged": PULL,
    "docker.pull.untagged": PULL,
    "audit.recorded": "what an audit found is found again by the next one: tests/observability",
    "machine.refusal.recorded": "a driver has to refuse a step: tests/crash/test_refused_steps.py",
    "libvirt.stop.resumed": "the agent resumes a machine before it asks it to end",
}
"""The places where another test kills, or that the agent never comes to."""


def marked_places(type_name: str) -> set[str]:
    """The names of the places in what every driver needs, and in that driver; a part that varies is a pattern."""
    return places_under(HYPER / name for name in (*SHARED, f"drivers/{type_name}"))


def places_under(roots: Iterable[Path]) -> set[str]:
    """The names of the places in these files, and in all files of these folders."""
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))]
    return {place for path in files for place in _places(ast.parse(path.read_text(encoding="utf-8")))}


def _places(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
            yield _pattern(node.args[0])


def _pattern(name: ast.expr) -> str:
    if isinstance(name, ast.JoinedStr):
        return "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[^.]+" for part in name.values
        )
    assert isinstance(name, ast.Constant)
    return str(name.value)
