"""The one seam: what is done is told to listeners, once, with what it moved; and costs nothing where nobody listens."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from support.forked_child import begin_child, exit_code

import stepout
from stepout.artifacts.retries import Retries
from stepout.artifacts.transfer.plan import TransferSettings
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.schemas.runtime import events as module
from stepout.schemas.runtime.event import Event
from stepout.schemas.runtime.events import Events, Operation, carried, current_operation
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENVIRON = {
    "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c",
    "STEPOUT_STATE": "Mask",
    "STEPOUT_ATTEMPT": "0",
}


def told_by(heard: list[Event], *kinds: str) -> list[tuple[str, str | None, int | None, str | None]]:
    """Operation, artifact, bytes and outcome of the events of these kinds."""
    return [(each.operation, each.artifact, each.bytes, each.outcome) for each in heard if each.kind in kinds]


def written(heard: list[Event]) -> Any:
    """A manager whose puts are heard."""
    settings = TransferSettings(part_size=5 << 20)
    return stepout.ArtifactManager(MemoryStore("bucket"), events=Events([heard.append]), settings=settings)


def test_every_put_is_one_event_with_the_bytes_that_were_sent(tmp_path: Path) -> None:
    """However many objects it is made of, and whichever threads send them."""
    heard: list[Event] = []
    manager = written(heard)
    (tmp_path / "a.txt").write_bytes(b"x" * 7)
    (tmp_path / "b.txt").write_bytes(b"y" * 5)
    manager.put_bytes("small", b"abc")
    manager.put_bytes("large", bytes(11 << 20))
    table = manager.put_table("table", pa.table({"id": [1, 2]}))
    with manager.open("stream") as stream:
        stream.write(b"12345")
    folder = manager.put_directory("folder", tmp_path)
    manager.put_dataset("dataset", pa.table({"day": ["a", "b"], "id": [1, 2]}), partition_by=["day"])
    manager.adopt("again", manager.pointers["small"].url)
    manager.put_document("stepout-note", {"a": 1})
    told = told_by(heard, "put")
    assert told[:4] == [
        ("put", "small", 3, "ok"),
        ("put", "large", 11 << 20, "ok"),
        ("put", "table", table.size, "ok"),
        ("put", "stream", 5, "ok"),
    ]
    assert told[4] == ("put", "folder", folder.size + 12, "ok")
    assert told[5][:2] == ("put", "dataset")
    assert (told[5][2] or 0) > manager.pointers["dataset"].size
    assert told[6:] == [("adopt", "again", 0, "ok"), ("document", None, 7, "ok")]
    assert {(each.bucket, bool(each.key), (each.seconds or 0) > 0) for each in heard} == {("bucket", True, True)}


def test_a_put_that_fails_says_so_by_the_error_s_name() -> None:
    """Never by its text; and a writer that is given up has failed, too."""
    heard: list[Event] = []
    manager = written(heard)
    manager.put_bytes("small", b"abc")
    with pytest.raises(stepout.ArtifactExistsError):
        manager.put_bytes("small", b"abc")
    manager.open("stream").abort()
    assert [(each.outcome, each.error) for each in heard[1:]] == [
        ("failed", "Stepout.ArtifactExists"),
        ("failed", None),
    ]


def test_every_read_is_one_event_with_the_bytes_that_were_asked_for(tmp_path: Path) -> None:
    """A call within another is a part of it; requests of lazy readers, which come at any time, stand alone."""
    store, heard = MemoryStore("bucket"), list[Event]()
    manager = stepout.ArtifactManager(store)
    manager.put_json("settings", {"level": 3})
    manager.put_bytes("large", bytes(5 << 20))
    manager.put_table("table", pa.table({"id": [1, 2]}))
    (tmp_path / "a.txt").write_bytes(b"x" * 7)
    folder = manager.put_directory("folder", tmp_path)
    document = stepout.TaskOutput(artifacts=manager.pointers).to_dict()
    output = stepout.resolve_output(document, allow=["s3://bucket/"], client=store, events=Events([heard.append]))
    assert output["settings"].read_json() == {"level": 3}
    output["table"].read_table()
    output["folder"].download(tmp_path / "copy")
    output["settings"].verify()
    with output["large"].open() as file:
        file.seek(3 << 20)
        assert file.read(10) == bytes(10)
    size = manager.pointers["table"].size
    assert [(each.kind, each.artifacts) for each in heard[:1]] == [("resolve", 4)]
    told = told_by(heard, "read")
    assert told[:4] == [
        ("read_bytes", "settings", 11, "ok"),
        ("read_table", "table", size, "ok"),
        ("download", "folder", folder.size + 7, "ok"),
        ("verify", "settings", 11, "ok"),
    ]
    assert {(operation, artifact, outcome) for operation, artifact, _, outcome in told[4:]} == {("range", None, "ok")}
    assert 10 <= sum(size or 0 for _, _, size, _ in told[4:]) < 5 << 20


def test_what_cannot_be_read_is_told_by_its_error() -> None:
    """A missing object, and a document that is none."""
    store, heard = MemoryStore("bucket"), list[Event]()
    pointer = stepout.ArtifactManager(store).put_bytes("gone", b"abc")
    store.delete(pointer.key)
    options: Any = {"allow": ["s3://bucket/"], "client": store, "events": Events([heard.append])}
    with pytest.raises(stepout.ArtifactNotFoundError):
        stepout.resolve_artifact(pointer.to_dict(), **options).read_bytes()
    with pytest.raises(stepout.InvalidDocumentError):
        stepout.resolve_output({}, **options)
    assert [(each.kind, each.error) for each in heard] == [
        ("resolve", None),
        ("read", "Stepout.ArtifactNotFound"),
        ("resolve", "Stepout.InvalidDocument"),
    ]


def test_a_task_tells_what_happens_in_its_block() -> None:
    """Its heartbeat, puts and reads, also in threads of the job's and by a manager of its own, its report, its end."""
    store, heard, mine = MemoryStore("bucket"), list[Event](), list[Event]()
    task = stepout.open_task(environ=ENVIRON, targets=RecordingTarget(), bucket="bucket", client=store)
    task.events.add(heard.append)
    with task:
        pointer = task.artifacts.put_bytes("first", b"abc")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(task.artifacts.put_bytes, "second", b"abc").result()
        stepout.resolve_artifact(pointer.to_dict(), allow=["s3://bucket/"], client=store).read_bytes()
        task.events.add(mine.append)
    kinds = [(each.kind, each.operation, each.artifact) for each in heard]
    assert kinds[1:3] == [("put", "put", "first"), ("put", "put", "second")]
    assert [kind for kind, _, _ in kinds] == [
        *("heartbeat", "put", "put", "resolve", "read", "put", "report", "task"),
    ]
    assert [each.kind for each in mine] == ["put", "report", "task"]  # added in the block
    end = heard[-1]
    assert (end.outcome, end.error, end.run and end.run.state) == ("success", None, "Mask")
    assert current_operation() is None
    heard.clear()
    manager = stepout.ArtifactManager(store)
    task = stepout.open_task(environ=ENVIRON, targets=RecordingTarget(), artifacts=manager)
    task.events.add(heard.append)
    with task:
        manager.put_bytes("third", b"abc")
    manager.put_bytes("fourth", b"abc")
    assert told_by(heard, "put") == [("put", "third", 3, "ok")]


