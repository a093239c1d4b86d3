"""``stepout.open_task`` and ``@stepout.task``: manager and task from the environment, and what is printed last."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest

import stepout
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.lifecycle.uncaught import UncaughtHook, exit_code_of, watch_uncaught
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    OutcomeUndeliveredError,
    PermanentError,
    StoreError,
    TaskClosedError,
    TaskError,
)
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sfn_strict import StrictStepFunctions

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1secret" * 10


@pytest.fixture(autouse=True)
def same_hook() -> Iterator[None]:
    """An exception that a test caught leaves the hook in place; the next test starts without."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before


def test_artifacts_and_outcome_come_together(sfn_strict: StrictStepFunctions) -> None:
    """Written through the manager, reported to the state, with one run identity."""
    token, store = sfn_strict.issue(), MemoryStore("results")
    environ = {"STEPOUT_TASK_TOKEN": token, "STEPOUT_EXECUTION": "arn:x", "STEPOUT_STATE": "Mask"}
    with stepout.open_task(environ=environ, bucket=store, sfn_client=sfn_strict.client()) as task:
        pointer = task.artifacts.put_json("features", {"rows": 3})
        task.result["rows"] = 3
    document = sfn_strict.success(token)
    assert document["artifacts"] == {"features": pointer.to_dict()}
    assert document["producer"]["state"] == "Mask"
    assert document["producer"]["nonce"] == task.artifacts.run.nonce
    assert environ == {"STEPOUT_EXECUTION": "arn:x", "STEPOUT_STATE": "Mask"}


def test_an_output_over_the_budget_spills_into_the_bucket() -> None:
    """Through the real manager, and the consumer does not notice."""
    store, target = MemoryStore("results"), RecordingTarget()
    with stepout.open_task(environ={}, bucket=store, targets=target, budget=1_000) as task:
        task.result["text"] = "é" * 2_000
    (document,) = target.successes
    assert document["result"]["stepout"] == "pointer/1"
    output = stepout.resolve_output(document, allow=["s3://results/"], client=store)
    assert output.result == {"text": "é" * 2_000}


def test_a_writer_that_nobody_closed_is_no_success() -> None:
    """The artifact would be missing, and nobody would know; nothing of it is left."""
    store, target = MemoryStore("results"), RecordingTarget()
    task, writers = stepout.open_task(environ={}, bucket=store, targets=target), []
    with pytest.raises(InvalidDocumentError, match=r"\$\.artifacts\.mask: was opened and is not committed"), task:
        writers.append(task.artifacts.open("mask", "wb"))
    assert [failure["error"] for failure in target.failures] == ["Stepout.InvalidDocument"]
    assert target.successes == []
    with pytest.raises(StoreError):
        writers[0].write(b"more")
    assert task.artifacts.pointers == {}


@stepout.task(bucket="never-used", targets=RecordingTarget(closed=True))
def decorated(task: stepout.OpenTask, rows: int, *, name: str = "raw") -> dict[str, int]:
    """A task as a module of a job has it."""
    if task.input == "bad":
        raise PermanentError("nothing to do")
    task.artifacts.put_bytes(name, b"1,2,3")
    return {"rows": rows}


@stepout.task
async def awaited(task: stepout.OpenTask) -> dict[str, int]:
    """The same for a coroutine."""
    await asyncio.sleep(0)
    return {"run": task.run.attempt or 0}


