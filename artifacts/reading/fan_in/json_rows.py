"""A file of JSON rows, split while it arrives: the elements of one array, or one value a line.

No more of the file is held than a block and the row that is under way. An element is delimited by the parser itself,
again with every block until it is complete; a row is parsed strictly by whoever takes it.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROW_LIMIT: Final = 8 << 20
"""The longest row, in bytes; a row of a ResultWriter has an execution's input and output, of 256 KiB each, escaped."""

_PEEKED: Final = 2 << 20
"""How far a first line that begins an array is looked through for its end: an output of 256 KiB, escaped, is less."""

_LINES: Final = (".jsonl", ".ndjson")
_SPACE: Final = re.compile(r"[ \t\n\r]*").match
_TOKEN: Final = 16  # characters: what is incomplete at the end of a text shows no farther from it, but for a string
_EXPONENT: Final = 3  # characters behind a number that show whether they belong to it
_UNTERMINATED: Final = "Unterminated string"
# Only the ends of elements are wanted: no number is converted, however many digits it has.
_DELIMITING: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


class RowPlace(NamedTuple):
    """A place between two rows of a file.

    Attributes:
        lines: Whether it has a row a line; ``None``: its content is to say.
        row: How many rows lie before it.
        line: In which line of the file it is, from 1.
        offset: Bytes of the file before it.
    """

    lines: bool | None = None
    row: int = 0
    line: int = 1
    offset: int = 0


class JsonRow(NamedTuple):
    """One row.

    Attributes:
        text: As it stands in the file; ``None``: it is longer than ``ROW_LIMIT``.
        line: Where it begins.
        end: The place behind it.
    """

    text: str | bytes | None
    line: int
    end: RowPlace


def json_rows(blocks: Iterable[bytes], name: str, start: RowPlace = RowPlace()) -> Iterator[JsonRow]:  # noqa: B008 - a value
    """Split a file into rows.

    Args:
        blocks: Its bytes in order, from ``start`` on.
        name: The file's: where all of it is one line with an array, only the name tells whether that is one row.
        start: Where to begin; behind a row that an earlier pass has yielded.

    Raises:
        InvalidDocumentError: An array is no JSON where the next row should be, or is cut off: where further rows begin
            is not known then. Rows of a line each are delimited whatever they hold.
    """
    arriving = iter(blocks)
    if start.lines is None:
        head, mark, lines = _peeked(arriving, name)
        start, arriving = RowPlace(lines, offset=mark), _joined(head, arriving)
    return _lines(arriving, start) if start.lines else _ArrayRows(arriving, start).rows()


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


# Which of the two ----------------------------------------------------------------------------------------------------


def _peeked(blocks: Iterator[bytes], name: str) -> tuple[bytes, int, bool]:
    """Return how a file begins, without the byte-order mark, how long that was, and whether it has a row a line.

    It has if its first line is JSON by itself and another one follows. One line alone is one row, unless it is an
    array: then it is the array of rows, but in a file that is called ``.jsonl``.
    """
    head, ended = b"", False
    while True:
        block = next(blocks, None)
        ended = block is None
        head += block or b""
        mark = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
        text = head[mark:].lstrip()
        if text[:1] not in {b"", b"["}:
            return head[mark:], mark, True
        first, newline, rest = text.partition(b"\n")
        if text and (newline or ended or len(head) >= _PEEKED):
            alone = ended or len(head) >= _PEEKED
            if newline and not _is_json(first):
                return head[mark:], mark, False
            if newline and rest.strip():
                return head[mark:], mark, True
            if alone:
                named = ended and name.lower().endswith(_LINES)
                return head[mark:], mark, named
        elif ended or (not text and len(head) >= _PEEKED):
            return head[mark:], mark, True


