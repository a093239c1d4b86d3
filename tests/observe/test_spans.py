"""Spans with OpenTelemetry's real SDK, sent by a producer and a consumer, two processes, to a collector in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from support.collector import SPANS_SENT, Collector, collecting
from support.seaweed import ADMIN

from stepout.schemas import TaskOutput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c"
PRODUCER = """
import os
token = os.environ["STEPOUT_TASK_TOKEN"]
{set_up}
import stepout
with stepout.open_task() as task:
    task.artifacts.put_json("mask", {{"name": "PAYLOAD-PUT"}})
    with task.artifacts.open("log") as log:
        log.write(b"PAYLOAD-LOG")
    task.result["name"] = "PAYLOAD-RESULT"
    if task.input["fails"]:
        raise RuntimeError(token + task.input["name"])
"""
CONSUMER = """
import json, sys
{set_up}
import stepout
document = json.load(sys.stdin)
stepout.resolve_output(document)["mask"].read_json()
with trace.get_tracer("job").start_as_current_span("own"):
    stepout.resolve_output(document)["log"].read_bytes()
with stepout.open_task(targets=stepout.callbacks.RecordingTarget(), input=document) as task:
    task.input["mask"].read_text()
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector for all tests of this file."""
    with collecting() as found:
        yield found


@pytest.fixture
def environ(collector: Collector, seaweed: Seaweed, bucket: str) -> dict[str, str]:
    """The environment of the processes, without a token."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    collector.spans.clear()
    collector.bodies.clear()
    return {
        **inherited,
        "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "STEPOUT_BUCKET": bucket,
        "STEPOUT_ALLOW": f"s3://{bucket}/",
        "STEPOUT_EXECUTION": EXECUTION,
        "STEPOUT_STATE": "Mask",
        "STEPOUT_INPUT": '{"fails": false, "name": "PAYLOAD-INPUT"}',
        "STEPOUT_S3_PROFILE": "compatible",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }


def run(script: str, environ: dict[str, str], given: str = "", *, set_up: str = SPANS_SENT) -> str:
    """Run a program to its end and return what it printed on both streams."""
    code = textwrap.dedent(script).format(set_up=set_up)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, input=given, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def produced(environ: dict[str, str], server: StrictStepFunctions, *, set_up: str = SPANS_SENT) -> str:
    """Run the producer with a token, which it returns; nothing that it prints holds that."""
    token = server.issue()
    printed = run(PRODUCER, {**server.environment, **environ, "STEPOUT_TASK_TOKEN": token}, set_up=set_up)
    assert token[:24] not in printed
    return token


def test_producer_and_consumer_are_one_trace(
    environ: dict[str, str], collector: Collector, sfn_strict: StrictStepFunctions
) -> None:
    """Puts, report, resolve and reads of two processes; within a span of the program's own there is a link instead."""
    document = sfn_strict.success(produced(environ, sfn_strict))
    task = collector.named("stepout task Mask")
    assert document["traceparent"].startswith(f"00-{task.trace}-{task.id}-")
    assert TaskOutput.from_dict(document).traceparent == document["traceparent"]
    names = ["stepout put", "stepout put", "stepout document", "stepout report success"]
    children = [span for span in collector.spans if span.parent == task.id]
    assert [span.name for span in children] == names
    assert {span.trace for span in collector.spans} == {task.trace}
    put = children[0]
    assert put.attributes["aws.s3.bucket"] == environ["STEPOUT_BUCKET"]
    assert put.attributes["aws.s3.key"] == document["artifacts"]["mask"]["key"]
    assert (put.attributes["stepout.artifact"], put.attributes["stepout.bytes"]) == ("mask", 22)
    machine = "arn:aws:states:eu-west-1:123456789012:stateMachine:nightly"
    assert task.attributes["aws.step_functions.state_machine.arn"] == machine
    collector.spans.clear()
    assert run(CONSUMER, {**environ, "STEPOUT_STATE": "Score"}, json.dumps(document)) == ""
    own, score = collector.named("own"), collector.named("stepout task Score")
    named = {span.name: span for span in collector.spans if span.parent == task.id}
    assert set(named) == {"stepout resolve_output", "stepout read_bytes", "stepout task Score"}
    assert {span.trace for span in named.values()} == {task.trace}
    inside = [span for span in collector.spans if span.parent == own.id]
    assert [(span.name, span.trace == own.trace, span.links) for span in inside] == [
        ("stepout resolve_output", True, (task.id,)),
        ("stepout read_bytes", True, (task.id,)),
    ]
    assert own.trace != task.trace
    assert {span.name for span in collector.spans if span.parent == score.id} >= {
        "stepout resolve",
        "stepout read_bytes",
    }


def test_no_secret_and_no_payload_is_in_any_span(
    environ: dict[str, str], collector: Collector, sfn_strict: StrictStepFunctions
) -> None:
    """Of a task that fails with its token and its input in the exception: the span has the error's name alone."""
    environ["STEPOUT_INPUT"] = '{"fails": true, "name": "PAYLOAD-INPUT"}'
    token = produced(environ, sfn_strict)
    assert sfn_strict.failure(token)[0] == "RuntimeError"
    task = collector.named("stepout task Mask")
    assert (task.failed, task.attributes["error.type"]) == (True, "RuntimeError")
    assert not collector.named("stepout report failure").failed
    sent = b"".join(collector.bodies)
    assert token[:24].encode() not in sent
    assert b"PAYLOAD" not in sent


def test_without_opentelemetry_there_is_no_trace() -> None:
    """It is installed, and nobody has imported it: stepout does not, either."""
    script = """
import sys
{set_up}
from stepout.testing import MemoryStore
with stepout.open_task(environ={{}}, bucket="bucket", client=MemoryStore("bucket")) as task:
    task.artifacts.put_json("mask", 1)
assert "opentelemetry" not in sys.modules
"""
    printed = run(script, dict(os.environ), set_up="import stepout")
    assert "traceparent" not in json.loads(printed)
