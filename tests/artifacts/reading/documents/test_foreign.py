"""References of other tools: followed within the allow-list, held to what S3 knows of the object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.documents.foreign import find_references, opened_texts
from stepout.artifacts.reading.documents.foreign_artifact import ForeignArtifact
from stepout.artifacts.resolve import read_result_writer, resolve, resolve_all, resolve_artifact, resolve_output
from stepout.artifacts.store import ObjectInfo
from stepout.schemas import TaskOutput
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
    SizeMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "runs/payload.json"
SQS = ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "results", "s3Key": KEY}]
REFERENCES: list[Any] = [
    {"@middy-store": f"s3://results/{KEY}"},
    {"@middy-store": f"arn:aws:s3:::results/{KEY}"},
    {"@middy-store": {"store": "s3", "bucket": "results", "key": KEY, "region": "ignored"}},
    SQS,
    ["com.amazon.sqs.javamessaging.MessageS3Pointer", SQS[1]],
    {"Records": [{"body": json.dumps(SQS)}]},
    json.dumps({"input": {"@middy-store": f"s3://results/{KEY}"}}),
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_becomes_a_foreign_artifact(shelf: Shelf, reference: Any) -> None:
    """Its type says that no checksum of the writer's stands behind it; S3's own is compared."""
    shelf.put(b'{"a": 1}', "payload.json")
    for resolved in (resolve, resolve_artifact):
        artifact = resolved(reference, allow=ALLOW, client=shelf.store)
        assert isinstance(artifact, ForeignArtifact)
        assert artifact.kind in {"middy-store", "sqs-extended-client"}
        assert artifact.read_json() == {"a": 1}
        assert artifact.verifiable
    (found,) = resolve_all(reference, allow=ALLOW, client=shelf.store).values()
    assert isinstance(found, ForeignArtifact)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_is_checked_before_any_request(breaking: Callable[..., BreakingStore], reference: Any) -> None:
    """The allow-list holds on this hop too."""
    store = breaking()
    for resolved in (resolve, resolve_artifact, resolve_output, resolve_all):
        with pytest.raises(NotAllowedError):
            resolved(reference, allow=["s3://results/other/"], client=store)
    assert store.requests == []


def test_a_dangling_reference_never_becomes_a_value(shelf: Shelf) -> None:
    """It is described when it is resolved, so a missing object is found then."""
    for resolved in (resolve, resolve_all, resolve_output):
        with pytest.raises(ArtifactNotFoundError):
            resolved(REFERENCES[0], allow=ALLOW, client=shelf.store)


def test_what_stands_behind_a_reference_is_pinned_and_verified(shelf: Shelf) -> None:
    """Replaced afterwards: changed. Other bytes than S3's checksum says: corrupt."""
    shelf.put(b"12345", "payload.json")
    artifact = resolve_artifact(SQS, allow=ALLOW, client=shelf.store)
    shelf.put(b"54321", "payload.json")
    with pytest.raises(ArtifactChangedError):
        artifact.read_bytes()

    class Wrong(BreakingStore):
        def head(self, *_: Any, **__: Any) -> ObjectInfo:
            return ObjectInfo(size=5, checksum={"sha256": "0" * 64})

    with pytest.raises(ChecksumMismatchError):
        resolve_artifact(SQS, allow=ALLOW, client=Wrong(shelf.store, [])).read_bytes()


def test_without_any_checksum_it_says_so(shelf: Shelf) -> None:
    """Reads are pinned, verify() and verify="sha256" refuse."""

    class Bare(BreakingStore):
        def head(self, *_: Any, **__: Any) -> ObjectInfo:
            return ObjectInfo(size=5)

    shelf.put(b"12345", "payload.json")
    artifact = resolve_artifact(SQS, allow=ALLOW, client=Bare(shelf.store, []))
    assert not artifact.verifiable
    assert artifact.read_bytes() == b"12345"
    with pytest.raises(ConfigurationError, match="no checksum to compare"):
        artifact.verify()
    strict = resolve_artifact(SQS, allow=ALLOW, client=Bare(shelf.store, []), verify="sha256")
    with pytest.raises(ConfigurationError, match="no checksum"):
        strict.read_bytes()