@pytest.mark.parametrize(
    ("raised", "outcome", "error"),
    [
        (KeyError("x"), "failure", "KeyError"),
        (stepout.TaskClosedError("closed"), "failure", "Stepout.TaskClosed"),
        (SystemExit(0), "success", None),
    ],
)
def test_a_task_says_how_it_ended(raised: BaseException, outcome: str, error: str | None) -> None:
    """The outcome that was reported, with the error's name."""
    heard: list[Event] = []
    task = stepout.open_task(environ={}, targets=RecordingTarget())
    task.events.add(heard.append)
    with pytest.raises(type(raised)), task:
        raise raised
    end = heard[-1]
    expected = "cancelled" if isinstance(raised, stepout.TaskClosedError) else outcome
    assert (end.kind, end.outcome, end.error) == ("task", expected, error)


def test_a_target_that_takes_nothing_leaves_it_undelivered() -> None:
    """The report is told as failed, and the task as undelivered."""

    class Refusing(RecordingTarget):
        def success(self, document: Any) -> None:  # noqa: ARG002 - a target's
            raise stepout.TaskError("no")

    heard: list[Event] = []
    task = stepout.open_task(environ={}, targets=Refusing())
    task.events.add(heard.append)
    with pytest.raises(stepout.OutcomeUndeliveredError), task:
        pass
    assert [(each.kind, each.outcome) for each in heard[-2:]] == [("report", "failed"), ("task", "undelivered")]


