"""The table of task tokens: the task's side, the watcher's, and the two together, on a real table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.ministack import unique
from support.watch_events import HALTED, KEYS, TASK, Clock, serving, stopped_event

from stepout.callbacks.ecs_watch import Watcher, WatchSettings
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.registry import parse_targets
from stepout.callbacks.targets.token_table import TokenKeeper, TokenRow, TokenTable, own_task_arn
from stepout.local.aws import clean_environment
from stepout.schemas.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sfn_strict import StrictStepFunctions
    from support.watch_events import WatchedAws

DYING = """
import os, signal, stepout
with stepout.open_task() as task:
    os.kill(os.getpid(), signal.SIGKILL)
"""
SUCCEEDING = "import stepout\nwith stepout.open_task() as task:\n    task.result['rows'] = 3\n"
FAILING = "import stepout\nwith stepout.open_task() as task:\n    raise KeyError('id')\n"


@contextmanager
def metadata_endpoint(*answers: tuple[int, bytes]) -> Iterator[str]:
    """Serve ECS's task metadata, version 4; the last answer is given for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v4/1c4e":
                status, body = OWN
            else:
                status, body = left.pop(0) if len(left) > 1 else left[0]
                status = status if self.path == "/v4/1c4e/task" else 404
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
            """Say nothing."""

    with serving(Handler) as endpoint:
        yield f"{endpoint}/v4/1c4e"


OWN = (200, json.dumps({"DockerId": "1c4e", "Name": "job"}).encode())
KNOWN = (200, json.dumps({"Cluster": "default", "TaskARN": TASK, "Family": "job"}).encode())


@pytest.fixture
def table(watched: WatchedAws) -> str:
    """A new table, as docs/how-to/silent-deaths.md makes it."""
    name = unique("tokens")
    client = watched.aws.client("dynamodb")
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "task", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "task", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    return name


def run(script: str, watched: WatchedAws, sfn: StrictStepFunctions, **environment: str) -> int:
    """Run a container's process to its end."""
    own = {**sfn.environment, **watched.aws.environ, **environment}
    environ = {**clean_environment(os.environ), **own}
    return subprocess.run(
        [sys.executable, "-c", script], env=environ, stderr=subprocess.DEVNULL, check=False
    ).returncode


def watch(watched: WatchedAws, sfn: StrictStepFunctions, table: str, code: int) -> list[str]:
    """Let a watcher hear of an end whose event carries no overrides at all."""
    event = stopped_event(None, code)
    event["detail"]["overrides"] = {}
    clock = Clock()
    watcher = Watcher(
        WatchSettings(table=table),
        states=sfn.client(),
        tables=watched.aws.client("dynamodb"),
        clock=clock,
        sleep=clock.sleep,
    )
    return watcher.handle(event)


def test_process_killed_midway_is_found_by_its_arn(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, table: str
) -> None:
    """The task notes its token before any work; the watcher finds it there, reports, and takes it out."""
    token = sfn_strict.issue()
    with metadata_endpoint(KNOWN) as metadata:
        variables = {"STEPOUT_TOKEN_TABLE": table, "ECS_CONTAINER_METADATA_URI_V4": metadata}
        code = run(DYING, watched, sfn_strict, STEPOUT_TASK_TOKEN=token, **variables)
    assert code == -9
    assert watch(watched, sfn_strict, table, 137) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"
    assert watch(watched, sfn_strict, table, 137) == []
    assert TokenTable(table, watched.aws.client("dynamodb")).find(TASK) == TokenRow(None, reported=True)


