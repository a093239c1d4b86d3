"""Handlers of the job's own that raise: a signal waits until the outcome is reported."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.lifecycle.held_signals import HeldSignals
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class AlarmError(Exception):
    """What the job's handler raises."""


@pytest.fixture(params=[AlarmError, SystemExit, KeyboardInterrupt])
def raised(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """A handler for SIGUSR1 that raises this."""

    def handle(_number: int, _frame: object) -> None:
        raise request.param

    before = signal.signal(signal.SIGUSR1, handle)
    yield request.param
    assert signal.getsignal(signal.SIGUSR1) is handle
    signal.signal(signal.SIGUSR1, before)


class Signalled(RecordingTarget):
    """A target that is signalled in the middle of a call, before or after it was taken.

    Args:
        during: The call.
        late: Whether it was taken.
    """

    def __init__(self, during: str, *, late: bool) -> None:
        super().__init__()
        self._during, self._late = during, late

    def _signal(self, call: str, *, late: bool) -> None:
        if call == self._during and late is self._late:
            os.kill(os.getpid(), signal.SIGUSR1)

    def success(self, document: Mapping[str, Any]) -> None:
        """Take it."""
        self._signal("success", late=False)
        super().success(document)
        self._signal("success", late=True)

    def failure(self, error: str, cause: str) -> None:
        """Take it."""
        self._signal("failure", late=False)
        super().failure(error, cause)
        self._signal("failure", late=True)

    def heartbeat(self) -> None:
        """Take it."""
        self._signal("heartbeat", late=False)
        super().heartbeat()
        self._signal("heartbeat", late=True)


@pytest.mark.parametrize("late", [False, True])
def test_a_handler_that_raises_does_not_end_a_success(raised: type[BaseException], *, late: bool) -> None:
    """It is called once the success is reported, as if the signal had come a moment later."""
    target = Signalled("success", late=late)
    with pytest.raises(raised), Task(target) as task:
        task.result["rows"] = 3
    assert [document["result"] for document in target.successes] == [{"rows": 3}]
    assert target.failures == []


@pytest.mark.parametrize("late", [False, True])
def test_a_handler_that_raises_does_not_end_a_failure(raised: type[BaseException], *, late: bool) -> None:
    """The job's exception is what leaves the block."""
    assert raised
    target = Signalled("failure", late=late)
    with pytest.raises(ValueError, match="mine"), Task(target):
        raise ValueError("mine")
    assert [failure["error"] for failure in target.failures] == ["ValueError"]


@pytest.mark.parametrize("late", [False, True])
def test_a_handler_that_raises_does_not_end_the_first_heartbeat(raised: type[BaseException], *, late: bool) -> None:
    """It is called after it: the job's exception, before its block, is the outcome."""
    target = Signalled("heartbeat", late=late)
    with pytest.raises(raised), Task(target):
        pytest.fail("the block ran")
    assert len(target.failures) == 1
    assert target.successes == []


def test_a_handler_that_raises_does_not_end_the_report_of_a_wrong_setting(raised: type[BaseException]) -> None:
    """That no task could be made is reported whole, too."""
    target = Signalled("failure", late=False)
    with pytest.raises(raised):
        Task.from_env({"STEPOUT_STOP_TIMEOUT": "soon"}, targets=target)
    assert [failure["error"] for failure in target.failures] == [ConfigurationError.error_name]


def test_a_stop_that_the_job_handles_itself_waits_for_the_report(raised: type[BaseException]) -> None:
    """The success stays one, the process ends as it was asked, and the job's handler is not called any more."""

    class Stopped(RecordingTarget):
        def success(self, document: Mapping[str, Any]) -> None:
            """Be stopped on the way."""
            os.kill(os.getpid(), signal.SIGTERM)
            super().success(document)

    target = Stopped()
    with pytest.raises(SystemExit) as caught, Task(target):
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGUSR1))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert raised
    assert caught.value.code == 143
    assert len(target.successes) == 1


def test_what_somebody_else_sets_meanwhile_is_left_alone() -> None:
    """Handlers are put back only where ours still stand."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    mine: list[int] = []
    try:
        held = HeldSignals()
        signal.signal(signal.SIGUSR1, lambda number, _: mine.append(number))
        held.restore()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert mine == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
