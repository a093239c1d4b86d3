"""Structured logs: one JSON object a line, with the run, events and exceptions, and never a secret."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.observe import json_logs
from stepout.observe.json_logs import JsonLines
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sfn_strict import StrictStepFunctions

ENVIRON = {
    "STEPOUT_LOG": "json",
    "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c",
    "STEPOUT_STATE": "Mask",
    "STEPOUT_ATTEMPT": "2",
}


@contextlib.contextmanager
def bare_logging() -> Iterator[io.StringIO]:
    """A process whose logging nobody has set up, pytest included, and what it prints then."""
    root, ours, stream = logging.getLogger(), logging.getLogger("stepout"), io.StringIO()
    handlers, level = root.handlers, ours.level
    root.handlers = []
    try:
        with contextlib.redirect_stderr(stream):
            yield stream
    finally:
        root.handlers = handlers
        ours.setLevel(level)


def lines_of(stream: io.StringIO | str) -> list[dict[str, Any]]:
    """Each line as an object; anything else in it fails."""
    text = stream if isinstance(stream, str) else stream.getvalue()
    return [json.loads(line) for line in text.splitlines()]


def test_a_task_logs_its_events_as_objects() -> None:
    """Each line has time, level, logger, message and the run; an event its attributes; an exception is a member."""
    store = MemoryStore("bucket")
    options: Any = {"environ": ENVIRON, "targets": RecordingTarget(), "bucket": "bucket", "client": store}
    with bare_logging() as printed, stepout.open_task(**options) as task:
        task.artifacts.put_bytes("mask", b"abc")
        logging.getLogger("job").error("it was %s", "caught", exc_info=ValueError("a\nb"))
    lines = lines_of(printed)
    put, caught = lines[0], next(line for line in lines if line["logger"] == "job")
    assert set(put) == {"time", "level", "logger", "message", "execution", "state", "attempt", "event"}
    assert (put["logger"], put["level"], put["message"]) == ("stepout.observe", "INFO", "put mask 3 bytes: ok")
    assert (put["state"], put["attempt"], put["time"][-1]) == ("Mask", 2, "Z")
    assert {**put["event"], "key": "", "seconds": 0} == {
        "kind": "put",
        "operation": "put",
        "artifact": "mask",
        "bucket": "bucket",
        "key": "",
        "bytes": 3,
        "outcome": "ok",
        "seconds": 0,
    }
    assert (caught["message"], caught["exception"]["type"]) == ("it was caught", "ValueError")
    assert caught["exception"]["message"] == "a\nb"
    assert caught["exception"]["traceback"] == "ValueError: a\nb\n"
    assert [line["event"]["kind"] for line in lines if "event" in line] == ["put", "put", "report", "task"]


def test_a_program_that_has_set_up_logging_keeps_it() -> None:
    """It gets the events as lines of its own kind."""
    with bare_logging() as printed:
        own = logging.StreamHandler(printed)
        own.setFormatter(logging.Formatter("mine %(levelname)s %(message)s"))
        logging.getLogger().addHandler(own)
        logging.getLogger("stepout").setLevel(logging.INFO)
        with stepout.open_task(environ=ENVIRON, targets=RecordingTarget()):
            pass
    assert printed.getvalue() == "mine INFO report success: ok\nmine INFO task: success\n"


def test_a_second_task_says_its_own_run() -> None:
    """The lines are printed once, whoever switched them on before."""
    with bare_logging() as printed:
        for state in ("One", "Two"):
            with stepout.open_task(environ={**ENVIRON, "STEPOUT_STATE": state}, targets=RecordingTarget()):
                pass
    assert [line["state"] for line in lines_of(printed)] == ["One", "One", "Two", "Two"]


def test_what_others_wrote_stays_one_line() -> None:
    """Control characters and bytes beyond any encoding are escaped."""
    message = "a\x1b[31m\u202e\n\udc80"
    record = logging.LogRecord("job", logging.INFO, __file__, 1, "%s", (message,), None)
    line = JsonLines(stepout.RunIdentity()).format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert json.loads(line)["message"] == message


def test_a_value_that_is_not_known_is_refused() -> None:
    """A typing error is said before the work begins."""
    with pytest.raises(stepout.ConfigurationError, match="STEPOUT_LOG is 'jsn': expected 'json' or nothing"):
        stepout.open_task(environ={"STEPOUT_LOG": "jsn"}, targets=RecordingTarget())


def test_failures_are_warnings_and_heartbeats_are_detail(caplog: pytest.LogCaptureFixture) -> None:
    """So that a filter by level finds what matters."""
    caplog.set_level(logging.DEBUG, "stepout.observe")
    for outcome, kind in (("ok", "heartbeat"), ("failed", "put"), ("undelivered", "task"), ("failed", "retry")):
        json_logs.log_event(stepout.Event(kind=kind, operation=kind, outcome=outcome))  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING", "WARNING", "INFO"]


def test_no_secret_and_no_payload_is_in_any_line(sfn_strict: StrictStepFunctions) -> None:
    """Of a job that logs its token, puts and returns payload, and fails with the token in an exception."""
    token = sfn_strict.issue()
    script = """
        import logging, os, sys
        token = os.environ["STEPOUT_TASK_TOKEN"]
        import stepout
        from stepout.testing import MemoryStore
        with stepout.open_task(bucket="bucket", client=MemoryStore("bucket")) as task:
            task.artifacts.put_json("mask", {"name": "PAYLOAD-PUT"})
            task.result["name"] = "PAYLOAD-RESULT"
            task.input
            logging.getLogger("job").warning("the token is %s", token)
            raise RuntimeError(token)
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    environ = {**inherited, **sfn_strict.environment, **ENVIRON, "STEPOUT_METRICS": "emf"}
    environ |= {"STEPOUT_TASK_TOKEN": token, "STEPOUT_INPUT": '{"name": "PAYLOAD-INPUT"}'}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environ, capture_output=True, text=True, check=False
    )
    lines = lines_of(run.stderr)
    assert run.returncode == 1
    assert token[:24] not in run.stdout + run.stderr
    assert "PAYLOAD" not in run.stdout + run.stderr
    assert [line["message"] for line in lines if line["logger"] == "job"] == ["the token is [redacted]"]
    assert lines[-1]["logger"] == "stepout.observe"
    assert "RuntimeError: [redacted]" in lines[-1]["exception"]["traceback"]
    (metrics,) = lines_of(run.stdout)
    assert (metrics["outcome"], metrics["error"], metrics["Failed"]) == ("failure", "RuntimeError", 1)