def test_an_output_behind_a_reference_is_followed(shelf: Shelf) -> None:
    """middy-store took the whole output of a Lambda: resolve_output reads through it, once."""
    output = TaskOutput(artifacts={"a": shelf.put(b"1", "a")}, result={"rows": 1})
    shelf.put(output.to_json().encode(), "payload.json")
    for reference in REFERENCES:
        found = resolve_output(reference, allow=ALLOW, client=shelf.store)
        assert found["a"].read_bytes() == b"1"
    shelf.put(json.dumps({"@middy-store": f"s3://results/{KEY}"}).encode(), "payload.json")
    with pytest.raises(InvalidDocumentError, match="no task output"):
        resolve_output(REFERENCES[0], allow=ALLOW, client=shelf.store)


@pytest.mark.parametrize(
    "reference",
    [
        {"@middy-store": "https://example.com/x"},
        {"@middy-store": 3},
        {"@middy-store": {"store": "s3", "bucket": "results"}},
        {"@middy-store": "arn:aws:s3:::results"},
        {"@middy-store": "s3://results/"},
        [SQS[0], {"s3BucketName": "results"}],
        [SQS[0], "results"],
        {"ResultWriterDetails": {"Bucket": "results"}},
    ],
)
def test_a_reference_that_names_no_object_is_invalid(shelf: Shelf, reference: Any) -> None:
    """It is not passed over in silence, and its value is not quoted."""
    with pytest.raises(InvalidDocumentError, match="reference without an S3 bucket and key") as caught:
        resolve_all(reference, allow=ALLOW, client=shelf.store)
    assert "example" not in str(caught.value)


def test_references_inside_our_documents_are_data(shelf: Shelf) -> None:
    """A result may hold whatever it likes."""
    output = TaskOutput(result={"@middy-store": 3})
    assert list(resolve_all([output.to_dict()], allow=ALLOW, client=shelf.store)) == ["$[0]"]
    assert find_references([[SQS[0]], ["x", {}], {"ResultWriterDetails": None}]) == []
    deep: Any = {}
    for _ in range(200):
        deep = [deep]
    assert find_references(deep) == []
    assert opened_texts('{"stepout" ') == '{"stepout" '


# ResultWriter -----------------------------------------------------------------------------------------------------


def _children(shelf: Shelf) -> list[dict[str, Any]]:
    outputs = [TaskOutput(artifacts={"a": shelf.put(bytes([i]), f"child/{i}")}).to_dict() for i in range(3)]
    return [
        {"ExecutionArn": f"arn:{i}", "Name": f"n{i}", "Status": "SUCCEEDED", "Output": json.dumps(each)}
        for i, each in enumerate(outputs)
    ]


def _written(
    shelf: Shelf, files: dict[str, dict[str, bytes]], bucket: Any = "results", **changes: Any
) -> dict[str, Any]:
    listed: dict[str, Any] = {"SUCCEEDED": [], "FAILED": [], "PENDING": []}
    for status, contents in files.items():
        for name, data in contents.items():
            shelf.put(data, f"map/{name}")
            listed[status].append({"Key": f"runs/map/{name}", "Size": len(data)})
    manifest = {"DestinationBucket": bucket, "MapRunArn": "arn:map", "ResultFiles": {**listed, **changes}}
    shelf.put(json.dumps(manifest).encode(), "map/manifest.json")
    return {"MapRunArn": "arn:map", "ResultWriterDetails": {"Bucket": "results", "Key": "runs/map/manifest.json"}}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_the_children_of_a_distributed_map_are_resolved(shelf: Shelf) -> None:
    """From the state's output through the manifest and its files to every child's artifacts."""
    children = _children(shelf)
    files = {"SUCCEEDED_0.json": _json(children[:2]), "SUCCEEDED_1.json": _json(children[2:])}
    failed = {"ExecutionArn": "arn:9", "Name": "n9", "Status": "FAILED", "Error": "Boom", "Cause": "why"}
    event = {"map": _written(shelf, {"SUCCEEDED": files, "FAILED": {"FAILED_0.json": _json([failed])}})}
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    assert list(found) == [f"$.map.ResultWriterDetails.SUCCEEDED[{i}]" for i in range(3)]
    assert [each["a"].read_bytes() for each in found.values() if not isinstance(each, Artifact)] == [
        b"\0",
        b"\1",
        b"\2",
    ]
    results = list(read_result_writer(event, allow=ALLOW, client=shelf.store))
    assert [(each.status, each.name) for each in results][2:] == [("SUCCEEDED", "n2"), ("FAILED", "n9")]
    assert (results[3].error, results[3].cause, results[3].output) == ("Boom", "why", None)
    assert resolve_output(results[0].output, allow=ALLOW, client=shelf.store)["a"].read_bytes() == b"\0"


