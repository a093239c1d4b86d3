"""Nothing but our own errors leaves a parser, whatever it is given: text, bytes, JSON, or a value of the wrong type."""

from __future__ import annotations

import array
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from support.hostile_json import ANY_BYTES, ANY_TEXT, MANY, POISON, POISON_BYTES, VALUES

from stepout import Contract, Pointer, RunIdentity, TaskOutput, resolve, resolve_all
from stepout.artifacts.listing import parse_listing
from stepout.artifacts.reading.documents.foreign import find_references, load_foreign, opened_texts
from stepout.callbacks.environment import parse_input
from stepout.callbacks.stopped_task import cause_document, judge, stopped_task
from stepout.callbacks.targets.messages import parse_report
from stepout.callbacks.targets.sqs import queue_place
from stepout.callbacks.worker.job import read_job
from stepout.doctor import examine
from stepout.doctor.examination import recognise
from stepout.doctor.findings import Document
from stepout.schemas import dump_json, find_documents, json_problems, load_json, the_document, validate
from stepout.schemas.errors import InvalidDocumentError, StepoutError
from stepout.schemas.pull import read_failure, read_item
from stepout.testing import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

NO_JSON = [object(), {1, 2}, (1, 2), b"x", 1 + 2j, {1: 2}, {None: []}, {(1, 2): 3}, memoryview(b"ab"), Exception("x")]


def _resolved(document: Any) -> None:
    resolve(document, allow=["s3://results/"], client=MemoryStore("results"))


def _all_resolved(document: Any) -> None:
    resolve_all(document, allow=["s3://results/"], client=MemoryStore("results"))


def _judged(event: Any) -> None:
    task = stopped_task(event)
    if task is not None:
        for container in (None, *task.tokens.values()):
            verdict = judge(task, task.end_of(container))
            json.dumps(cause_document(task, container, verdict), ensure_ascii=False, allow_nan=False).encode()


def _examined(document: Any) -> None:
    recognise(document)
    examine([Document("a", document), Document("b", [document])])


def _item(value: Any) -> None:
    read_item({"status": {"S": "SUCCEEDED"}, "document": {"S": "{}"}, **value} if isinstance(value, dict) else value)


TEXT_PARSERS: dict[str, Callable[[Any], object]] = {
    "load_json": load_json,
    "load_foreign": load_foreign,
    "parse_report": parse_report,
    "read_job": read_job,
    "read_job of an activity": lambda text: read_job(text, "AAAA"),
    "environment of a job": lambda text: (job := read_job(text)).environment({}) and job.run.to_dict(),
    "parse_input": parse_input,
    "read_failure": read_failure,
    "str of a failure": lambda text: str(read_failure(text)),
    "queue_place": queue_place,
    "resolve": _resolved,
    "resolve_all": _all_resolved,
}
VALUE_PARSERS: dict[str, Callable[[Any], object]] = {
    "Pointer": Pointer.from_dict,
    "TaskOutput": TaskOutput.from_dict,
    "RunIdentity": RunIdentity.from_dict,
    "Contract": Contract.from_dict,
    "find_documents": find_documents,
    "the_document": the_document,
    "find_references": find_references,
    "opened_texts": opened_texts,
    "validate": validate,
    "json_problems": json_problems,
    "dump_json": dump_json,
    "read_item": _item,
    "stopped_task": _judged,
    "examine": _examined,
    "resolve": _resolved,
    "resolve_all": _all_resolved,
}


def _only_ours(parse: Callable[[Any], object], given_value: object) -> None:
    try:
        parse(given_value)
    except StepoutError as error:
        assert len(str(error)) <= 4_000  # noqa: PT017 - what is asserted is the error's


@pytest.mark.parametrize("name", TEXT_PARSERS)
def test_a_poison_text_is_our_error(name: str) -> None:
    """Each text that is not JSON in one way or in several is refused by a name of ours, in text and in bytes."""
    for text in POISON:
        _only_ours(TEXT_PARSERS[name], text)
        if name != "queue_place":
            _only_ours(TEXT_PARSERS[name], text.encode("utf-8", "surrogatepass"))
    for data in POISON_BYTES if name != "queue_place" else ():
        _only_ours(TEXT_PARSERS[name], data)


@pytest.mark.parametrize("name", TEXT_PARSERS)
@MANY
@given(text=ANY_TEXT)
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    """Whatever text it is."""
    _only_ours(TEXT_PARSERS[name], text)


@pytest.mark.parametrize("name", sorted({*TEXT_PARSERS} - {"queue_place"}))
@MANY
@given(data=ANY_BYTES)
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    """Whatever bytes they are."""
    _only_ours(TEXT_PARSERS[name], data)


@pytest.mark.parametrize("name", VALUE_PARSERS)
@MANY
@given(value=VALUES)
@example(value={"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"lastStatus": "STOPPED"}})
def test_any_value_is_read_or_refused(name: str, value: object) -> None:
    """Whatever JSON it is, and what Python's reader takes for JSON."""
    _only_ours(VALUE_PARSERS[name], value)


@pytest.mark.parametrize("name", sorted({*VALUE_PARSERS} - {"opened_texts", "find_references"}))
@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: type(value).__name__)
def test_what_is_no_json_is_refused(name: str, value: object) -> None:
    """Neither does a value that no JSON text holds raise anything foreign."""
    _only_ours(VALUE_PARSERS[name], value)
    if isinstance(value, dict | list):
        return
    _only_ours(VALUE_PARSERS[name], {"stepout": value, "detail": value, "bucket": [value]})


@pytest.mark.parametrize("name", ["load_json", "load_foreign", "parse_report", "read_job", "read_failure"])
@pytest.mark.parametrize(
    "value",
    [None, 3, [], {}, object(), memoryview(b"{}")[::-1], array.array("d", [1.5])],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_text_is_refused(name: str, value: object) -> None:
    """A reader of text that is given anything else says so by our error."""
    with pytest.raises(InvalidDocumentError):
        TEXT_PARSERS[name](value)


@MANY
@given(data=ANY_BYTES)
def test_any_listing_is_read_or_refused(data: bytes) -> None:
    """A directory's listing is bytes from S3."""
    _only_ours(lambda listing: parse_listing(listing, "s3://results/listing"), data)


def test_both_faults_are_told() -> None:
    """The text's own fault comes first: what is behind it was never read."""
    with pytest.raises(InvalidDocumentError) as caught:
        load_json('{"a":1,"a":2} x')
    assert [problem.kind for problem in caught.value.problems] == ["syntax"]
    with pytest.raises(InvalidDocumentError) as caught:
        load_json('{"a":1,"a":2}')
    assert [(problem.location, problem.kind) for problem in caught.value.problems] == [("$.a", "duplicate")]
