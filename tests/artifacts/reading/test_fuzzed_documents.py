"""Whatever a document is, nothing but our own errors leaves what reads it."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schema_cases import base
from support.shelf import ALLOW, Shelf

from stepout.artifacts.listing import parse_listing
from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.resolve import read_result_writer, resolve, resolve_all, resolve_artifact, resolve_output
from stepout.schemas import Pointer, TaskOutput, find_failures, load_json, the_document
from stepout.schemas.errors import InvalidDocumentError, StepoutError
from stepout.schemas.pull import read_failure

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "runs/behind.json"
OUTPUT, POINTER = base("output"), base("pointer")
HERE = {**POINTER, "bucket": "results", "key": KEY}
CAUSE = json.dumps({"message": "m", "run": {}, "traceback": "t", "output": OUTPUT})
SEEDS: list[Any] = [
    OUTPUT,
    POINTER,
    {**OUTPUT, "score": OUTPUT},
    {"stepout": "output/1", "manifest": HERE},
    [OUTPUT, {"Error": "E", "Cause": CAUSE}],
    {"Records": [{"body": json.dumps({"Message": json.dumps(OUTPUT)})}]},
    {"@middy-store": f"https://results.s3.eu-west-1.amazonaws.com/{KEY}"},
    ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "results", "s3Key": KEY}],
    {"ResultWriterDetails": {"Bucket": "results", "Key": KEY}},
    {"DestinationBucket": "results", "ResultFiles": {"SUCCEEDED": [{"Key": KEY, "Size": 3}], "FAILED": [{"Key": KEY}]}},
    [{"ExecutionArn": "a", "Status": "SUCCEEDED", "Output": json.dumps(OUTPUT)}],
    {"stepout": "directory/1", "files": [{"path": "a/b", "pointer": POINTER}]},
    {"error": "E", "cause": json.loads(CAUSE)},
]
ODD = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    st.sampled_from(SEEDS),
    st.sampled_from(["[" * 99 + "]" * 99, '{"stepout": "a", "stepout": "b"}', '{"stepout": NaN}', "\ud800", 10**400]),
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Draw a document in which a few places hold something else."""
    value: Any = [copy.deepcopy(draw(st.sampled_from(SEEDS)))]
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while True:
            step: Any = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[step], dict | list) or not place[step] or draw(st.booleans()):
                break
            place = place[step]
        place[step] = copy.deepcopy(draw(ODD))
    return value[0]


FORMS = st.sampled_from(["value", "text", "broken text", "bytes", "broken bytes"])
READERS: list[Callable[..., Any]] = [
    resolve,
    resolve_output,
    resolve_artifact,
    lambda *document, **settings: [str(each) for each in resolve_all(*document, **settings).failures.values()],
]
PARSERS: list[Callable[[Any], Any]] = [load_json, read_failure, lambda text: parse_listing(text, "s3://results/l")]
LOOKERS: list[Callable[[Any], Any]] = [TaskOutput.from_dict, Pointer.from_dict, the_document, find_failures]


def quietly(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Call, and let pass what is ours."""
    try:
        call(*arguments, **named)
    except StepoutError as error:
        assert str(error)  # noqa: PT017 - that it has words is what is asked here


@settings(max_examples=settings().max_examples * 3 // 2)
@given(value=mutated(), form=FORMS, cut=st.integers(0, 400), byte=st.binary(min_size=1, max_size=3))
def test_nothing_but_our_errors_leaves_a_reader(value: Any, form: str, cut: int, byte: bytes) -> None:
    """As a value, as text and as bytes, whole and broken, in front of S3 and behind a pointer."""
    shelf = Shelf()
    text = json.dumps(value)
    data = text.encode()
    if form.startswith("broken"):
        data = data[:cut] + byte + data[cut + 1 :]
        text = data.decode("utf-8", "surrogateescape")
    document: Any = value if form == "value" else text if form.endswith("text") else data
    shelf.put(data, "behind.json")
    budget = ReadBudget(requests=20, entries=20, bytes=1 << 16)
    for read in READERS:
        for each in (document, SEEDS[3], SEEDS[8]):
            quietly(read, each, allow=ALLOW, client=shelf.store, budget=budget)
    quietly(lambda: list(read_result_writer(SEEDS[8], allow=ALLOW, client=shelf.store, budget=budget)))
    for call in LOOKERS if form == "value" else PARSERS[: 2 if isinstance(document, str) else 3]:
        quietly(call, document)


@pytest.mark.parametrize("mark", ["\ufeff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"])
def test_a_byte_order_mark_is_named(mark: str | bytes) -> None:
    """Editors and shells write it; the message says what to do about it."""
    document: Any = mark + json.dumps(OUTPUT) if isinstance(mark, str) else mark + json.dumps(OUTPUT).encode()
    for read in (resolve, resolve_output, resolve_all, resolve_artifact):
        with pytest.raises(InvalidDocumentError, match="byte-order mark"):
            read(document, allow=ALLOW, client=Shelf().store)
    with pytest.raises(InvalidDocumentError, match="byte-order mark"):
        load_json(document)