@pytest.mark.parametrize("lines", [False, True])
def test_compact_results_and_json_lines_are_read(shelf: Shelf, lines: bool) -> None:
    """Transformations leave only the outputs; JSONL has one a line."""
    outputs = [json.loads(child["Output"]) for child in _children(shelf)]
    data = b"\n".join(map(_json, outputs)) + b"\n" if lines else _json(outputs)
    event = _written(shelf, {"SUCCEEDED": {"SUCCEEDED_0.jsonl" if lines else "SUCCEEDED_0.json": data}})
    assert len(resolve_all(event, allow=ALLOW, client=shelf.store)) == 3


def test_every_file_of_a_manifest_is_checked(shelf: Shelf) -> None:
    """A manifest inside the prefix cannot lead out of it, by key or by bucket."""
    event = _written(shelf, {}, SUCCEEDED=[{"Key": "elsewhere/x", "Size": 1}])
    with pytest.raises(NotAllowedError, match="elsewhere"):
        resolve_all(event, allow=ALLOW, client=shelf.store)
    event = _written(shelf, {"SUCCEEDED": {"a.json": b"[]"}}, bucket="other-bucket")
    with pytest.raises(NotAllowedError, match="other-bucket"):
        list(read_result_writer(event, allow=ALLOW, client=shelf.store))
    inside = {
        "ExecutionArn": "a",
        "Status": "SUCCEEDED",
        "Output": _children(shelf)[0]["Output"].replace("runs/", "out/"),
    }
    event = _written(shelf, {"SUCCEEDED": {"a.json": _json([inside])}})
    with pytest.raises(NotAllowedError, match="out/child"):
        resolve_all(event, allow=ALLOW, client=shelf.store)


def test_a_result_file_of_another_size_is_told(shelf: Shelf) -> None:
    """The manifest's Size is compared before the file is read; so is the cap."""
    event = _written(shelf, {}, SUCCEEDED=[{"Key": "runs/map/x", "Size": 3}])
    shelf.put(b"[1, 2]", "map/x")
    with pytest.raises(SizeMismatchError, match="says 3 bytes"):
        resolve_all(event, allow=ALLOW, client=shelf.store)
    event = _written(shelf, {"SUCCEEDED": {"a.json": b"[1, 2]"}})
    with pytest.raises(ArtifactTooLargeError, match="max_size"):
        resolve_all(event, allow=ALLOW, client=shelf.store, max_size=5)
    event = _written(shelf, {}, SUCCEEDED=[{"Key": "runs/map/gone"}])
    with pytest.raises(ArtifactNotFoundError):
        resolve_all(event, allow=ALLOW, client=shelf.store)


@pytest.mark.parametrize(
    "changes",
    [
        {"SUCCEEDED": {}},
        {"SUCCEEDED": [{"Size": 3}]},
        {"SUCCEEDED": ["x"]},
        {"SUCCEEDED": [{"Key": "runs/x", "Size": "3"}]},
        {"SUCCEEDED": [{"Key": "runs/x", "Size": True}]},
    ],
)
def test_a_manifest_of_another_shape_is_invalid(shelf: Shelf, changes: dict[str, Any]) -> None:
    """What is no ResultWriter manifest is told, with the place."""
    with pytest.raises(InvalidDocumentError, match="ResultFiles"):
        resolve_all(_written(shelf, {}, **changes), allow=ALLOW, client=shelf.store)


