"""A task that cannot be made, with a relay: its state hears of that the same way, and nobody calls Step Functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.callbacks.relay import relay
from stepout.callbacks.targets.messages import parse_report
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sfn_strict import StrictStepFunctions

    from stepout.local import LocalAws


@pytest.fixture
def surroundings(
    sfn_strict: StrictStepFunctions, local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> StrictStepFunctions:
    """Clients find the local AWS, and for Step Functions the strict one."""
    for name, value in {**sfn_strict.environment, **local_aws.environ}.items():
        monkeypatch.setenv(name, value)
    return sfn_strict


def test_it_goes_through_the_relay(surroundings: StrictStepFunctions, make_queue: Callable[..., Any]) -> None:
    """And only there; the relay passes it on like any failure."""
    queue, token = make_queue(), surroundings.issue()
    environ = {
        "STEPOUT_TASK_TOKEN": token,
        "STEPOUT_STATE": "Mask",
        "STEPOUT_TARGETS": queue.url.replace("http", "sqs"),
    }
    with pytest.raises(ConfigurationError, match="STEPOUT_HEARTBEAT_SECONDS"):
        stepout.open_task(environ={**environ, "STEPOUT_HEARTBEAT_SECONDS": "soon"})
    assert surroundings.calls == []
    messages = queue.take()
    assert parse_report(messages[0]["Body"]).run.state == "Mask"
    assert relay(messages, surroundings.client()) == []
    error, cause = surroundings.failure(token)
    assert error == "Stepout.Configuration"
    assert "STEPOUT_HEARTBEAT_SECONDS" in cause["message"]


def test_another_target_that_is_wrong_does_not_stop_it(
    surroundings: StrictStepFunctions, make_queue: Callable[..., Any]
) -> None:
    """Not even one that comes first."""
    queue, token = make_queue(), surroundings.issue()
    targets = f"gopher://x sns:nothing {queue.url.replace('http', 'sqs')}"
    with pytest.raises(ConfigurationError, match="gopher"):
        stepout.open_task(environ={"STEPOUT_TASK_TOKEN": token, "STEPOUT_TARGETS": targets})
    assert surroundings.calls == []
    assert json.loads(queue.take()[0]["Body"])["error"] == "Stepout.Configuration"


@pytest.mark.parametrize("targets", ["sqs://nowhere", "sqs://nowhere stdout:", "stdout:", "sns:nothing", "events:a,b"])
def test_step_functions_hears_of_it_where_no_relay_can_be_made(
    surroundings: StrictStepFunctions, targets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mistake may be the relay's own URL, or that there is none."""
    token = surroundings.issue()
    with pytest.raises(ConfigurationError):
        stepout.open_task(environ={"STEPOUT_TASK_TOKEN": token, "STEPOUT_TARGETS": targets})
    assert surroundings.failure(token)[0] == "Stepout.Configuration"
    assert len(surroundings.calls) == 1
    assert capsys.readouterr().out == ""


def test_the_others_are_told_after_the_relay(
    surroundings: StrictStepFunctions, make_queue: Callable[..., Any], tmp_path: Path
) -> None:
    """As of every outcome; where another one stands first, that alone is a mistake, and the state hears of it."""
    queue, path = make_queue(), tmp_path / "outcome.json"
    targets = f"{path.as_uri()} {queue.url.replace('http', 'sqs')}"
    environ = {"STEPOUT_TASK_TOKEN": surroundings.issue(), "STEPOUT_TARGETS": targets, "STEPOUT_STOP_TIMEOUT": "x"}
    with pytest.raises(ConfigurationError, match="sqs: relay first"):
        stepout.open_task(environ=environ)
    assert json.loads(queue.take()[0]["Body"])["kind"] == "failure"
    assert json.loads(path.read_text(encoding="utf-8"))["error"] == "Stepout.Configuration"


def test_nobody_is_told_of_what_the_relay_did_not_take(
    surroundings: StrictStepFunctions,
    make_queue: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What carries the outcome comes first; that it failed is one line, and the mistake is what is raised."""
    token, path = surroundings.issue(), tmp_path / "outcome.json"
    targets = f"{make_queue().url.replace('http', 'sqs')}-gone {path.as_uri()}"
    with pytest.raises(ConfigurationError, match="STEPOUT_STOP_TIMEOUT"):
        stepout.open_task(
            environ={"STEPOUT_TASK_TOKEN": token, "STEPOUT_TARGETS": targets, "STEPOUT_STOP_TIMEOUT": "x"}
        )
    assert not path.exists()
    assert "could not be reported" in caplog.text
    assert token[:24] not in caplog.text


def test_without_a_token_the_named_places_hear_of_it(surroundings: StrictStepFunctions, tmp_path: Path) -> None:
    """A file, here; Step Functions is not asked."""
    path = tmp_path / "outcome.json"
    with pytest.raises(ConfigurationError):
        stepout.open_task(environ={"STEPOUT_TARGETS": path.as_uri(), "STEPOUT_STOP_TIMEOUT": "x"})
    assert json.loads(path.read_text(encoding="utf-8"))["error"] == "Stepout.Configuration"
    assert surroundings.calls == []
