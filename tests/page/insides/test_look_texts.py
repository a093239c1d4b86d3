"""Looks into text and JSON: the beginning, as it says it is written, with nothing in it that acts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.looks import Bench

from stepout.page.budget import PageBudget
from stepout.page.insides.text import HEAD, SHOWN
from stepout.page.model import TextInside


def _text(data: bytes, media_type: str = "text/plain", name: str = "a.txt") -> tuple[TextInside, str]:
    bench = Bench()
    look = bench.look(bench.shelf.put(data, name, media_type=media_type))
    assert isinstance(look.inside, TextInside), look
    return look.inside, look.verified_note


@pytest.mark.parametrize(
    ("media_type", "encoding"),
    [
        ("text/plain", "utf-8"),
        ("text/plain", "utf-8-sig"),
        ("text/plain", "utf-16"),
        ("text/plain", "utf-32"),
        ("text/plain; charset=utf-16-le", "utf-16-le"),
        ('text/csv; charset="ISO-8859-1"', "latin-1"),
        ("text/csv; header=present; charset=Shift_JIS", "shift_jis"),
    ],
)
def test_text_is_decoded_as_it_says(media_type: str, encoding: str) -> None:
    """By a byte-order mark, by the charset of the media type, or as UTF-8."""
    words = "naïve, café" if encoding != "shift_jis" else "表計算"
    inside, note = _text(f"{words}\r\nsecond".encode(encoding), media_type)
    assert (inside.text, inside.language, inside.cut) == (f"{words}\nsecond", "text", False)
    assert "shown as" not in note


@pytest.mark.parametrize(
    "charset", ["", "; charset=hex", "; charset=idna", "; charset=no-such", "; charset=unicode_escape"]
)
def test_text_that_is_not_what_it_says_is_shown_all_the_same(charset: str) -> None:
    """The note says as what; codecs that are no encodings of text are never used."""
    inside, note = _text("café".encode("latin-1"), f"text/plain{charset}")
    assert inside.text == "café"
    assert "It is not UTF-8" in note


def test_what_acts_or_is_not_seen_is_escaped() -> None:
    """Controls of terminals, marks that turn the reading direction, characters without width."""
    inside, _ = _text("a\x1b[2J\u202eb\u200b\tc".encode())
    assert inside.text == "a\\x1b[2J\\u202eb\\u200b\tc"


def test_bytes_that_are_no_text_are_not_shown_as_text() -> None:
    """Whatever the media type says."""
    bench = Bench()
    look = bench.look(bench.shelf.put(bytes(range(256)) * 10, "a.txt", media_type="text/plain"))
    assert (look.inside, look.verified, look.problem) == (None, "whole", None)
    assert "no text" in look.verified_note


def test_of_a_long_text_the_beginning_is_read_and_verified() -> None:
    """By the blocks that it lies in; the card says how much."""
    bench = Bench()
    pointer = bench.artifacts.put_text("t", "one line of it\n" * 200_000)
    look = bench.look(pointer)
    assert isinstance(look.inside, TextInside)
    assert (look.verified, look.inside.cut, len(look.inside.text)) == ("part", True, SHOWN)
    assert look.inside.text.startswith("one line of it\none line")
    assert bench.budget.spent().bytes_read == 256 << 10
    assert f"of its {pointer.size:,} bytes" in look.verified_note


def test_a_character_that_is_cut_in_two_is_left_out() -> None:
    """Of a long text, where the part that is read ends."""
    inside, note = _text(b"a" + "é".encode() * HEAD)
    assert inside.text.startswith("aéé")
    assert "\ufffd" not in inside.text
    assert "shown as" not in note


def test_a_long_text_without_blocks_is_read_whole_or_not_at_all() -> None:
    """A part of it could not be verified."""
    bench = Bench()
    pointer = bench.shelf.put(b"x" * (1 << 20), "a.txt", media_type="text/plain")
    assert bench.look(pointer).verified == "whole"
    look = bench.look(pointer, PageBudget(bytes=1 << 20))
    assert (look.inside, look.verified, bench.budget.spent().requests) == (None, "not", 0)
    assert "1,048,576 bytes" in look.verified_note


def test_a_damaged_beginning_is_a_problem() -> None:
    """Nothing of it is shown."""
    bench = Bench()
    look = bench.look(bench.shelf.damage(b"some text", 3, name="a.txt", media_type="text/plain").pointer)
    assert look.inside is None
    assert look.problem is not None
    assert look.problem.error == "Stepout.ChecksumMismatch"


def test_an_empty_text_is_shown_as_such() -> None:
    """And verified."""
    inside, note = _text(b"")
    assert (inside.text, inside.cut) == ("", False)
    assert "SHA-256" in note


# JSON -----------------------------------------------------------------------------------------------------------------


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
        lambda each: st.lists(each) | st.dictionaries(st.text(max_size=3), each),
        max_leaves=20,
    )
)
def test_json_is_indented_and_is_the_same_value(value: object) -> None:
    """What is not seen is escaped, which changes the spelling alone."""
    inside, _ = _text(json.dumps(value).encode(), "application/json", "a.json")
    assert (json.loads(inside.text), inside.language, inside.cut) == (value, "json", False)
    assert all(letter.isprintable() or letter == "\n" for letter in inside.text)


@pytest.mark.parametrize("media_type", ["application/geo+json", "application/json; charset=utf-8"])
def test_other_types_of_json_are_json(media_type: str) -> None:
    """By their suffix."""
    inside, _ = _text(b'{"a":1}', media_type)
    assert inside.text == '{\n  "a": 1\n}'


def test_json_that_would_unfold_into_too_much_is_cut() -> None:
    """Of deep lists, whose lines are mostly indentation, no more is written than is shown."""
    inside, _ = _text(b"[" * 90 + b",".join([b"1"] * 100_000) + b"]" * 90, "application/json")
    assert (inside.cut, len(inside.text), inside.language) == (True, SHOWN, "json")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1',
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b"[NaN]",
        b"\xff\xfe{\0}\0",
        b"[" + b"9" * 5000 + b"]",
        b'"\\ud800"',
    ],
)
def test_json_that_cannot_be_read_is_a_problem_and_is_shown_as_text(data: bytes) -> None:
    """Its bytes are those that were written, so the program that wrote them is to be mended."""
    bench = Bench()
    look = bench.look(bench.shelf.put(data, "a.json", media_type="application/json"))
    assert isinstance(look.inside, TextInside)
    assert (look.inside.language, look.verified) == ("text", "whole")
    assert look.problem is not None
    assert look.problem.error == "Stepout.InvalidDocument"


def test_of_long_json_the_beginning_is_shown_as_it_is() -> None:
    """Parsing megabytes would be for nothing."""
    bench = Bench()
    look = bench.look(bench.artifacts.put_json("j", [{"number": index} for index in range(100_000)]))
    assert isinstance(look.inside, TextInside)
    assert look.inside.text.startswith('[{"number":0}')
    assert (look.inside.language, look.inside.cut, look.verified) == ("json", True, "part")


# Everything else ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type", ["application/zip", "video/mp4", "application/vnd.apache.arrow.file", "x-odd/type"]
)
def test_of_other_types_nothing_is_read(media_type: str) -> None:
    """The card says what it is."""
    bench = Bench()
    look = bench.look(bench.shelf.put(b"PK\x03\x04", "a.zip", media_type=media_type))
    assert (look.inside, look.verified, look.problem, bench.budget.spent().requests) == (None, "not", None, 0)
    assert media_type in look.verified_note


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "ZIP"),
        (b"\x1f\x8brest", "gzip"),
        (b"\x80\x05rest", "pickle"),
        (b"PAR1rest", "Parquet"),
        (b"\0\1\2\3", "no text"),
        (b"", "empty"),
    ],
)
def test_what_says_nothing_of_its_type_is_told_by_its_first_bytes(data: bytes, words: str) -> None:
    """They are read and verified."""
    bench = Bench()
    look = bench.look(bench.shelf.put(data, "a.bin", media_type="application/octet-stream"))
    assert (look.inside, look.verified) == (None, "whole")
    assert words in look.verified_note


def test_what_says_nothing_of_its_type_may_be_text() -> None:
    """By its key's extension, or by its bytes."""
    for name in ("a.csv", "noextension"):
        inside, _ = _text(b"a,b\n1,2\n", "application/octet-stream", name)
        assert inside.text == "a,b\n1,2\n"
