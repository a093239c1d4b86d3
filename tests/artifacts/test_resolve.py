"""From documents of every form to artifacts: found, parsed, followed, checked; and refused where they should be."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, BreakingStore, Shelf

from stepout.artifacts.allow import ANY_BUCKET
from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.reading.output import Output
from stepout.artifacts.resolve import resolve, resolve_all, resolve_artifact, resolve_output
from stepout.artifacts.s3.fast_store import FastS3Store
from stepout.schemas import Contract, Pointer, RunIdentity, TaskOutput, fit
from stepout.schemas.errors import (
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    InvalidDocumentError,
    NotAllowedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCER = RunIdentity(
    execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c", state="Mask", attempt=0
)


@pytest.fixture
def output(shelf: Shelf) -> TaskOutput:
    """An output with two artifacts and a result."""
    artifacts = {"features": shelf.put(b"f" * 10, "features.bin"), "preview": shelf.put(b"p", "preview.png")}
    return TaskOutput(artifacts=artifacts, result={"rows": 3}, producer=PRODUCER)


def _forms(document: dict[str, Any]) -> list[Any]:
    text = json.dumps(document)
    sns = json.dumps({"Type": "Notification", "Message": text})
    return [
        document,
        MappingProxyType(document),
        text,
        text.encode(),
        bytearray(text.encode()),
        memoryview(text.encode()),
        {"Payload": [{"deep": document}], "other": "text"},
        json.dumps([1, {"x": document}]),
        {"Records": [{"messageId": "1", "body": text}]},
        {"Records": [{"body": sns}]},
    ]


def test_an_output_is_found_in_every_form(shelf: Shelf, output: TaskOutput) -> None:
    """A model, a value, text, bytes, an event, an SQS record, an SNS message in one."""
    for form in [output, *_forms(output.to_dict())]:
        found = resolve_output(form, allow=ALLOW, client=shelf.store)
        assert {name: each.read_bytes() for name, each in found.items()} == {"features": b"f" * 10, "preview": b"p"}
        assert (found.result, found.producer, found.document) == ({"rows": 3}, PRODUCER, output)
        assert isinstance(resolve(form, allow=ALLOW, client=shelf.store), Output)
    assert found["features"].name == "features"
    assert (len(found), list(found), "preview" in found, "no" in found) == (2, ["features", "preview"], True, False)
    assert repr(found) == "<Output with features, preview>"
    with pytest.raises(KeyError, match="features, preview"):
        found["masks"]


def test_a_pointer_is_found_in_every_form(shelf: Shelf, output: TaskOutput) -> None:
    """The same for a lone pointer."""
    assert output.artifacts is not None
    pointer = output.artifacts["features"]
    for form in [pointer, *_forms(pointer.to_dict())]:
        assert resolve_artifact(form, allow=ALLOW, client=shelf.store).read_bytes() == b"f" * 10
        assert isinstance(resolve(form, allow=ALLOW, client=shelf.store), Artifact)


def test_nothing_and_several_are_errors_with_locations(shelf: Shelf, output: TaskOutput) -> None:
    """Exactly one is needed; the locations of the several are told."""
    document = output.to_dict()
    bodies = [{"body": '{"x": "stepout"}'}, {"body": '{"stepout"'}]
    nothings: list[Any] = [{}, [], "null", {"stepout": "output"}, b"3", *bodies]
    for nothing in nothings:
        with pytest.raises(InvalidDocumentError, match="no task output"):
            resolve(nothing, allow=ALLOW, client=shelf.store)
    with pytest.raises(InvalidDocumentError) as caught:
        resolve_output({"a": document, "b": [document]}, allow=ALLOW, client=shelf.store)
    assert [problem.location for problem in caught.value.problems] == ["$.a", "$.b[0]"]
    with pytest.raises(InvalidDocumentError, match="JSON"):
        resolve("{", allow=ALLOW, client=shelf.store)


def test_the_wrong_function_says_which_is_right(shelf: Shelf, output: TaskOutput) -> None:
    """resolve_output of a pointer and resolve_artifact of an output name each other."""
    pointer = output.to_dict()["artifacts"]["preview"]
    with pytest.raises(InvalidDocumentError, match=r"\$\.p: is a pointer: use resolve_artifact"):
        resolve_output({"p": pointer}, allow=ALLOW, client=shelf.store)
    with pytest.raises(InvalidDocumentError, match="use resolve_output"):
        resolve_artifact(output, allow=ALLOW, client=shelf.store)


def test_problems_carry_the_place_in_the_event(shelf: Shelf, output: TaskOutput) -> None:
    """An invalid document inside an event is located from the event's root."""
    document = output.to_dict()
    document["artifacts"]["features"]["size"] = -1
    with pytest.raises(InvalidDocumentError) as caught:
        resolve_output({"x": [document]}, allow=ALLOW, client=shelf.store)
    assert [problem.location for problem in caught.value.problems] == ["$.x[0].artifacts.features.size"]
    with pytest.raises(InvalidDocumentError) as caught:
        resolve_artifact({"x": document["artifacts"]["features"]}, allow=ALLOW, client=shelf.store)
    assert [problem.location for problem in caught.value.problems] == ["$.x.size"]


