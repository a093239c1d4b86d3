"""A task that cannot even be made: the state that waits for it hears of that, once, and the caller too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.callbacks import Task
from stepout.schemas.errors import ConfigurationError
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPOUT_HEARTBEAT_SECONDS", "soon"),
        ("STEPOUT_STOP_TIMEOUT", "0"),
        ("STEPOUT_OUTPUT_BUDGET", "300000"),
        ("STEPOUT_TARGETS", "gopher://x"),
        ("STEPOUT_TARGETS", "sfn: stdout:x"),
        ("STEPOUT_ATTEMPT", "one"),
        ("STEPOUT_REDRIVE", "-1"),
        ("STEPOUT_MAP_INDEX", "first"),
        ("STEPOUT_INPUT", '{"secret": 17, "secret": NaN'),
    ],
)
def test_a_setting_that_cannot_be_understood_ends_the_state(
    sfn_strict: StrictStepFunctions, name: str, value: str
) -> None:
    """By name and once; without a report it would wait until its heartbeat runs out."""
    token = sfn_strict.issue()
    environ = {"STEPOUT_TASK_TOKEN": token, "STEPOUT_STATE": "Mask", name: value}
    with pytest.raises(ConfigurationError, match=name) as caught:
        stepout.open_task(environ=environ, sfn_client=sfn_strict.client())
    error, cause = sfn_strict.failure(token)
    assert error == "Stepout.Configuration"
    assert cause["message"] == str(caught.value)
    assert cause["run"]["state"] == "Mask"
    assert [call.action for call in sfn_strict.calls] == ["SendTaskFailure"]
    assert f"{value!r}" not in str(caught.value)
    assert environ.keys() == {"STEPOUT_STATE", name}


def test_an_argument_that_makes_no_sense_ends_the_state(sfn_strict: StrictStepFunctions) -> None:
    """Whatever keeps the task from being made, a misspelt argument included."""
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (ConfigurationError, {"spill": "sometimes"}),
        (ConfigurationError, {"targets": []}),
        (TypeError, {"heart_beat": 3}),
    ]
    for kind, options in wrong:
        token = sfn_strict.issue()
        with pytest.raises(kind):
            stepout.open_task(environ={}, token=token, sfn_client=sfn_strict.client(), **options)
        assert sfn_strict.failure(token)[0] == getattr(kind, "error_name", kind.__name__)


def test_targets_of_the_callers_own_hear_of_it() -> None:
    """Instead of the token's state."""
    target = RecordingTarget()
    with pytest.raises(ConfigurationError):
        Task.from_env({"STEPOUT_STOP_TIMEOUT": "x", "STEPOUT_TASK_TOKEN": "t" * 30}, targets=target)
    assert [failure["error"] for failure in target.failures] == ["Stepout.Configuration"]


def test_a_report_that_fails_leaves_the_mistake_to_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Best effort: one line says so. Without a token and targets there is nobody to tell, and no line."""
    with caplog.at_level(logging.ERROR), pytest.raises(ConfigurationError, match="STEPOUT_STOP_TIMEOUT"):
        Task.from_env({"STEPOUT_STOP_TIMEOUT": "x"}, targets=RecordingTarget(unreachable=True))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()
    with pytest.raises(ConfigurationError):
        Task.from_env({"STEPOUT_STOP_TIMEOUT": "x"})
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', r"\$\.a: occurs more than once"),
        ('{"a": NaN}', r"\$\.a"),
        ("{", "line 1, column 2"),
        ("[" * 5_000, "nested deeper"),
    ],
)
def test_input_is_read_strictly(text: str, why: str) -> None:
    """With the place and the kind of the mistake, and no value."""
    with pytest.raises(ConfigurationError, match=f"STEPOUT_INPUT cannot be read: .*{why}"):
        Task.from_env({"STEPOUT_INPUT": text})
