"""What a task reads from its environment, and the targets that it names."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import FileTarget, RecordingTarget, StdoutTarget, StepFunctionsTarget, Target, Task
from stepout.callbacks.environment import read_settings, take_token
from stepout.callbacks.lifecycle.heartbeat import interval_of
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.registry import parse_targets
from stepout.schemas import Contract
from stepout.schemas.errors import (
    ConfigurationError,
    InvalidDocumentError,
    InvalidTokenError,
    TaskClosedError,
    TaskError,
)

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1secret" * 10
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:one"


@pytest.mark.parametrize(
    ("environ", "kinds"),
    [
        ({}, [StdoutTarget]),
        ({"STEPOUT_TASK_TOKEN": TOKEN}, [StepFunctionsTarget]),
        ({"TASK_TOKEN": TOKEN, "STEPOUT_EXECUTION": EXECUTION}, [StepFunctionsTarget]),
        ({"STEPOUT_TARGETS": " ", "STEPOUT_TASK_TOKEN": TOKEN}, [StepFunctionsTarget]),
        ({"STEPOUT_TARGETS": "stdout:", "STEPOUT_EXECUTION": EXECUTION}, [StdoutTarget]),
        ({"STEPOUT_TARGETS": "sfn: stdout:", "STEPOUT_TASK_TOKEN": TOKEN}, [StepFunctionsTarget, StdoutTarget]),
    ],
)
def test_where_a_task_reports_to(environ: dict[str, str], kinds: list[type[object]]) -> None:
    """A token means Step Functions; nothing at all means standard output; targets that are named win."""
    assert [type(target) for target in read_settings(environ, token=take_token(environ)).targets] == kinds


def test_an_execution_without_token_and_targets_is_never_a_silent_success() -> None:
    """The state machine would wait for nothing."""
    with pytest.raises(ConfigurationError, match="STEPOUT_TASK_TOKEN"):
        Task.from_env({"STEPOUT_EXECUTION": EXECUTION})


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        ("gopher://x", "'gopher' is not known here; known are sfn:, sqs:, s3:, dynamodb:, sns:, events:, stdout:"),
        ("stdout", "not known"),
        ("sfn:", "no task token"),
        ("sfn:arn", "stands alone"),
        ("stdout:x", "stands alone"),
        ("file:", "file:///path"),
        ("file://host/path", "file:///path"),
        ("file:///no/such/folder/outcome.json", "folder that exists"),
        ("stdout: gopher:", "not known"),
    ],
)
def test_targets_that_cannot_be_used_are_refused_before_work_starts(targets: str, complaint: str) -> None:
    """With what would be right."""
    with pytest.raises(ConfigurationError, match=complaint):
        Task.from_env({"STEPOUT_TARGETS": targets})


@pytest.mark.parametrize(
    "url", ["file:///tmp/x", "stdout:", "s3://bucket/key stdout:", "s3://bucket/key file:///tmp/x"]
)
def test_pull_mode_takes_one_url_and_no_other_target(url: str) -> None:
    """Whoever may name where an outcome goes must not be able to name a file of the container."""
    with pytest.raises(ConfigurationError, match="STEPOUT_OUTPUT must be one URL"):
        Task.from_env({"STEPOUT_OUTPUT": url, "STEPOUT_EXECUTION": EXECUTION})


def test_the_token_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both spellings, also when something else is wrong, and it is in no repr."""
    monkeypatch.setenv("STEPOUT_TASK_TOKEN", TOKEN)
    monkeypatch.setenv("TASK_TOKEN", "other")
    monkeypatch.setenv("STEPOUT_HEARTBEAT_SECONDS", "soon")
    with pytest.raises(ConfigurationError, match="STEPOUT_HEARTBEAT_SECONDS") as caught:
        Task.from_env()
    assert not {"STEPOUT_TASK_TOKEN", "TASK_TOKEN"} & set(os.environ)
    monkeypatch.delenv("STEPOUT_HEARTBEAT_SECONDS")
    settings = read_settings({}, token=TOKEN)
    task = Task(settings.targets)
    assert TOKEN not in f"{caught.value!r} {settings!r} {task!r} {task.task_session!r} {task.task_session.redactor!r}"