@pytest.mark.parametrize("member", ["features", "result", "manifest"])
def test_an_output_that_points_elsewhere_is_refused_before_any_request(
    output: TaskOutput, breaking: Callable[..., BreakingStore], member: str
) -> None:
    """Every pointer in it counts: artifacts, a spilled result, a manifest."""
    store, document = breaking(), output.to_dict()
    elsewhere = {**document["artifacts"]["features"], "key": "runs2/x"}
    if member == "manifest":
        document = {"stepout": "output/1", "manifest": elsewhere}
    elif member == "result":
        document["result"] = elsewhere
    else:
        document["artifacts"]["features"] = elsewhere
    with pytest.raises(NotAllowedError, match="runs2/x"):
        resolve_output(document, allow=ALLOW, client=store)
    assert store.requests == []
    assert resolve_all([], allow=[], client=store) == {}


def test_what_the_list_may_be(shelf: Shelf, output: TaskOutput) -> None:
    """A list, ANY_BUCKET, or a text of several; [] permits nothing."""
    for allow in (ALLOW, ANY_BUCKET, [ANY_BUCKET], "s3://other/ s3://results/"):
        assert len(resolve_output(output, allow=allow, client=shelf.store)) == 2
    with pytest.raises(NotAllowedError):
        resolve_output(output, allow=[], client=shelf.store)
    wrong: Any = "md5"
    with pytest.raises(ConfigurationError, match="verify"):
        resolve_output(output, allow=ALLOW, client=shelf.store, verify=wrong)
    with pytest.raises(ConfigurationError, match="max_size"):
        resolve_output(output, allow=ALLOW, client=shelf.store, max_size=-1)


# Spill ------------------------------------------------------------------------------------------------------------


def _spilled(shelf: Shelf, value: object, name: str = "spilled.json", **members: Any) -> dict[str, Any]:
    data = json.dumps(value).encode()
    return shelf.put(data, name, media_type="application/json", **members).to_dict()


def test_a_spilled_result_is_read_when_asked_for(
    shelf: Shelf, output: TaskOutput, breaking: Callable[..., BreakingStore]
) -> None:
    """Lazily, once, and verified."""
    store, document = breaking(), output.to_dict()
    document["result"] = _spilled(shelf, {"rows": [1, 2]})
    found = resolve_output(document, allow=ALLOW, client=store)
    assert store.requests == []
    assert found.result == {"rows": [1, 2]}
    assert found.result["rows"] == [1, 2]
    assert len(store.requests) == 1
    for bad in (_spilled(shelf, [1], "list.json"), shelf.put(b"{", "half.json").to_dict()):
        with pytest.raises(InvalidDocumentError):
            assert resolve_output({**document, "result": bad}, allow=ALLOW, client=shelf.store).result
    huge = {**document, "result": {**document["result"], "size": 2**40}}
    with pytest.raises(ArtifactTooLargeError):
        assert resolve_output(huge, allow=ALLOW, client=shelf.store).result
    shelf.store.delete("runs/spilled.json")
    with pytest.raises(ArtifactNotFoundError):
        assert resolve_output(document, allow=ALLOW, client=shelf.store).result