def test_what_is_no_manifest_or_no_results_is_invalid(shelf: Shelf) -> None:
    """Other JSON in their places, none at all, and several references."""
    with pytest.raises(InvalidDocumentError, match="no ResultWriter manifest"):
        resolve_all(_written(shelf, {}, bucket=3), allow=ALLOW, client=shelf.store)
    with pytest.raises(InvalidDocumentError, match="array of results"):
        resolve_all(_written(shelf, {"SUCCEEDED": {"a.json": b'{\n"a": 1\n}'}}), allow=ALLOW, client=shelf.store)
    event = _written(shelf, {})
    for wrong, told in (({}, "no ResultWriterDetails"), ([event, event], "one of 2 ResultWriterDetails")):
        with pytest.raises(InvalidDocumentError, match=told):
            read_result_writer(wrong, allow=ALLOW, client=shelf.store)
    with pytest.raises(InvalidDocumentError, match="no task output"):
        resolve(event, allow=ALLOW, client=shelf.store)


# What others write around our documents ---------------------------------------------------------------------------


def _mapped(shelf: Shelf, name: str, output: str) -> dict[str, Any]:
    """Store a manifest and a result file with one child, whose output is this text; return what the Map state gives."""
    file = shelf.put(json.dumps([{"ExecutionArn": "a", "Status": "SUCCEEDED", "Output": output}]).encode(), name + "-0")
    manifest = {"DestinationBucket": "results", "ResultFiles": {"SUCCEEDED": [{"Key": file.key, "Size": file.size}]}}
    shelf.put(json.dumps(manifest).encode(), name)
    return {"ResultWriterDetails": {"Bucket": "results", "Key": f"runs/{name}"}}


def test_no_manifest_leads_to_another(shelf: Shelf) -> None:
    """A child that names a manifest in its turn is refused with the way to resolve it, be it a new one or its own."""
    inner = _mapped(shelf, "inner.json", json.dumps(_output(shelf)))
    outer = _mapped(shelf, "outer.json", json.dumps(inner))
    assert len(resolve_all(inner, allow=ALLOW, client=shelf.store)) == 1
    own = _mapped(shelf, "own.json", json.dumps(outer))
    for event in (outer, own):
        with pytest.raises(InvalidDocumentError, match="read_result_writer has it") as caught:
            resolve_all(event, allow=ALLOW, client=shelf.store)
        assert [problem.kind for problem in caught.value.problems] == ["cycle"]
    (child,) = read_result_writer(outer, allow=ALLOW, client=shelf.store)
    assert len(resolve_all(child.output, allow=ALLOW, client=shelf.store)) == 1


@pytest.mark.parametrize("value", ["12345678901234567890", r'"\ud800"'])
def test_values_beside_a_document_are_their_writers_affair(shelf: Shelf, value: str) -> None:
    """What we would not write ourselves does not keep us from the document beside it, in whatever form it comes."""
    text = f'{{"theirs": {value}, "output": {json.dumps(_output(shelf))}}}'
    forms: list[object] = [text, text.encode(), {"Records": [{"body": text}]}, json.loads(text)]
    for form in forms:
        assert list(resolve_output(form, allow=ALLOW, client=shelf.store)) == ["a"]
    found = resolve_all(_mapped(shelf, "m.json", text), allow=ALLOW, client=shelf.store)
    assert list(found) == ["$.ResultWriterDetails.SUCCEEDED[0].output"]


def test_values_inside_a_document_are_ours(shelf: Shelf) -> None:
    """In a task output itself an integer that readers round is refused, in text and in text within."""
    text = json.dumps(_output(shelf, result={"id": 12345678901234567890}))
    for form in (text, {"Records": [{"body": text}]}):
        with pytest.raises(InvalidDocumentError, match="2\\*\\*53"):
            resolve_output(form, allow=ALLOW, client=shelf.store)
    with pytest.raises(InvalidDocumentError, match="thousands of digits"):
        resolve_output(f'{{"theirs": {"9" * 6000}}}', allow=ALLOW, client=shelf.store)


