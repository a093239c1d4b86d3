"""One line a task in CloudWatch's embedded metric format, by the rules of its published schema."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stepout
from stepout.observe.metrics import TaskMetrics, metric_line, standard_output
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from stepout.artifacts.reading.output import Output

ENVIRON = {
    "STEPOUT_METRICS": "emf",
    "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c",
    "STEPOUT_STATE": "Mask",
    "STEPOUT_ATTEMPT": "0",
}
UNITS = {
    *("Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits"),
    *("Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "Bytes/Second", "Count/Second", "None"),
}
TEXT = {"type": "string", "minLength": 1, "maxLength": 1024}
# What the specification's own schema says, and the limits that its text adds:
# docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
METRIC = {
    "type": "object",
    "required": ["Name"],
    "additionalProperties": False,
    "properties": {"Name": TEXT, "Unit": {"enum": sorted(UNITS)}, "StorageResolution": {"enum": [1, 60]}},
}
DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "additionalProperties": False,
    "properties": {
        "Namespace": TEXT,
        "Dimensions": {"type": "array", "minItems": 1, "items": {"type": "array", "maxItems": 30, "items": TEXT}},
        "Metrics": {"type": "array", "maxItems": 100, "items": METRIC},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {"type": "array", "items": DIRECTIVE},
            },
        }
    },
}


def checked(line: str) -> dict[str, Any]:
    """The object, held against the schema and against what it refers to in itself."""
    found: dict[str, Any] = json.loads(line)
    jsonschema.validate(found, SCHEMA)
    assert line.isascii()
    for directive in found["_aws"]["CloudWatchMetrics"]:
        for name in (name for names in directive["Dimensions"] for name in names):
            assert isinstance(found[name], str)
            assert 0 < len(found[name]) <= 1024
            assert found[name].strip()
        for metric in directive["Metrics"]:
            assert isinstance(found[metric["Name"]], int | float)
    return found


def test_a_task_prints_one_line_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """What it wrote and read, how long it took and how it ended, by state machine and state."""
    store = MemoryStore("bucket")
    with stepout.open_task(environ=ENVIRON, targets=RecordingTarget(), bucket="bucket", client=store) as task:
        pointer = task.artifacts.put_bytes("mask", b"abc")
        read(task.artifacts.pointers, store)["mask"].read_bytes()
        assert capsys.readouterr().out == ""
    (line,) = capsys.readouterr().out.splitlines()
    found = checked(line)
    assert found["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["StateMachine", "State"]]
    assert (found["StateMachine"], found["State"], found["outcome"]) == ("nightly", "Mask", "success")
    assert found["BytesWritten"] > pointer.size  # its record, too
    assert found["BytesRead"] == 3
    assert (found["Artifacts"], found["Heartbeats"], found["Retries"]) == (1, 1, 0)
    assert (found["Succeeded"], found["Failed"]) == (1, 0)
    assert found["Seconds"] > 0


def read(pointers: Any, store: MemoryStore) -> Output:
    """The output of these pointers."""
    document = stepout.TaskOutput(artifacts=pointers).to_dict()
    return stepout.resolve_output(document, allow=["s3://bucket/"], client=store)


def test_the_document_keeps_standard_output_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the outcome is printed there, the line goes to standard error."""
    with stepout.open_task(environ={"STEPOUT_METRICS": "EMF"}):
        pass
    printed = capsys.readouterr()
    assert json.loads(printed.out)["stepout"] == "output/1"
    found = checked(printed.err)
    assert found["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[]]


def test_a_failure_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, never by its text."""
    with pytest.raises(KeyError), stepout.open_task(environ=ENVIRON, targets=RecordingTarget()):
        raise KeyError("secret")
    line = capsys.readouterr().out
    found = checked(line)
    assert (found["Succeeded"], found["Failed"], found["error"]) == (0, 1, "KeyError")
    assert "secret" not in line


def test_standard_output_that_is_gone_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done, and reported, all the same."""
    for stream in (None, open_closed()):
        target = RecordingTarget()
        monkeypatch.setattr(sys, "stdout", stream)
        with stepout.open_task(environ=ENVIRON, targets=target):
            pass
        assert target.successes


def open_closed() -> Any:
    """A stream that was closed."""
    import io

    stream = io.StringIO()
    stream.close()
    return stream


def test_a_value_that_is_not_known_is_refused() -> None:
    """A typing error is said before the work begins."""
    with pytest.raises(stepout.ConfigurationError, match="STEPOUT_METRICS is 'statsd': expected 'emf'"):
        stepout.open_task(environ={"STEPOUT_METRICS": "statsd"}, targets=RecordingTarget())


@given(execution=st.text(max_size=2_000), state=st.text(max_size=1_024))
def test_whatever_a_state_is_called_the_line_is_valid(execution: str, state: str) -> None:
    """Dimensions are ASCII, not empty, and not too long; what is not known is left out."""
    run = stepout.RunIdentity(execution=f"arn:aws:states:eu-west-1:123456789012:execution:{execution}:1", state=state)
    counts = TaskMetrics(standard_output)
    task = stepout.Event(kind="task", operation="task", outcome="success", seconds=0.5, run=run)
    counts._count(task)
    checked(json.dumps(metric_line(counts._counts, task)))