def test_a_manifest_is_followed_without_noticing(shelf: Shelf, output: TaskOutput) -> None:
    """The whole document behind a pointer is the document, its spilled result included."""
    inner = output.to_dict()
    inner["result"] = _spilled(shelf, {"rows": 7})
    outer = {"stepout": "output/1", "manifest": _spilled(shelf, inner, "manifest.json"), "producer": PRODUCER.to_dict()}
    del inner["producer"]
    outer["manifest"] = _spilled(shelf, inner, "manifest.json")
    found = resolve_output({"event": outer}, allow=ALLOW, client=shelf.store)
    assert found["preview"].read_bytes() == b"p"
    assert found.result == {"rows": 7}
    assert found.producer == PRODUCER


@pytest.mark.parametrize(("result", "names"), [("é" * 1000, 1), ("é", 40), ("é" * 1000, 40)])
def test_what_the_producer_spills_the_consumer_reads(shelf: Shelf, result: str, names: int) -> None:
    """A result over the budget, a document over it, and both: the consumer sees no difference."""
    manager = ArtifactManager("results", "runs", client=shelf.store, run=PRODUCER)
    artifacts = {f"a{i}": manager.put_bytes(f"a{i}", bytes([i])) for i in range(names)}
    whole = TaskOutput(artifacts=artifacts, result={"text": result}, producer=PRODUCER)
    fitted = fit(whole, budget=2048, write=manager.put_document)
    assert len(fitted.to_json().encode()) <= 2048
    assert fitted != whole
    found = resolve_output(fitted.to_json(), allow=ALLOW, client=shelf.store)
    assert found.result == {"text": result}
    assert {name: each.read_bytes() for name, each in found.items()} == {f"a{i}": bytes([i]) for i in range(names)}
    assert found.producer == PRODUCER


def test_a_manifest_never_leads_to_another(shelf: Shelf, output: TaskOutput) -> None:
    """One hop; what is behind it must be an output with artifacts."""
    first = {"stepout": "output/1", "manifest": _spilled(shelf, output.to_dict(), "one.json")}
    second = {"stepout": "output/1", "manifest": _spilled(shelf, first, "two.json")}
    with pytest.raises(InvalidDocumentError, match="another manifest"):
        resolve_output(second, allow=ALLOW, client=shelf.store)
    bads: list[Any] = [{"stepout": "output/2"}, [], {"stepout": "output/1", "artifacts": {"1": {}}}]
    for bad in bads:
        with pytest.raises(InvalidDocumentError):
            resolve_output(
                {"stepout": "output/1", "manifest": _spilled(shelf, bad, "bad.json")}, allow=ALLOW, client=shelf.store
            )


def test_a_dangling_or_damaged_manifest_never_becomes_a_value(shelf: Shelf, output: TaskOutput) -> None:
    """Resolving itself raises."""
    pointer = _spilled(shelf, output.to_dict(), "manifest.json")
    del pointer["etag"]
    document = {"stepout": "output/1", "manifest": pointer}
    data = bytearray(shelf.store.read("runs/manifest.json"))
    data[20] ^= 1
    shelf.store.replace("runs/manifest.json", bytes(data))
    with pytest.raises(ChecksumMismatchError):
        resolve_output(document, allow=ALLOW, client=shelf.store)
    shelf.store.delete("runs/manifest.json")
    with pytest.raises(ArtifactNotFoundError):
        resolve(document, allow=ALLOW, client=shelf.store)


