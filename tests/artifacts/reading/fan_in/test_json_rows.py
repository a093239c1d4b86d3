"""Rows of a file that is split while it arrives: the same ones wherever the blocks are cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepout.artifacts.reading.fan_in import json_rows as module
from stepout.artifacts.reading.fan_in.json_rows import RowPlace, json_rows
from stepout.schemas.errors import InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, width=32) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)


def _blocks(data: bytes, size: int) -> Iterator[bytes]:
    return iter([data[start : start + size] for start in range(0, len(data), size)])


def _values(data: bytes, size: int, start: RowPlace = RowPlace(), name: str = "f.json") -> list[Any]:  # noqa: B008 - a value
    return [json.loads(row.text) for row in json_rows(_blocks(data, size), name, start) if row.text is not None]


@settings(suppress_health_check=list(HealthCheck))
@given(st.lists(VALUES, min_size=2, max_size=6), st.integers(1, 40), st.booleans(), st.booleans(), st.data())
def test_any_rows_come_whole_from_any_blocks(
    rows: list[Any], size: int, lines: bool, ascii_only: bool, data: st.DataObject
) -> None:
    """As an array or a value a line, from any cut; and behind any row the rest is taken up at its byte."""
    texts = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    file = ("".join(text + "\n" for text in texts) if lines else "[" + ", \n".join(texts) + "]\n").encode()
    found = list(json_rows(_blocks(file, size), "f.json"))
    assert [json.loads(row.text or b"") for row in found] == rows
    assert [row.end.row for row in found] == list(range(1, len(rows) + 1))
    behind = data.draw(st.integers(0, len(rows) - 1))
    place = found[behind].end
    assert _values(file[place.offset :], size, place) == rows[behind + 1 :]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'[{"a": 1},\n{"a": }]', "row 2, line 2: is not JSON at line 2, at byte 17 of the file"),
        ('["\u20ac", 1, nil]'.encode(), "row 3, line 1: is not JSON at line 1, at byte 11 of the file"),
        (b'[{"a": 1}, {"a": 1}', "its array does not end behind row 2; is it cut off"),
        (b'[{"a": 1}, {"a": "long', "its array does not end behind row 1; is it cut off"),
        (b'[{"a": 1},\n', "its array does not end behind row 1"),
        (b"[1 2]", "row 1, line 1: must be followed by a comma"),
        (b"[1, 2] 3", "is the last one of the array, and more than its end follows"),
        (b"[1,\n\xff\xff]", "not UTF-8"),
        (b"[" + b"[" * 100_000, "nested too deep|does not end"),
    ],
)
def test_an_array_that_is_none_is_told_with_row_and_line(data: bytes, told: str, size: int) -> None:
    """What was whole before comes first."""
    if len(data) > 1_000 and size == 1:
        size = 1_000
    with pytest.raises(InvalidDocumentError, match=told):
        list(json_rows(_blocks(data, size), "f.json"))


def test_a_row_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In lines the others go on; in an array only where its end had been seen."""
    monkeypatch.setattr(module, "ROW_LIMIT", 100)
    long = json.dumps("x" * 300)
    rows = list(json_rows(_blocks(f"1\n{long}\n2\n".encode(), 40), "f.json"))
    assert [row.text for row in rows] == [b"1", None, b"2"]
    assert [row.end.offset for row in rows] == [2, 2 + len(long) + 1, 2 + len(long) + 3]
    assert [row.text for row in json_rows(_blocks(f"1\n{long}".encode(), 40), "f.json")] == [b"1", None]
    assert [row.text for row in json_rows(iter([f"[1, {long}, 2]".encode()]), "f.json")] == ["1", None, "2"]
    monkeypatch.setattr(module, "_PEEKED", 10)
    with pytest.raises(InvalidDocumentError, match="row 2, line 1: is longer than 100 bytes"):
        list(json_rows(_blocks(f"[1, {long}]".encode(), 40), "f.json"))


def test_white_space_is_not_gathered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing else has no rows, however long it is."""
    monkeypatch.setattr(module, "_PEEKED", 50)
    assert list(json_rows(_blocks(b" \n" * 1_000, 10), "f.json")) == []


def test_a_long_first_line_is_not_looked_through_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array in one line, longer than what is looked through, is the array of rows."""
    monkeypatch.setattr(module, "_PEEKED", 50)
    taken = []

    def blocks() -> Iterator[bytes]:
        for block in _blocks(json.dumps(list(range(1_000))).encode(), 10):
            taken.append(block)
            yield block

    rows = json_rows(blocks(), "f.jsonl")
    assert next(rows).text == "0"
    assert len(taken) < 10
    assert len(list(rows)) == 999
