"""Containers without a route to Step Functions: their reports go through a queue and the relay, and the state goes on.

On the local AWS everything is real but AWS: state machine, container, queue, Lambda with its event source mapping, and
dead-letter queue. What it is too lenient about, processes report to the strict Step Functions through the same queue.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import callback_state, register_job, start_execution, unique, wait_execution, wait_until

from stepout.callbacks.relay import relay
from stepout.callbacks.targets.messages import group_of
from stepout.local import lambda_zip

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sfn_strict import StrictStepFunctions

    from stepout.local import LocalAws

# Nobody listens there: what reaches Step Functions nevertheless went through the relay.
NO_ROUTE = {"AWS_ENDPOINT_URL_SFN": "http://127.0.0.1:9"}
POISON = '{"stepout": "report/1", "kind": "success"}'

WORKS = """
    with stepout.open_task() as task:
        task.result["rows"] = 3
"""
FAILS = """
    class NoMask(Exception):
        error_name = "Segment.NoMask"
    with stepout.open_task() as task:
        raise NoMask("nothing to see")
"""


def script(text: str) -> list[str]:
    """The command that runs a script."""
    return [sys.executable, "-c", "import stepout\n" + textwrap.dedent(text)]


@dataclass(frozen=True)
class Deployed:
    """A relay on the local AWS."""

    queue: str
    fifo: str
    dead: str


@pytest.fixture(scope="module")
def deployed(local_aws: LocalAws) -> Deployed:
    """Queue, dead-letter queue, Lambda of this very stepout, event source mappings; and a poisonous message."""
    sqs, functions, name = local_aws.client("sqs"), local_aws.client("lambda"), unique("relay")
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    functions.create_function(
        FunctionName=name,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role="arn:aws:iam::000000000000:role/relay",
        Handler="stepout.callbacks.relay.handler",
        Code={"ZipFile": lambda_zip()},
        Timeout=30,
    )
    wait_until(
        lambda: functions.get_function(FunctionName=name)["Configuration"]["State"] == "Active", what="the function"
    )
    redrive = {"deadLetterTargetArn": _arn(sqs, dead), "maxReceiveCount": 2}
    urls: list[str] = []
    for suffix, more in (("", {"RedrivePolicy": json.dumps(redrive)}), (".fifo", {"FifoQueue": "true"})):
        attributes = {"VisibilityTimeout": "4", **more}
        urls.append(sqs.create_queue(QueueName=f"{name}{suffix}", Attributes=attributes)["QueueUrl"])
        functions.create_event_source_mapping(
            EventSourceArn=_arn(sqs, urls[-1]),
            FunctionName=name,
            BatchSize=10,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )
    sqs.send_message(QueueUrl=urls[0], MessageBody=POISON)
    return Deployed(queue=urls[0], fifo=urls[1], dead=dead)


def _arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def start(aws: LocalAws, queue: str, text: str, **environ: str) -> str:
    """Start an execution whose container runs a script, and reports to a queue; return its ARN."""
    variables = {"STEPOUT_TARGETS": f"sqs:{queue}", **NO_ROUTE, **environ}
    environment = [{"name": name, "value": value} for name, value in variables.items()]
    family = register_job(aws, {"command": script(text), "environment": environment})
    compute = callback_state(
        family,
        Catch=[{"ErrorEquals": ["States.TaskFailed"], "ResultPath": "$.caught", "Next": "Caught"}],
        Next="Use",
    )
    del compute["End"]
    states = {
        "Compute": compute,
        "Use": {"Type": "Pass", "Parameters": {"twice.$": "States.MathAdd($.result.rows, $.result.rows)"}, "End": True},
        "Caught": {"Type": "Pass", "OutputPath": "$.caught", "End": True},
    }
    return start_execution(aws, states, start_at="Compute")


def test_states_go_on_though_no_container_reaches_step_functions(local_aws: LocalAws, deployed: Deployed) -> None:
    """Success, failure by name, a task that could not be made, and success through a first-in-first-out queue."""
    executions = {
        "success": start(local_aws, deployed.queue, WORKS),
        "failure": start(local_aws, deployed.queue, FAILS),
        "stillborn": start(local_aws, deployed.queue, WORKS, STEPOUT_HEARTBEAT_SECONDS="soon"),
        "fifo": start(local_aws, deployed.fifo, WORKS),
    }
    ended = {name: wait_execution(local_aws, execution) for name, execution in executions.items()}
    assert {described["status"] for described in ended.values()} == {"SUCCEEDED"}
    outputs = {name: json.loads(described["output"]) for name, described in ended.items()}
    assert outputs["success"] == outputs["fifo"] == {"twice": 6}
    assert outputs["failure"]["Error"] == "Segment.NoMask"
    assert json.loads(outputs["failure"]["Cause"])["message"] == "nothing to see"
    assert outputs["stillborn"]["Error"] == "Stepout.Configuration"


def test_poison_is_kept_and_the_queue_is_empty(local_aws: LocalAws, deployed: Deployed) -> None:
    """Word for word, in the dead-letter queue; it was in one queue with the reports that went on."""
    sqs = local_aws.client("sqs")

    def kept() -> list[Any]:
        return list(sqs.receive_message(QueueUrl=deployed.dead, WaitTimeSeconds=1).get("Messages", []))

    assert [message["Body"] for message in wait_until(kept, what="the dead-letter queue")] == [POISON]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def empty() -> bool:
        got = sqs.get_queue_attributes(QueueUrl=deployed.queue, AttributeNames=names)["Attributes"]
        return all(got[name] == "0" for name in names)

    assert wait_until(empty, what="an empty queue")


class Job:
    """A process that reports through a queue, with a token of the strict Step Functions."""

    def __init__(self, aws: LocalAws, strict: StrictStepFunctions, queue: str, text: str) -> None:
        self.token = strict.issue()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
        told = {"STEPOUT_TASK_TOKEN": self.token, "STEPOUT_STATE": "Mask", "STEPOUT_TARGETS": f"sqs:{queue}"}
        self.process = subprocess.Popen(
            script("import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)\n" + text),
            env={**inherited, **aws.environ, **NO_ROUTE, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> int:
        """Wait for the end; the token is in nothing that the process printed, not even at debug level."""
        stdout, stderr = self.process.communicate(timeout=300)
        assert "send" in stderr.lower()
        assert self.token[:24] not in stdout + stderr
        return self.process.returncode


@pytest.mark.parametrize("fifo", [False, True])
def test_a_process_reports_once_whatever_happens_to_the_relay(  # noqa: PLR0913 - fixtures
    local_aws: LocalAws,
    sfn_strict: StrictStepFunctions,
    make_queue: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    timing: dict[str, Any],
    *,
    fifo: bool,
) -> None:
    """Throttled, then the answer lost and the relay out of time, then the same messages again."""
    queue = make_queue(fifo=fifo)
    job = Job(local_aws, sfn_strict, queue.url, textwrap.dedent(WORKS))
    assert job.finish() == 0
    assert sfn_strict.calls == []
    messages = queue.take(2)
    assert [message["Attributes"].get("MessageGroupId") for message in messages] == [
        group_of(job.token) if fifo else None
    ] * 2
    sfn_strict.fault("SendTaskSuccess", *["throttle"] * 60)
    with caplog.at_level("DEBUG"):
        (failed,) = relay(messages, sfn_strict.client(), seconds=2, **timing)
        assert failed in {message["MessageId"] for message in messages}
        sfn_strict._faults.clear()
        sfn_strict.fault("SendTaskSuccess", "lost")
        assert relay(messages, sfn_strict.client(), seconds=0.01) == [failed]
        assert relay(messages, sfn_strict.client()) == []
    assert sfn_strict.success(job.token)["result"] == {"rows": 3}
    assert job.token[:24] not in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_stopped_process_reports_through_the_queue(
    local_aws: LocalAws, sfn_strict: StrictStepFunctions, make_queue: Callable[..., Any]
) -> None:
    """SIGTERM in the middle of the work."""
    queue = make_queue()
    job = Job(
        local_aws,
        sfn_strict,
        queue.url,
        "import time\nwith stepout.open_task():\n    print('READY', flush=True)\n    time.sleep(60)",
    )
    assert job.process.stdout is not None
    assert job.process.stdout.readline() == "READY\n"
    job.process.send_signal(signal.SIGTERM)
    assert job.finish() == 143
    assert relay(queue.take(2), sfn_strict.client()) == []
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"
