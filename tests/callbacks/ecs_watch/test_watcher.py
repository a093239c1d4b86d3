"""The watcher against a strict Step Functions: what it sends, when, and what it leaves alone."""

from __future__ import annotations

import json
import logging
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from support.ministack import register_job, run_task
from support.watch_events import HALTED, KEYS, TASK, Clock, serving, stopped_event

from stepout.callbacks.ecs_watch import Watcher, WatchSettings, make_handler
from stepout.schemas.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions
    from support.watch_events import WatchedAws


def watcher(sfn: StrictStepFunctions, clock: Clock | None = None, **settings: Any) -> Watcher:
    """Return a watcher on a clock of its own, which stands at the moment of the event."""
    clock = clock or Clock()
    return Watcher(WatchSettings(**settings), states=sfn.client(), clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("code", "error", "slept"),
    [(137, "Stepout.ContainerDied", 10), (0, "Stepout.NothingReported", 60), (3, "Stepout.OutcomeUndelivered", 60)],
)
def test_open_token_is_failed_after_the_grace(
    sfn_strict: StrictStepFunctions, code: int, error: str, slept: float
) -> None:
    """A container that may have reported gets six times the grace of one that died."""
    token, clock = sfn_strict.issue(), Clock()
    assert watcher(sfn_strict, clock).handle(stopped_event(token, code)) == ["failed"]
    name, cause = sfn_strict.failure(token)
    assert (name, cause["containers"][0]["exitCode"], cause["stopCode"]) == (error, code, "EssentialContainerExited")
    assert clock.slept == slept


def test_task_that_never_started_is_failed_at_once(sfn_strict: StrictStepFunctions) -> None:
    """Nothing can be on its way from a container that never ran: no question, no grace."""
    token, clock = sfn_strict.issue(), Clock()
    assert watcher(sfn_strict, clock).handle(stopped_event(token, None, stop="TaskFailedToStart")) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.TaskFailedToStart"
    assert (clock.slept, sfn_strict.count("SendTaskHeartbeat")) == (0, 0)


@pytest.mark.parametrize("code", [0, 1, 3, 4, 130, 137, 143])
def test_closed_token_is_the_end_of_it(sfn_strict: StrictStepFunctions, code: int) -> None:
    """A task that reported, or that nobody waits for, costs one question and no grace, each time."""
    token, clock = sfn_strict.issue(), Clock()
    sfn_strict.client().send_task_success(taskToken=token, output='{"rows": 3}')
    for _ in range(2):
        assert watcher(sfn_strict, clock).handle(stopped_event(token, code)) == ["closed"]
    assert sfn_strict.success(token) == {"rows": 3}
    assert (clock.slept, sfn_strict.count("SendTaskFailure")) == (0, 0)


def test_event_that_comes_twice_fails_the_state_once(sfn_strict: StrictStepFunctions) -> None:
    """The second event finds the token closed."""
    token = sfn_strict.issue()
    outcomes = [watcher(sfn_strict).handle(stopped_event(token, 137)) for _ in range(2)]
    assert outcomes == [["failed"], ["closed"]]


def test_late_event_waits_no_longer(sfn_strict: StrictStepFunctions) -> None:
    """The grace counts from the container's end, so an event that Lambda tries again is reported at once."""
    token, clock = sfn_strict.issue(), Clock(HALTED + 3_600)
    assert watcher(sfn_strict, clock).handle(stopped_event(token, 0)) == ["failed"]
    assert clock.slept == 0


def test_clock_that_is_behind_cannot_prolong_the_grace(sfn_strict: StrictStepFunctions) -> None:
    """An end that lies in the future counts as now."""
    token, clock = sfn_strict.issue(), Clock(HALTED - 3_600)
    assert watcher(sfn_strict, clock).handle(stopped_event(token, 137)) == ["failed"]
    assert clock.slept == 10


def test_function_without_time_for_the_grace_says_so_and_sends_nothing(sfn_strict: StrictStepFunctions) -> None:
    """Lambda tries the event again later; nothing is decided before the grace is over."""

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 14_000

    token, clock = sfn_strict.issue(), Clock()
    remaining = lambda: Context().get_remaining_time_in_millis() / 1000  # noqa: E731 - as the handler makes it
    with pytest.raises(TaskError, match=r"10 s of grace are left, and 9 s .* more than 65 s"):
        watcher(sfn_strict, clock).handle(stopped_event(token, 137), remaining)
    assert sfn_strict.accepted(token) == []
    assert clock.slept == 0


@pytest.mark.parametrize("fault", ["denied", "throttle", "500", "lost"])
def test_question_without_an_answer_is_no_obstacle(sfn_strict: StrictStepFunctions, fault: str) -> None:
    """If nobody says whether the token is open, the grace and the failure follow all the same."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskHeartbeat", *[fault] * 3)
    assert watcher(sfn_strict).handle(stopped_event(token, 137)) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"


def test_failure_that_cannot_be_sent_is_raised_for_lambda_to_try_again(sfn_strict: StrictStepFunctions) -> None:
    """An event is not used up by a report that was refused."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskFailure", "denied")
    with pytest.raises(TaskError, match="may not do this"):
        watcher(sfn_strict).handle(stopped_event(token, 137))
    assert watcher(sfn_strict).handle(stopped_event(token, 137)) == ["failed"]


def test_lost_answer_to_the_failure_is_a_failure_that_arrived(sfn_strict: StrictStepFunctions) -> None:
    """A token that is closed after a lost answer was closed by our own report."""
    token = sfn_strict.issue()
    sfn_strict.fault("SendTaskFailure", "lost")
    assert watcher(sfn_strict).handle(stopped_event(token, 137)) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"


