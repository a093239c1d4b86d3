"""Documents inside other JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.schema_cases import base

from stepout.schemas import find_documents, the_document
from stepout.schemas.errors import InvalidDocumentError

OUTPUT, POINTER = base("output"), base("pointer")


def places(value: Any) -> list[tuple[str, str]]:
    """Return locations and kinds."""
    return [(found.location, found.kind) for found in find_documents(value)]


def test_documents_are_found_at_any_depth_in_order() -> None:
    """Objects and arrays are searched; what lies inside a found document is not listed apart."""
    value = {"a": [POINTER, {"b": OUTPUT}], "odd name": {"c": POINTER}, "z": OUTPUT}
    expected = [("$.a[0]", "pointer"), ("$.a[1].b", "output"), ('$["odd name"].c', "pointer"), ("$.z", "output")]
    assert places(value) == expected
    assert find_documents(value)[1].document is OUTPUT
    assert places(OUTPUT) == [("$", "output")]


def test_a_shared_object_is_found_at_each_place() -> None:
    """As it would be in the JSON text."""
    shared = {"p": POINTER}
    assert places([shared, shared]) == [("$[0].p", "pointer"), ("$[1].p", "pointer")]


def test_text_is_parsed_once_and_text_inside_is_not_looked_into() -> None:
    """A whole event may be text; a string inside it stays a string."""
    assert places(json.dumps({"a": POINTER})) == [("$.a", "pointer")]
    assert places(json.dumps({"a": POINTER}).encode()) == [("$.a", "pointer")]
    assert places({"a": json.dumps(POINTER)}) == []
    assert places(json.dumps(json.dumps(POINTER))) == []
    with pytest.raises(InvalidDocumentError, match="not JSON at line 1"):
        find_documents("s3")


def test_things_that_only_look_like_documents_are_passed_by() -> None:
    """Another member of that name, or a bare version, is no document."""
    assert (
        places([{"stepout": 1}, {"stepout": "mine"}, {"stepout": "outputs/1"}, "pointer/1", {"a": "output/1"}, None])
        == []
    )


def test_cycles_and_depth_are_safe() -> None:
    """A value that contains itself is searched once; hostile depth is refused."""
    cycle: dict[str, Any] = {"p": POINTER}
    cycle["self"] = [cycle]
    assert places(cycle) == [("$.p", "pointer")]
    deep: Any = POINTER
    for _ in range(100):
        deep = [deep]
    assert [kind for _, kind in places(deep)] == ["pointer"]
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidDocumentError, match="deeper than 100"):
        find_documents(deep)


def test_the_only_output_wins_over_pointers() -> None:
    """Exactly one output, or else exactly one pointer."""
    assert the_document({"a": POINTER, "b": {"c": OUTPUT}}) == ("output", OUTPUT, "$.b.c")
    assert the_document({"a": [POINTER]}) == ("pointer", POINTER, "$.a[0]")
    assert the_document(json.dumps(OUTPUT)) == ("output", OUTPUT, "$")


@pytest.mark.parametrize(
    ("value", "locations"),
    [
        ([OUTPUT, {"a": OUTPUT}, POINTER], ["$[0]", "$[1].a"]),
        ({"a": POINTER, "b": POINTER}, ["$.a", "$.b"]),
    ],
)
def test_several_documents_are_refused_with_their_locations(value: Any, locations: list[str]) -> None:
    """Guessing which one is meant is not ours to do."""
    with pytest.raises(InvalidDocumentError, match="of 2") as failure:
        the_document(value)
    assert [problem.location for problem in failure.value.problems] == locations
    assert {problem.kind for problem in failure.value.problems} == {"several"}


@pytest.mark.parametrize("value", [None, {}, [], 5, {"Payload": {"ok": True}}, "{}"])
def test_no_document_is_refused(value: Any) -> None:
    """The message says what was looked for."""
    with pytest.raises(InvalidDocumentError, match="no task output and no pointer"):
        the_document(value)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("output/2", r'\$\.a\.stepout: is "output/2", this stepout reads "output/1"; .*upgrade'),
        ("pointer/17", 'is "pointer/17"'),
        ("output/hunter2", "is of no version of output"),
        ("pointer/1\n", "is of no version of pointer"),
    ],
)
def test_an_unknown_version_asks_for_an_upgrade(version: str, words: str) -> None:
    """A document of a later version is found and named, not taken for something else."""
    with pytest.raises(InvalidDocumentError, match=words) as failure:
        the_document({"a": {"stepout": version}})
    assert [problem.kind for problem in failure.value.problems] == ["version"]
    assert "hunter2" not in str(failure.value)


@given(
    value=st.recursive(
        st.none() | st.integers() | st.just(POINTER) | st.just(OUTPUT),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        max_leaves=20,
    )
)
def test_every_document_is_found_once(value: Any) -> None:
    """As many as a plain recursive count says."""
    assert len(find_documents(value)) == count(value)


def count(value: Any) -> int:
    """Count documents the simple way."""
    if value in (POINTER, OUTPUT):
        return 1
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return sum(count(child) for child in children)