def test_a_token_over_the_limit_is_refused_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not quoted either."""
    monkeypatch.setenv("STEPOUT_TASK_TOKEN", "t" * 2_049)
    with pytest.raises(InvalidTokenError, match="2049 characters"):
        Task.from_env()
    assert "STEPOUT_TASK_TOKEN" not in os.environ
    with pytest.raises(InvalidTokenError, match="empty"):
        Task.from_env({"STEPOUT_TASK_TOKEN": " "})


def test_settings_are_read_and_arguments_come_first() -> None:
    """Numbers, input and run."""
    environ = {
        "STEPOUT_HEARTBEAT_SECONDS": "300",
        "STEPOUT_STOP_TIMEOUT": "120",
        "STEPOUT_OUTPUT_BUDGET": "1000",
        "STEPOUT_INPUT": '{"scene": 7}',
        "STEPOUT_STATE": "Mask",
        "STEPOUT_ATTEMPT": "2",
        "STEPOUT_MAP_INDEX": "3-0",
        "STEPOUT_REDRIVE": "1",
    }
    settings = read_settings(environ, token=None)
    assert (settings.heartbeat, settings.stop_timeout, settings.budget) == (300, 120, 1_000)
    task = Task.from_env(environ, targets=RecordingTarget(), stop_timeout=7)
    assert task.input == {"scene": 7}
    assert task.run.to_dict() == {"state": "Mask", "attempt": 2, "mapIndex": "3-0", "redrive": 1}
    assert task.task_session.stop_timeout == 7
    assert task.task_session.interval == 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPOUT_HEARTBEAT_SECONDS", "0"),
        ("STEPOUT_STOP_TIMEOUT", "inf"),
        ("STEPOUT_STOP_TIMEOUT", "nan"),
        ("STEPOUT_OUTPUT_BUDGET", "1e3"),
        ("STEPOUT_OUTPUT_BUDGET", "300000"),
        ("STEPOUT_FAN_IN", "many"),
        ("STEPOUT_FAN_IN", "0"),
        ("STEPOUT_FAN_IN", "100000"),
        ("STEPOUT_MAX_CONCURRENCY", "0"),
        ("STEPOUT_ATTEMPT", "-1"),
        ("STEPOUT_INPUT", "{"),
    ],
)
def test_settings_that_cannot_be_understood_are_refused(name: str, value: str) -> None:
    """By name, before work starts."""
    with pytest.raises(ConfigurationError, match=name):
        Task.from_env({name: value})


def test_the_map_around_a_task_bounds_its_budget_and_spreads_its_beats() -> None:
    """The least budget counts, and arguments come before variables."""
    environ = {"STEPOUT_FAN_IN": "40", "STEPOUT_MAX_CONCURRENCY": "5000", "STEPOUT_HEARTBEAT_SECONDS": "60"}
    session = Task.from_env(environ).task_session
    assert session.budget == 5_733
    assert session.interval == pytest.approx(5_000 / 216)
    assert Task.from_env({**environ, "STEPOUT_OUTPUT_BUDGET": "3000"}).task_session.budget == 3_000
    assert Task.from_env({"STEPOUT_FAN_IN": "2"}).task_session.budget == 65_536
    given = Task.from_env(environ, fan_in=5, max_concurrency=1).task_session
    assert (given.budget, given.interval) == (45_874, 20)


def test_the_interval_is_a_third_of_what_the_state_allows() -> None:
    """And a minute where that is unknown."""
    assert (interval_of(None), interval_of(300)) == (60, 100)


def test_a_file_target_writes_whole_documents(tmp_path: Path) -> None:
    """A success replaces what was there; only the owner may read it; nothing else is left in the folder."""
    path = tmp_path / "out come.json"
    (target,) = parse_targets(path.as_uri(), TargetContext())
    assert isinstance(target, Target)
    target.heartbeat()
    target.failure("E", '{"message": "é"}')
    assert json.loads(path.read_text("utf-8")) == {"error": "E", "cause": {"message": "é"}}
    target.success({"stepout": "output/1", "artifacts": {}})
    assert json.loads(path.read_text("utf-8")) == {"stepout": "output/1", "artifacts": {}}
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]
    assert str(path) in repr(target)


def test_a_file_target_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """The folder became unwritable by way of a folder in the file's place."""
    target = FileTarget(tmp_path / "outcome.json")
    (tmp_path / "outcome.json").mkdir()
    with pytest.raises(TaskError, match="Nothing was left"):
        target.success({})
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


def test_standard_output_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Escaped, so that no encoding can lose a character; a cause that is no JSON is kept as text."""
    with Task.from_env({}) as task:
        task.result["name"] = "é\n"
    StdoutTarget().failure("E", "no json")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"stepout": "output/1", "artifacts": {}, "result": {"name": "é\n"}},
        {"error": "E", "cause": "no json"},
    ]
    assert all(line.isascii() for line in lines)
    assert repr(StdoutTarget()) == "StdoutTarget()"


def test_a_closed_standard_output_is_an_undelivered_outcome() -> None:
    """Somebody closed the pipe."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(TaskError, match="standard output"):
        StdoutTarget(stream).success({})


def test_a_recording_target_closes_after_one_report() -> None:
    """As Step Functions does; it can also be told to."""
    target = RecordingTarget()
    target.success({"a": 1})
    reports: list[Any] = [lambda: target.success({}), lambda: target.failure("E", "{}"), target.heartbeat]
    for report in reports:
        with pytest.raises(TaskClosedError):
            report()
    assert repr(target) == "RecordingTarget(1 successes, 0 failures, 0 heartbeats)"


def test_the_public_names_are_there_and_no_others() -> None:
    """They are imported when they are used."""
    import stepout.callbacks as module

    assert set(module.__all__) == set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="Nothing"):
        _ = module.Nothing


@pytest.mark.parametrize(
    "options",
    [
        {"targets": []},
        {"targets": [object()]},
        {"heartbeat": 0},
        {"heartbeat": float("nan")},
        {"stop_timeout": -1},
        {"spill": "sometimes"},
        {"budget": 300_000},
    ],
)
def test_options_that_make_no_sense_are_refused_before_work_starts(options: dict[str, Any]) -> None:
    """With a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        Task(**{"targets": RecordingTarget(), **options})


def test_a_subclass_is_made_as_it_makes_itself() -> None:
    """What its own ``__init__`` adds holds for a task from the environment as well."""
    given: list[object] = []

    class Careful(Task):
        def __init__(self, targets: Any, **options: Any) -> None:
            given.append(targets)
            options.setdefault("contract", Contract(artifacts=["features"]))
            super().__init__(targets, **options)

    target = RecordingTarget()
    with pytest.raises(InvalidDocumentError), Careful.from_env({}, targets=target):
        pass
    assert given == [target]
    assert len(target.failures) == 1
