"""``Task`` in one process: which report follows from what happens in the block."""
# ruff: noqa: PT012 - what happens in the block is what is tested

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import RecordingTarget, StepFunctionsTarget, Task
from stepout.schemas import Pointer, RunIdentity
from stepout.schemas.contract import Contract
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OutcomeUndeliveredError,
    OutputTooLargeError,
    RetryableError,
    StoreUnavailableError,
    TaskClosedError,
    TaskError,
    TaskInterrupted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.sfn_strict import StrictStepFunctions

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1secret" * 10
POINTER = Pointer(bucket="results", key="runs/a.png", size=3, checksum={"sha256": "0" * 64}, media_type="image/png")


class Store:
    """Stands in for an artifact manager: keeps documents, and can be told to fail."""

    def __init__(self, *, broken: bool = False) -> None:
        self.run = RunIdentity(execution="arn:x", state="Mask", attempt=1)
        self.pointers: Mapping[str, Pointer] = {"preview": POINTER}
        self.documents: dict[str, Any] = {}
        self.aborted = threading.Event()
        self.broken = broken

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Keep it."""
        if self.broken or self.aborted.is_set():
            raise StoreUnavailableError("the store is gone")
        self.documents[stem] = dict(document)
        return Pointer(bucket="results", key=f"runs/{stem}.json", size=1, checksum={"sha256": "0" * 64})

    def abort(self) -> None:
        """Refuse from now on."""
        self.aborted.set()
        if self.broken:
            raise StoreUnavailableError("the store is gone")


def cause(target: RecordingTarget) -> dict[str, Any]:
    """The cause of the one failure."""
    (failure,) = target.failures
    assert target.successes == []
    value: dict[str, Any] = failure["cause"]
    return value


def error(target: RecordingTarget) -> str:
    """The error of the one failure."""
    (failure,) = target.failures
    assert target.successes == []
    return str(failure["error"])


def test_leaving_the_block_reports_the_output_document() -> None:
    """Pointers, result and producer; one heartbeat before the block."""
    target, store = RecordingTarget(), Store()
    with Task(target, artifacts=store) as task:
        assert target.heartbeats == 1
        task.result["rows"] = 3
        assert task.artifacts is store
        assert task.run.state == "Mask"
    (document,) = target.successes
    began = datetime.fromisoformat(document["producer"].pop("startedAt"))
    assert abs((datetime.now(UTC) - began).total_seconds()) < 3_600
    assert document == {
        "stepout": "output/1",
        "artifacts": {"preview": POINTER.to_dict()},
        "result": {"rows": 3},
        "producer": {"execution": "arn:x", "state": "Mask", "attempt": 1},
    }
    assert repr(task) == "Task(success)"


def test_an_exception_reports_failure_and_leaves_unchanged() -> None:
    """The very same object."""
    target, mine = RecordingTarget(), ValueError("no mask")
    with pytest.raises(ValueError, match="no mask") as caught, Task(target, artifacts=Store()):
        raise mine
    assert caught.value is mine
    assert error(target) == "ValueError"
    assert cause(target)["message"] == "no mask"
    assert cause(target)["run"]["state"] == "Mask"


@pytest.mark.parametrize("code", [0, None])
def test_a_clean_exit_is_success(code: int | None) -> None:
    """``sys.exit(0)`` in the block ends the process, and the work is done."""
    target = RecordingTarget()
    with pytest.raises(SystemExit), Task(target):
        raise SystemExit(code)
    assert len(target.successes) == 1


@pytest.mark.parametrize("exception", [SystemExit(2), SystemExit("no"), GeneratorExit()])
def test_other_ways_out_are_failures(exception: BaseException) -> None:
    """Reported by class, and left unchanged."""
    target = RecordingTarget()
    with pytest.raises(type(exception)), Task(target):
        raise exception
    assert error(target) == type(exception).__name__


def test_a_keyboard_interrupt_is_an_interruption() -> None:
    """Also one that the job raised, or that came where no signal is handled."""
    target, store = RecordingTarget(), Store()
    with pytest.raises(KeyboardInterrupt), Task(target, artifacts=store):
        raise KeyboardInterrupt
    assert error(target) == "Stepout.Interrupted"
    assert store.aborted.is_set()


def test_an_interruption_from_elsewhere_ends_the_process_with_its_code() -> None:
    """Whoever raises TaskInterrupted."""
    target = RecordingTarget()
    with pytest.raises(SystemExit) as caught, Task(target):
        raise TaskInterrupted(signum=2)
    assert caught.value.code == 130
    assert error(target) == "Stepout.Interrupted"


@pytest.mark.parametrize(
    ("stop", "leaves", "code"),
    [(TaskInterrupted(signum=2), SystemExit, 130), (KeyboardInterrupt(), BaseExceptionGroup, None)],
)
def test_an_interruption_in_a_group_is_one(stop: BaseException, leaves: type[BaseException], code: int | None) -> None:
    """Beside other failures too: they are what it broke."""
    target, store = RecordingTarget(), Store()
    with pytest.raises(leaves) as caught, Task(target, artifacts=store):
        raise BaseExceptionGroup("g", [ValueError("broken"), BaseExceptionGroup("h", [stop])])
    assert error(target) == "Stepout.Interrupted"
    assert store.aborted.is_set()
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(("others", "good"), [([], True), ([SystemExit(0)], True), ([SystemExit(1)], False)])
def test_a_group_of_clean_exits_is_a_clean_exit(others: list[BaseException], *, good: bool) -> None:
    """As ``trio`` wraps ``sys.exit(0)``; one that is not clean fails the task."""
    target = RecordingTarget()
    with pytest.raises(BaseExceptionGroup), Task(target):
        raise BaseExceptionGroup("g", [SystemExit(None), *others])
    assert (len(target.successes), len(target.failures)) == ((1, 0) if good else (0, 1))


def test_what_a_task_group_raises_is_told_by_its_own_name() -> None:
    """``asyncio.TaskGroup`` wraps even one failure; ``Retry`` and ``Catch`` see the failure, the caller the group."""
    target = RecordingTarget()

    async def fails() -> None:
        raise RetryableError("try again")

    @Task(target)
    async def job() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(60))

    with pytest.raises(ExceptionGroup):
        asyncio.run(job())
    assert error(target) == "Stepout.Retryable"
    assert (cause(target)["message"], cause(target)["retryable"]) == ("try again", True)


def test_closed_before_the_block_means_no_work() -> None:
    """The first heartbeat finds it out."""
    target = RecordingTarget(closed=True)
    with pytest.raises(TaskClosedError), Task(target):
        pytest.fail("the block ran")
    assert (target.successes, target.failures) == ([], [])


def test_a_token_nobody_knows_means_no_work(sfn_strict: StrictStepFunctions) -> None:
    """Its outcome could never be told."""
    with pytest.raises(InvalidTokenError), Task(StepFunctionsTarget("garbage", sfn_strict.client())):
        pytest.fail("the block ran")


def test_a_first_heartbeat_that_gets_through_to_nobody_is_one_loud_line(caplog: pytest.LogCaptureFixture) -> None:
    """The task goes on; the last report has more patience."""
    target = RecordingTarget(unreachable=True)
    with Task(target):
        target.unreachable = False
    assert len(target.successes) == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "first heartbeat" in record.getMessage()


def test_closed_at_the_end_is_an_error_and_no_second_report() -> None:
    """Somebody else ended the task while it worked."""
    target = RecordingTarget()
    with pytest.raises(TaskClosedError), Task(target):
        target.close()
    assert (target.successes, target.failures) == ([], [])


@pytest.mark.parametrize(
    ("value", "location"),
    [(float("nan"), "$.result.rows"), (b"x", "$.result.rows"), ({"at": object()}, "$.result.rows.at")],
)
def test_a_result_that_is_not_json_fails_by_name(value: Any, location: str) -> None:
    """The error says which member, is raised, and is reported: the state must not hang."""
    target = RecordingTarget()
    with pytest.raises(InvalidDocumentError) as caught, Task(target) as task:
        task.result["rows"] = value
    assert [problem.location for problem in caught.value.problems] == [location]
    assert error(target) == "Stepout.InvalidDocument"
    assert location in cause(target)["message"]


def test_a_broken_contract_is_reported_with_all_its_problems() -> None:
    """Before success is."""
    target = RecordingTarget()
    contract = Contract({"required": ["rows"]}, {"features": None, "preview": "image/jpeg"})
    with pytest.raises(InvalidDocumentError) as caught, Task(target, artifacts=Store(), contract=contract):
        pass
    assert {problem.kind for problem in caught.value.problems} == {"missing", "media-type"}
    assert len(caught.value.problems) == 3
    assert error(target) == "Stepout.InvalidDocument"


def test_a_kept_contract_lets_success_pass() -> None:
    """Result and artifacts as promised."""
    target = RecordingTarget()
    contract = Contract({"required": ["rows"]}, {"preview": "image/*"})
    with Task(target, artifacts=Store(), contract=contract) as task:
        task.result = {"rows": 1}
    assert len(target.successes) == 1


def test_a_secret_in_the_result_is_refused_by_location() -> None:
    """A document never holds a credential, and the error does not either."""
    target = RecordingTarget()
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.note") as caught, Task(target, redact=TOKEN) as task:
        task.result["note"] = f"token {TOKEN}"
    assert TOKEN not in str(caught.value)
    assert TOKEN not in json.dumps(target.failures)


@pytest.mark.parametrize(
    "url",
    [
        "https://b/k?X-Amz-Signature=abab",
        "https://b/k?AWSAccessKeyId=AKIA&Expires=1&signature=abab",
        "https://d/k?Policy=e&Signature=abab&Key-Pair-Id=K",
        "https%3A%2F%2Fb%2Fk%3Fx-amz-signature%3Dabab",
    ],
)
def test_a_presigned_url_is_refused_in_a_result_and_taken_out_of_a_cause(url: str) -> None:
    """In every form: it is a credential of whoever reads the execution's history."""
    target, other = RecordingTarget(), RecordingTarget()
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.deep\[0\]") as caught, Task(target) as task:
        task.result["deep"] = [url]
    with pytest.raises(ValueError, match="abab"), Task(other):
        raise ValueError(f"cannot fetch {url}")
    assert "abab" not in str(caught.value)
    assert "abab" not in json.dumps([target.failures, other.failures])
    assert "cannot fetch" in other.failures[0]["cause"]["message"]


