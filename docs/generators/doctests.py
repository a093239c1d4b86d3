"""An extension of griffe, which reads the docstrings for the site: it shows their doctests as examples."""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

_DOCTEST: Final = re.compile(r"(?:^Examples?:\n)?^([ ]*)>>> .*\n?(?:^\1\S.*\n?|^\1[ ]+\S.*\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Begins a section ``Examples`` before each doctest, as griffe wants it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change a docstring that has doctests."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = with_sections(obj.docstring.value)


def with_sections(text: str) -> str:
    """Return a docstring with its doctests in sections."""
    return _DOCTEST.sub(_section, text).rstrip()


def _section(match: re.Match[str]) -> str:
    lines = (line.removeprefix(match[1]) for line in match[0].splitlines() if not line.startswith("Example"))
    return "Examples:\n" + "".join(f"    {line}\n" for line in lines)