@pytest.mark.parametrize(("script", "code"), [(SUCCEEDING, 0), (FAILING, 1)])
def test_process_that_reports_takes_its_token_out(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, table: str, script: str, code: int
) -> None:
    """After the report the row holds no token, and the watcher asks nobody."""
    token = sfn_strict.issue()
    with metadata_endpoint((500, b""), KNOWN) as metadata:
        variables = {"STEPOUT_TOKEN_TABLE": table, "ECS_CONTAINER_METADATA_URI_V4": metadata}
        assert run(script, watched, sfn_strict, STEPOUT_TASK_TOKEN=token, **variables) == code
    (accepted,) = sfn_strict.accepted(token)
    calls = len(sfn_strict.calls)
    assert watch(watched, sfn_strict, table, code) == []
    assert len(sfn_strict.calls) == calls
    item = watched.aws.client("dynamodb").get_item(TableName=table, Key={"task": {"S": TASK}})["Item"]
    assert set(item) == {"task", "reported", "expires"}
    assert accepted[0] == ("SendTaskSuccess" if code == 0 else "SendTaskFailure")


def test_task_works_without_its_table(watched: WatchedAws, sfn_strict: StrictStepFunctions) -> None:
    """A table that is not there, or an endpoint that does not answer, costs the row and not the task."""
    for answer in (KNOWN, (500, b"")):
        token = sfn_strict.issue()
        with metadata_endpoint(answer) as metadata:
            variables = {"STEPOUT_TOKEN_TABLE": "no-such-table", "ECS_CONTAINER_METADATA_URI_V4": metadata}
            assert run(SUCCEEDING, watched, sfn_strict, STEPOUT_TASK_TOKEN=token, **variables) == 0
        assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_token_of_the_event_is_used_where_no_row_was_written(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, table: str
) -> None:
    """A task that never started has no row; the event may still carry its token."""
    token = sfn_strict.issue()
    tables = watched.aws.client("dynamodb")
    watcher = Watcher(WatchSettings(table=table), states=sfn_strict.client(), tables=tables)
    assert watcher.handle(stopped_event(token, None, stop="TaskFailedToStart")) == ["failed"]


def test_row_is_written_once_a_day_and_never_after_the_report(watched: WatchedAws, table: str) -> None:
    """A late heartbeat cannot bring the token back."""
    clock, client = Clock(), watched.aws.client("dynamodb")
    rows = TokenTable(table, client, clock=clock)
    keeper = TokenKeeper(rows, "AQC", lambda: TASK, clock=clock)
    keeper.heartbeat()
    assert rows.find(TASK) == TokenRow("AQC")
    first = client.get_item(TableName=table, Key={"task": {"S": TASK}})["Item"]["expires"]["N"]
    assert int(first) == HALTED + 7 * 86_400
    clock.sleep(3_600)
    keeper.heartbeat()
    assert client.get_item(TableName=table, Key={"task": {"S": TASK}})["Item"]["expires"]["N"] == first
    clock.sleep(86_400)
    keeper.heartbeat()
    assert client.get_item(TableName=table, Key={"task": {"S": TASK}})["Item"]["expires"]["N"] > first
    keeper.failure("Boom", "{}")
    clock.sleep(2 * 86_400)
    keeper.heartbeat()
    assert rows.find(TASK) == TokenRow(None, reported=True)


