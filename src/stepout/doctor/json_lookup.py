"""How the doctor looks into JSON that may hold anything: no function here raises, whatever the value is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepout.schemas.text import foreign_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.$-]*")
_LONGEST = 80


def members(value: object) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Return the value if it is text, else no text."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """Return the value if it is a finite number, else ``None``; a boolean is not a number.

    >>> number(3), number(True), number("3")
    (3.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if abs(found) != float("inf") and found == found else None  # noqa: PLR0124 - NaN is not itself


def shown(name: object) -> str:
    r"""Return a name as a message shows it: printable and not too long.

    >>> shown("a" + chr(27) + "b")
    'a\\x1bb'
    """
    return foreign_text.shown(name, _LONGEST)


def at(where: str, *steps: str | int) -> str:
    """Return a path with further steps.

    >>> at("States.Segment", "Retry", 0), at("", "States", "two words")
    ('States.Segment.Retry[0]', 'States["two words"]')
    """
    for step in steps:
        if isinstance(step, int):
            where += f"[{step}]"
        elif _PLAIN.fullmatch(step) and len(step) <= _LONGEST:
            where += f".{step}" if where else step
        else:
            where += '["' + shown(step).replace('"', "'") + '"]'
    return where


def inside(value: object, where: str, *names: str) -> tuple[str, Any]:
    """Return what lies within a value at a path of members, after its own path; ``None`` where nothing does.

    The members' case does not matter: what is written in the wrong one is looked at all the same.

    >>> inside({"overrides": {"Cpu": 1}}, "States.A", "Overrides", "Cpu")
    ('States.A.overrides.Cpu', 1)
    """
    for name in names:
        found = members(value)
        key = name if name in found else next((str(each) for each in found if str(each).lower() == name.lower()), name)
        where, value = at(where, key), found.get(key)
    return where, value


def walk(value: object, where: str) -> Iterator[tuple[str, Any]]:
    """Yield every value within a value, itself first, with its path."""
    waiting: list[tuple[str, Any]] = [(where, value)]
    while waiting:
        place, each = waiting.pop()
        yield place, each
        if isinstance(each, dict):
            waiting += [(at(place, str(name)), inner) for name, inner in reversed(each.items())]
        elif isinstance(each, list):
            waiting += [(at(place, index), inner) for index, inner in reversed(list(enumerate(each)))]


def names_within(value: object) -> list[str]:
    """Return the names of all members within a value, however deep."""
    return [str(name) for _, each in walk(value, "") for name in members(each)]


def plain(value: object) -> str:
    """Return a number of seconds without a needless decimal point.

    >>> plain(30.0), plain(1.5)
    ('30', '1.5')
    """
    found = number(value)
    return "?" if found is None else str(int(found)) if found == int(found) else str(found)