def test_a_member_twice_is_refused_in_text_within_too(shelf: Shelf) -> None:
    """Who checked the message before us may have taken the other of the two."""
    text = json.dumps(_output(shelf)).replace('"artifacts"', '"artifacts": {}, "artifacts"')
    for resolve_it in (resolve_output, resolve_all):
        with pytest.raises(InvalidDocumentError, match="more than once"):
            resolve_it({"Records": [{"body": text}]}, allow=ALLOW, client=shelf.store)


def _output(shelf: Shelf, **members: Any) -> dict[str, Any]:
    return {"stepout": "output/1", "artifacts": {"a": shelf.put(b"bytes").to_dict()}, **members}


# Formats ----------------------------------------------------------------------------------------------------------

ROWS: list[Any] = [{"rows": 1}, [1, 2], "text", None]


def _lines(rows: list[Any], end: str = "\n") -> bytes:
    return "".join(json.dumps(row) + end for row in rows).encode()


@pytest.mark.parametrize("name", ["f.json", "f.jsonl", "f", "f.JSONL", "f.ndjson"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (json.dumps(ROWS, indent=1).encode(), ROWS),
        (_lines(ROWS), ROWS),
        (_lines(ROWS).rstrip(), ROWS),
        (_lines(ROWS, "\r\n"), ROWS),
        (_lines(ROWS, "\n\n"), ROWS),
        (_lines([[1], [2]]), [[1], [2]]),
        (_lines(ROWS[:1]), ROWS[:1]),
        (b"3", [3]),
        (b"", []),
        (b" \n\n", []),
        (b"[\n]", []),
    ],
)
def test_a_result_file_is_json_or_lines_by_its_content(
    shelf: Shelf, data: bytes, rows: list[Any], mark: bytes, name: str
) -> None:
    """Whatever it is called, with a byte-order mark or without, empty, or of one line."""
    event = _written(shelf, {"SUCCEEDED": {name: mark + data}})
    assert [child.output for child in read_result_writer(event, allow=ALLOW, client=shelf.store)] == rows


@pytest.mark.parametrize(("name", "rows"), [("f.json", [1, 2]), ("f.jsonl", [[1, 2]]), ("f", [1, 2])])
def test_one_line_that_is_an_array_goes_by_the_name(shelf: Shelf, name: str, rows: list[Any]) -> None:
    """All results in one array, or one result that is an array: only the name tells."""
    event = _written(shelf, {"SUCCEEDED": {name: b"[1, 2]"}})
    assert [child.output for child in read_result_writer(event, allow=ALLOW, client=shelf.store)] == rows


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("transformation", ["NONE", "COMPACT", "FLATTEN"])
def test_every_writer_config_is_read(shelf: Shelf, lines: bool, transformation: str) -> None:
    """Executions with their output as text, outputs alone, and arrays taken apart, as JSON and as lines."""
    children = _children(shelf)
    outputs = [json.loads(child["Output"]) for child in children]
    rows: list[Any] = {"NONE": children, "COMPACT": [outputs[:2], outputs[2]], "FLATTEN": outputs}[transformation]
    data = _lines(rows) if lines else _json(rows)
    event = _written(shelf, {"SUCCEEDED": {"SUCCEEDED_0.json": data}})
    assert len(resolve_all(event, allow=ALLOW, client=shelf.store)) == 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"a": 1}\n{"a": }\n', "line 2"),
        (b'{"a": 1}\n{"a": NaN}\n', r"line 2: .*\$\.a: is NaN"),
        (b'{"a": 1}\n{"a": 1, "a": 2}\n', r"line 2: .*\$\.a: occurs more than once"),
        (b'{"a": 1}\n\xff\n', "line 2: .*UTF-8"),
        (b'[{"a": 1},\n{"a": }]', "line 2"),
        (b"{", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
    ],
)
def test_a_result_file_that_is_neither_is_told_with_its_line(shelf: Shelf, data: bytes, told: str) -> None:
    """The error names the file and the place in it."""
    event = _written(shelf, {"SUCCEEDED": {"f.json": data}})
    with pytest.raises(InvalidDocumentError, match=told) as caught:
        list(read_result_writer(event, allow=ALLOW, client=shelf.store))
    assert "s3://results/runs/map/f.json" in str(caught.value)