def test_pointers_behind_a_manifest_are_checked_too(shelf: Shelf, output: TaskOutput) -> None:
    """Every hop: what the manifest holds is as untrusted as what led to it."""
    inner = output.to_dict()
    inner["artifacts"]["features"]["bucket"] = "elsewhere"
    document = {"stepout": "output/1", "manifest": _spilled(shelf, inner, "manifest.json")}
    with pytest.raises(NotAllowedError, match="elsewhere"):
        resolve_output(document, allow=ALLOW, client=shelf.store)


def test_no_result_is_an_empty_one(shelf: Shelf) -> None:
    """`output.result.get(…)` works whether or not the task gave one; the document tells them apart."""
    found = resolve_output(TaskOutput(), allow=ALLOW, client=shelf.store)
    assert (found.result, found.document.result, found.producer) == ({}, None, None)
    assert repr(found) == "<Output with no artifacts>"
    with pytest.raises(KeyError, match="none"):
        found["x"]


# Contracts and producers ------------------------------------------------------------------------------------------


def test_a_contract_is_checked_on_this_side_if_asked(shelf: Shelf, output: TaskOutput) -> None:
    """Result (spilled or not) and required artifacts, all problems at once."""
    good = Contract(result={"required": ["rows"]}, artifacts={"features": None})
    assert resolve_output(output, allow=ALLOW, client=shelf.store, contract=good).result == {"rows": 3}
    document = output.to_dict()
    document["result"] = _spilled(shelf, {"rows": "three"})
    bad = Contract(result={"properties": {"rows": {"type": "integer"}}}, artifacts=["masks"])
    with pytest.raises(InvalidDocumentError) as caught:
        resolve_output(document, allow=ALLOW, client=shelf.store, contract=bad)
    assert {problem.location for problem in caught.value.problems} == {"$.artifacts.masks", "$.result.rows"}
    assert "three" not in str(caught.value)


def test_another_runs_output_is_refused(shelf: Shelf, output: TaskOutput) -> None:
    """execution= and state= are compared with the producer's."""
    found = resolve_output(output, allow=ALLOW, client=shelf.store, execution=PRODUCER.execution, state="Mask")
    assert found.producer == PRODUCER
    with pytest.raises(InvalidDocumentError, match="another run") as caught:
        resolve_output(output, allow=ALLOW, client=shelf.store, execution="arn:other", state="Other")
    assert [each.location for each in caught.value.problems] == ["$.producer.execution", "$.producer.state"]
    with pytest.raises(InvalidDocumentError):
        resolve_output(TaskOutput(), allow=ALLOW, client=shelf.store, state="Mask")


# Pull mode --------------------------------------------------------------------------------------------------------


def test_the_url_of_a_pull_mode_output_is_read(shelf: Shelf, output: TaskOutput) -> None:
    """Bounded, within the allow-list, and the producer can be checked."""
    shelf.put(output.to_json().encode(), "output.json")
    url = "s3://results/runs/output.json"
    assert isinstance(resolve(f" {url}\n", allow=ALLOW, client=shelf.store), Output)
    assert len(resolve_output(url, allow=ALLOW, client=shelf.store)) == 2
    assert len(resolve_all(url, allow=ALLOW, client=shelf.store)) == 1
    assert resolve_output(url, allow=ALLOW, client=shelf.store, state="Mask").producer == PRODUCER
    with pytest.raises(NotAllowedError):
        resolve_output(url, allow=["s3://results/other/"], client=shelf.store)
    with pytest.raises(InvalidDocumentError, match="s3://bucket/key"):
        resolve_output("s3://", allow=ALLOW, client=shelf.store)


def test_a_missing_pull_mode_output_says_what_that_means(shelf: Shelf) -> None:
    """Not succeeded yet, failed, or another URL."""
    with pytest.raises(ArtifactNotFoundError, match=r"has not succeeded yet.*failure\.json"):
        resolve_output("s3://results/runs/output.json", allow=ALLOW, client=shelf.store)