def test_a_decorated_task_runs_with_other_options() -> None:
    """Without rewriting it: store, target and environment of a test, over what the decorator says."""
    store, target = MemoryStore("results"), RecordingTarget()
    testable = decorated.with_options(bucket=store, targets=target, environ={})
    assert testable(3, name="csv") == {"rows": 3}
    output = stepout.resolve_output(target.successes[0], allow=["s3://results/"], client=store)
    assert (output["csv"].read_bytes(), output.result) == (b"1,2,3", {"rows": 3})
    target = RecordingTarget()
    with pytest.raises(PermanentError):
        testable.with_options(targets=target, environ={"STEPOUT_INPUT": '"bad"'})(3)
    assert target.failures[0]["error"] == "Stepout.Permanent"
    with pytest.raises(TaskClosedError):
        decorated.with_options(environ={})(3)
    target = RecordingTarget()
    asyncio.run(awaited.with_options(targets=target, environ={"STEPOUT_ATTEMPT": "2"})())
    assert target.successes[0]["result"] == {"run": 2}
    assert decorated.__doc__ == "A task as a module of a job has it."


@pytest.mark.parametrize("waived", [False, True])
def test_what_an_exception_kept_from_its_commit_is_no_success_unless_the_job_says_so(*, waived: bool) -> None:
    """The job handled the exception, and its output lacks the artifact: only ``abort()`` says that this is meant."""
    target = RecordingTarget()
    task = stepout.open_task(environ={}, bucket=MemoryStore("results"), targets=target)
    expected = contextlib.nullcontext() if waived else pytest.raises(InvalidDocumentError, match=r"\.mask: .*abort\(\)")
    with expected, task:
        writer = task.artifacts.open("mask")
        with contextlib.suppress(KeyError), writer:
            raise KeyError
        if waived:
            writer.abort()
    assert (len(target.successes), len(target.failures)) == ((1, 0) if waived else (0, 1))


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_writer_that_nobody_kept_is_no_success_either(mode: Literal["wb", "w"]) -> None:
    """The garbage collector has aborted it by the time the job returns; the artifact is missing all the same."""
    target = RecordingTarget()

    @stepout.task(environ={}, bucket=MemoryStore("results"), targets=target)
    def job(task: stepout.OpenTask) -> None:
        writer = task.artifacts.open("mask", mode)
        writer.write("x" if mode == "w" else b"x")  # type: ignore[arg-type]  # the mode says which
        del writer
        gc.collect()

    with pytest.raises(InvalidDocumentError, match=r"\$\.artifacts\.mask"):
        job()
    assert [failure["error"] for failure in target.failures] == ["Stepout.InvalidDocument"]


def test_nothing_is_written_after_the_report() -> None:
    """It would be in no document; a manager of the caller's own goes on."""
    with stepout.open_task(environ={}, bucket=MemoryStore("results"), targets=RecordingTarget()) as task:
        task.artifacts.put_bytes("early", b"x")
    with pytest.raises(StoreError, match="is closed"):
        task.artifacts.put_bytes("late", b"x")
    manager = stepout.ArtifactManager(MemoryStore("results"))
    with stepout.open_task(environ={}, artifacts=manager, targets=RecordingTarget()):
        manager.put_bytes("early", b"x")
    manager.put_bytes("late", b"x")


def test_an_exception_aborts_what_a_thread_still_writes() -> None:
    """An upload would go on after the task has failed, and be left over when the process ends."""
    store, target = MemoryStore("results"), RecordingTarget()
    writers = []

    @stepout.task(environ={}, bucket=store, targets=target)
    def job(task: stepout.Task) -> None:
        writers.append(task.artifacts.open("mask", "wb"))
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        job()
    with pytest.raises(StoreError):
        writers[0].write(b"more")
    assert [failure["error"] for failure in target.failures] == ["ValueError"]


def test_a_manager_of_ones_own_is_used() -> None:
    """With whatever settings it has."""
    manager, target = stepout.ArtifactManager(MemoryStore("results")), RecordingTarget()
    with stepout.open_task(environ={}, artifacts=manager, targets=target) as task:
        assert task.artifacts is manager