def _is_json(line: bytes) -> bool:
    """Tell whether a line is JSON by itself, valid or not in the eyes of a stricter reader."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


# A row a line --------------------------------------------------------------------------------------------------------


def _lines(blocks: Iterator[bytes], start: RowPlace) -> Iterator[JsonRow]:
    _, row, line, offset = start
    rest, lost = b"", 0
    for block in blocks:
        *pieces, rest = (rest + block).split(b"\n")
        for piece in pieces:
            offset += lost + len(piece) + 1
            line += 1
            if lost or (piece and not piece.isspace()):
                row += 1
                text = None if lost + len(piece) > ROW_LIMIT else piece
                yield JsonRow(text, line - 1, RowPlace(lines=True, row=row, line=line, offset=offset))
            lost = 0
        if len(rest) > ROW_LIMIT:
            rest, lost = b"", lost + len(rest)
    if lost or rest.strip():
        end = RowPlace(lines=True, row=row + 1, line=line, offset=offset + lost + len(rest))
        yield JsonRow(None if lost else rest, line, end)


# One array -----------------------------------------------------------------------------------------------------------


class _ArrayRows:
    """The elements of an array, as its text arrives."""

    def __init__(self, blocks: Iterator[bytes], start: RowPlace) -> None:
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0
        self._row, self._line, self._offset = start.row, start.line, start.offset

    def rows(self) -> Iterator[JsonRow]:
        """Yield them; behind the last one, there must be the array's end and nothing else."""
        if self._row == 0:
            self._next()
            self._pass(self._at + 1)  # the bracket, which the caller has seen
            if self._next() == "]":
                self._end()
                return
            yield self._element()
        while (found := self._next()) == ",":
            self._pass(self._at + 1)
            self._next()
            yield self._element()
        if found != "]":
            raise self._cut() if not found else self._fault(self._row, "must be followed by a comma or the array's end")
        self._end()

    def _end(self) -> None:
        self._pass(self._at + 1)
        if self._next():
            raise self._fault(self._row, "is the last one of the array, and more than its end follows")

    def _element(self) -> JsonRow:
        row, line = self._row + 1, self._line
        stop = self._element_end(row)
        text = None if stop - self._at > ROW_LIMIT else self._text[self._at : stop]
        self._pass(stop)
        self._row = row
        return JsonRow(text, line, RowPlace(lines=False, row=row, line=self._line, offset=self._offset))

    def _element_end(self, row: int) -> int:
        while True:
            try:
                stop: int = _DELIMITING.raw_decode(self._text, self._at)[1]
                rest = self._text[stop : stop + _EXPONENT]
                may_go_on = not rest or (len(rest) < _EXPONENT and rest[0] in ".eE")  # of a number, in the next block
                if not may_go_on or not self._more():
                    return stop
                continue
            except json.JSONDecodeError as error:
                bad = error
            except RecursionError:
                raise self._fault(row, "is nested too deep to be parsed") from None
            longer = len(self._text) - self._at > ROW_LIMIT
            unfinished = bad.msg.startswith(_UNTERMINATED) or len(self._text) - bad.pos < _TOKEN
            if unfinished and longer:
                raise self._fault(row, f"is longer than {ROW_LIMIT:,} bytes, the most that is read of one")
            if unfinished and self._more():
                continue
            if bad.msg.startswith(_UNTERMINATED) or bad.pos >= len(self._text):
                raise self._cut()
            line = self._line + self._text.count("\n", self._at, bad.pos)
            byte = self._offset + len(self._text[self._at : bad.pos].encode())
            raise self._fault(row, f"is not JSON at line {line}, at byte {byte:,} of the file")

    def _next(self) -> str:
        """Return the next character that is no white space, and stand before it; empty at the end."""
        while True:
            self._pass(_SPACE(self._text, self._at).end())  # type: ignore[union-attr]  # it matches the empty text
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Take the next block; ``False``: there is none."""
        block = next(self._blocks, None)
        try:
            taken = self._decoder.decode(block or b"", final=block is None)
        except UnicodeDecodeError:
            raise self._fault(self._row + 1, "is followed by what is not UTF-8, or holds it") from None
        if block is None:
            return False
        self._text, self._at = self._text[self._at :] + taken, 0
        return True

    def _pass(self, stop: int) -> None:
        if stop > self._at:
            self._line += self._text.count("\n", self._at, stop)
            ascii_only = self._text.isascii()
            self._offset += stop - self._at if ascii_only else len(self._text[self._at : stop].encode())
            self._at = stop

    def _cut(self) -> InvalidDocumentError:
        told = f"the file is not JSON: its array does not end behind row {self._row}; is it cut off?"
        return InvalidDocumentError(f"line {self._line}: {told}", [Problem("$", "syntax", told)])

    def _fault(self, row: int, told: str) -> InvalidDocumentError:
        return InvalidDocumentError(f"row {row}, line {self._line}: {told}", [Problem("$", "syntax", told)])
