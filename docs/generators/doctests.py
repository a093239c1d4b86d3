"""An extension of griffe, which reads the docstrings for the site: it shows their doctests as examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import griffe

if TYPE_CHECKING:
    from collections.abc import Callable

_DOCTEST: Final = re.compile(r"(?:^Examples?:\n)?^([ ]*)>>> .*\n?(?:^\1\S.*\n?|^\1[ ]+\S.*\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Begins a section ``Examples`` before each doctest, as griffe wants it."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change a docstring that has doctests."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = with_sections(obj.docstring.value)


def with_sections(text: str) -> str:
    """Return a docstring with its doctests in sections.

    >>> print(with_sections("Add.\\n\\n>>> 1 + 1\\n2"))
    Add.
    <BLANKLINE>
    Examples:
        >>> 1 + 1
        2
    """
    section: Callable[[re.Match[str]], str] = lambda match: "Examples:\n" + "".join(  # noqa: E731
        f"    {line.removeprefix(match[1])}\n" for line in match[0].splitlines() if not line.startswith("Example")
    )
    return _DOCTEST.sub(section, text).rstrip()