def test_a_large_result_spills_and_a_small_one_does_not() -> None:
    """Exactly at the budget it stays."""
    for spare, spilled in ((0, False), (-1, True)):
        target, store = RecordingTarget(), Store()
        with Task(target, artifacts=store, budget=2_000 + spare) as task:
            task.result["text"] = ""
            size = len(json.dumps(_document_of(task), separators=(",", ":"), ensure_ascii=False).encode())
            task.result["text"] = "é" * ((2_000 - size) // 2) + "x" * ((2_000 - size) % 2)
        assert ("stepout-result" in store.documents) is spilled
        assert (target.successes[0]["result"].get("stepout") == "pointer/1") is spilled


def _document_of(task: Task) -> dict[str, Any]:
    return {
        "stepout": "output/1",
        "artifacts": {"preview": POINTER.to_dict()},
        "result": task.result,
        "producer": {**task.run.to_dict(), "startedAt": "2026-11-22T12:00:00.000Z"},
    }


@pytest.mark.parametrize("options", [{"artifacts": Store(), "spill": "never"}, {}])
def test_an_output_that_may_not_or_cannot_spill_is_too_large(options: dict[str, Any]) -> None:
    """Raised and reported."""
    target = RecordingTarget()
    with pytest.raises(OutputTooLargeError), Task(target, budget=1_000, **options) as task:
        task.result["text"] = "x" * 2_000
    assert error(target) == "Stepout.OutputTooLarge"


def test_a_spill_that_fails_is_a_failure() -> None:
    """The store's own error."""
    target = RecordingTarget()
    with pytest.raises(StoreUnavailableError), Task(target, artifacts=Store(broken=True), budget=1_000) as task:
        task.result["text"] = "x" * 2_000
    assert error(target) == "Stepout.StoreUnavailable"


class Unreachable(RecordingTarget):
    """Takes heartbeats, no success."""

    def success(self, document: Mapping[str, Any]) -> None:  # noqa: ARG002 - a protocol's
        """Fail, quoting what must not be quoted."""
        raise TaskError(f"nobody at home for {TOKEN}")


def test_an_undelivered_success_is_kept_beside_the_artifacts() -> None:
    """And the error says where; no failure is reported, since the work is done."""
    target, store = Unreachable(), Store()
    with (
        pytest.raises(OutcomeUndeliveredError, match=r"s3://results/runs/stepout-undelivered\.json") as caught,
        Task(target, artifacts=store, redact=[TOKEN]) as task,
    ):
        task.result["rows"] = 3
    assert store.documents["stepout-undelivered"]["result"] == {"rows": 3}
    assert target.failures == []
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("artifacts", [None, Store(broken=True)])
def test_an_undelivered_success_is_kept_locally_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts: Store | None
) -> None:
    """Where there is no store, or it fails as well."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(OutcomeUndeliveredError, match="local file") as caught,
        Task(Unreachable(), artifacts=artifacts) as t,
    ):
        t.result["rows"] = 3
    (path,) = tmp_path.glob("*/output.json")
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text())["result"] == {"rows": 3}


def test_an_undelivered_success_that_can_be_kept_nowhere_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or missing disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutcomeUndeliveredError, match="could not be kept anywhere"), Task(Unreachable()):
        pass


def test_a_refused_success_becomes_a_failure() -> None:
    """InvalidOutput leaves the state waiting: it must hear something."""

    class Picky(RecordingTarget):
        def success(self, document: Mapping[str, Any]) -> None:  # noqa: ARG002 - a protocol's
            """Refuse it as a document."""
            raise InvalidDocumentError("InvalidOutput")

    target = Picky()
    with pytest.raises(InvalidDocumentError), Task(target):
        pass
    assert error(target) == "Stepout.InvalidDocument"


@pytest.mark.parametrize("options", [{"unreachable": True}, {"closed": True}])
def test_a_failure_that_cannot_be_reported_leaves_the_exception_alone(
    caplog: pytest.LogCaptureFixture, options: dict[str, bool]
) -> None:
    """It is logged."""
    target = RecordingTarget()
    with pytest.raises(ValueError, match="mine"), Task(target):
        target.unreachable = options.get("unreachable", False)
        if "closed" in options:
            target.close()
        raise ValueError("mine")
    assert any("ValueError" in record.getMessage() for record in caplog.records)


def test_notifications_follow_the_primary_and_never_fail_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """The second target is told, the third may be broken."""
    primary, told, broken = RecordingTarget(), RecordingTarget(), RecordingTarget(unreachable=True)
    with Task([primary, broken, told]):
        pass
    assert primary.successes == told.successes
    assert len(told.successes) == 1
    assert "was not told" in caplog.text
    with pytest.raises(ValueError, match="x"), Task([RecordingTarget(), failing := RecordingTarget()]):
        raise ValueError("x")
    assert error(failing) == "ValueError"


def test_nobody_is_notified_of_what_the_primary_did_not_take() -> None:
    """A subscriber must not hear of a success that does not count."""
    told = RecordingTarget()
    with pytest.raises(OutcomeUndeliveredError), Task([Unreachable(), told]):
        pass
    assert told.successes == []


def test_a_task_is_entered_once() -> None:
    """One token, one outcome."""
    target = RecordingTarget()
    with Task(target) as task:
        pass
    with pytest.raises(TaskError, match="entered before"), task:
        pass
    assert len(target.successes) == 1


def test_a_task_decorates_a_function() -> None:
    """A mapping that it returns becomes part of the result."""
    target = RecordingTarget()
    task = Task(target)

    @task
    def job(rows: int) -> dict[str, int]:
        """Count."""
        task.result["more"] = True
        return {"rows": rows}

    assert job(3) == {"rows": 3}
    assert job.__doc__ == "Count."
    assert target.successes[0]["result"] == {"more": True, "rows": 3}


def test_a_task_decorates_a_coroutine_function() -> None:
    """The block lasts until its work is done, not until it is called."""
    target = RecordingTarget()

    @Task(target)
    async def job(rows: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"rows": rows}

    begun = job(3)
    assert target.heartbeats == 0
    assert asyncio.run(begun) == {"rows": 3}
    assert target.successes[0]["result"] == {"rows": 3}


def test_work_that_would_come_after_the_report_is_refused() -> None:
    """A generator at once; an awaitable that a plain callable returns, when it is returned."""

    def generates() -> Any:
        yield 3

    async def coroutine() -> None: ...

    with pytest.raises(ConfigurationError, match="generates returns a generator"):
        Task(RecordingTarget())(generates)
    for later in (generates, coroutine):
        target, made = RecordingTarget(), later()
        with pytest.raises(ConfigurationError, match="after the task was reported"):
            Task(target)(lambda made=made: made)()
        assert [failure["error"] for failure in target.failures] == ["Stepout.Configuration"]
        made.close()


def test_artifacts_are_made_inside_and_their_failure_is_reported() -> None:
    """A wrong setting ends the state instead of letting it hang."""
    target = RecordingTarget()

    def broken() -> Store:
        raise ConfigurationError("no such profile")

    with pytest.raises(ConfigurationError), Task(target, artifacts=broken):
        pytest.fail("the block ran")
    assert error(target) == "Stepout.Configuration"
    store = Store()
    with Task(RecordingTarget(), artifacts=lambda: store) as task:
        assert task.artifacts is store


def test_a_result_must_be_a_mapping_and_artifacts_must_be_there() -> None:
    """Clear errors for clear mistakes."""
    target = RecordingTarget()
    with Task(target) as task:
        with pytest.raises(InvalidDocumentError, match="list"):
            task.result = [1]  # type: ignore[assignment]
        with pytest.raises(ConfigurationError, match="no artifact manager"):
            _ = task.artifacts
    assert task.input is None
    assert repr(Task(target)) == "Task(open)"
