"""Names kept in strings, and lists kept by hand: a move that forgets one of them is found here, not by a user."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from support.tree import FOLDERS, ROOT, SOURCES, module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOTTED = re.compile(r"stepout(?:\.\w+)+(?::\w+)?")
_LOGGERS = {"logger", "getLogger"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.json", "examples/**/*.md", "examples/**/*.py")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"  # it tells of names that were
]


@functools.cache
def _resolves(name: str) -> bool:
    """Whether a dotted name leads somewhere: a module, or what lies in one."""
    dotted, _, attribute = name.partition(":")
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = find_spec(".".join(parts[:cut]))
        except ModuleNotFoundError:  # its parent is no package
            continue
        if found is None:
            continue
        value: object = import_module(".".join(parts[:cut]))
        for part in (*parts[cut:], *([attribute] if attribute else [])):
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def _logger_names(tree: ast.Module) -> dict[int, ast.expr]:
    """What a module calls its loggers, by identity."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [named.value for call in calls for named in call.keywords if named.arg == "log_name"]
    for call in calls:
        if getattr(call.func, "id", getattr(call.func, "attr", None)) in _LOGGERS:
            named += call.args
    return {id(each): each for each in named}


@functools.cache
def _loggers() -> frozenset[str]:
    """The names of all loggers: a page may speak of them, and they are no modules."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in SOURCES]
    named = [each for tree in trees for each in _logger_names(tree).values()]
    return frozenset(each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _kept(file: Path) -> Iterator[str]:
    """The dotted names that a module keeps in strings, but for the names of loggers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = _logger_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in names:
            yield from (
                (node.value,) if _DOTTED.fullmatch(node.value) else re.findall(r"``(stepout\.[\w.]+\w)``", node.value)
            )


def test_every_dotted_name_in_a_string_leads_somewhere() -> None:
    """A module named in a string, for a lazy import, a command or a docstring, exists."""
    broken = [f"{file.relative_to(ROOT)}: {name}" for file in SOURCES for name in _kept(file) if not _resolves(name)]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_dotted_name_on_a_page_leads_somewhere(page: Path) -> None:
    """A module or a handler that a page names in code exists."""
    named = set(re.findall(r"(?<![\w./@-])stepout(?:\.[A-Za-z_]\w*)+(?![\w.]*[-/])", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named - _loggers()) if not _resolves(name)] == []


@pytest.mark.parametrize(
    "script", [*PROJECT["project"]["scripts"].values(), *PROJECT["project"]["entry-points"]["fsspec.specs"].values()]
)
def test_every_entry_point_leads_somewhere(script: str) -> None:
    """A command or a file system that the wheel installs starts something."""
    assert _resolves(script)


def test_every_front_finds_what_it_lists() -> None:
    """A package that imports its names lazily finds each of them."""
    fronts = [module_name(file) for file in SOURCES if file.name == "__init__.py"]
    for front in fronts:
        module = import_module(front)
        missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
        assert (front, missing) == (front, [])


def test_every_folder_with_an_init_is_listed_as_a_package() -> None:
    """A package that is not listed is missing from a wheel that is built from a clean tree, in silence."""
    there = {module_name(file) for file in SOURCES if file.name == "__init__.py"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == there


def test_every_folder_with_modules_has_an_init() -> None:
    """A folder without one would be no package of ours, and its modules would not be shipped."""
    assert {file.parent for file in SOURCES} == {file.parent for file in SOURCES if file.name == "__init__.py"}


def test_links_lead_to_the_folders_that_are_mapped() -> None:
    """The build maps the folders that the links of src/stepout lead to."""
    mapped = {name: ROOT / folder for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()}
    assert mapped == FOLDERS
