"""``task.progress``: what is passed on and when, what it costs the job, and what cannot go wrong with it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.forked_child import begin_child, exit_code

from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.lifecycle.progress import INTERVAL, Channel
from stepout.schemas.errors import TaskClosedError, TaskError
from stepout.schemas.progress import TaskProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = "stepout.callbacks.progress"


class Plain:
    """A target of a user's own, which knows nothing of progress."""

    def __init__(self) -> None:
        self.document: Any = None

    def success(self, document: Mapping[str, Any]) -> None:
        """Keep it."""
        self.document = document

    def failure(self, error: str, cause: str) -> None:
        """Not asked for here."""

    def heartbeat(self) -> None:
        """Do nothing."""


class Hanging(RecordingTarget):
    """A target that does not answer a progress report before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()
        self.hung_at_success: bool | None = None

    def report_progress(self, progress: TaskProgress) -> None:
        """Wait."""
        self.asked.set()
        self.go.wait()
        super().report_progress(progress)

    def success(self, document: Mapping[str, Any]) -> None:
        """Note whether a progress report was under way."""
        self.hung_at_success = self.asked.is_set() and not self.go.is_set()
        super().success(document)


class Refusing(RecordingTarget):
    """A target that refuses every progress report, with any exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    def report_progress(self, progress: TaskProgress) -> None:  # noqa: ARG002 - a protocol's
        """Refuse."""
        self.asked += 1
        raise self.error


def test_the_first_and_the_last_are_passed_on_and_few_between_them(caplog: pytest.LogCaptureFixture) -> None:
    """However often a job says how far it is: at most one report in five seconds, and the last one always."""
    caplog.set_level(logging.INFO, LOGGER)
    target, began = RecordingTarget(), time.monotonic()
    with Task(target) as task:
        for number in range(20_001):
            task.progress(number, 20_000, f"tile {number}")
    most = 2 + (time.monotonic() - began) / INTERVAL
    assert 1 <= len(target.progress) <= most
    last = target.progress[-1]
    assert (last.done, last.total, last.message) == (20_000, 20_000, "tile 20000")
    assert last.reported_at is not None
    assert last.reported_at.endswith("Z")
    lines = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len(lines) == len(target.progress)
    assert lines[-1] == "progress: 20,000 of 20,000 (100%): tile 20000"


def test_a_target_without_a_place_for_it_hears_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it all the same; a target beside it that has a place hears it."""
    caplog.set_level(logging.INFO, LOGGER)
    target, beside = Plain(), RecordingTarget()
    with Task([target, beside]) as task:
        task.progress(3, 10)
    assert target.document is not None
    assert [str(each) for each in beside.progress] == ["3 of 10 (30%)"]
    assert "progress: 3 of 10 (30%)" in caplog.messages


def test_a_target_that_hangs_holds_up_neither_the_job_nor_the_outcome() -> None:
    """The call returns, the outcome is reported, and the block ends, while the report has not come back."""
    target = Hanging()
    with Task(target) as task:
        task.progress(1, 2)
        assert target.asked.wait(60)
        task.progress(2, 2)
    assert target.successes
    assert target.hung_at_success is True
    assert target.progress == []
    target.go.set()


def test_a_stopped_task_does_not_wait_for_it() -> None:
    """A task that nobody waits for any more ends at once."""
    target = Hanging()

    def work() -> None:
        with Task(target) as task:
            task.progress(1, 2)
            assert target.asked.wait(60)
            task._completion.cancel(TaskClosedError("nobody waits"))

    with pytest.raises(TaskClosedError):
        work()
    assert target.progress == []
    target.go.set()


@pytest.mark.parametrize("error", [TaskError("denied"), OSError("no route"), ValueError("own")])
def test_a_target_that_refuses_it_fails_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises, the task succeeds; one warning says so."""
    target = Refusing(error)
    with Task(target) as task:
        task.progress(1, 2)
    assert target.successes
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "the progress was not shown" in warning.getMessage()
    assert str(error) in warning.getMessage()


