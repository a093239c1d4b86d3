"""The agent that plays ECS: real processes behind a real state machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import (
    callback_state,
    register_job,
    run_task,
    start_execution,
    wait_execution,
    wait_until,
)

from stepout.local.task import container_specs

if TYPE_CHECKING:
    from stepout.local import LocalAws
    from stepout.local.task import LocalTask

REPORT = """
import boto3, json, os
print("token is", os.environ["STEPOUT_TASK_TOKEN"])
document = {"state": os.environ["STEPOUT_STATE"], "greeting": os.environ["GREETING"]}
boto3.client("stepfunctions").send_task_success(taskToken=os.environ["STEPOUT_TASK_TOKEN"], output=json.dumps(document))
"""

OBEDIENT = """
import signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
print("ready", flush=True)
while True:
    time.sleep(600)
"""


def find(aws: LocalAws, arn: str) -> LocalTask | None:
    """Return the agent's record of a task, once there is one."""
    return next((task for task in aws.tasks if task.arn == arn), None)


def wait_line(aws: LocalAws, arn: str, line: str) -> LocalTask:
    """Wait until the task has printed ``line``."""

    def printed() -> LocalTask | None:
        task = find(aws, arn)
        return task if task and any(line in container.output for container in task.containers) else None

    task = wait_until(printed, what=f"{line!r} from {arn}")
    assert task is not None
    return task


def wait_stopped(aws: LocalAws, arn: str) -> LocalTask:
    """Wait until the agent has closed the task's record."""

    def stopped() -> LocalTask | None:
        task = find(aws, arn)
        return task if task and task.status == "STOPPED" else None

    task = wait_until(stopped, what=f"the end of {arn}")
    assert task is not None
    return task


def task_of(aws: LocalAws, family: str) -> LocalTask:
    """Return the one task of a family, once the agent has closed its record."""

    def stopped() -> LocalTask | None:
        return next((t for t in aws.tasks if f"/{family}:" in t.definition and t.status == "STOPPED"), None)

    task = wait_until(stopped, what=f"the end of the task of {family}")
    assert task is not None
    return task


def test_command_behind_a_state_reports_and_the_execution_goes_on(local_aws: LocalAws) -> None:
    """A state's container command runs with the overridden environment, and its report ends the state."""
    family = register_job(
        local_aws, {"command": ["python", "-c", REPORT], "environment": [{"name": "GREETING", "value": "hello"}]}
    )
    execution = start_execution(local_aws, {"Work": callback_state(family)}, start_at="Work")
    ended = wait_execution(local_aws, execution)
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"]) == {"state": "Work", "greeting": "hello"}
    task = task_of(local_aws, family)
    assert (task.exit_code, task.stop_code, task.reported) == (0, "EssentialContainerExited", True)


def test_token_is_in_no_output_and_no_repr(local_aws: LocalAws, caplog: pytest.LogCaptureFixture) -> None:
    """A token that a container prints is taken out of what the agent keeps and logs."""
    caplog.set_level("DEBUG", logger="stepout.local")
    environment = [{"name": "STEPOUT_TASK_TOKEN", "value": "secret-token-value"}, {"name": "EMPTY_TOKEN", "value": ""}]
    script = "import os; print('it is', os.environ['STEPOUT_TASK_TOKEN'])"
    family = register_job(local_aws, {"command": ["python", "-c", script], "environment": environment})
    task = wait_stopped(local_aws, run_task(local_aws, family))
    assert list(task.containers[0].output) == ["it is [task token]"]
    assert "secret-token-value" not in caplog.text + repr(local_aws.tasks)


def test_stop_task_is_sigterm(local_aws: LocalAws) -> None:
    """StopTask reaches the command as SIGTERM, and the exit code that it then chose is recorded."""
    family = register_job(local_aws, {"command": ["python", "-c", OBEDIENT], "stopTimeout": 60})
    arn = run_task(local_aws, family)
    wait_line(local_aws, arn, "ready")
    local_aws.client("ecs").stop_task(cluster="default", task=arn, reason="enough")
    task = wait_stopped(local_aws, arn)
    assert (task.exit_code, task.stop_code) == (7, "UserInitiated")
    assert "stopping" in task.containers[0].output


def test_deaf_command_is_killed_after_its_stop_timeout(local_aws: LocalAws) -> None:
    """A command that ignores SIGTERM hears it, and is killed when its stop timeout is over."""
    family = register_job(local_aws, {"command": ["python", "-c", DEAF], "stopTimeout": 2})
    arn = run_task(local_aws, family)
    wait_line(local_aws, arn, "ready")
    local_aws.client("ecs").stop_task(cluster="default", task=arn)
    task = wait_stopped(local_aws, arn)
    assert task.exit_code == 128 + 9
    assert "heard" in task.containers[0].output


def test_command_that_dies_silently_leaves_its_state_waiting_and_is_logged(
    local_aws: LocalAws, caplog: pytest.LogCaptureFixture
) -> None:
    """A container that ends without a word is recorded and logged; its state waits on, as on AWS."""
    caplog.set_level("ERROR", logger="stepout.local")
    family = register_job(local_aws, {"command": ["python", "-c", "raise SystemExit(3)"]})
    execution = start_execution(local_aws, {"Work": callback_state(family)}, start_at="Work")
    task = task_of(local_aws, family)
    assert (task.exit_code, task.reported) == (3, False)
    assert f"task {task.id[:8]} ended with exit code 3 and reported nothing" in caplog.text
    client = local_aws.client("stepfunctions")
    assert client.describe_execution(executionArn=execution)["status"] == "RUNNING"
    client.stop_execution(executionArn=execution)


