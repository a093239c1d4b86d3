"""The rules that producer and consumer share in pull mode."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.schemas import RunIdentity, TaskOutput
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.pull import (
    AskedRun,
    Failure,
    failure_item,
    failure_key,
    failures_beside,
    newest_failure,
    read_failure,
    read_item,
    success_item,
)
from stepout.schemas.text.locations import TablePlace, table_place

NAMES = st.text("abcXYZ019_.-", min_size=3, max_size=40)
KEYS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=80)


@given(NAMES, st.none() | KEYS, NAMES)
def test_a_place_in_a_table_survives_its_url(table: str, key: str | None, attribute: str) -> None:
    """Nothing in a key is encoded or decoded, so a state machine can put it together."""
    place = TablePlace(table, key, attribute)
    assert table_place(place.url) == place


@given(KEYS, st.none() | st.integers(0, 10**9 - 1), st.text("0123456789abcdef", min_size=1, max_size=12))
def test_a_failure_is_found_beside_its_output_only(key: str, attempt: int | None, nonce: str) -> None:
    """Never beside another output, and the output itself is none."""
    made = failure_key(key, attempt=attempt, nonce=nonce)
    listed = [(name, "2026-11-22T12:00:00+00:00") for name in (key, made, f"{made}.old")]
    assert failures_beside(key, listed) == [made]
    assert failures_beside(f"{key}x", listed) == []


@given(KEYS.filter(lambda text: text.strip() == text and bool(text)), KEYS)
def test_a_failure_survives_both_ways(error: str, message: str) -> None:
    """As an object and as an item: the name, and the cause as the same JSON."""
    cause = json.dumps({"message": message})
    written = json.dumps({"error": error, "cause": json.loads(cause)})
    found = read_failure(written)
    assert (found.error, json.loads(found.cause)) == (error, {"message": message})
    item = failure_item(
        TablePlace("table", "key"), Failure(error, cause), run=RunIdentity(), time="2026-11-22T12:00:00Z"
    )
    assert read_item(item) == Failure(error, cause)


@given(KEYS)
def test_a_document_survives_its_item(text: str) -> None:
    """Byte for byte."""
    document = TaskOutput(result={"text": text}).to_dict()
    item = success_item(TablePlace("table", "key"), document, run=RunIdentity(), time="2026-11-22T12:00:00Z")
    assert read_item(item) == document


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"error": 3}', '{"error": " "}', "no json", '{"error": "x"' + " " * 300_000 + "}"]
)
def test_what_is_no_failure_is_refused(text: str) -> None:
    """A failure document is untrusted input."""
    with pytest.raises(InvalidDocumentError):
        read_failure(text)


def test_a_failure_fits_a_line_of_a_log() -> None:
    """Whatever the task wrote as its error and cause."""
    shown = str(Failure("Bad\nName", json.dumps({"message": "first" + "x" * 1_000 + "\nsecond"})))
    assert shown.startswith("Bad Name: firstx")
    assert (len(shown) < 400, "\n" in shown, "second" in shown) == (True, False, False)
    assert str(Failure("Only", "")) == "Only"
    assert str(Failure("Odd", "[1]")) == "Odd: [1]"


@given(st.permutations([0, 1, 2, 3, 4]), st.integers(0, 5))
def test_the_newest_failure_of_the_run_is_the_one_that_counts(order: list[int], since: int) -> None:
    """In whatever order they are listed; others' and unreadable ones are passed over, older ones are not fetched."""
    key = "outputs/1.json"
    fetched: list[int] = []
    names = {failure_key(key, attempt=age, nonce="a"): age for age in order}
    texts = {0: "no JSON", 1: '{"error": "Theirs", "cause": {"run": {"execution": "arn:2"}}}'}

    def fetch(name: str) -> str | None:
        fetched.append(names[name])
        return texts.get(names[name], '{"error": "Ours", "cause": {"run": {"execution": "arn:1"}}}')

    beside = failures_beside(key, [(name, 5.0 - age) for name, age in names.items()], 5.0 - since)
    assert [names[name] for name in beside] == list(range(min(since, 4) + 1))
    run = AskedRun(execution="arn:1")
    if since < 2:
        with pytest.raises(InvalidDocumentError):
            newest_failure(map(fetch, beside), run)
    else:
        ours = Failure("Ours", '{"run":{"execution":"arn:1"}}', execution="arn:1")
        assert newest_failure(map(fetch, beside), run) == (2, ours)
        assert fetched == [0, 1, 2]
    assert newest_failure(iter([None] * 50), run) is None


def test_a_child_of_the_asked_execution_counts_as_its_own() -> None:
    """A failure says which execution started its own; another run's child does not match."""
    failure = read_failure('{"error": "E", "cause": {"run": {"execution": "arn:c", "parentExecution": "arn:p"}}}')
    assert [AskedRun(execution=asked).may_have(failure) for asked in ("arn:c", "arn:p", "arn:q", None)] == [
        *(True, True, False, True)
    ]
