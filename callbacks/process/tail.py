"""Keeps the last lines of a stream, in bounded memory and without secrets, for a failure's cause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

_MARGIN: Final = 8_192
"""Longer than any spelling of a secret. Without its beginning a secret is not recognised, so this much is left out."""

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MOST: Final = 1 << 20

TailSize = tuple[int, int]
"""Lines and bytes."""

DEFAULT_SIZE: Final[TailSize] = (50, 16_384)


def tail_size(text: str | None) -> TailSize:
    """Read ``LINES`` or ``LINES/BYTES``.

    Args:
        text: ``None`` for the default.

    Returns:
        Lines and bytes.

    Raises:
        ConfigurationError: The text has neither form.

    Example:
        >>> tail_size(None), tail_size("20"), tail_size("20/4096")
        ((50, 16384), (20, 16384), (20, 4096))
    """
    if text is None:
        return DEFAULT_SIZE
    found = re.fullmatch(r"([0-9]{1,9})(?:/([0-9]{1,9}))?", text.strip())
    size = int(found[2] or DEFAULT_SIZE[1]) if found else 0
    if found is None or size > _MOST:
        raise ConfigurationError(f"--tail is LINES or LINES/BYTES (at most {_MOST} bytes), e.g. 50 or 50/16384")
    return int(found[1]), size


class Tail:
    r"""Keeps the end of what is added.

    Args:
        size: Lines and bytes that ``text`` returns at most.

    Example:
        >>> tail = Tail((2, 100))
        >>> tail.add(b"one\ntwo\n")
        >>> tail.add(b"three\n")
        >>> tail.text(str)
        'two\nthree'
    """

    def __init__(self, size: TailSize) -> None:
        self._lines, self._bytes = size
        self._limit = self._bytes + _MARGIN
        self._kept = b""
        self._cut = False

    def add(self, data: bytes) -> None:
        """Append bytes; drop the oldest bytes over the limit."""
        kept = self._kept + data if len(data) < self._limit else data
        # Cut only at twice the limit: otherwise each small piece would copy everything again.
        if len(kept) > 2 * self._limit:
            kept, self._cut = kept[-self._limit :], True
        elif len(data) >= self._limit:
            self._cut = True
        self._kept = kept

    @property
    def unfinished(self) -> bool:
        """Whether the stream so far ends in the middle of a line."""
        return bool(self._kept) and not self._kept.endswith(b"\n")

    def text(self, redact: Callable[[str], str]) -> str:
        """Return the last lines, printable.

        Args:
            redact: Takes secrets out.
        """
        text = self._redacted(redact)
        last = _last_bytes(text, self._bytes)
        lines = _CONTROLS.sub("", _ESCAPES.sub("", last)).rstrip().split("\n")
        if len(lines) > 1 and last != text:
            lines = lines[1:]  # The first line has lost its beginning.
        return shown("\n".join(lines[-self._lines :]), None, lines=True) if self._lines else ""

    def _redacted(self, redact: Callable[[str], str]) -> str:
        """Return the kept text without secrets, and without a first part that may be the end of a secret."""
        kept, cut = self._kept, self._cut
        _, newline, whole_lines = kept.partition(b"\n")
        if cut and newline and whole_lines.strip():
            return redact(whole_lines.decode("utf-8", "replace"))
        text = redact(kept.decode("utf-8", "replace"))
        return text[_MARGIN:] if cut else text


def _last_bytes(text: str, size: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= size else encoded[len(encoded) - size :].decode("utf-8", "ignore")
