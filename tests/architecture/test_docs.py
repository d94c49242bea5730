"""Documentation that cannot rot: what the code has, the documents name. What can be drawn is drawn by scripts/docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from garbi.base import errors
from garbi.base.problem import error_classes
from garbi.hyper.drivers.registry import ABILITIES
from garbi.hyper.model.machine import State

from .sources import PACKAGE, ROOT, name_of, project_files, python_files, text

DOCS = ROOT / "docs"
PAGES = [path for path in project_files() if path.suffix == ".md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for target, anchor in LINK.findall(FENCED.sub("", text(page))):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            dead.append(f"{target}#{anchor}")
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(tests/[a-z0-9_/]+(?:\.py)?)`", text(page)))
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT / f"{name}.py").is_file()] == []


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [(page.parent / target).resolve() for target, _ in LINK.findall(text(page)) if target]
    assert [name_of(page) for page in PAGES if page not in reached] == []


def test_every_state_is_explained() -> None:
    page = text(DOCS / "states.md")
    assert [state for state in State if f"\n| `{state}` |" not in page] == []


def test_every_error_has_its_line_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    named = [kind.__name__ for kind in error_classes().values() if kind is not errors.GarbiError]
    assert [name for name in named if not re.search(rf"── {name} +\d{{3}} ", tree)] == []


def test_every_error_code_is_used_once() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GarbiError)]
    codes = [kind.code for kind in classes if "code" in vars(kind)]
    assert len(codes) == len(set(codes))


def test_every_ability_is_explained() -> None:
    page = text(DOCS / "drivers.md")
    assert [name for name in ABILITIES if f"| `{name}` |" not in page] == []


def test_every_setting_of_a_driver_is_explained() -> None:
    page = "".join(text(page) for page in PAGES)
    undocumented = []
    for path in python_files("src/garbi/hyper/drivers"):
        driver = path.relative_to(PACKAGE / "hyper/drivers").parts[0]
        for name in re.findall(r"settings(?:\.get\(|\[)\"([a-z_]+)\"", text(path)):
            if f"`GARBI_DRIVER_{driver}_{name}`".upper() not in page.upper():
                undocumented.append(f"{driver}: {name}")
    assert not undocumented


def test_every_environment_variable_is_explained() -> None:
    page = text(DOCS / "settings.md")
    code = [*python_files("src"), *(path for path in project_files() if path.parent == ROOT / "scripts")]
    named = {name for path in code for name in re.findall(r"\bGARBI_[A-Z_]*[A-Z]\b", text(path))}
    assert sorted(name for name in named if name not in page) == []


def test_every_command_of_the_makefile_is_explained_to_contributors() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", text(ROOT / "Makefile"), re.MULTILINE)
    page = text(ROOT / "CONTRIBUTING.md")
    assert [target for target in targets if f"`make {target}" not in page] == []


def test_every_folder_of_hyper_is_on_the_map() -> None:
    page = text(ROOT / "ARCHITECTURE.md")
    folders = {path.relative_to(PACKAGE / "hyper").parts[0] for path in python_files("src/garbi/hyper")}
    assert sorted(name for name in folders if "." not in name and f"{name}/" not in page) == []


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}
