"""Silent deaths end to end: real processes behind real states, the watcher behind a rule of EventBridge."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from support.ministack import callback_state, register_job, run_task, start_execution, wait_execution, wait_until
from support.watch_events import TASK, stopped_event

from stepout.local import LocalAws
from stepout.local.events import TaskEvents

if TYPE_CHECKING:
    import pytest
    from support.watch_events import WatchedAws

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
SUCCEED = """
import stepout
with stepout.open_task() as task:
    task.result["rows"] = 3
"""


def caught(family: str, error: str) -> dict[str, Any]:
    """Return a state that waits for a task of ``family``, and one that an error of this name leads to."""
    catch = [{"ErrorEquals": [error], "Next": "Caught"}]
    return {
        "Work": callback_state(family, Catch=catch),
        "Caught": {"Type": "Pass", "End": True},
    }


def failure(watched: WatchedAws, execution: str, error: str) -> dict[str, Any]:
    """Return the cause that the catching state got, once the execution went that way."""
    ended = wait_execution(watched.aws, execution)
    assert ended["status"] == "SUCCEEDED"
    output = json.loads(ended["output"])
    assert output["Error"] == error
    cause: dict[str, Any] = json.loads(output["Cause"])
    return cause


def kill(watched: WatchedAws, family: str) -> None:
    """Kill the container of a family once it runs."""

    def pid() -> int | None:
        tasks = [task for task in watched.aws.tasks if f"/{family}:" in task.definition]
        return next((c.pid for task in tasks for c in task.containers if "ready" in c.output), None)

    found = wait_until(pid, what=f"the container of {family}")
    assert found is not None
    os.kill(found, signal.SIGKILL)


def test_killed_container_fails_its_state_with_stop_code_and_exit_code(watched: WatchedAws) -> None:
    """A container that SIGKILL ends fails its state, which catches the error by name and sees how it ended."""
    family = register_job(watched.aws, {"command": ["python", "-c", SLEEP]})
    execution = start_execution(watched.aws, caught(family, "Stepout.ContainerDied"), start_at="Work")
    kill(watched, family)
    cause = failure(watched, execution, "Stepout.ContainerDied")
    assert cause["stopCode"] == "EssentialContainerExited"
    assert cause["containers"] == [{"name": "job", "exitCode": 137}]
    assert cause["stoppedReason"] == "Essential container in task exited (exit code job: 137)"
    assert cause["run"] == {"execution": execution, "state": "Work", "attempt": 0}
    assert cause["retryable"] is True


def test_command_that_is_not_there_fails_its_state(watched: WatchedAws) -> None:
    """A task that cannot start fails its state, and says why."""
    family = register_job(watched.aws, {"command": ["no-such-program-anywhere"]})
    execution = start_execution(watched.aws, caught(family, "Stepout.TaskFailedToStart"), start_at="Work")
    cause = failure(watched, execution, "Stepout.TaskFailedToStart")
    reason = "CannotStartContainerError: job: No such file or directory"
    assert (cause["stopCode"], cause["stoppedReason"]) == ("TaskFailedToStart", reason)
    assert cause["containers"] == [{"name": "job", "reason": reason}]
    assert cause["retryable"] is False


def test_stopped_task_that_cannot_report_is_interrupted(watched: WatchedAws) -> None:
    """StopTask on a container that does not listen is the error that one that listens reports itself."""
    family = register_job(watched.aws, {"command": ["python", "-c", SLEEP]})
    execution = start_execution(watched.aws, caught(family, "Stepout.Interrupted"), start_at="Work")
    arn = wait_until(
        lambda: next((t.arn for t in watched.aws.tasks if f"/{family}:" in t.definition), ""), what="the task"
    )
    watched.aws.client("ecs").stop_task(cluster="default", task=arn, reason="enough")
    cause = failure(watched, execution, "Stepout.Interrupted")
    assert (cause["stopCode"], cause["retryable"]) == ("UserInitiated", False)


def test_container_that_reports_is_left_alone(watched: WatchedAws) -> None:
    """Successes stay successes, and a failure keeps its own name, though the watcher hears of each end."""
    family = register_job(watched.aws, {"command": ["python", "-c", SUCCEED]})
    broken = register_job(watched.aws, {"command": ["python", "-c", f"{SUCCEED}    raise KeyError('id')"]})
    executions = [start_execution(watched.aws, {"Work": callback_state(family)}, start_at="Work") for _ in range(2)]
    failing = start_execution(watched.aws, caught(broken, "KeyError"), start_at="Work")
    ended = [wait_execution(watched.aws, execution) for execution in executions]
    assert [each["status"] for each in ended] == ["SUCCEEDED"] * 2
    assert all(json.loads(each["output"])["result"] == {"rows": 3} for each in ended)
    assert failure(watched, failing, "KeyError")["message"]


def test_event_has_the_shape_of_ecs(watched: WatchedAws) -> None:
    """The event names the task, its definition, its containers and its overrides, as ECS's does."""
    family = register_job(watched.aws, {"command": ["python", "-c", "raise SystemExit(9)"]})
    override = {"name": "job", "environment": [{"name": "A", "value": "1"}]}
    arn = run_task(watched.aws, family, overrides=[override])
    event = watched.stopped(family)
    detail = event["detail"]
    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.ecs", "ECS Task State Change", [arn])
    assert (event["account"], event["region"], event["version"]) == ("000000000000", "us-east-1", "0")
    assert (detail["taskArn"], detail["lastStatus"], detail["desiredStatus"]) == (arn, "STOPPED", "STOPPED")
    assert (detail["stopCode"], detail["clusterArn"].rpartition("/")[2]) == ("EssentialContainerExited", "default")
    (container,) = detail["containers"]
    assert (container["name"], container["exitCode"], container["lastStatus"]) == ("job", 9, "STOPPED")
    assert detail["overrides"]["containerOverrides"] == [override]
    assert {"healthStatus", "tags"}.isdisjoint(detail)
    assert json.loads(json.dumps(event)) == event
    states = [each["detail"]["lastStatus"] for each in watched.events if each["detail"]["taskArn"] == arn]
    assert sorted(states) == ["RUNNING", "STOPPED"]


