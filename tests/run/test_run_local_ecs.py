"""``stepout run`` as the entrypoint of a container of the local ECS, behind real state machines."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import callback_state, register_job, start_execution, unique, wait_execution, wait_until

import stepout

if TYPE_CHECKING:
    from stepout.local import LocalAws

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")

SLEEPS = 'trap "" TERM; sleep 600 & echo $! > "$0/inner"; echo $$ > "$0/pids"; while :; do sleep 0.05; done'


def container(*words: str, **more: Any) -> dict[str, Any]:
    """A container whose entrypoint is ``stepout run``."""
    return {"entryPoint": [sys.executable, "-m", "stepout", "run"], "command": list(words), **more}


def _started(aws: LocalAws, folder: Path, **more: Any) -> tuple[str, str, int, list[int]]:
    """Start a container that ignores SIGTERM: its execution, its task, its process, and those of its command."""
    family = register_job(aws, container("--", "sh", "-c", SLEEPS, str(folder), **more))
    execution = start_execution(aws, {"Mask": callback_state(family)}, start_at="Mask")
    wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text().strip(), what="the command")
    inside = [int((folder / name).read_text()) for name in ("inner", "pids")]
    task = next(task for task in aws.tasks if task.definition.rpartition("/")[2].startswith(f"{family}:"))
    pid = task.containers[0].pid
    assert pid is not None
    return execution, task.arn, pid, inside


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_files_and_the_result_reach_the_state(local_aws: LocalAws, tmp_path: Path) -> None:
    """In the bucket that the task definition names; the token is not in what the container printed."""
    bucket = unique("run")
    local_aws.client("s3").create_bucket(Bucket=bucket)
    script = 'cd "$0" && echo 1,2 > table.csv && echo \'{"rows": 1}\' > "$STEPOUT_RESULT" && env'
    variables = [{"name": "STEPOUT_BUCKET", "value": bucket}, {"name": "STEPOUT_PREFIX", "value": "runs"}]
    job = container("--output", f"table={tmp_path}/table.csv", "--", "sh", "-c", script, str(tmp_path))
    family = register_job(local_aws, {**job, "environment": variables})
    ended = wait_execution(local_aws, start_execution(local_aws, {"Mask": callback_state(family)}, start_at="Mask"))
    output = json.loads(ended["output"])
    assert output["result"] == {"rows": 1}
    found = stepout.resolve_output(output, allow=[f"s3://{bucket}/runs/"], client=local_aws.client("s3"))
    assert found["table"].read_bytes() == b"1,2\n"
    task = next(task for task in local_aws.tasks if task.definition.rpartition("/")[2].startswith(f"{family}:"))
    printed = "\n".join(task.containers[0].output)
    assert "STEPOUT_RESULT=" in printed
    assert "TOKEN" not in printed


def test_stop_task_is_reported_before_ecs_kills(local_aws: LocalAws, tmp_path: Path) -> None:
    """By a container whose command will not end, within its stopTimeout; nothing of it is left."""
    variables = [{"name": "STEPOUT_STOP_TIMEOUT", "value": "4"}]
    execution, task, _, inside = _started(local_aws, tmp_path, stopTimeout=4, environment=variables)
    local_aws.client("ecs").stop_task(cluster="default", task=task)
    ended = wait_execution(local_aws, execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "Stepout.Interrupted")
    assert "was killed after 1.5 s" in json.loads(ended["cause"])["message"]
    record = wait_until(
        lambda: next((each for each in local_aws.tasks if each.arn == task and each.status == "STOPPED"), None),
        what="the end of the task",
    )
    assert record is not None
    assert record.exit_code == 143
    assert not any(_runs(pid) for pid in inside)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc shows whose processes are whose")
def test_a_container_that_is_killed_takes_its_command_with_it(local_aws: LocalAws, tmp_path: Path) -> None:
    """SIGKILL for stepout itself, for want of memory say: as in a container, nothing goes on unseen."""
    execution, task, pid, inside = _started(local_aws, tmp_path)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: next((each for each in local_aws.tasks if each.arn == task and each.status == "STOPPED"), None),
        what="the end of the task",
    )
    wait_until(lambda: not any(_runs(pid) for pid in inside), what="the end of its command")
    local_aws.client("stepfunctions").stop_execution(executionArn=execution)


def test_pull_mode_needs_no_token(local_aws: LocalAws) -> None:
    """The ``.sync`` state ends with the container, and its outcome is where ``STEPOUT_OUTPUT`` says."""
    bucket = unique("run")
    local_aws.client("s3").create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/runs/one/output.json"
    script = 'test -z "$STEPOUT_OUTPUT" && echo \'{"rows": 7}\' > "$STEPOUT_RESULT"'
    variables = [{"name": "STEPOUT_BUCKET", "value": bucket}, {"name": "STEPOUT_OUTPUT", "value": url}]
    family = register_job(local_aws, container("--", "sh", "-c", script, environment=variables))
    state = callback_state(family, Resource="arn:aws:states:::ecs:runTask.sync")
    names = {"STEPOUT_EXECUTION", "STEPOUT_STATE", "STEPOUT_ATTEMPT"}
    override = state["Parameters"]["Overrides"]["ContainerOverrides"][0]
    override["Environment"] = [each for each in override["Environment"] if each["Name"] in names]
    execution = start_execution(local_aws, {"Mask": state}, start_at="Mask")
    assert wait_execution(local_aws, execution)["status"] == "SUCCEEDED"
    output = stepout.resolve_output(url, allow=[f"s3://{bucket}/runs/"], client=local_aws.client("s3"))
    assert output.result == {"rows": 7}
