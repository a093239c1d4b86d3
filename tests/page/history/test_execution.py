"""A history becomes visits of states: attempts, retries, branches, iterations, redrives, and whatever is cut off."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.histories import ARN, BEGAN, TOKEN, RecordedHistory, described

from stepout.page.budget import PageBudget
from stepout.page.causes import told_cause
from stepout.page.history.execution import execution_history
from stepout.page.model import RunPage
from stepout.page.rendering.render import render_page
from stepout.page.rendering.summary import failures_of, times_of
from stepout.page.rendering.timeline import Row, timeline_of

if TYPE_CHECKING:
    from stepout.page.history.execution import ExecutionHistory
    from stepout.page.model import StateVisit

CAUSE = json.dumps({"message": "too dark", "traceback": "Traceback: line 3", "run": {"state": "Mask"}})


def visits_of(history: RecordedHistory, status: str = "SUCCEEDED", **more: Any) -> dict[str, StateVisit]:
    """Return the visits by name; by name and iteration inside of Maps."""
    run = execution_history(described(status), history.events, **more).run
    return {each.name if each.iteration is None else f"{each.name} {each.iteration}": each for each in run.visits}


def seconds(visit: StateVisit) -> tuple[float, float | None]:
    """Return when a visit began and ended, from the beginning of the execution."""
    end = visit.exited_at
    return (visit.entered_at - BEGAN).total_seconds(), None if end is None else (end - BEGAN).total_seconds()


def test_retries_are_attempts_of_one_visit() -> None:
    """Each try has its own times, and the failed one its error, what it said, and its traceback to unfold."""
    history = RecordedHistory()
    history.add("ExecutionStarted")
    history.enter("Mask")
    history.run()
    history.fail("Demo.TooDark", CAUSE)
    history.run()
    history.succeed({"stepout": "output/1", "artifacts": {}})
    history.leave("Mask")
    history.add("ExecutionSucceeded")
    visit = visits_of(history)["Mask"]
    first, second = visit.attempts
    assert (first.number, first.outcome, first.error, first.cause) == (0, "FAILED", "Demo.TooDark", "too dark")
    assert first.details == "Traceback: line 3"
    assert first.resource == "ecs:runTask.waitForTaskToken"
    assert (second.number, second.outcome, second.error) == (1, "SUCCEEDED", "")
    assert first.ended_at is not None
    assert second.scheduled_at > first.ended_at
    assert (visit.kind, visit.status, seconds(visit)) == ("Task", "SUCCEEDED", (1.0, 10.0))


def test_a_caught_failure_is_told_from_one_that_ended_the_execution() -> None:
    """A state that was left after a failure was caught; one that was not has failed, and with it the execution."""
    history = RecordedHistory()
    history.enter("Mask")
    history.run()
    history.fail("Demo.TooDark", "no light")
    history.leave("Mask")
    history.enter("Score")
    history.run()
    history.add("TaskTimedOut", error="States.Timeout", cause="")
    history.add("ExecutionFailed", error="States.Timeout", cause="")
    run = execution_history(described("FAILED"), history.events).run
    assert [(each.name, each.status) for each in run.visits] == [("Mask", "CAUGHT"), ("Score", "FAILED")]
    assert (run.visits[1].attempts[0].outcome, run.error) == ("TIMED_OUT", "States.Timeout")
    assert run.visits[1].exited_at is not None


def test_a_choice_without_a_match_and_a_fail_state_have_failed() -> None:
    """What fails without a task is told by the execution's end."""
    history = RecordedHistory()
    history.enter("Which", "Choice")
    history.add("ExecutionFailed", error="States.NoChoiceMatched", cause="none")
    assert visits_of(history, "FAILED")["Which"].status == "FAILED"
    history = RecordedHistory()
    history.enter("Stop", "Fail")
    history.add("ExecutionFailed", error="Demo.Stop")
    assert visits_of(history, "FAILED")["Stop"].status == "FAILED"