def test_row_that_cannot_be_read_is_raised_where_only_it_has_the_token(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """Lambda tries again; an event that carries its token needs no row, and whether one reported the token says."""
    settings, tables = WatchSettings(table="no-such-table", grace=0), watched.aws.client("dynamodb")
    with pytest.raises(TaskError, match="GetItem on TokenTable"):
        Watcher(settings, tables=tables).handle(stopped_event(None, 137))
    token = sfn_strict.issue()
    assert Watcher(settings, states=sfn_strict.client(), tables=tables).handle(stopped_event(token, 137)) == ["failed"]
    assert sfn_strict.failure(token)[0] == "Stepout.ContainerDied"
    assert "the event's own token is used" in caplog.text


class ReadOnly(BaseHTTPRequestHandler):
    """A table without rows, which nobody may write."""

    def do_POST(self) -> None:
        """Answer GetItem, refuse the rest."""
        self.rfile.read(int(self.headers["Content-Length"]))
        reads = self.headers["X-Amz-Target"].endswith(".GetItem")
        denied = {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}
        body = json.dumps({} if reads else denied).encode()
        self.send_response(200 if reads else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""


def test_row_that_cannot_be_written_takes_no_report_back(
    sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """The state has failed: an error now would have Lambda try again what is done, and a second token wait."""
    tokens = [sfn_strict.issue(), sfn_strict.issue()]
    with serving(ReadOnly) as endpoint:
        tables = boto3.client("dynamodb", endpoint_url=endpoint, **KEYS)
        watcher = Watcher(WatchSettings(table="tokens", grace=0), states=sfn_strict.client(), tables=tables)
        assert watcher.handle(two_jobs(*tokens)) == ["failed", "failed"]
    assert "UpdateItem on TokenTable('tokens')" in caplog.text


def test_row_of_a_task_with_two_tokens_speaks_for_neither(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, table: str
) -> None:
    """A row is a task's, and one container's report is not the other's."""
    reported, silent = sfn_strict.issue(), sfn_strict.issue()
    sfn_strict.client().send_task_success(taskToken=reported, output="{}")
    tables = watched.aws.client("dynamodb")
    TokenTable(table, tables).reported(TASK)
    watcher = Watcher(WatchSettings(table=table, grace=0), states=sfn_strict.client(), tables=tables)
    assert watcher.handle(two_jobs(reported, silent)) == ["closed", "failed"]
    assert sfn_strict.failure(silent)[1]["container"] == "b"


def two_jobs(*tokens: str) -> dict[str, Any]:
    """Return the event of a task with a container for each token."""
    event = stopped_event(None, 137)
    event["detail"]["containers"] = [{"name": name, "exitCode": 137} for name in "ab"]
    event["detail"]["overrides"]["containerOverrides"] = [
        {"name": name, "environment": [{"name": "TASK_TOKEN", "value": token}]}
        for name, token in zip("ab", tokens, strict=True)
    ]
    return event


def test_row_says_which_container_was_to_report(
    watched: WatchedAws, sfn_strict: StrictStepFunctions, table: str
) -> None:
    """A sidecar that ECS stopped with the task says nothing of how the job ended."""
    token = sfn_strict.issue()
    with metadata_endpoint(KNOWN) as metadata:
        variables = {"STEPOUT_TOKEN_TABLE": table, "ECS_CONTAINER_METADATA_URI_V4": metadata}
        run(DYING, watched, sfn_strict, STEPOUT_TASK_TOKEN=token, **variables)
    event = stopped_event(None, 137)
    event["detail"]["containers"] = [
        {"name": "router", "exitCode": 143},
        {"name": "job", "exitCode": 137, "reason": "OutOfMemoryError: Container killed"},
    ]
    event["detail"]["overrides"] = {}
    tables = watched.aws.client("dynamodb")
    watcher = Watcher(WatchSettings(table=table, grace=0), states=sfn_strict.client(), tables=tables)
    assert watcher.handle(event) == ["failed"]
    error, cause = sfn_strict.failure(token)
    assert (error, cause["container"]) == ("Stepout.OutOfMemory", "job")


def test_targets_gain_a_keeper_only_inside_ecs(caplog: pytest.LogCaptureFixture) -> None:
    """Without a token or outside ECS there is no row to keep; the token is in no repr."""
    inside = {"STEPOUT_TOKEN_TABLE": "tokens", "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:1/v4"}
    _, keeper = parse_targets("sfn:", TargetContext(token="AQC", environ=inside))
    assert repr(keeper) == "TokenKeeper(TokenTable('tokens'))"
    assert len(parse_targets("sfn:", TargetContext(token="AQC", environ={"STEPOUT_TOKEN_TABLE": "tokens"}))) == 1
    assert "only an ECS task" in caplog.text
    assert len(parse_targets("stdout:", TargetContext(environ=inside))) == 1


@pytest.mark.parametrize("answer", [(404, b""), (200, b"no JSON"), (200, b"{}"), (200, b"[]")])
def test_metadata_without_an_arn_is_an_error(answer: tuple[int, bytes]) -> None:
    """What does not say which task this is, is no answer."""
    with metadata_endpoint(answer) as metadata, pytest.raises(TaskError, match="did not say which task"):
        own_task_arn({"ECS_CONTAINER_METADATA_URI_V4": metadata})
