"""Foreign text is shown without what drives a terminal, turns a line round or is not seen; errors and logs use it."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout import Pointer, resolve_artifact
from stepout.schemas import errors
from stepout.schemas.many_failed import ManyFailedError
from stepout.schemas.text.foreign_text import LONGEST, logger, shown, shown_json
from stepout.testing import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

MANY = settings()


def _span(*ranges: tuple[int, int]) -> Iterable[str]:
    return (chr(code) for first, last in ranges for code in range(first, last + 1))


CONTROLS = set(_span((0, 0x1F), (0x7F, 0x9F)))
BIDIRECTIONAL = set(_span((0x202A, 0x202E), (0x2066, 0x2069), (0x200E, 0x200F), (0x61C, 0x61C)))
SEPARATORS = {"\u2028", "\u2029"}
UNSEEN = set(_span((0x200B, 0x200D), (0x2060, 0x2064), (0xFEFF, 0xFEFF), (0xE0001, 0xE0001), (0xE0020, 0xE007F)))
UNSEEN |= set(_span((0xAD, 0xAD), (0x34F, 0x34F), (0x115F, 0x1160), (0x3164, 0x3164), (0xFE00, 0xFE0F)))
UNSEEN |= set(_span((0xE0100, 0xE01EF), (0xD800, 0xD800), (0xDFFF, 0xDFFF), (0xFFF9, 0xFFFB)))
HOSTILE = CONTROLS | BIDIRECTIONAL | SEPARATORS | UNSEEN

ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from(sorted(HOSTILE))))


@pytest.mark.parametrize("kind", [CONTROLS, BIDIRECTIONAL, SEPARATORS, UNSEEN], ids=["c", "bidi", "lines", "unseen"])
def test_each_character_of_the_kind_is_an_escape(kind: set[str]) -> None:
    """Not one of them is left, in text, in JSON or in an error's message, and JSON keeps its value."""
    for letter in kind:
        assert shown(f"a{letter}b") == f"a{letter.encode('unicode_escape', 'surrogatepass').decode()}b"
        told = str(errors.StoreError(f"no object a{letter}b"))
        assert letter not in told or letter in "\n\t"
        spelled = shown_json(json.dumps([letter], ensure_ascii=False))
        assert letter not in spelled
        assert json.loads(spelled) == [letter]


def test_what_people_write_stays() -> None:
    """Letters of every script, marks, symbols and backslashes are as they were."""
    for text in ("naïve Ünïcode", "日本語", "العربية", "é", "C:\\data\\x41", "a b", "𝄞 🎉", ""):
        assert shown(text) == text
        assert shown_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@MANY
@given(ANY_TEXT, st.one_of(st.none(), st.integers(12, 60)), st.booleans())
def test_shown_text_is_bounded_and_stays_as_it_is(text: str, longest: int | None, lines: bool) -> None:
    """Nothing of the kind passes, the limit holds, and showing it again changes nothing."""
    told = shown(text, longest, lines=lines)
    assert not (set(told) & HOSTILE) - (set("\n\t") if lines else set())
    assert longest is None or len(told) <= longest
    assert shown(told, longest, lines=lines) == told


@MANY
@given(st.recursive(st.none() | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)))
def test_json_keeps_its_value(value: object) -> None:
    """What is escaped in JSON is read back as it was."""
    for indent in (None, 2):
        spelled = shown_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(spelled) == value
        assert not set(spelled) & (HOSTILE - {"\n"})


def test_what_is_no_text_is_shown_too() -> None:
    """Even a number that Python refuses to print is no error."""
    assert shown(3) == "3"
    assert shown(10**5000) == "<int>"
    assert len(shown("\x1b" * 10**6)) <= LONGEST


@pytest.mark.parametrize("kind", [errors.ArtifactNotFoundError, errors.ConfigurationError, errors.InvalidDocumentError])
def test_messages_are_bounded(kind: type[errors.StepoutError]) -> None:
    """A message that quotes a megabyte is cut, its arguments and its pickled copy hold all of it."""
    error = kind("x" * 2**20 + "\x9b")
    assert len(str(error)) == 4_000
    assert len(error.args[0]) == 2**20 + 1
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(errors.RetryableError("y" * 9_000))) == 9_000  # What a job says itself is not cut.


def test_a_report_of_many_names_five() -> None:
    """One giant failure does not hide the next one's name."""
    failures = {f"name{number}\x1b": errors.StoreError("z" * 5_000) for number in range(7)}
    told = str(ManyFailedError("put_many", failures))
    assert all(f"name{number}\\x1b: StoreError" in told for number in range(5))
    assert told.endswith("and 2 more, in failures")
    assert len(told) <= 4_000


def test_log_lines_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Messages and tracebacks of our loggers are escaped; a record that needs nothing keeps its arguments."""
    log = logger("stepout.test")
    with caplog.at_level(logging.INFO, "stepout.test"):
        log.info("key %s", "a\x1b[2J\u202e")
        log.info("key %s", "plain")
        try:
            _fail("bad \x9b")
        except ValueError:
            log.exception("failed")
    assert [record.getMessage() for record in caplog.records] == ["key a\\x1b[2J\\u202e", "key plain", "failed"]
    assert caplog.records[1].args == ("plain",)
    assert "\x9b" not in caplog.text
    assert "bad \\x9b" in caplog.text


def _fail(message: str) -> None:
    raise ValueError(message)


def test_every_logger_of_the_library_shows() -> None:
    """A module's logger that is not made by ``logger`` would print what documents hold."""
    root = Path(__file__).parents[2]
    files = [path for name in ("artifacts", "callbacks", "schemas", "src") for path in (root / name).rglob("*.py")]
    assert [path for path in files if "_log = logging.getLogger" in path.read_text()] == []


def test_an_artifact_shows_its_url() -> None:
    """What the REPL and a log print of an artifact is escaped."""
    pointer = Pointer(bucket="results", key="a\u202eb", size=1, checksum={"sha256": "0" * 64}, media_type="a/b")
    artifact = resolve_artifact(pointer.to_dict(), allow=["s3://results/"], client=MemoryStore("results"))
    assert "\u202e" not in repr(artifact)
