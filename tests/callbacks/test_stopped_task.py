"""What an event says, and what follows from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.delivery.failure import MAX_CAUSE
from stepout.callbacks.stopped_task import Urgency, cause_document, judge, stopped_task


def event(
    code: int | None = None, *, stop: str = "EssentialContainerExited", reason: str | None = None, **detail: Any
) -> dict[str, Any]:
    """Return the event of a task with one container."""
    container = {"name": "job", "exitCode": code, "reason": reason}
    body = {
        "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/default/7f3c",
        "lastStatus": "STOPPED",
        "stopCode": stop,
        "stoppedReason": "why",
        "containers": [{name: value for name, value in container.items() if value is not None}],
        "overrides": {
            "containerOverrides": [{"name": "job", "environment": [{"name": "STEPOUT_TASK_TOKEN", "value": "AQC"}]}]
        },
        **detail,
    }
    return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "time": "2026-11-22T12:00:00Z", "detail": body}


@pytest.mark.parametrize(
    ("given_event", "error", "haste", "retryable"),
    [
        (event(137), "Stepout.ContainerDied", Urgency.SOON, True),
        (event(139), "Stepout.ContainerDied", Urgency.SOON, True),
        (event(None), "Stepout.ContainerDied", Urgency.SOON, True),
        (event(1), "Stepout.ContainerDied", Urgency.SOON, None),
        (event(4), "Stepout.ContainerDied", Urgency.SOON, None),
        (event(143), "Stepout.ContainerDied", Urgency.SOON, True),
        (event(137, reason="OutOfMemoryError: Container killed"), "Stepout.OutOfMemory", Urgency.SOON, False),
        (event(0), "Stepout.NothingReported", Urgency.LATE, False),
        (event(3), "Stepout.OutcomeUndelivered", Urgency.LATE, False),
        (event(137, stop="UserInitiated"), "Stepout.Interrupted", Urgency.SOON, False),
        (event(143, stop="ServiceSchedulerInitiated"), "Stepout.Interrupted", Urgency.SOON, True),
        (event(137, stop="SpotInterruption"), "Stepout.Interrupted", Urgency.SOON, True),
        (event(None, stop="TerminationNotice"), "Stepout.Interrupted", Urgency.SOON, True),
        (event(0, stop="SpotInterruption"), "Stepout.Interrupted", Urgency.LATE, True),
        (event(stop="TaskFailedToStart"), "Stepout.TaskFailedToStart", Urgency.AT_ONCE, True),
        (
            event(stop="TaskFailedToStart", reason="CannotStartContainerError: no such file"),
            "Stepout.TaskFailedToStart",
            Urgency.AT_ONCE,
            False,
        ),
        (event(137, stop="TaskFailedToStart"), "Stepout.TaskFailedToStart", Urgency.SOON, True),
        (event(1, stop="SomethingNew"), "Stepout.ContainerDied", Urgency.SOON, None),
    ],
)
def test_every_way_to_stop_has_its_verdict(
    given_event: dict[str, Any], error: str, haste: Urgency, retryable: bool | None
) -> None:
    """Stop code, exit code and reason decide on the error's name, on how soon it is sent, and on the hint."""
    task = stopped_task(given_event)
    assert task is not None
    verdict = judge(task, task.end_of("job"))
    assert (verdict.error, verdict.haste, verdict.retryable) == (error, haste, retryable)
    assert not verdict.error.startswith("States.")


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"source": "my.app"},
        {"detail-type": "ECS Service Action"},
        {"detail": {"taskArn": "arn", "lastStatus": "DEPROVISIONING"}},
        {"detail": {"lastStatus": "STOPPED"}},
        {"detail": "STOPPED"},
    ],
)
def test_other_events_are_no_ends(other: dict[str, Any]) -> None:
    """Only ECS itself can say that a task has stopped."""
    assert stopped_task({**event(1), **other} if other else {}) is None


def test_container_with_the_token_is_the_one_that_counts() -> None:
    """A sidecar's exit code says nothing about the job's outcome."""
    task = stopped_task(event(containers=[{"name": "sidecar", "exitCode": 1}, {"name": "job", "exitCode": 0}]))
    assert task is not None
    assert task.tokens == {"AQC": "job"}
    assert judge(task, task.end_of("job")).error == "Stepout.NothingReported"
    unknown = task.end_of(None)
    assert unknown is not None
    assert (unknown.name, unknown.exit_code) == ("sidecar", 1)


def test_token_and_overrides_are_in_no_repr_and_no_cause() -> None:
    """Of the overrides only the run identity is passed on."""
    secret = {
        "name": "job",
        "environment": [{"name": "TASK_TOKEN", "value": "AQC"}, {"name": "PASSWORD", "value": "x9"}],
    }
    run = [{"name": "STEPOUT_STATE", "value": "Mask"}, {"name": "STEPOUT_ATTEMPT", "value": "many"}]
    secret["environment"] += run  # type: ignore[operator] # a list, as two lines above
    task = stopped_task(event(1, overrides={"containerOverrides": [secret]}))
    assert task is not None
    cause = cause_document(task, "job", judge(task, task.end_of("job")))
    assert cause["run"] == {"state": "Mask"}
    assert "AQC" not in repr(task) + json.dumps(cause)
    assert "x9" not in repr(task) + json.dumps(cause)


@given(st.text(max_size=3_000), st.lists(st.text(max_size=2_000), max_size=10))
def test_any_cause_fits(reason: str, reasons: list[str]) -> None:
    """Whatever ECS gives as reasons, the cause stays within Step Functions' limit."""
    containers = [{"name": "c" * 255, "exitCode": 1, "reason": each} for each in reasons]
    task = stopped_task(event(containers=containers, stoppedReason=reason))
    assert task is not None
    cause = json.dumps(cause_document(task, None, judge(task, task.end_of(None))), ensure_ascii=False)
    assert len(cause.encode("utf-8", "replace")) <= MAX_CAUSE


@pytest.mark.parametrize(("stopped_at", "seconds"), [("1970-01-01T00:01:00.5Z", 60.5), ("yesterday", None)])
def test_time_of_the_end_is_read_if_it_can_be(stopped_at: str, seconds: float | None) -> None:
    """A time that cannot be read counts as unknown, so that the whole grace follows."""
    task = stopped_task(event(1, stoppedAt=stopped_at))
    assert task is not None
    assert task.stopped_at == seconds
