"""What a Distributed Map's ItemReader reads, as an artifact."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.writing.item_reader import ITEM_MOST
from stepout.schemas import Pointer, RunIdentity, TaskOutput

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c", state="Plan", nonce="ab12")

ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.fixture
def manager() -> ArtifactManager:
    """A manager of a store in memory."""
    return ArtifactManager(MemoryStore("results-bucket"), "runs", run=RUN)


def lines_of(store: MemoryStore, pointer: Pointer) -> list[Any]:
    """The items as a reader of JSON Lines sees them, whatever it takes for the end of a line."""
    return [json.loads(line) for line in store.read(pointer.key).decode().splitlines()]


def test_each_item_is_one_line_and_the_pointer_says_how_to_read_them() -> None:
    """JSON of any shape, the reader's own setting, the count."""
    store = MemoryStore("results-bucket")
    manager = ArtifactManager(store, "runs", run=RUN)
    items = [{"scene": 7, "name": "a\u2028b\n"}, "text", 3, [1, None], {}]
    pointer = stepout.write_item_reader_manifest(manager, "scenes", items)
    assert lines_of(store, pointer) == items
    assert pointer.key.endswith("/scenes.jsonl")
    assert pointer.annotations == {"items": 5, "readerConfig": {"InputType": "JSONL"}}
    assert manager.pointers["scenes"] == pointer


def test_what_stands_for_a_document_becomes_it() -> None:
    """A pointer, an artifact, an output's document and a resolved output, alone or inside an item."""
    store = MemoryStore("results-bucket")
    manager = ArtifactManager(store, "runs", run=RUN)
    made = manager.put_json("one", {"n": 1})
    output = TaskOutput(artifacts={"one": made})

    class Resolved:
        """As ``Artifact`` and ``Output`` offer what they are."""

        def __init__(self, **given: Any) -> None:
            self.__dict__.update(given)

    items = [made, output, Resolved(pointer=made), Resolved(document=output), {"scene": 7, "parts": [made]}]
    pointer = stepout.write_item_reader_manifest(manager, "items", items)
    one, whole = made.to_dict(), output.to_dict()
    assert lines_of(store, pointer) == [one, whole, one, whole, {"scene": 7, "parts": [one]}]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("x" * ITEM_MOST, "size"),
        (float("nan"), "not-finite"),
        ({1: 2}, "not-json"),
        (b"x", "not-json"),
        (ENDLESS, "depth"),
    ],
)
def test_an_item_that_no_child_could_be_given_is_named(bad: Any, kind: str) -> None:
    """The item's place is in the error, and nothing was sent, though others were taken before."""
    store = MemoryStore("results-bucket")
    manager = ArtifactManager(store, "runs", run=RUN)
    with pytest.raises(stepout.InvalidDocumentError, match="Nothing was sent") as raised:
        stepout.write_item_reader_manifest(manager, "items", [{"n": 1}, bad])
    (problem,) = raised.value.problems
    assert problem.location.startswith("$[1]")
    assert problem.kind == kind
    assert not manager.pointers
    stepout.write_item_reader_manifest(manager, "items", [])  # the name is free


@pytest.mark.parametrize("one", [{"n": 1}, "text", b"bytes", TaskOutput(artifacts={})])
def test_one_item_alone_is_refused(one: Any, manager: ArtifactManager) -> None:
    """A dict would be taken for its names, a text for its letters."""
    with pytest.raises(stepout.ConfigurationError, match="expected a list"):
        stepout.write_item_reader_manifest(manager, "items", one)


def test_the_largest_item_that_is_taken_has_room_for_what_is_put_around_it(manager: ArtifactManager) -> None:
    """Index and the parent's ARN beside it stay within the 262,144 bytes of a child's input."""
    largest = "x" * (ITEM_MOST - 2)
    stepout.write_item_reader_manifest(manager, "items", [largest])
    selected = {"index": 99_999_999, "item": largest, "parent": "a" * 256}
    assert len(json.dumps(selected)) <= 262_144


def test_items_are_taken_one_at_a_time_in_bounded_memory(manager: ArtifactManager) -> None:
    """Of 60 MB from an iterator, no more than the 8 MiB that wait in memory are held when the last one is taken."""
    held: list[int] = []

    def items() -> Iterator[dict[str, Any]]:
        for number in range(600):
            yield {"number": number, "text": "x" * 100_000}
            held.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        pointer = stepout.write_item_reader_manifest(manager, "items", items())
    finally:
        tracemalloc.stop()
    assert pointer.size > 60_000_000
    assert (pointer.annotations or {})["items"] == 600
    assert max(held) < 24 << 20
