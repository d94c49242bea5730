"""What must not be in the sources at all: each rule is a class of accidents that happened to others."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sources import ROOT, name_of, project_files, python_files, text, tree

CODE = ("src", "tests", "benchmarks", "scripts")
LOCKS = ("requirements.txt", "requirements-dev.txt")
REGISTRY_HOSTS = re.compile(
    r"\b(?:pypi\.(?:org|python\.org)|files\.pythonhosted\.org|registry\.npmjs\.org|hub\.docker\.com"
    r"|(?:registry-1|index)\.docker\.io|ghcr\.io|quay\.io|(?:deb|snapshot)\.debian\.org|archive\.ubuntu\.com)"
)
PLACES_OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|root/\.pyenv|opt/pypi|home/[a-z]+)/")
PROGRAM_WITH_FORMAT = "qemu-img"
NAMES_THE_FORMAT = {"-f", "-F", "--image-opts"}
QEMU_IMG_WITHOUT_IMAGE = {"--version", "--help"}


def test_no_call_goes_through_a_shell() -> None:
    assert not [*_calls_with("shell", True), *_calls_of("os", {"system", "popen"})]


def test_no_test_sleeps() -> None:
    assert not list(_calls_of("time", {"sleep"}, "tests"))


def test_every_call_of_qemu_img_names_the_format() -> None:
    bare = []
    for path in python_files("src", "tests", "benchmarks"):
        for node in ast.walk(tree(path)):
            words = _literal_words(node)
            if PROGRAM_WITH_FORMAT in words and not words & (NAMES_THE_FORMAT | QEMU_IMG_WITHOUT_IMAGE):
                bare.append(f"{name_of(path)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not bare


def test_no_driver_makes_xml_from_strings() -> None:
    opening = re.compile(r"(?<!\(\?P)<[a-zA-Z][\w:-]*(?:[^<>]*|>)(?:\{|%s)")
    found = []
    for path in python_files("src/garbi/hyper/drivers"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.JoinedStr | ast.BinOp) and opening.search(ast.unparse(node)):
                found.append(f"{name_of(path)}:{node.lineno}")
    assert not found


def test_nothing_of_our_own_is_mocked() -> None:
    imported = re.compile(
        r"^\s*(?:from unittest(?:\.mock)? import .*mock|import unittest\.mock|from unittest\.mock)",
        re.IGNORECASE | re.M,
    )
    assert not [name_of(path) for path in python_files("src", "tests", "benchmarks") if imported.search(text(path))]


def test_no_function_is_left_unimplemented() -> None:
    assert not [name_of(path) for path in python_files("src") if "NotImplementedError" in text(path)]


@pytest.mark.parametrize("pattern", [REGISTRY_HOSTS, PLACES_OF_ONE_MACHINE], ids=["registries", "places"])
def test_no_file_names_a_registry_or_a_place_of_one_machine(pattern: re.Pattern[str]) -> None:
    found = [f"{name_of(path)}: {match.group()}" for path in _texts() for match in pattern.finditer(text(path))]
    assert not found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_pins_versions_and_hashes_and_names_no_address(lock: str) -> None:
    lines = [line for line in text(ROOT / lock).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pins = [line for line in lines if not line.startswith(" ")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[\w.+!-]+( ; .+)? \\", line)] == []
    assert [
        line
        for line in lines
        if line.startswith(" ") and not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
    ] == []


def test_the_lock_for_development_pins_the_same_versions() -> None:
    run_time, development = (_pins(lock) for lock in LOCKS)
    assert run_time.items() <= development.items()


@pytest.mark.parametrize(("lock", "extra"), [(LOCKS[0], None), (LOCKS[1], "dev")])
def test_a_lock_file_pins_every_dependency(lock: str, extra: str | None) -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    names = [re.split(r"[\[<>=!~ ;]", each)[0].lower() for each in wanted]
    assert [name for name in names if re.sub(r"[._]", "-", name) not in _pins(lock)] == []


def _pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text(ROOT / lock), re.M))


def _texts() -> Iterator[Path]:
    for path in project_files():
        if path != Path(__file__) and b"\0" not in path.read_bytes()[:8192]:
            yield path


def _calls_with(keyword: str, value: object) -> Iterator[str]:
    for path in python_files(*CODE):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.keyword) and node.arg == keyword and getattr(node.value, "value", None) is value:
                yield f"{name_of(path)}:{node.lineno}"


def _calls_of(module: str, functions: set[str], *folders: str) -> Iterator[str]:
    for path in python_files(*(folders or CODE)):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in functions and getattr(node.value, "id", "") == module:
                yield f"{name_of(path)}:{node.lineno}"
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == module
                and functions & {name.name for name in node.names}
            ):
                yield f"{name_of(path)}:{node.lineno}"


def _literal_words(node: ast.AST) -> set[str]:
    """The literal strings among the elements of a list or the arguments of a call."""
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
    return {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}
