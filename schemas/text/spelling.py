"""What a misspelt word was meant to be. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALIKE: Final = 0.6
_MOST: Final = 3


def closest(word: str, known: Iterable[str], *, most: int = 1) -> list[str]:
    """Return the known words that are most alike, the best first; none where none is alike.

    Args:
        word: What was written. Case and leading hyphens do not count.
        known: What it may be.
        most: How many to return at most.

    >>> closest("--alow", ["--allow", "--name"])
    ['--allow']
    """
    import difflib

    spelt: dict[str, str] = {}
    for each in known:
        spelt.setdefault(_bare(each), each)
    return [spelt[each] for each in difflib.get_close_matches(_bare(word), spelt, n=most, cutoff=_ALIKE)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint to be put behind a word that is not known, or nothing: words that it begins, and those alike.

    >>> did_you_mean("--outputs", ["--output", "--outputs-on-failure", "--dir"])
    ': did you mean --output or --outputs-on-failure?'
    """
    known = list(known)
    begun = [each for each in known if _bare(word) and _bare(each).startswith(_bare(word))]
    found = list(dict.fromkeys([*closest(word, known, most=_MOST), *begun]))[:_MOST]
    return f": did you mean {' or '.join(found)}?" if found else ""


def _bare(word: str) -> str:
    return word.lower().lstrip("-")
