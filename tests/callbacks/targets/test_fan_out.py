"""Several targets at once: the first decides, and the others can neither fail nor hold up the task."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import Task
from stepout.callbacks.environment import read_settings, take_token
from stepout.callbacks.targets.fan_out import FanOut
from stepout.schemas.errors import ConfigurationError, TaskError
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from support.sfn_strict import StrictStepFunctions

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1secret" * 10
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:one"
TOPIC = "sns:arn:aws:sns:eu-west-1:123456789012:done"


class Hanging:
    """A target that answers when it is let go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.release = threading.Event()

    def __repr__(self) -> str:
        return "Hanging()"

    def success(self, _document: Mapping[str, Any]) -> None:
        """Hang."""
        self._hang("success")

    def failure(self, _error: str, _cause: str) -> None:
        """Hang."""
        self._hang("failure")

    def heartbeat(self) -> None:
        """Hang."""
        self._hang("heartbeat")

    def _hang(self, what: str) -> None:
        self.calls.append(what)
        self.release.wait()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """It is let go after the test."""
    target = Hanging()
    yield target
    target.release.set()


def test_a_target_that_hangs_does_not_keep_the_others_from_being_told(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    """All are told at once, and the one that does not answer is given up, with a line that names it."""
    primary, other = RecordingTarget(), RecordingTarget()
    FanOut([primary, hanging, other], patience=0.05).success({"a": 1})
    assert (primary.successes, other.successes, hanging.calls) == ([{"a": 1}], [{"a": 1}], ["success"])
    assert "Hanging() was not told" in caplog.text
    FanOut([RecordingTarget(), hanging], patience=0.05).failure("E", "{}")
    assert hanging.calls == ["success", "failure"]


def test_a_request_to_stop_ends_the_wait_for_the_others(hanging: Hanging) -> None:
    """The time is the container's, whenever it comes."""
    reporter = FanOut([RecordingTarget(), hanging])
    telling = threading.Thread(target=reporter.success, args=({},), daemon=True)
    telling.start()
    reporter.limit(0.01)
    telling.join(60)
    assert not telling.is_alive()


def test_beats_go_on_though_another_target_hangs(hanging: Hanging) -> None:
    """The state's clock runs; a target with a beat under way is left alone."""
    primary = RecordingTarget()
    reporter = FanOut([primary, hanging], first_beat=0.05)
    for _ in range(3):
        reporter.heartbeat()
    assert (primary.heartbeats, hanging.calls) == (3, ["heartbeat"])


def test_the_first_beat_is_told_before_the_work_begins() -> None:
    """A row of a table with tokens, for instance, is there then."""
    seen: list[int] = []
    other = RecordingTarget()
    with Task([RecordingTarget(), other]):
        seen.append(other.heartbeats)
    assert seen == [1]


def test_others_that_fail_are_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """And what the primary says is what counts: of a success that it did not take, nobody is told."""
    primary = RecordingTarget()
    FanOut([primary, RecordingTarget(unreachable=True)]).success({"a": 1})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    told = RecordingTarget()
    with pytest.raises(TaskError):
        FanOut([RecordingTarget(unreachable=True), told]).success({"a": 1})
    assert told.successes == []


def test_a_report_is_told_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interpreter's shutdown, for instance."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    other = RecordingTarget()
    FanOut([RecordingTarget(), other]).success({"a": 1})
    assert other.successes == [{"a": 1}]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_delivered_success_is_not_held_up_past_the_stop_timeout(sfn_strict: StrictStepFunctions) -> None:
    """SIGTERM while a notification hangs for good: the process ends in time, with the signal's code."""
    script = """
        import logging, os, threading, stepout
        logging.basicConfig()
        from stepout.callbacks import StepFunctionsTarget
        class Hangs:
            def success(self, document):
                print("HANGS", flush=True)
                threading.Event().wait()
            def failure(self, error, cause): ...
            def heartbeat(self): ...
        token = os.environ["STEPOUT_TASK_TOKEN"]
        with stepout.open_task(targets=[StepFunctionsTarget(token), Hangs()]) as task:
            task.result["rows"] = 3
    """
    token = sfn_strict.issue()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**sfn_strict.environment, "STEPOUT_TASK_TOKEN": token, "STEPOUT_STOP_TIMEOUT": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "HANGS\n"
        assert sfn_strict.success(token)["result"] == {"rows": 3}
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 143
    assert "was not told" in stderr
    assert token[:24] not in stderr


@pytest.mark.parametrize("targets", ["stdout: sfn:", "file:///tmp/x.json sfn:", "s3://bucket/key sfn: stdout:"])
def test_where_there_is_a_token_the_state_that_waits_comes_first(targets: str) -> None:
    """As one of the others it would be merely told: one that failed would be a line in the log, and code 0."""
    with pytest.raises(ConfigurationError, match=r"name sfn: or the sqs: relay first"):
        read_settings({"STEPOUT_TARGETS": targets, "STEPOUT_EXECUTION": EXECUTION}, token=TOKEN)


def kinds(**environ: str) -> list[str]:
    """The kinds of the targets that an environment means, in order."""
    aws = {"AWS_DEFAULT_REGION": "eu-west-1"}
    settings = read_settings({**aws, **environ}, token=take_token(environ))
    return [type(target).__name__ for target in settings.targets]


def test_an_output_comes_before_what_nobody_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes STEPOUT_OUTPUT looks there: a copy in a file or in the log must not decide."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    pulled = {"STEPOUT_OUTPUT": "s3://bucket/output.json", "STEPOUT_EXECUTION": EXECUTION}
    path = (tmp_path / "copy.json").as_uri()
    assert kinds(**pulled, STEPOUT_TARGETS=f"stdout: {path}") == ["PullTarget", "StdoutTarget", "FileTarget"]
    assert kinds(**pulled, STEPOUT_TARGETS=TOPIC) == ["PullTarget", "SnsTarget"]
    assert kinds(**pulled, STEPOUT_TARGETS="dynamodb://table/key") == ["DynamoDbTarget", "PullTarget"]
    assert kinds(**pulled, STEPOUT_TARGETS=f"stdout: {pulled['STEPOUT_OUTPUT']}") == ["PullTarget", "StdoutTarget"]
    assert kinds(**pulled, STEPOUT_TASK_TOKEN=TOKEN) == ["StepFunctionsTarget", "PullTarget"]
    assert kinds(**pulled, STEPOUT_TARGETS="sfn: stdout:", STEPOUT_TASK_TOKEN=TOKEN) == [
        "StepFunctionsTarget",
        "StdoutTarget",
        "PullTarget",
    ]


@pytest.mark.parametrize("url", ["sqs://localhost:4566/1/reports", "events:default", "dynamodb://table/key"])
def test_a_target_that_lacks_a_region_is_refused_before_any_work(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not after hours of it."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    token = TOKEN if url.startswith("sqs") else None
    with pytest.raises(ConfigurationError, match="region"):
        read_settings(
            {"STEPOUT_TARGETS": url if token else f"stdout: {url}", "STEPOUT_EXECUTION": "job-7"}, token=token
        )


@pytest.mark.parametrize("bucket", ["Bad_Bucket!", "bücket", "ab", "a bucket"])
def test_an_output_in_what_is_no_bucket_is_refused_before_any_work(bucket: str) -> None:
    """boto3 would say so when the work is done."""
    environ = {"STEPOUT_OUTPUT": f"s3://{bucket}/key".replace(" ", "%20"), "STEPOUT_EXECUTION": EXECUTION}
    with pytest.raises(ConfigurationError, match="no bucket has"):
        read_settings(environ, token=None)


def test_what_is_no_target_is_not_quoted_at_length() -> None:
    """It may be anything, a token that was put into the wrong variable included."""
    with pytest.raises(ConfigurationError, match="not known") as caught:
        read_settings({"STEPOUT_TARGETS": TOKEN}, token=None)
    assert TOKEN[:24].lower() not in str(caught.value).lower()
