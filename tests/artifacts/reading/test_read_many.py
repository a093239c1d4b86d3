"""``read_many``: verified reads, several at once, and one report of everything that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fast_store import fast_store
from support.seaweed import Identity
from support.wire import Wire

import stepout
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.store_writes import StoreProfile
from stepout.schemas.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ConfigurationError,
    NotAllowedError,
)
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from support.seaweed import Seaweed

PARTS = StoreProfile(name="compatible", multipart_checksum="parts")


@pytest.fixture(params=["memory", "native", "light"])
def store(request: pytest.FixtureRequest) -> Any:
    """A store of each kind that reads small objects in its own way."""
    if request.param == "memory":
        return MemoryStore("memory")
    client, bucket = request.getfixturevalue("seaweed_client"), request.getfixturevalue("bucket")
    return fast_store(client, bucket, profile=PARTS, obstore=request.param == "native")


def _output(store: Any, values: dict[str, bytes]) -> stepout.Output:
    pointers = stepout.ArtifactManager(store, "runs").put_many(values)
    document = {"stepout": "output/1", "artifacts": {name: each.to_dict() for name, each in pointers.items()}}
    return stepout.resolve_output(document, allow=[stepout.ANY_BUCKET], client=store)


VALUES = {f"n{number}": bytes([number]) * number for number in range(50)}


def test_all_names_or_some(store: Any) -> None:
    """Without names everything is read; with names, those alone."""
    output = _output(store, VALUES)
    assert dict(output.read_many()) == VALUES
    assert dict(output.read_many(["n3", "n7"])) == {"n3": VALUES["n3"], "n7": VALUES["n7"]}
    with pytest.raises(KeyError):
        output.read_many(["n3", "nobody"])


def test_artifacts_alone_go_by_their_names(store: Any) -> None:
    """An iterable of artifacts will do; outside an output they go by their URLs."""
    output = _output(store, {"a": b"1", "b": b"2"})
    assert dict(stepout.read_many(iter(output.values()))) == {"a": b"1", "b": b"2"}
    pointer = output["a"].pointer
    alone = stepout.resolve_artifact(pointer.to_dict(), allow=[stepout.ANY_BUCKET], client=store)
    assert dict(stepout.read_many([alone])) == {pointer.url: b"1"}


def test_failures_are_raised_together_after_everything_else_was_read(seaweed_client: Any, bucket: str) -> None:
    """What is gone and what has changed is one report, at the end; the others have been yielded by then."""
    output = _output(fast_store(seaweed_client, bucket, profile=PARTS), VALUES)
    seaweed_client.delete_object(Bucket=bucket, Key=output["n5"].pointer.key)
    seaweed_client.put_object(Bucket=bucket, Key=output["n9"].pointer.key, Body=b"forged!!!")
    read: dict[str, bytes] = {}
    stream = output.read_many()
    with pytest.raises(ManyFailedError) as caught:  # noqa: PT012 - what came before the error counts too
        while True:
            name, body = next(stream)
            read[name] = body
    assert {name: type(error) for name, error in caught.value.failures.items()} == {
        "n5": ArtifactNotFoundError, "n9": ArtifactChangedError,
    }  # fmt: skip
    assert read == {name: body for name, body in VALUES.items() if name not in {"n5", "n9"}}
    assert "48 done" in str(caught.value)
    assert caught.value.pointers == {}


def test_damaged_bytes_are_never_yielded() -> None:
    """Bytes that are not those that were written are a failure, whatever else is right."""
    store = MemoryStore("memory")
    output = _output(store, {"good": b"same", "bad": b"once"})
    document = output.document.to_dict()
    document["artifacts"]["bad"]["checksum"] = {"sha256": "0" * 64}
    again = stepout.resolve_output(document, allow=[stepout.ANY_BUCKET], client=store)
    found: list[tuple[str, bytes]] = []
    with pytest.raises(ManyFailedError) as caught:
        found.extend(again.read_many())
    assert isinstance(caught.value.failures["bad"], stepout.ChecksumMismatchError)


def test_the_cap_and_the_allow_list_hold() -> None:
    """The allow-list is asked when the output is resolved, the cap before each request."""
    store = MemoryStore("memory")
    output = _output(store, {"small": b"1", "large": b"1" * 100})
    with pytest.raises(ManyFailedError) as caught:
        list(output.read_many(max_size=10))
    assert {name: type(error) for name, error in caught.value.failures.items()} == {"large": ArtifactTooLargeError}
    with pytest.raises(NotAllowedError):
        stepout.resolve_output(output.document.to_dict(), allow=["s3://other/"], client=store)


def test_refused_credentials_end_it_early(seaweed: Seaweed) -> None:
    """Keys that the server does not know are not tried a thousand times."""
    written = _output(MemoryStore("some-bucket"), {f"n{n}": b"x" for n in range(1000)})
    stranger = seaweed.client(Identity("nobody", "unknown", "secret", ()))
    output = stepout.resolve_output(written.document.to_dict(), allow=[stepout.ANY_BUCKET], client=stranger)
    with pytest.raises(ManyFailedError) as caught:
        list(output.read_many(connections=2))
    assert caught.value.stopped
    assert len(caught.value.failures) < 50


@pytest.mark.parametrize("artifacts", ["text", 3, None])
def test_arguments_that_are_no_artifacts_are_refused(artifacts: Any) -> None:
    """What holds no artifacts is refused when it is passed, not when it is read."""
    with pytest.raises(ConfigurationError, match="nothing was read"):
        stepout.read_many(artifacts)
    with pytest.raises(ConfigurationError, match="expected artifacts"):
        list(stepout.read_many([artifacts]))


@pytest.mark.parametrize("obstore", [True, False])
@pytest.mark.parametrize("kind", ["reset", "status", "truncate", "flip_answer", "late_error"])
def test_every_fault_of_the_wire_is_survived_or_told(
    seaweed: Seaweed, bucket: str, kind: Any, *, obstore: bool
) -> None:
    """A broken read is repeated; bytes that were flipped on the way are told and never yielded."""
    written = _output(fast_store(seaweed.client(), bucket, profile=PARTS), {f"n{n}": b"value" * 50 for n in range(12)})
    with Wire(seaweed.endpoint) as wire:
        store = fast_store(seaweed.client(endpoint=wire.endpoint), bucket, profile=PARTS, obstore=obstore)
        output = stepout.resolve_output(written.document.to_dict(), allow=[stepout.ANY_BUCKET], client=store)
        output["n0"].read_bytes()
        fault = wire.when("GetObject", kind, times=2)
        found: dict[str, bytes] = {}
        if kind in ("flip_answer", "late_error"):
            with pytest.raises(ManyFailedError) as caught:
                found.update(output.read_many())
            wrong = stepout.ChecksumMismatchError if kind == "flip_answer" else stepout.SizeMismatchError
            assert {type(each) for each in caught.value.failures.values()} == {wrong}
            assert len(caught.value.failures) == 2
        else:
            found.update(output.read_many())
            assert found == {f"n{n}": b"value" * 50 for n in range(12)}
        assert fault.hits == 2
