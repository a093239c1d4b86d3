"""The reference of Python's API: every public name is on one page, and whatever is shown has a docstring."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
import pytest
from support.site import generated_pages

import stepout
from stepout.doctor.retry import known_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "reference" / "python").glob("*.md"))
FRONTS = ("stepout", "stepout.testing", "stepout.local", "stepout.callbacks", "stepout.schemas", "stepout.artifacts")
SHOWN = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]


def _public() -> dict[int, tuple[str, Any]]:
    """Every public value, by its identity, under the shortest name that leads to it."""
    found: dict[int, tuple[str, Any]] = {}
    for front in FRONTS:
        module = import_module(front)
        for name in module.__all__:
            value = getattr(module, name)
            found.setdefault(id(value), (f"{front}.{name}", value))
    return found


PUBLIC = _public()


@cache
def _package() -> griffe.Module:
    """What the site's own reader of docstrings finds; the code is read, not imported."""
    loaded = griffe.load("stepout", search_paths=[ROOT / "src"], docstring_parser="google", resolve_aliases=True)
    assert isinstance(loaded, griffe.Module)
    return loaded


def test_every_public_name_is_on_one_page() -> None:
    """A name that is exported twice stands under the shorter one; what is not exported is what a name's doc needs."""
    shown = Counter(SHOWN)
    assert [name for name, _ in PUBLIC.values() if shown[name] != 1] == []
    others = set(shown) - {name for name, _ in PUBLIC.values()}
    assert all(name.endswith("Options") for name in others), others


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_is_there(page: Path) -> None:
    """The pages are read in the repository too, where nothing is filled in: text comes before the first name."""
    title, _, text = page.read_text("utf-8").partition("\n")
    assert title.startswith("# ")
    assert len(text.partition("\n::: ")[0].split()) > 10


def _undocumented(path: str) -> Iterator[str]:
    """What a reader would find without a word: the object itself, its public members and parameters."""
    found: Any = _package()[path.removeprefix("stepout.")]
    found = found.final_target if found.is_alias else found
    if found.docstring is None:
        yield path
        return
    if not found.is_class:
        return
    told = set(re.findall(r"^ {4}(\w+)(?: \([^)]*\))?:", inspect.cleandoc(found.docstring.value), re.MULTILINE))
    for name, member in found.all_members.items():
        if (
            name.startswith("_")
            or name in told
            or (member.is_alias and not member.final_target.path.startswith("stepout"))
        ):
            continue
        if member.docstring is None and not _told_by_a_base(found, name):
            yield f"{path}.{name}"


def _told_by_a_base(found: griffe.Class, name: str) -> bool:
    """Whether a class above describes a member that this one sets anew."""
    for base in found.mro():
        text = base.docstring.value if base.docstring else ""
        of_base = base.members.get(name)
        if (of_base is not None and of_base.docstring) or re.search(rf"^ +{name}:", text, re.MULTILINE):
            return True
    return False


@pytest.mark.parametrize("name", sorted(set(SHOWN)))
def test_what_is_shown_has_a_docstring(name: str) -> None:
    """Classes, functions, methods, properties and attributes."""
    assert list(_undocumented(name)) == []


def test_every_error_is_on_the_page_of_errors() -> None:
    """By the name that Step Functions sees, and with its class where there is one."""
    page = generated_pages()["reference/errors.md"]()
    classes = [name for name in stepout.__all__ if name.endswith(("Error", "Interrupted"))]
    assert [name for name in known_names().values() if f"\n### `{name}`\n" not in page] == []
    assert [name for name in classes if f"`stepout.{name}`" not in page] == []