def test_events_reach_queues_and_only_rules_that_match(watched: WatchedAws) -> None:
    """A rule's pattern decides which events its target gets; a queue is a target as well."""
    queues, events = watched.aws.client("sqs"), watched.aws.client("events")
    family = register_job(watched.aws, {"command": ["python", "-c", "pass"]})
    urls = {}
    for name, code in (("orderly", 0), ("broken", 1)):
        urls[name] = queues.create_queue(QueueName=f"{name}-{family}")["QueueUrl"]
        arn = queues.get_queue_attributes(QueueUrl=urls[name], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        pattern = {
            "source": ["aws.ecs"],
            "detail": {"taskDefinitionArn": [{"wildcard": f"*/{family}:*"}], "containers": {"exitCode": [code]}},
        }
        events.put_rule(Name=f"{name}-{family}", EventPattern=json.dumps(pattern))
        events.put_targets(Rule=f"{name}-{family}", Targets=[{"Id": "queue", "Arn": arn}])
    run_task(watched.aws, family)

    def received() -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = queues.receive_message(QueueUrl=urls["orderly"]).get("Messages", [])
        return messages

    (message,) = wait_until(received, what="the event in the queue")
    assert json.loads(message["Body"])["detail"]["containers"][0]["exitCode"] == 0
    assert "Messages" not in queues.receive_message(QueueUrl=urls["broken"])
    for name in urls:
        events.remove_targets(Rule=f"{name}-{family}", Ids=["queue"])
        events.delete_rule(Name=f"{name}-{family}")


def test_listener_that_fails_is_logged(watched: WatchedAws, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks on stops nothing: a function that raises is logged."""

    def listener(_event: dict[str, Any]) -> None:
        raise RuntimeError("not today")

    events = TaskEvents(watched.aws.client, listener)
    events.deliver({**stopped_event(None, 1), "source": "aws.elsewhere"})
    events.close(grace=60)
    assert f"on_task_state_change failed for {TASK}" in caplog.text


def test_rules_that_cannot_be_asked_are_logged(watched: WatchedAws, caplog: pytest.LogCaptureFixture) -> None:
    """An event that cannot be delivered, and a target that is not served here, cost a line of the log."""
    lost = TaskEvents(LocalAws().client, None)
    lost.deliver(stopped_event(None, 1))
    lost.close(grace=60)
    assert "was not delivered (ConfigurationError)" in caplog.text
    events = TaskEvents(watched.aws.client, None)
    events._send({"Arn": "arn:aws:sns:us-east-1:000000000000:topic"}, "{}")
    assert "a rule's target of the kind sns is not served" in caplog.text
