"""JSON values and JSON text, read and written strictly."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from stepout.schemas import Problem, describe_problems, dump_json, invalid_document, json_problems, load_json
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.problems import item, member
from stepout.schemas.text.json_value import plain_copy


class Colour(StrEnum):
    """An enum whose value is text."""

    RED = "red"


class Level(IntEnum):
    """An enum whose value is a number."""

    HIGH = 3


def found(value: object) -> list[tuple[str, str]]:
    """Return locations and kinds."""
    return [(problem.location, problem.kind) for problem in json_problems(value)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (float("nan"), "not-finite"),
        (float("-inf"), "not-finite"),
        (b"x", "not-json"),
        (bytearray(b"x"), "not-json"),
        (memoryview(b"x"), "not-json"),
        (date(2026, 1, 1), "not-json"),
        (datetime(2026, 1, 1), "not-json"),  # noqa: DTZ001 - naive or not makes no difference here
        (timedelta(1), "not-json"),
        (Decimal(1), "not-json"),
        (UUID(int=1), "not-json"),
        (PurePosixPath("a"), "not-json"),
        ((1, 2), "not-json"),
        ({1}, "not-json"),
        (frozenset(), "not-json"),
        (range(3), "not-json"),
        (1j, "not-json"),
        (object(), "not-json"),
        (np.int64(1), "not-json"),
        (np.float32(1), "not-json"),
        (np.bool_(True), "not-json"),
        (np.array([1]), "not-json"),
        (np.float64("nan"), "not-finite"),
        (2**53, "range"),
        (-(2**53), "range"),
        pytest.param(10**5000, "range", id="5,001 digits"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_not_json_is_named_by_member(value: object, kind: str) -> None:
    """At the top, in an object and in an array, the location leads to it."""
    assert found(value) == [("$", kind)]
    assert found({"a": [0, {"b": value}]}) == [("$.a[1].b", kind)]


def test_everything_is_reported_at_once() -> None:
    """One walk names all members, in order."""
    value = {"a": float("nan"), "b": [b"", (), {"c": 1j}], "ok": [1, 1.5, "x", True, None, {}]}
    assert found(value) == [
        ("$.a", "not-finite"),
        ("$.b[0]", "not-json"),
        ("$.b[1]", "not-json"),
        ("$.b[2].c", "not-json"),
    ]


@pytest.mark.parametrize(
    ("name", "location"),
    [
        (1, "$[1]"),
        (None, "$[None]"),
        (True, "$[True]"),
        (1.5, "$[<float>]"),
        (b"x", "$[<bytes>]"),
        (("a",), "$[<tuple>]"),
    ],
)
def test_names_that_are_no_text_are_named(name: object, location: str) -> None:
    """``json`` would turn some of these into text silently, and two names into one."""
    assert found({name: 1}) == [(location, "not-json")]


def test_messages_say_what_to_do_and_quote_no_value() -> None:
    """Each kind of value gets the advice that fits it."""
    secret = b"hunter2"
    text = describe_problems(json_problems([secret, (secret,), date(2026, 1, 1), np.int64(77), {secret: 1}]), limit=9)
    for words in ("put it into an artifact", "make it a list", ".isoformat()", "numpy.int64", ".item()"):
        assert words in text
    assert "hunter2" not in text
    assert "77" not in text


def test_cycles_end() -> None:
    """A value that contains itself is named where it closes; one that is only shared is fine."""
    cycle: dict[str, Any] = {"a": []}
    cycle["a"].append(cycle)
    assert found(cycle) == [("$.a[0]", "cycle")]
    shared = [1]
    assert found([shared, shared, {"a": shared}]) == []


def test_depth_is_bounded_however_deep() -> None:
    """100 levels are JSON to us, 101 are not, and 100,000 break nothing."""
    deep: list[Any] = []
    for _ in range(99):
        deep = [deep]
    assert found(deep) == []
    assert [kind for _, kind in found([deep])] == ["depth"]
    for _ in range(100_000):
        deep = [deep]
    assert [kind for _, kind in found(deep)] == ["depth"]


def test_subclasses_of_jsons_types_are_json() -> None:
    """``numpy.float64`` is a float and an enum of text is text, as ``json`` writes them."""
    value = {"a": np.float64(0.5), Colour.RED: Colour.RED, "level": Level.HIGH}
    assert found(value) == []
    assert dump_json(value) == b'{"a":0.5,"red":"red","level":3}'
    copied = plain_copy(value)
    assert copied == {"a": 0.5, "red": "red", "level": 3}
    assert [type(each) for each in (*copied, *copied.values())] == [str, str, str, float, str, int]


def test_dump_refuses_what_is_not_json() -> None:
    """The error names every member, and nothing is written."""
    with pytest.raises(InvalidDocumentError, match=r"2 problems: \$\.a: .*; \$\.b\[0\]: .*Nothing was written"):
        dump_json({"a": float("inf"), "b": [b""]})


def test_dump_is_compact_utf8() -> None:
    """No white space, no escapes that UTF-8 does not need."""
    assert dump_json({"é": ["𝄞", 1, "\u2028"]}) == '{"é":["𝄞",1,"\u2028"]}'.encode()


@pytest.mark.parametrize("text", ["[1]", b"[1]", bytearray(b"[1]"), memoryview(b"[1]")])
def test_load_takes_text_and_every_kind_of_bytes(text: Any) -> None:
    """Whatever a body was read into."""
    assert load_json(text) == [1]


def test_size_is_bounded_in_bytes() -> None:
    """The bound counts UTF-8, for text as for bytes; exactly as many fit."""
    text = '["é𝄞"]'
    for each in (text, text.encode()):
        assert load_json(each, max_bytes=10) == ["é𝄞"]
        assert load_json(each, max_bytes=None) == ["é𝄞"]
        with pytest.raises(InvalidDocumentError, match="longer than 9 bytes") as failure:
            load_json(each, max_bytes=9)
        assert [problem.kind for problem in failure.value.problems] == ["size"]
    with pytest.raises(InvalidDocumentError, match="longer than 3 bytes"):
        load_json("[1,2,3]", max_bytes=3)
    with pytest.raises(InvalidDocumentError, match="longer than 5 bytes"):
        load_json('["\ud800"]', max_bytes=5)


def test_errors_of_the_reader_quote_nothing() -> None:
    """Neither the message nor the chain of exceptions holds the text."""
    for text in ('{"token":"hunter2"', b'"hunter2\xff"', '{"a":"hunter2","a":1}'):
        with pytest.raises(InvalidDocumentError) as failure:
            load_json(text)
        assert "hunter2" not in str(failure.value)
        assert failure.value.__cause__ is None
        assert failure.value.__context__ is None


def test_syntax_errors_say_where() -> None:
    """Line and column of the first error."""
    with pytest.raises(InvalidDocumentError, match="not JSON at line 2, column 3"):
        load_json('{"a":1,\n  b}')


def test_hostile_nesting_does_not_depend_on_the_recursion_limit() -> None:
    """A raised limit changes the way the reader finds out, not the verdict."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(InvalidDocumentError) as failure:
            load_json("[" * 5_000 + "]" * 5_000)
    finally:
        sys.setrecursionlimit(limit)
    assert [problem.kind for problem in failure.value.problems] == ["depth"]


def test_problems_read_well() -> None:
    """The first few are spelled out, the rest are counted."""
    problems = [Problem(item("$.a", index), "type", "must be text, is null") for index in range(7)]
    assert describe_problems(problems[:1]) == "1 problem: $.a[0]: must be text, is null"
    assert describe_problems(problems, limit=2).endswith("$.a[1]: must be text, is null; and 5 more")
    error = invalid_document("the output", problems, "Nothing was sent.")
    assert error.problems == tuple(problems)
    assert str(error).startswith("the output is not valid: 7 problems: $.a[0]")
    assert str(error).endswith("and 2 more. Nothing was sent.")


def test_locations_are_printable_and_short() -> None:
    """Hostile names are escaped, long ones cut."""
    assert member("$", "a\x1b[31m") == '$["a\\u001b[31m"]'
    assert member("$", "\ud800").encode() == b'$["\\ud800"]'
    assert member("$", "é b") == '$["é b"]'
    assert member("$", "a" * 500) == '$["' + "a" * 80 + '…"]'