def test_branches_that_mix_are_told_apart() -> None:
    """The events of two branches alternate; each goes to the state that it follows from."""
    history = RecordedHistory()
    history.enter("Both", "Parallel")
    started = history.add("ParallelStateStarted")
    left = history.enter("Left")
    history.at = started
    right = history.enter("Right")
    history.at = left
    history.run("lambda:invoke")
    left = history.at
    history.at = right
    history.run("lambda:invoke")
    history.fail("Demo.Right", "right", "lambda:invoke")
    right = history.leave("Right")
    history.at = left
    history.succeed({}, "lambda:invoke")
    history.leave("Left")
    history.add("ParallelStateSucceeded")
    history.leave("Both", "Parallel")
    found = visits_of(history)
    assert {name: each.status for name, each in found.items()} == {
        "Both": "SUCCEEDED",
        "Left": "SUCCEEDED",
        "Right": "CAUGHT",
    }
    assert found["Left"].inside == found["Right"].inside == found["Both"].visit_id
    assert found["Left"].attempts[0].working_said_by == "Step Functions"


def test_iterations_of_nested_maps_have_their_indices() -> None:
    """Each visit is in its iteration; the ends of the inner and the outer Map are not mixed up."""
    history = RecordedHistory()
    history.enter("Outer", "Map")
    outer = history.add("MapStateStarted", length=2)
    for row in range(2):
        history.at = outer
        history.add("MapIterationStarted", name="Outer", index=row)
        history.enter("Inner", "Map")
        inner = history.add("MapStateStarted", length=2)
        for column in range(2):
            history.at = inner
            history.add("MapIterationStarted", name="Inner", index=column)
            history.task("Mask", {})
            history.add("MapIterationSucceeded", name="Inner", index=column)
        history.add("MapStateSucceeded")
        history.leave("Inner", "Map")
        history.add("MapIterationSucceeded", name="Outer", index=row)
    history.add("MapStateSucceeded")
    history.leave("Outer", "Map")
    found = execution_history(described(), history.events)
    assert [each.map_path for each in found.visits if each.name == "Mask"] == ["0-0", "0-1", "1-0", "1-1"]
    assert {each.status for each in found.run.visits} == {"SUCCEEDED"}
    names = {each.visit_id: each.name for each in found.run.visits}
    assert {names[each.inside] for each in found.run.visits if each.name == "Mask" and each.inside} == {"Inner"}


def test_what_a_failed_branch_took_with_it_is_aborted() -> None:
    """The other iterations of a Map that fails are aborted, and one that was caught went on."""
    history = RecordedHistory()
    history.enter("All", "Map")
    started = history.add("MapStateStarted", length=2)
    history.add("MapIterationStarted", name="All", index=0)
    history.enter("Mask")
    history.run()
    waiting = history.at
    history.at = started
    history.add("MapIterationStarted", name="All", index=1)
    history.enter("Mask")
    history.run()
    history.fail("Demo.TooDark", "")
    failed = history.add("MapIterationFailed", name="All", index=1)
    history.at = waiting
    history.add("TaskStateAborted")
    history.add("MapIterationAborted", name="All", index=0)
    history.at = failed
    history.add("MapStateFailed")
    history.leave("All", "Map")
    found = visits_of(history)
    assert {name: each.status for name, each in found.items()} == {
        "All": "CAUGHT",
        "Mask 0": "ABORTED",
        "Mask 1": "FAILED",
    }
    assert found["Mask 0"].attempts[0].outcome == "ABORTED"


def _parallel_that_fails() -> RecordedHistory:
    """Return a history in which ``Left`` works and ``Right`` fails, up to the failure."""
    history = RecordedHistory()
    history.add("ExecutionStarted")
    history.enter("Both", "Parallel")
    started = history.add("ParallelStateStarted")
    history.enter("Left")
    history.run()
    history.at = started
    history.enter("Right")
    history.run()
    history.fail("Demo.TooDark", "no light")
    return history