PLACES = [
    "s3://results/",
    "s3://s3.amazonaws.com/results/",
    "s3://results.s3.amazonaws.com/",
    "https://s3.amazonaws.com/results/",
    "https://results.s3.amazonaws.com/",
    "s3://s3.us-west-1.amazonaws.com/results/",
    "s3://results.s3.us-west-1.amazonaws.com/",
    "https://s3.us-gov-west-1.amazonaws.com/results/",
    "https://results.s3.ap-southeast-2.amazonaws.com/",
    "https://s3-eu-west-1.amazonaws.com/results/",
    "https://results.s3-eu-west-1.amazonaws.com/",
    "https://results.s3.cn-north-1.amazonaws.com.cn/",
    "https://results.s3.dualstack.eu-west-1.amazonaws.com/",
]


@pytest.mark.parametrize("place", PLACES)
def test_every_url_format_of_middy_store_names_the_bucket(shelf: Shelf, place: str) -> None:
    """The host of S3 is a form of writing, never a bucket, a region or an endpoint; the allow-list sees the bucket."""
    shelf.put(b'{"a": 1}', "payload.json")
    reference = {"@middy-store": place + KEY}
    artifact = resolve_artifact(reference, allow=ALLOW, client=shelf.store)
    assert (artifact.url, artifact.read_json()) == (f"s3://results/{KEY}", {"a": 1})
    with pytest.raises(NotAllowedError):
        resolve_artifact(reference, allow=["s3://s3.us-west-1.amazonaws.com/"], client=shelf.store)


@pytest.mark.parametrize(
    "reference",
    [
        "https://results.s3.eu-west-1.amazonaws.com/k?X-Amz-Algorithm=a&X-Amz-Signature=" + "ab" * 32,
        "https://results.s3.amazonaws.com/k?AWSAccessKeyId=AKIA&Expires=1&Signature=a%3D",
    ],
)
def test_a_presigned_reference_is_refused_without_being_shown(shelf: Shelf, reference: str) -> None:
    """middy-store would fetch it as it stands, from wherever it leads to."""
    with pytest.raises(InvalidDocumentError, match="presigned URL") as caught:
        resolve_artifact({"@middy-store": reference}, allow=ALLOW, client=shelf.store)
    assert "abab" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "https://results.s3.eu-west-1.amazonaws.com.evil.example/",
        "https://s3.evil.example/results/",
        "https://x@s3.amazonaws.com/",
    ],
)
def test_another_host_is_no_reference(shelf: Shelf, place: str) -> None:
    """Only S3's own hosts are known."""
    with pytest.raises(InvalidDocumentError, match="reference without an S3 bucket"):
        resolve_artifact({"@middy-store": place + KEY}, allow=ALLOW, client=shelf.store)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused_with_their_place(shelf: Shelf, number: str) -> None:
    """Beside a document, in whatever form it comes, and in a text inside it."""
    text = f'{{"theirs": [{number}], "output": {json.dumps(_output(shelf))}}}'
    forms: list[object] = [text, text.encode(), json.loads(text), {"Records": [{"body": text}]}]
    for form, place in zip(forms, ["$", "$", "$", "$.Records[0].body"], strict=True):
        for resolved in (resolve, resolve_output, resolve_all, resolve_artifact):
            with pytest.raises(InvalidDocumentError) as caught:
                resolved(form, allow=ALLOW, client=shelf.store)
            assert [(p.location, p.kind) for p in caught.value.problems] == [(f"{place}.theirs[0]", "not-finite")]


def test_a_byte_order_mark_inside_a_text_is_named() -> None:
    """A text that would be a document without the mark is not passed over; other texts stay texts."""
    with pytest.raises(InvalidDocumentError, match=r"\$\.body: begins with a byte-order mark"):
        resolve_all({"body": "\ufeff" + json.dumps({"stepout": "output/1", "artifacts": {}})}, allow=[])
    assert dict(resolve_all({"body": "\ufeff{stepout"}, allow=[])) == {}
