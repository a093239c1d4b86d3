"""``outcome_of``: what a block left, and what was asked of it, as one value."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.lifecycle.outcome import Outcome, outcome_of
from stepout.callbacks.lifecycle.task_state import Stop, TaskState
from stepout.schemas.errors import InvalidTokenError, TaskClosedError, TaskInterrupted

INTERRUPTED, CANCELLED = TaskState().interrupt(signal.SIGTERM), TaskState().cancel()
CLOSED, MINE, ASKED = TaskClosedError("closed"), KeyError("mine"), TaskInterrupted(signum=2)


@pytest.mark.parametrize(
    ("exception", "state", "ran", "expected"),
    [
        (None, TaskState(), True, Outcome()),
        (SystemExit(0), TaskState(), True, Outcome()),
        (MINE, TaskState(), True, Outcome(error=MINE)),
        (ASKED, INTERRUPTED, True, Outcome(Stop.INTERRUPTED, ASKED)),
        (ASKED, TaskState(), True, Outcome(Stop.INTERRUPTED, ASKED)),
        (BaseExceptionGroup("", [MINE, ASKED]), INTERRUPTED, True, Outcome(Stop.INTERRUPTED, ASKED)),
        (CLOSED, CANCELLED, False, Outcome(Stop.CANCELLED, CLOSED)),
    ],
)
def test_the_outcome_follows_from_the_exception_and_the_state(
    exception: BaseException | None, state: TaskState, ran: bool, expected: Outcome
) -> None:
    """A request to stop outweighs what left the block, and is told by the exception that carries it."""
    assert outcome_of(exception, state, ran=ran) == expected


def test_a_clean_exit_before_the_block_is_a_failure() -> None:
    """No work was done."""
    early = SystemExit(0)
    assert outcome_of(early, TaskState(), ran=False) == Outcome(error=early)


def test_what_a_stopped_block_raised_is_the_cause_of_its_interruption() -> None:
    """The state's signal is told, and what it broke beside it; of a cancelled task neither."""
    told = outcome_of(MINE, INTERRUPTED)
    assert (told.stop, type(told.error), told.error and told.error.__cause__) == (
        Stop.INTERRUPTED,
        TaskInterrupted,
        MINE,
    )
    assert isinstance(outcome_of(MINE, CANCELLED).error, TaskClosedError)
    unknown = InvalidTokenError("nobody's")
    assert outcome_of(unknown, CANCELLED).error is unknown


def test_a_task_is_made_of_a_session_as_it_is() -> None:
    """Another task of the same session reports to the same targets, within the same limits."""
    target = RecordingTarget()
    values: dict[str, Any] = {"scene": 7}
    first = Task(target, heartbeat=300, stop_timeout=7, input=values)
    with Task(first.task_session) as task:
        assert task.input is values
        assert task.task_state == TaskState()
    assert len(target.successes) == 1
    assert (task.task_session.interval, task.task_session.stop_timeout) == (100, 7)
    assert "scene" not in repr(task.task_session)