def test_ecs_says_stopped_with_the_exit_code_as_reason(local_aws: LocalAws) -> None:
    """A task whose command ended is STOPPED in ECS, and its reason names the exit code."""
    family = register_job(local_aws, {"command": ["python", "-c", "raise SystemExit(3)"]})
    arn = run_task(local_aws, family)
    wait_stopped(local_aws, arn)
    described = local_aws.client("ecs").describe_tasks(cluster="default", tasks=[arn])["tasks"][0]
    assert described["lastStatus"] == "STOPPED"
    assert described["stoppedReason"] == "Essential container in task exited (exit code job: 3)"


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"command": ["no-such-program-anywhere"]}, "CannotStartContainerError: job: No such file or directory"),
        ({}, "no container of the task definition has a command (images are not run here)"),
    ],
)
def test_task_that_cannot_start_says_why(local_aws: LocalAws, container: dict[str, Any], reason: str) -> None:
    """A command that does not exist, or is not given, is TaskFailedToStart with its reason."""
    task = wait_stopped(local_aws, run_task(local_aws, register_job(local_aws, container)))
    assert (task.stop_code, task.reason, task.exit_code) == ("TaskFailedToStart", reason, None)


def test_second_container_that_cannot_start_ends_the_first(local_aws: LocalAws) -> None:
    """A task starts whole or not at all."""
    family = register_job(
        local_aws, {"command": ["python", "-c", OBEDIENT]}, {"name": "side", "command": ["no-such-program-anywhere"]}
    )
    task = wait_stopped(local_aws, run_task(local_aws, family))
    assert task.stop_code == "TaskFailedToStart"
    assert task.containers[0].exit_code is not None


LASTS = """
import os, pathlib, sys, time
brief = pathlib.Path(sys.argv[1])
while not brief.exists() or not brief.read_text():
    time.sleep(0.02)
try:
    while True:
        os.kill(int(brief.read_text()), 0)
        time.sleep(0.02)
except ProcessLookupError:
    pass
"""


def test_essential_container_takes_the_others_along(local_aws: LocalAws, tmp_path: Path) -> None:
    """When the essential container ends, its sidecar gets SIGTERM; one that is not essential may end alone."""
    brief = str(tmp_path / "pid")
    family = register_job(
        local_aws,
        {"command": ["python", "-c", LASTS, brief]},
        {"name": "side", "command": ["python", "-c", OBEDIENT], "essential": False, "stopTimeout": 20},
        {
            "name": "brief",
            "command": ["python", "-c", f"import os; open({brief!r}, 'w').write(str(os.getpid()))"],
            "essential": False,
        },
    )
    task = wait_stopped(local_aws, run_task(local_aws, family))
    codes = {container.name: container.exit_code for container in task.containers}
    assert codes["job"] == 0
    assert codes["side"] in {7, 128 + 15}  # SIGTERM may come before its handler is there
    assert codes["brief"] == 0


def test_processes_that_a_container_left_behind_end_with_it(local_aws: LocalAws) -> None:
    """A container's end is the end of its children, also of one that made itself a session of its own."""
    script = (
        "import subprocess, sys\n"
        "for new in (False, True):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=new)\n"
        "    print(child.pid, flush=True)\n"
    )
    task = wait_stopped(local_aws, run_task(local_aws, register_job(local_aws, {"command": ["python", "-c", script]})))
    children = [int(line) for line in task.containers[0].output]
    assert len(children) == 2
    wait_until(lambda: not any(running(child) for child in children), what=f"the end of {children}")


def running(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_override_replaces_command_and_variables() -> None:
    """An override replaces the command whole and the variables one by one; the entry point stays."""
    definition = {
        "containerDefinitions": [
            {
                "name": "job",
                "entryPoint": ["python"],
                "command": ["a.py", "x"],
                "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "stopTimeout": 9,
            },
            {"name": "side", "essential": False},
        ]
    }
    override = {"name": "job", "command": ["b.py"], "environment": [{"name": "B", "value": "3"}]}
    job, side = container_specs(definition, {"containerOverrides": [override]})
    assert job.command == ("python", "b.py")
    assert dict(job.environment) == {"A": "1", "B": "3"}
    assert (job.stop_timeout, job.essential) == (9.0, True)
    assert (side.command, side.stop_timeout, side.essential) == ((), 30.0, False)


def test_container_sees_no_setting_of_its_host(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container gets the local AWS's credentials, and a temporary folder that goes when it ends."""
    script = "import os; print(os.environ.get('AWS_PROFILE'), os.environ['AWS_ENDPOINT_URL'], os.environ['TMPDIR'])"
    monkeypatch.setenv("AWS_PROFILE", "production")
    task = wait_stopped(local_aws, run_task(local_aws, register_job(local_aws, {"command": ["python", "-c", script]})))
    profile, endpoint, folder = task.containers[0].output[0].split()
    assert (profile, endpoint) == ("None", local_aws.endpoint)
    assert not Path(folder).exists()
