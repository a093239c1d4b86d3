"""One finding of a validation: where it is, of what kind it is, and a sentence for people."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a validation.

    Attributes:
        location: A JSON path such as ``$.artifacts.features.size``.
        kind: A stable word that programs branch on, such as ``"type"``, ``"missing"`` or ``"pattern"``.
        message: A sentence for people. It never quotes the value that was found.
    """

    location: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"

    def below(self, location: str) -> Problem:
        """Return the same problem as one of a larger value, in which the document lies at ``location``.

        >>> Problem("$.size", "missing", "is missing").below("$.steps[0]").location
        '$.steps[0].size'
        """
        return Problem(location + self.location[1:], self.kind, self.message)


def member(location: str, name: object) -> str:
    """Return the location of the member ``name`` of the object at ``location``.

    Args:
        location: The object's own location.
        name: The member's name; in Python values it may be anything hashable.

    Returns:
        A JSON path: ``$.size`` for an identifier, ``$["odd name"]`` for other text, ``$[<date>]`` for what is no text.

    >>> member("$.artifacts", "features"), member("$", "a b"), member("$", 3), member("$", b"x")
    ('$.artifacts.features', '$["a b"]', '$[3]', '$[<bytes>]')
    """
    if not isinstance(name, str):
        return f"{location}[{name}]" if name is None or type(name) in (int, bool) else f"{location}[<{_type(name)}>]"
    short = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    if _IDENTIFIER.fullmatch(short):
        return f"{location}.{short}"
    return f"{location}[{json.dumps(short, ensure_ascii=not short.isprintable())}]"


def item(location: str, index: int) -> str:
    """Return the location of item ``index`` of the array at ``location``."""
    return f"{location}[{index}]"


def describe_problems(problems: Iterable[Problem], limit: int = 5) -> str:
    """Put problems into one readable line.

    Args:
        problems: What was found.
        limit: How many to spell out; the rest is counted.

    Returns:
        For example ``"2 problems: $.size: is missing; $.key: is missing"``.

    >>> describe_problems([Problem("$.size", "missing", "is missing")])
    '1 problem: $.size: is missing'
    """
    found = list(problems)
    shown = "; ".join(str(problem) for problem in found[:limit])
    rest = f"; and {len(found) - limit} more" if len(found) > limit else ""
    return f"{len(found)} problem{'' if len(found) == 1 else 's'}: {shown}{rest}"


def tidy(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems sorted by location, each place and kind once."""
    once = {(problem.location, problem.kind): problem for problem in problems}
    return [once[key] for key in sorted(once)]


def _type(value: object) -> str:
    """Return the name of a value's type; never the value."""
    return type(value).__name__