def test_a_huge_pull_mode_output_is_not_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is asked for first."""
    from stepout.artifacts.reading.documents import outcome as module

    monkeypatch.setattr(module, "DOCUMENT_LIMIT", 10)
    shelf.put(b"x" * 11, "output.json")
    with pytest.raises(ArtifactTooLargeError, match="document of this size"):
        resolve_output("s3://results/runs/output.json", allow=ALLOW, client=shelf.store)


# Several ----------------------------------------------------------------------------------------------------------


def test_resolve_all_gives_every_document_by_location(shelf: Shelf, output: TaskOutput) -> None:
    """The results of a Map state, mixed with pointers and texts."""
    pointer = output.to_dict()["artifacts"]["preview"]
    event = {"results": [output.to_dict(), {"p": pointer}, {"body": output.to_json()}], "x": 1}
    found = resolve_all(event, allow=ALLOW, client=shelf.store)
    assert list(found) == ["$.results[0]", "$.results[1].p", "$.results[2].body"]
    assert [type(each).__name__ for each in found.values()] == ["Output", "Artifact", "Output"]
    assert resolve_all({}, allow=ALLOW, client=shelf.store) == {}
    with pytest.raises(InvalidDocumentError, match="output/2"):
        resolve_all({"results": [{"stepout": "output/2"}]}, allow=ALLOW, client=shelf.store)


def test_a_model_made_by_hand_is_held_to_the_schema(shelf: Shelf) -> None:
    """A Pointer that no document could hold is refused like one."""
    with pytest.raises(InvalidDocumentError):
        resolve_artifact(Pointer(bucket="results", key="runs/x", size=-1, checksum={}), allow=ALLOW, client=shelf.store)


@pytest.mark.parametrize("setting", [{"client": "s3"}, {"expected_bucket_owner": "me"}, {"expected_bucket_owner": 12}])
def test_settings_that_cannot_be_meant_are_told_at_once(output: TaskOutput, setting: dict[str, Any]) -> None:
    """Not at the first read; and an owner is not left to servers that pass over what is none."""
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        resolve_output(output, allow=ALLOW, **setting)


@pytest.mark.parametrize("function", [resolve, resolve_all, resolve_artifact, resolve_output])
def test_a_misspelt_keyword_is_told_with_those_that_there_are(function: Any, output: TaskOutput) -> None:
    """As a function of Python's own would tell it, and with what may have been meant."""
    with pytest.raises(TypeError, match=r"argument 'alow': the resolve functions take allow, client"):
        function(output, alow=ALLOW)


def test_one_client_of_our_own_serves_every_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """client=None builds a client when the first request needs one, and only one."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    stores = BucketStores(expected_bucket_owner="123456789012")
    one, two = stores.of("bucket-one"), stores.of("bucket-two")
    assert stores.of("bucket-one") is one
    assert isinstance(one, FastS3Store)
    assert isinstance(two, FastS3Store)
    assert one.ordinary().client is two.ordinary().client
    assert one.ordinary()._common["ExpectedBucketOwner"] == "123456789012"


def test_threads_that_read_first_at_once_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a client is slow, and so is each of its first connections: the others wait for the one."""
    met = threading.Barrier(2)
    made: list[object] = []

    def make_client(**_: Any) -> object:
        made.append(SimpleNamespace(meta=SimpleNamespace(endpoint_url="http://127.0.0.1:9")))
        with suppress(threading.BrokenBarrierError):
            met.wait(0.5)  # passes at once if a second thread gets here
        return made[-1]

    monkeypatch.setattr("stepout.artifacts.s3.clients.make_client", make_client)
    stores = BucketStores()

    def client(number: int) -> object:
        store = stores.of(f"bucket-{number % 2}")
        assert isinstance(store, FastS3Store)
        return store.ordinary().client

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(client, range(4))) == made * 4
    assert len(made) == 1