def test_without_a_bucket_a_task_works_until_it_writes() -> None:
    """Then the error names the variable, and the state hears of it."""
    target = RecordingTarget()
    with stepout.open_task(environ={"STEPOUT_STATE": "Mask"}, targets=target) as task:
        assert not hasattr(task.artifacts, "_private")
        task.result["rows"] = 3
    assert target.successes[0]["producer"]["state"] == "Mask"
    target = RecordingTarget()
    with (
        pytest.raises(ConfigurationError, match="STEPOUT_BUCKET"),
        stepout.open_task(environ={}, targets=target) as task,
    ):
        task.artifacts.put_text("note", "x")
    assert target.failures[0]["error"] == "Stepout.Configuration"
    target = RecordingTarget()
    with (
        pytest.raises(ConfigurationError, match="STEPOUT_BUCKET"),
        stepout.open_task(environ={}, targets=target, budget=1_000) as task,
    ):
        task.result["text"] = "x" * 2_000


def test_a_wrong_setting_of_the_manager_ends_the_state() -> None:
    """Reported, since the state waits, and raised."""
    target, environ = RecordingTarget(), {"STEPOUT_BUCKET": "results", "STEPOUT_S3_PROFILE": "cheap"}
    with pytest.raises(ConfigurationError), stepout.open_task(environ=environ, targets=target):
        pytest.fail("the block ran")
    assert target.failures[0]["error"] == "Stepout.Configuration"


def test_bad_tokens_are_refused_at_once() -> None:
    """Before anything is built."""
    with pytest.raises(InvalidTokenError):
        stepout.open_task(environ={"STEPOUT_TASK_TOKEN": ""})


def test_the_decorator_passes_the_task_and_merges_what_is_returned() -> None:
    """Bare or with options; each call is a task of its own."""
    targets = [RecordingTarget(), RecordingTarget()]

    def job(task: stepout.Task, rows: int, *, factor: int = 1) -> dict[str, int]:
        """Count."""
        task.result["seen"] = True
        return {"rows": rows * factor}

    for target in targets:
        decorated = stepout.task(environ={}, targets=target)(job)
        assert decorated(3, factor=2) == {"rows": 6}
        assert decorated.__doc__ == "Count."
    assert [target.successes[0]["result"] for target in targets] == [{"seen": True, "rows": 6}] * 2


def test_the_bare_decorator_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing set: standard output."""
    for name in ("STEPOUT_TASK_TOKEN", "TASK_TOKEN", "STEPOUT_TARGETS", "STEPOUT_EXECUTION", "STEPOUT_BUCKET"):
        monkeypatch.delenv(name, raising=False)

    @stepout.task
    def job(task: stepout.Task) -> None:
        task.result["rows"] = 3

    job()
    assert '"result": {"rows": 3}' in capsys.readouterr().out


def test_coroutines_may_be_tasks_and_generators_may_not() -> None:
    """A generator's body would run after the report."""
    target = RecordingTarget()

    @stepout.task(environ={}, targets=target)
    async def job(task: stepout.Task) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"rows": len(task.result)}

    assert asyncio.run(job()) == {"rows": 0}
    assert target.successes[0]["result"] == {"rows": 0}
    with pytest.raises(ConfigurationError, match="generator"):

        @stepout.task
        def generates(task: stepout.Task) -> Any:
            yield task


def test_the_hook_is_put_back_after_tasks_that_end_well() -> None:
    """Nested ones share one hook; after an exception it stays until a task ends well."""
    before = sys.excepthook

    def opened() -> Any:
        return stepout.open_task(environ={}, targets=RecordingTarget())

    with opened():
        hook = sys.excepthook
        assert isinstance(hook, UncaughtHook)
        with opened():
            assert sys.excepthook is hook
        assert sys.excepthook is hook
    assert sys.excepthook is before
    with pytest.raises(ValueError, match="x"), opened():
        raise ValueError("x")
    assert isinstance(sys.excepthook, UncaughtHook)
    with pytest.raises(TaskClosedError), stepout.open_task(environ={}, targets=RecordingTarget(closed=True)):
        pass
    with opened():
        pass
    assert sys.excepthook is before