@pytest.mark.parametrize("says_so", [True, False])
def test_a_branch_that_was_stopped_is_not_blamed(says_so: bool) -> None:
    """It names the state that failed; the Parallel around has failed, also where the engine has no event for that."""
    history = _parallel_that_fails()
    if says_so:
        history.add("ParallelStateFailed")
    history.add("ExecutionFailed", error="Demo.TooDark", cause="no light")
    run = execution_history(described("FAILED", error="Demo.TooDark"), history.events).run
    told = {each.name: (each.status, each.stopped_as) for each in run.visits}
    assert told == {"Both": ("FAILED", ""), "Left": ("ABORTED", "Right"), "Right": ("FAILED", "")}
    page = RunPage(title="r", source="r", made_at=run.ended_at or BEGAN, execution=run, spent=PageBudget().spent())
    failures, more = failures_of(page)
    assert [(each.state, each.led_on) for each in failures] == [("Right", "ended the execution")]
    assert more == 0
    rows = {row.visit.name: row for row in timeline_of(run, BEGAN).rows if isinstance(row, Row)}
    assert [(bar.failed, bar.stopped) for bar in rows["Left"].bars] == [(False, True)]
    assert not rows["Left"].failures
    html = render_page(page)
    assert "Stopped, as Right failed" in re.sub("<[^>]*>", "", html)
    assert html.count('class="box bad"') == 1


def test_an_execution_that_runs_says_what_is_open() -> None:
    """What has neither been left nor stopped runs, its try with it."""
    history = RecordedHistory()
    history.task("Mask", {})
    history.enter("Score")
    history.run()
    run = execution_history(described("RUNNING"), history.events).run
    assert [(each.name, each.status, each.exited_at is None) for each in run.visits][1] == ("Score", "RUNNING", True)
    assert run.visits[1].attempts[0].outcome == "RUNNING"
    assert run.ended_at is None


def test_an_execution_that_ends_between_the_two_questions_has_ended() -> None:
    """DescribeExecution said that it runs; the history knows better."""
    history = RecordedHistory()
    history.task("Mask", {})
    history.add("ExecutionSucceeded")
    run = execution_history(described("RUNNING"), history.events).run
    assert (run.status, run.ended_at is not None) == ("SUCCEEDED", True)


def redriven(*, after: str) -> RecordedHistory:
    """Return a history that failed in a branch and was redriven; its next event follows from ``after``."""
    history = RecordedHistory()
    history.enter("All", "Map")
    history.add("MapStateStarted", length=1)
    history.add("MapIterationStarted", name="All", index=0)
    history.enter("Mask")
    history.run()
    failed = history.fail("Demo.TooDark", "")
    history.add("MapIterationFailed", name="All", index=0)
    history.add("MapStateFailed")
    history.add("ExecutionFailed", error="Demo.TooDark")
    history.seconds += 100
    history.add("ExecutionRedriven", redriveCount=1)
    history.at = {"the failure": failed, "the redrive": history.at, "nothing": 0}[after]
    history.run()
    history.succeed({})
    history.leave("Mask")
    history.add("MapIterationSucceeded", name="All", index=0)
    history.add("MapStateSucceeded")
    history.leave("All", "Map")
    history.add("ExecutionSucceeded")
    return history


def test_a_redrive_goes_on_with_the_visit_that_failed() -> None:
    """Whichever event the first one after it follows from: the state is tried again, and is not failed any more."""
    for after in ("the failure", "the redrive", "nothing"):
        run = execution_history(described(), redriven(after=after).events).run
        assert [(each.name, each.status) for each in run.visits] == [("All", "SUCCEEDED"), ("Mask", "SUCCEEDED")]
        assert [each.outcome for each in run.visits[1].attempts] == ["FAILED", "SUCCEEDED"]
        assert len(run.redriven_at) == 1


def test_a_redrive_is_no_pause_before_a_retry() -> None:
    """The execution stood until then: the page counts that apart, marks the moment, and says which try it led to."""
    history = RecordedHistory()
    history.enter("Mask")
    history.run()
    history.fail("Demo.TooDark", "no light")
    history.run()
    history.fail("Demo.TooDark", "no light")
    history.add("ExecutionFailed", error="Demo.TooDark", step=3_900)
    history.add("ExecutionRedriven", redriveCount=1)
    history.run()
    history.succeed({})
    history.leave("Mask")
    history.add("ExecutionSucceeded")
    run = execution_history(described(), history.events).run
    assert [each.redriven for each in run.visits[0].attempts] == [False, False, True]
    times = times_of(run, BEGAN)
    assert times.stood == 3_900
    assert times.between == 1  # before the Retry
    assert len(timeline_of(run, BEGAN).redrives) == 1
    page = RunPage(title="r", source="r", made_at=run.ended_at or BEGAN, execution=run, spent=PageBudget().spent())
    assert {each.led_on for each in failures_of(page)[0]} == {"redriven"}
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", render_page(page)))
    assert "Stopped until the redrive 1 h 5 min" in text
    assert "try 3: redriven" in text
    assert "which ended the execution" not in text