def test_a_refused_report_is_tried_again_later_and_later_and_the_last_one_always(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The pause doubles up to five minutes; one warning, then quiet lines; a success ends it."""
    caplog.set_level(logging.INFO, LOGGER)
    target = Refusing(TaskError("throttled"))
    channel, progress = Channel(target), TaskProgress(done=1)
    asked = []
    for second in range(0, 2_000, 5):
        before = target.asked
        channel.tell(progress, float(second), last=False)
        asked += [second] * (target.asked - before)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == [10, 20, 40, 80, 160, 300, 300, 300, 300, 300][: len(gaps)]
    assert [record.levelname for record in caplog.records] == ["WARNING"] + ["INFO"] * (target.asked - 1)
    before = target.asked
    channel.tell(progress, 1_999.0, last=True)
    assert target.asked == before + 1


def test_a_target_where_nobody_looks_any_more_is_not_asked_again() -> None:
    """As where another attempt has succeeded."""
    target = Refusing(TaskClosedError("it holds a success"))
    channel = Channel(target)
    for last in (False, False, True):
        channel.tell(TaskProgress(done=1), 1e9, last=last)
    assert target.asked == 1


def test_it_stops_at_the_report_and_does_nothing_outside_the_block() -> None:
    """Neither before the block nor after it, nor when no call was made."""
    target = RecordingTarget()
    task = Task(target)
    task.progress(1, 3)
    with task:
        task.progress(2, 3)
    task.progress(3, 3)
    assert [each.done for each in target.progress] == [2]
    quiet = RecordingTarget()
    with Task(quiet) as silent:
        pass
    assert quiet.progress == []
    assert silent._progress._thread is None


def test_a_failed_task_has_told_how_far_it_came() -> None:
    """The last progress is passed on also where an exception left the block."""
    target = RecordingTarget()

    def work() -> None:
        with Task(target) as task:
            task.progress(7, 9, "tile 7")
            raise ValueError("bad tile")

    with pytest.raises(ValueError, match="bad tile"):
        work()
    assert target.failures
    assert [str(each) for each in target.progress] == ["7 of 9 (77%): tile 7"]


class _Rude:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __index__(self) -> int:
        raise RuntimeError("no number")


@pytest.mark.parametrize("told", [("many",), (float("nan"), 3), (1, "all"), (_Rude(),), (1, 2, _Rude())])
def test_what_cannot_be_understood_is_said_once_and_fails_nothing(
    told: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """A job that tells nonsense after hours of work still succeeds."""
    target = RecordingTarget()
    with Task(target) as task:
        for _ in range(100):
            task.progress(*told)
    assert target.successes
    assert target.progress == []
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_no_secret_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """Neither whole nor as the half that is left where a long message is cut."""
    caplog.set_level(logging.INFO, LOGGER)
    secret = "tok-" + "S3cr3t" * 40
    target = RecordingTarget()
    with Task(target, redact=secret) as task:
        task.progress(1, 2, "x" * 200 + secret)
    assert len(target.progress) == 1
    for text in (target.progress[0].to_text(), caplog.text):
        assert "S3cr3t" not in text
        assert "x" * 200 in text


def test_threads_tell_together() -> None:
    """Any thread of the process may; what is passed on is what one of them told, and one thread passes it on."""
    target = RecordingTarget()

    def work(number: int) -> None:
        for step in range(500):
            task.progress(step, 500, f"thread {number} step {step}")

    with Task(target) as task, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert target.progress
    assert all(each.message.endswith(f"step {each.done:g}") for each in target.progress)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_tells_nothing() -> None:
    """It has no thread to do so, and its parent's target is not its own."""
    target = RecordingTarget()
    with Task(target) as task:
        task.progress(1, 2)

        def tell() -> int:
            task.progress(2, 2)
            return len(threading.enumerate()) - 1

        assert exit_code(begin_child(tell)) == 0
    assert [each.done for each in target.progress] == [1]