def test_unknown_token_is_logged_and_done(sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture) -> None:
    """A token of somewhere else cannot be helped by trying again; no log shows it."""
    caplog.set_level(logging.DEBUG)
    assert watcher(sfn_strict).handle(stopped_event("no-token-of-this-account", 137)) == ["unknown token"]
    assert "the task token is not valid" in caplog.text
    stepout = [record for record in caplog.records if record.name.startswith("stepout")]
    assert "no-token-of-this-account" not in "".join(record.getMessage() for record in stepout)


def test_execution_under_a_foreign_key_is_failed_bare(sfn_strict: StrictStepFunctions) -> None:
    """Under a KMS key that the watcher may not use, the state fails without error and cause."""
    token = sfn_strict.issue(kms=True)
    assert watcher(sfn_strict).handle(stopped_event(token, 137)) == ["failed"]
    assert sfn_strict.failure(token) == (None, {})


def test_tasks_without_a_token_and_other_events_are_ignored(sfn_strict: StrictStepFunctions) -> None:
    """A service's task, a task that still runs, and an event of somebody else cause no call."""
    running = stopped_event("AQC", 137)
    running["detail"]["lastStatus"] = "DEPROVISIONING"
    for event in (stopped_event(None, 137), running, {**stopped_event("AQC", 1), "source": "my.app"}):
        assert watcher(sfn_strict).handle(event) == []
    assert sfn_strict.calls == []


def test_token_is_taken_out_of_the_cause_and_the_log(
    sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """A reason that quotes the environment carries the token neither into the execution's history nor into a log."""
    caplog.set_level(logging.INFO, logger="stepout")
    token = sfn_strict.issue()
    event = stopped_event(token, 1)
    event["detail"]["stoppedReason"] = f"failed with TASK_TOKEN={token}"
    assert watcher(sfn_strict).handle(event) == ["failed"]
    ((_, parameters),) = sfn_strict.accepted(token)
    assert "failed with TASK_TOKEN=" in parameters["cause"]
    assert "Stepout.ContainerDied was reported" in caplog.text
    assert token[:30] not in parameters["cause"] + "".join(record.getMessage() for record in caplog.records)


def test_token_that_the_event_does_not_carry_is_asked_of_ecs(
    sfn_strict: StrictStepFunctions, watched: WatchedAws
) -> None:
    """DescribeTasks still has the overrides of a task that stopped."""
    token, family = sfn_strict.issue(), register_job(watched.aws, {"command": ["python", "-c", "raise SystemExit(9)"]})
    pair = [{"name": "MY_STATE", "value": "x"}, {"name": "TASK_TOKEN", "value": token}]
    run_task(watched.aws, family, overrides=[{"name": "job", "environment": pair}])
    event = watched.stopped(family)
    bare = {**event, "detail": {**event["detail"], "overrides": {"containerOverrides": [{"name": "job"}]}}}
    asking = Watcher(WatchSettings(describe=True, grace=0), states=sfn_strict.client(), ecs=watched.aws.client("ecs"))
    assert watcher(sfn_strict).handle(bare) == []
    assert asking.handle(bare) == ["failed"]
    assert sfn_strict.failure(token)[1]["containers"] == [{"name": "job", "exitCode": 9}]


class Ecs(BaseHTTPRequestHandler):
    """Forbids DescribeTasks, and then knows the task no more."""

    answers: ClassVar[list[tuple[int, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        """Give the next answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.answers.pop(0)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""


def test_ecs_that_does_not_answer_the_question_is_an_error_or_a_line_of_the_log(
    sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing permission is named, for Lambda to try again; a task that ECS has forgotten cannot be helped."""
    missing = {"tasks": [], "failures": [{"arn": TASK, "reason": "MISSING"}]}
    Ecs.answers = [(400, {"__type": "AccessDeniedException", "message": "no"}), (200, missing)]
    with serving(Ecs) as endpoint:
        ecs = boto3.client("ecs", endpoint_url=endpoint, **KEYS)
        asking = Watcher(WatchSettings(describe=True), states=sfn_strict.client(), ecs=ecs)
        with pytest.raises(TaskError, match=r"DescribeTasks for arn.*Allow ecs:DescribeTasks"):
            asking.handle(stopped_event(None, 137))
        assert asking.handle(stopped_event(None, 137)) == []
    assert f"ECS knows the task {TASK} no more" in caplog.text
    assert sfn_strict.calls == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPOUT_WATCH_GRACE_SECONDS", "soon"),
        ("STEPOUT_WATCH_GRACE_SECONDS", "nan"),
        ("STEPOUT_WATCH_DELAY_SECONDS", "901"),
        ("STEPOUT_WATCH_QUEUE", "https://example.com/"),
    ],
)
def test_wrong_setting_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A setting that cannot be understood is named before anything is done."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError):
        make_handler()(stopped_event("AQC", 1), None)


def test_handler_reads_its_environment(monkeypatch: pytest.MonkeyPatch, sfn_strict: StrictStepFunctions) -> None:
    """The handler needs nothing but its environment, answers with what it did, and serves the next event as well."""

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 60_000

    first, second, handle = sfn_strict.issue(), sfn_strict.issue(), make_handler()
    for name, value in {**sfn_strict.environment, "STEPOUT_WATCH_GRACE_SECONDS": "0"}.items():
        monkeypatch.setenv(name, value)
    for token in (first, second):
        assert handle(stopped_event(token, 137), Context()) == {"outcomes": ["failed"]}
        assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"