def test_an_uncaught_exception_is_printed_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    """With its cause and notes; ours end the process with their codes."""
    hook = UncaughtHook(sys.__excepthook__)
    hook.opened(Redactor([TOKEN]))
    error = ValueError(f"bad {TOKEN}")
    error.__cause__ = KeyError(TOKEN)
    error.add_note(f"note {TOKEN}")
    hook(ValueError, error, None)
    printed = capsys.readouterr().err
    assert TOKEN[:24] not in printed
    assert printed.count("[redacted]") == 3
    with pytest.raises(SystemExit) as caught:
        hook(TaskClosedError, TaskClosedError("x"), None)
    assert caught.value.code == 4


def test_a_hook_that_was_there_sees_what_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Reporters of errors go on working; what would leak is printed by ours alone."""
    seen: list[BaseException] = []
    hook = UncaughtHook(lambda _kind, error, _trace: seen.append(error))
    hook.opened(Redactor([TOKEN]))
    plain = ValueError("plain")
    hook(ValueError, plain, None)
    hook(ValueError, ValueError(TOKEN), None)
    assert seen == [plain]
    assert "ValueError: [redacted]" in capsys.readouterr().err


def test_what_is_uncaught_elsewhere_is_printed_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    """In a thread and in a destructor; what holds no secret goes to the hooks of before, which come back."""
    seen: list[Any] = []
    threading.excepthook, sys.unraisablehook = seen.append, seen.append
    before = threading.excepthook, sys.unraisablehook

    def fail(message: str) -> None:
        raise ValueError(message)

    class Fails:
        def __init__(self, message: str) -> None:
            self.message = message

        def __del__(self) -> None:
            fail(self.message)

    with stepout.open_task(environ={}, targets=RecordingTarget(), redact=TOKEN):
        for message in (f"bad {TOKEN}", "plain"):
            thread = threading.Thread(target=fail, args=[message], name="mine")
            thread.start()
            thread.join()
            Fails(message)
    printed = capsys.readouterr().err
    assert printed.count("ValueError: bad [redacted]") == 2
    assert "Exception in thread mine:" in printed
    assert TOKEN[:24] not in printed
    assert [str(found.exc_value) for found in seen] == ["plain", "plain"]
    assert (threading.excepthook, sys.unraisablehook) == before


def test_a_hook_that_another_one_replaced_is_left_alone() -> None:
    """Somebody else's may call ours."""
    hook = watch_uncaught(Redactor())
    theirs = sys.excepthook = lambda *_: None
    hook.closed(well=True)
    assert sys.excepthook is theirs


@pytest.mark.parametrize(
    ("error", "code"),
    [(OutcomeUndeliveredError("x"), 3), (TaskClosedError("x"), 4), (TaskError("x"), 1), (ValueError("x"), 1)],
)
def test_exit_codes(error: Exception, code: int) -> None:
    """3: work done, outcome undelivered; 4: nobody waits."""
    assert exit_code_of(error) == code


@pytest.mark.parametrize("use", [lambda task: task.artifacts, lambda task: task.result.update(a=1),
                                 lambda task: setattr(task, "result", {})])  # fmt: skip
@pytest.mark.filterwarnings("ignore:a task was opened and never entered")
def test_a_task_that_has_not_begun_takes_nothing(use: Callable[[Any], object]) -> None:
    """What is set there would be reported by nobody; the error says how to begin."""
    task = stepout.open_task(environ={}, targets=[RecordingTarget()])
    with pytest.raises(ConfigurationError, match=r"has not begun.*with stepout\.open_task\(\) as task"):
        use(task)


def test_a_task_that_was_never_entered_is_told_at_once() -> None:
    """Nothing of the task refers to it in a circle, so the warning does not wait for the collector."""
    task = stepout.open_task(environ={}, targets=[RecordingTarget()])
    gc.disable()
    try:
        with pytest.warns(RuntimeWarning, match="never entered"):
            del task
    finally:
        gc.enable()
