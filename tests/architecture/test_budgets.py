"""Sizes that keep the tail short. An exception is a line in EXCEPTIONS, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .sources import name_of, python_files, text, tree

MODULE_LINES = 400
FUNCTION_LINES = 50
PUBLIC_METHODS = 12
PROTOCOL_METHODS = 10
FOLDERS = ("src", "tests", "benchmarks", "scripts")
OWNERLESS = {"utils", "util", "common", "helpers", "helper", "misc"}

EXCEPTIONS: dict[str, str] = {
    "src/garbi/hyper/store/migrations/versions/0001_first.py:upgrade": "one table after the other, with nothing to decide",
}
"""What is over its budget, as the message names it ("src/garbi/x.py" or "src/garbi/x.py:Class.method"): the reason."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_module_function_class_or_protocol_is_over_its_budget() -> None:
    over = {where: what for where, what in _over_budget() if where not in EXCEPTIONS}
    assert not over


def test_every_exception_from_a_budget_is_still_needed() -> None:
    assert set(EXCEPTIONS) <= {where for where, _ in _over_budget()}


def test_no_module_has_a_name_that_owns_nothing() -> None:
    nameless = [name_of(path) for path in python_files(*FOLDERS) if OWNERLESS & {path.stem, path.parent.name}]
    assert not nameless


def _over_budget() -> Iterator[tuple[str, str]]:
    for path in python_files(*FOLDERS):
        lines = sum(1 for line in text(path).splitlines() if line.strip())
        if lines > MODULE_LINES:
            yield name_of(path), f"{lines} lines, not blank, of {MODULE_LINES}"
        yield from _over_budget_inside(name_of(path), tree(path))


def _over_budget_inside(prefix: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    separator = "." if ":" in prefix else ":"
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.ClassDef):
            yield from _over_budget_inside(prefix, child)
            continue
        where = prefix + separator + child.name
        yield from _size(where, child)
        yield from _over_budget_inside(where, child)


def _size(where: str, node: Function | ast.ClassDef) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ClassDef):
        budget = PROTOCOL_METHODS if _is_protocol(node) else PUBLIC_METHODS
        public = [item.name for item in node.body if isinstance(item, Function) and not item.name.startswith("_")]
        if len(public) > budget:
            yield where, f"{len(public)} public methods of {budget}"
    else:
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield where, f"{lines} lines of {FUNCTION_LINES}"


def _is_protocol(node: ast.ClassDef) -> bool:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return any(getattr(base, "id", getattr(base, "attr", "")) == "Protocol" for base in bases)