def test_lambda_and_activity_tasks_say_when_their_work_began() -> None:
    """An activity waits until a worker takes it; a function that could not be called has failed."""
    history = RecordedHistory()
    history.enter("Ask")
    history.add("ActivityScheduled", resource="arn:aws:states:eu-west-1:123456789012:activity:ask", step=50)
    history.add("ActivityStarted", workerName="w1")
    history.add("ActivitySucceeded", output="{}")
    history.leave("Ask")
    history.enter("Call")
    function = "arn:aws:lambda:eu-west-1:123456789012:function:score"
    history.add("LambdaFunctionScheduled", resource=function)
    history.add("LambdaFunctionStartFailed", error="Lambda.Throttled", cause="busy")
    history.add("LambdaFunctionScheduled", resource=function)
    history.add("LambdaFunctionStarted")
    history.add("LambdaFunctionFailed", error="KeyError", cause=json.dumps({"errorMessage": "id", "stackTrace": ["a"]}))
    history.add("ExecutionFailed", error="KeyError")
    found = visits_of(history, "FAILED")
    asked, called = found["Ask"].attempts[0], found["Call"].attempts
    assert asked.working_at is not None
    assert (asked.working_at - asked.scheduled_at).total_seconds() == 50
    assert asked.working_said_by == "Step Functions"
    assert [(each.error, each.cause, each.details) for each in called] == [
        ("Lambda.Throttled", "busy", ""),
        ("KeyError", "id", "a"),
    ]


def test_a_sync_task_tells_when_its_container_started() -> None:
    """ECS describes the task in the output of a ``.sync`` state; what it was given is not shown."""
    started = int((BEGAN.timestamp() + 40) * 1_000)
    ended = {"StartedAt": started, "Overrides": {"ContainerOverrides": [{"Environment": []}]}, "Containers": []}
    history = RecordedHistory()
    history.enter("Mask")
    history.run("ecs:runTask.sync")
    history.seconds = 90
    history.succeed(ended, "ecs:runTask.sync")
    history.leave("Mask")
    attempt = visits_of(history)["Mask"].attempts[0]
    assert attempt.working_at is not None
    assert ((attempt.working_at - BEGAN).total_seconds(), attempt.working_said_by) == (40.0, "ECS")


def test_the_cause_of_a_failed_container_shows_nothing_of_what_it_was_given() -> None:
    """Reason and exit codes are for people; overrides hold the token, and stay out, cut short or whole."""
    task = {
        "StopCode": "EssentialContainerExited",
        "StoppedReason": "Essential container in task exited",
        "Containers": [{"Name": "job", "ExitCode": 137, "Reason": "OutOfMemoryError"}],
        "Overrides": {"ContainerOverrides": [{"Environment": [{"Name": "TASK_TOKEN", "Value": TOKEN}]}]},
    }
    told = told_cause(json.dumps(task))
    assert told.cause == "Essential container in task exited; container job: exit code 137, OutOfMemoryError"
    for text in (json.dumps(task), json.dumps(task)[:-40], json.dumps({"inner": task})):
        assert "AQCEAAAA" not in told_cause(text).cause + told_cause(text).details


def test_a_history_of_an_engine_that_names_no_predecessors_is_understood() -> None:
    """Tasks inside a Map that enter no state of their own are visits by what is called, or by what they report."""
    history = RecordedHistory()
    history.enter("All", "Map")
    for _ in range(2):
        history.run()
    history.succeed({"stepout": "output/1", "artifacts": {}, "producer": {"state": "Mask"}})
    history.fail("Demo.TooDark", CAUSE)
    history.leave("All", "Map")
    events = [{name: each for name, each in event.items() if name != "previousEventId"} for event in history.events]
    run = execution_history(described(), events).run
    assert [(each.name, each.kind, each.inside) for each in run.visits] == [
        ("All", "Map", None),
        ("Mask", "Task", "v0"),
        ("Mask", "Task", "v0"),
    ]
    assert [each.status for each in run.visits[1:]] == ["SUCCEEDED", "FAILED"]


