"""The page about the architecture speaks of the tree as it is."""

from __future__ import annotations

import re

import pytest
from support.tree import FOLDERS, ROOT, SOURCES

PAGE = ROOT / "docs" / "explanation" / "architecture.md"
PICTURE = ROOT / "docs" / "pictures" / "roads.svg"
TEXT = PAGE.read_text(encoding="utf-8")
PACKAGES = {file.parent.relative_to(ROOT).as_posix() for file in SOURCES if file.name == "__init__.py"}


def _rooms() -> set[str]:
    """The first column of the table of rooms."""
    lines = [line for line in TEXT.partition("\n## Rooms\n")[2].splitlines() if line.startswith("| `")]
    codes = [code.strip("/") for line in lines for code in re.findall(r"`([^`]+)`", line.split("|")[1])]
    return {name for code in codes for name in _expanded(code)}


def _expanded(code: str) -> list[str]:
    before, brace, rest = code.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{name}{after}" for name in inside.split(",")] if brace else [code]


def test_every_room_is_on_the_page() -> None:
    """The table has every package, and no other."""
    assert _rooms() == PACKAGES


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py)`", TEXT))))
def test_every_file_on_the_page_is_there(name: str) -> None:
    """A file that the page names exists, from the root or from one of the folders."""
    assert any((folder / name).is_file() for folder in (ROOT, *FOLDERS.values()))


def test_the_picture_names_rooms() -> None:
    """The page shows the picture of the roads; what stands as a room in it is one, and each road has several."""
    assert f"(../pictures/{PICTURE.name})" in TEXT
    rooms = {name.strip("/").rpartition("/")[2] for name in PACKAGES}
    named = re.findall(r'class="room"[^>]*>([^<]+)<', PICTURE.read_text(encoding="utf-8"))
    assert len(named) > len(set(named)) > 3
    assert set(named) <= rooms
