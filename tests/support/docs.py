"""Finds the fenced blocks of a Markdown page, so that tests can run what the documents show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Block", "blocks"]

_FENCE = re.compile(r"^```(?P<language>[a-z]+)[ \t]*\n(?P<text>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and where it starts."""

    file: Path
    line: int
    language: str
    text: str


def blocks(file: Path) -> list[Block]:
    """Return every fenced block of a page that names a language, in order."""
    page = file.read_text(encoding="utf-8")
    return [
        Block(file, page[: match.start()].count("\n") + 1, match["language"], match["text"])
        for match in _FENCE.finditer(page)
    ]
