"""How text that others wrote is shown: names, keys, reasons, a server's messages. Pure.

A document, a key or an answer may hold what drives a terminal (C0 and C1 controls), what makes a line read otherwise
than it is written (bidirectional marks and overrides, line separators), or what no reader sees (zero-width characters,
tags, variation selectors). Whatever prints foreign text uses ``shown``; whatever prints JSON uses ``shown_json``, which
changes the spelling alone and not the value.
"""

from __future__ import annotations

import logging
import re
from typing import Final

LONGEST: Final = 200
"""Characters of one foreign name, unless the caller says otherwise."""

_LONGEST_LINE: Final = 8_000
"""Characters of a log record."""

# ``str.isprintable`` knows controls, format characters (marks, overrides, tags), separators, surrogates and what has no
# meaning yet. These it takes for letters and marks although nothing is seen of them (Unicode, Default_Ignorable, and
# the blank of braille).
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_OTHER: Final = re.compile("[^ -~]")
_HALF_AN_ESCAPE: Final = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})?\Z")
_LINES: Final = "\n\t"


def shown(text: object, longest: int | None = LONGEST, *, lines: bool = False) -> str:
    r"""Return foreign text as it may reach a terminal, a log or a message.

    Args:
        text: The text; anything else is turned into text first.
        longest: Characters of the result at most; ``None`` for any number.
        lines: Whether line feeds and tabs stay as they are.

    Returns:
        The text, each character that is not seen or that acts on a terminal as Python's escape (``\x1b``, ``\u202e``,
        ``\U000e0041``), cut with ``…`` where it is too long. A backslash stays single, so text that was shown once
        may be shown again and stays as it is.

    >>> shown("key\x1b[2J\x9b\u202e"), shown("a" * 9, 5), shown("a\nb", lines=True)
    ('key\\x1b[2J\\x9b\\u202e', 'aaaa…', 'a\nb')
    """
    whole = text if isinstance(text, str) else _text_of(text)
    if longest is not None:
        whole = whole[: longest + 1]
    told = _OTHER.sub(_line_piece if lines else _piece, whole)
    return told if longest is None or len(told) <= longest else f"{_HALF_AN_ESCAPE.sub('', told[: longest - 1])}…"


def shown_json(text: str) -> str:
    r"""Return JSON text in which every such character is a JSON escape; it is the same value as before.

    Args:
        text: JSON text. Between its strings, line feeds and tabs stay as they are.

    >>> shown_json('{"a": "\x9b\U000e0041"}')
    '{"a": "\\u009b\\udb40\\udc41"}'
    """
    return _OTHER.sub(_json_piece, text)


def logger(name: str) -> logging.Logger:
    """Return the logger of that name; what it is given to log is shown as foreign text, its lines kept.

    A record in which nothing has to be escaped stays as it is, its arguments included.

    Args:
        name: The logger's name.
    """
    found = logging.getLogger(name)
    found.addFilter(_FILTER)
    return found


class _ForeignTextFilter(logging.Filter):
    """Lets every record through, its message and its traceback as they may be seen."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - logging complains of such a call itself
            return True
        told = shown(message, _LONGEST_LINE, lines=True)
        if told != message:
            record.msg, record.args = told, None
        if record.exc_info and record.exc_info[1] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            told = shown(trace, None, lines=True)
            if told != trace:
                record.exc_info, record.exc_text = None, told
        return True


_FILTER: Final = _ForeignTextFilter()


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an integer of thousands of digits, say; showing it must not fail
        return f"<{type(value).__name__}>"


def _seen(letter: str) -> bool:
    return letter.isprintable() and not _UNSEEN.match(letter)


def _piece(found: re.Match[str]) -> str:
    letter = found[0]
    return letter if _seen(letter) else letter.encode("unicode_escape").decode()


def _line_piece(found: re.Match[str]) -> str:
    return found[0] if found[0] in _LINES else _piece(found)


def _json_piece(found: re.Match[str]) -> str:
    letter = found[0]
    if letter in _LINES or _seen(letter):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