def test_retries_are_told_and_counted() -> None:
    """Of S3 and of a report, in whichever thread they are; the text of a service is not."""
    heard: list[Event] = []
    events = Events([heard.append])
    answers: Any = iter([stepout.StoreUnavailableError("secret"), stepout.StoreUnavailableError("secret"), None])

    def send() -> None:
        if (error := next(answers)) is not None:
            raise error

    with events.operation("put", "put", artifact="mask"), ThreadPoolExecutor(1) as pool:
        pool.submit(carried(lambda: Retries(lambda _: None).run(send))).result()
    answers = iter([ConnectionResetError("secret"), None])
    with events.operation("report", "success"):
        RetryLoop("", sleep=lambda _: None).run("SendTaskSuccess", send)
    kinds = [(each.kind, each.operation, each.artifact, each.retries) for each in heard]
    assert kinds == [
        *[("retry", "put", "mask", 0)] * 2,
        ("put", "put", "mask", 2),
        ("retry", "report", None, 0),
        ("report", "success", None, 1),
    ]
    assert "secret" not in repr(heard)


def test_a_listener_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The put is done, the others are told, and the log has the class of its exception, but not its text."""

    class Failing:
        def begin(self, event: Event) -> Callable[[Event], object]:  # noqa: ARG002 - a listener's
            raise ValueError("secret")

        def __call__(self, event: Event) -> None:  # noqa: ARG002 - a listener's
            raise ValueError("secret")

    heard: list[Event] = []
    manager = stepout.ArtifactManager(MemoryStore("bucket"), events=Events([Failing(), heard.append]))
    manager.put_bytes("a", b"abc")
    assert told_by(heard, "put") == [("put", "a", 3, "ok")]
    assert "a listener of events (Failing) raised ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_listener_has_to_be_callable_and_is_there_once() -> None:
    """What is removed is told no more."""
    heard: list[Event] = []
    events = Events()
    with pytest.raises(stepout.ConfigurationError, match="a list is no listener"):
        events.add([])  # type: ignore[arg-type] # what is tested
    with pytest.raises(stepout.ConfigurationError, match="events= is a list"):
        stepout.resolve_output({}, allow=[], events=[])  # type: ignore[arg-type] # what is tested
    take = heard.append
    for each in (take, take):
        events.add(each)
    events.tell("heartbeat", "heartbeat")
    events.remove(take)
    events.tell("heartbeat", "heartbeat")
    assert len(heard) == 1


def test_nothing_is_made_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operation, and so no event, for a put, a resolve and a read."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "Operation", refuse)
    store = MemoryStore("bucket")
    pointer = stepout.ArtifactManager(store).put_bytes("a", b"abc")
    assert stepout.resolve_artifact(pointer.to_dict(), allow=["s3://bucket/"], client=store).read_bytes() == b"abc"


def test_listeners_stay_in_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What travels to another process has none of them, and still knows its trace."""
    pointer = stepout.ArtifactManager(MemoryStore("bucket")).put_bytes("a", b"abc")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    document = stepout.TaskOutput(artifacts={"a": pointer}, traceparent=trace).to_dict()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    output = stepout.resolve_output(document, allow=["s3://bucket/"], events=Events([print]))
    there = pickle.loads(pickle.dumps(output))
    assert there.document.traceparent == trace
    assert pickle.loads(pickle.dumps(Events([print]))).listening is False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_goes_on_telling_its_own_copy() -> None:
    """No lock that a thread of the parent held stops it, and the parent hears nothing of it."""
    heard: list[Event] = []
    events = Events([heard.append])
    with Operation(events, "task", "task"):

        def tell() -> int:
            events.tell("heartbeat", "heartbeat")
            return len(heard)

        assert exit_code(begin_child(tell)) == 1
    assert [each.kind for each in heard] == ["task"]