def test_the_rest_of_a_history_is_unknown_where_it_was_not_read() -> None:
    """A state whose end stands in events that were not read has no end, and no failure either."""
    history = redriven(after="the failure")
    run = execution_history(described("FAILED"), history.events[:5], more_events=True).run
    assert {each.status for each in run.visits} == {"UNKNOWN"}
    assert run.more_events


def test_what_may_not_be_described_is_told_by_its_events() -> None:
    """Status, times, error and cause stand in the history, too; the state machine's name is in the ARN."""
    history = RecordedHistory()
    history.add("ExecutionStarted")
    history.enter("Mask")
    history.add("ExecutionFailed", error="Demo.TooDark", cause=CAUSE)
    run = execution_history({"executionArn": ARN}, history.events).run
    assert (run.status, run.error, run.cause, run.state_machine) == ("FAILED", "Demo.TooDark", "too dark", "Segment")
    assert run.started_at == BEGAN


# Whatever comes ------------------------------------------------------------------------------------------------------


def _rich() -> list[dict[str, Any]]:
    history = redriven(after="the redrive")
    history.at = len(history.events)
    history.enter("Both", "Parallel")
    started = history.add("ParallelStateStarted")
    history.task("Left", {"stepout": "output/1", "artifacts": {}})
    history.at = started
    history.enter("Wait", "Wait")
    history.add("WaitStateAborted")
    history.add("ParallelStateFailed")
    history.leave("Both", "Parallel")
    history.enter("Run", "Map")
    history.add("MapRunStarted", mapRunArn="arn:run")
    history.add("MapRunFailed", error="States.ExceedToleratedFailureThreshold", cause="")
    history.add("EvaluationFailed", error="States.QueryEvaluationError", cause="", location="Output", state="Run")
    return history.events


RICH = _rich()


def check(found: ExecutionHistory) -> None:
    """What holds for every history: numbers, order, and times that do not run backwards within an attempt's events."""
    assert [each.visit_id for each in found.run.visits] == [f"v{n}" for n in range(len(found.run.visits))]
    inside = {each.visit_id for each in found.run.visits} | {None}
    for visit in found.run.visits:
        assert visit.inside in inside
        assert [each.number for each in visit.attempts] == list(range(len(visit.attempts)))


@given(st.permutations(RICH), st.integers(0, len(RICH)), st.booleans())
def test_a_history_that_is_shuffled_and_cut_off_is_one(
    events: list[dict[str, Any]],
    cut: int,
    more: bool,
) -> None:
    """The order in which events come does not matter, and any part of them makes an execution."""
    check(execution_history(described("FAILED"), events[:cut], more_events=more))
    assert execution_history(described(), events).run == execution_history(described(), RICH).run


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TYPES = [*sorted({event["type"] for event in RICH}), "TaskSubmitFailed", "ActivityScheduleFailed", "StateExited"]
EVENT = st.fixed_dictionaries(
    {"id": st.integers(-1, 40) | JSON, "type": st.sampled_from(TYPES) | st.text(), "timestamp": st.floats() | JSON},
    optional={
        "previousEventId": st.integers(-1, 40) | JSON,
        "anyEventDetails": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["Mask", "All"]) | JSON,
                "index": st.integers(0, 2) | JSON,
                "output": st.sampled_from(['{"stepout": "output/1"}', '{"stepout":', '["stepout"]']) | JSON,
                "cause": st.sampled_from([CAUSE, "{", "[1]", '{"run": 3, "message": 4}']) | JSON,
                "resource": JSON,
                "error": JSON,
            },
        ),
    },
)


@given(
    JSON | st.dictionaries(st.sampled_from(["status", "startDate", "cause", "output"]), JSON), st.lists(EVENT | JSON)
)
def test_anything_makes_an_execution(answer: Any, events: list[Any]) -> None:
    """Members may be missing, or of any type; nothing of it keeps an execution from being made."""
    check(execution_history(answer if isinstance(answer, dict) else {}, events))
