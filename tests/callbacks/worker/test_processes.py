"""``stepout worker`` as a process: behind a state machine, stopped, killed, and as an activity's worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import start_execution, unique, wait_execution, wait_until
from support.workers import SHELL, Place, WorkerProcess, job, running

import stepout
from stepout.callbacks.worker.activity import ActivityWorker
from stepout.cli import main
from stepout.local.aws import clean_environment
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.local import LocalAws

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

BODY = """
task.result["scene"] = task.input["scene"]
if task.input["scene"] == "fog":
    raise stepout.PermanentError("nothing to see")
"""

WAITING = """
(folder / f"begun-{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.02)
"""


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts workers as processes; none outlives its test, nor does a task of theirs."""
    workers: list[WorkerProcess] = []

    def start(environ: dict[str, str], *arguments: str) -> WorkerProcess:
        workers.append(WorkerProcess(environ, *arguments))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def states(task: dict[str, Any]) -> dict[str, Any]:
    """A state machine's states: the task, what follows it, and what catches its failure."""
    catch = [{"ErrorEquals": ["Stepout.Permanent"], "ResultPath": "$.problem", "Next": "Caught"}]
    return {
        "Work": {"Type": "Task", **task, "TimeoutSeconds": 100, "Catch": catch, "Next": "Then"},
        "Then": {"Type": "Pass", "Parameters": {"scene.$": "$.result.scene"}, "End": True},
        "Caught": {"Type": "Pass", "Parameters": {"caught.$": "$.problem.Error"}, "End": True},
    }


def outcomes(aws: LocalAws, task: dict[str, Any]) -> list[Any]:
    """What becomes of one execution that succeeds and one that fails."""
    begun = [
        start_execution(aws, states(task), start_at="Work", document={"scene": scene}) for scene in ("alps", "fog")
    ]
    return [json.loads(wait_execution(aws, execution)["output"]) for execution in begun]


def test_a_state_machine_s_tasks_go_through_a_queue(
    local_aws: LocalAws, place: Place, tmp_path: Path, started: Any
) -> None:
    """The message is sent, a worker runs a job that opens its task, and the next states follow; no input is printed."""
    body = {
        "STEPOUT_TASK_TOKEN.$": "$$.Task.Token",
        "STEPOUT_EXECUTION.$": "$$.Execution.Id",
        "STEPOUT_STATE.$": "$$.State.Name",
        "STEPOUT_ATTEMPT.$": "$$.State.RetryCount",
        "STEPOUT_INPUT.$": "$",
    }
    task = {
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": place.url, "MessageBody": body},
    }
    environ = {**clean_environment(os.environ), **local_aws.environ}
    worker = started(environ, "--queue", place.url, "--poll", "1", "--direct", "--", *job(tmp_path, BODY))
    assert outcomes(local_aws, task) == [{"scene": "alps"}, {"caught": "Stepout.Permanent"}]
    wait_until(lambda: place.left() == (0, 0), what="an empty queue")
    worker.process.send_signal(signal.SIGTERM)
    code, printed = worker.finish()
    assert code == 143
    assert "2 reported, 0 failed here, 0 given back" in printed
    assert "Task.Token" not in printed
    assert "alps" not in printed


def test_an_activity_s_tasks(local_aws: LocalAws, tmp_path: Path, started: Any) -> None:
    """The same through an activity, whose input is the job's; --once ends the worker after one task."""
    arn = local_aws.client("stepfunctions").create_activity(name=unique("mask"))["activityArn"]
    environ = {**clean_environment(os.environ), **local_aws.environ}
    workers = [started(environ, "--activity", arn, "--once", "--direct", "--", *job(tmp_path, BODY)) for _ in "12"]
    assert outcomes(local_aws, {"Resource": arn}) == [{"scene": "alps"}, {"caught": "Stepout.Permanent"}]
    assert [worker.finish()[0] for worker in workers] == [0, 0]


def test_an_activity_s_unfinished_task_is_interrupted(local_aws: LocalAws, tmp_path: Path) -> None:
    """It cannot be given back, so the state hears that its worker was stopped, and may retry."""
    arn = local_aws.client("stepfunctions").create_activity(name=unique("mask"))["activityArn"]
    client = local_aws.client("stepfunctions")
    environ = {**clean_environment(os.environ), **local_aws.environ}
    worker = ActivityWorker(arn, SHELL, client=client, sfn_client=client, environ=environ, limit=1, stop_timeout=8.0)
    with running(worker) as tallies:
        work = f"touch {tmp_path / 'begun'}; sleep 60"
        execution = start_execution(local_aws, states({"Resource": arn}), start_at="Work", document=work)
        wait_until((tmp_path / "begun").exists, what="the job")
    ended = wait_execution(local_aws, execution)
    assert (ended["status"], ended.get("error")) == ("FAILED", "Stepout.Interrupted")
    assert tallies[0].failed_here == 1


def test_an_activity_s_task_that_comes_after_the_stop(local_aws: LocalAws) -> None:
    """The poll under way was handed it, and nobody else will be: the state hears at once."""
    client = local_aws.client("stepfunctions")
    arn = client.create_activity(name=unique("mask"))["activityArn"]
    environ = {**clean_environment(os.environ), **local_aws.environ}
    worker = ActivityWorker(arn, SHELL, client=client, sfn_client=client, environ=environ)
    client.meta.events.register("after-call.sfn.GetActivityTask", lambda **_: worker.stop())
    execution = start_execution(local_aws, states({"Resource": arn}), start_at="Work", document="exit 0")
    worker.run()
    assert wait_execution(local_aws, execution).get("error") == "Stepout.Interrupted"


def test_an_activity_that_is_not_there(local_aws: LocalAws) -> None:
    """It is told at once, and so is an ARN of something else."""
    arn = f"arn:aws:states:us-east-1:000000000000:activity:{unique('no')}"
    with pytest.raises(ConfigurationError, match="Does it exist"):
        ActivityWorker(arn, SHELL, client=local_aws.client("stepfunctions")).run()
    with pytest.raises(ConfigurationError, match="by its ARN"):
        ActivityWorker("mask", SHELL)


def test_a_stopped_worker_leaves_nothing_undecided(place: Place, tmp_path: Path, started: Any) -> None:
    """SIGTERM: a task that reports it is settled and deleted, one that says nothing is visible to others at once."""
    talks, silent = place.send("talks"), place.send("silent")
    body = f"""
import pathlib, os, sys, time
folder = pathlib.Path({str(tmp_path)!r})
def wait():
    (folder / f"begun-{{os.getpid()}}").touch()
    time.sleep(60)
if "silent" in os.environ["STEPOUT_INPUT"]:
    wait()
import stepout
with stepout.open_task():
    wait()
"""
    script = tmp_path / "either.py"
    script.write_text(body)
    options = ["--queue", place.url, "--concurrency", "2", "--poll", "1", "--visibility", "60", "--stop-timeout", "9"]
    worker = started(place.environ, *options, "--direct", "--", sys.executable, str(script))
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, what="both jobs")
    worker.process.send_signal(signal.SIGTERM)
    code, printed = worker.finish()
    assert code == 143
    assert place.strict.failure(talks)[0] == "Stepout.Interrupted"
    assert place.strict.accepted(silent) == []
    assert place.left() == (1, 0)
    assert "1 reported, 0 failed here, 1 given back, 0 kept" in printed
    assert talks[:24] not in printed
    assert silent[:24] not in printed


def test_a_second_signal_hurries(place: Place, tmp_path: Path, started: Any) -> None:
    """A task that ignores SIGTERM is killed at once, and its message is visible again."""
    token = place.send(f'trap "" TERM; touch {tmp_path / "begun"}; while :; do sleep 0.1; done')
    worker = started(
        place.environ, "--queue", place.url, "--poll", "1", "--stop-timeout", "60", "--direct", "--", *SHELL
    )
    wait_until((tmp_path / "begun").exists, what="the job")
    worker.process.send_signal(signal.SIGINT)
    worker.wait_for("1 are asked to stop")
    worker.process.send_signal(signal.SIGINT)
    code, printed = worker.finish()
    assert code == 130
    assert "was killed by this worker" in printed
    assert (place.left(), place.strict.accepted(token)) == ((1, 0), [])


def test_a_killed_worker_s_task_is_done_by_another(place: Place, tmp_path: Path, started: Any) -> None:
    """SIGKILL to everything, as when a host is lost: the message comes back by itself, and one outcome is reported."""
    token = place.send()
    command = job(tmp_path, WAITING)
    options = ["--queue", place.url, "--poll", "1", "--visibility", "3", "--direct", "--"]
    first = started(place.environ, *options, *command)
    (begun,) = wait_until(lambda: list(tmp_path.glob("begun-*")), what="the job")
    first.process.kill()
    os.kill(int(begun.name.partition("-")[2]), signal.SIGKILL)
    (tmp_path / "go").touch()
    second = started(place.environ, "--once", *options, *command)
    assert second.finish()[0] == 0
    assert place.strict.success(token)
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert place.left() == (0, 0)


def test_any_command_is_a_task_by_being_wrapped(place: Place, started: Any) -> None:
    """Through ``stepout run``: outputs of a folder of its own, the result, the exit code; the command has no token."""
    bucket = unique("worker")
    place.aws.client("s3").create_bucket(Bucket=bucket)
    work = """
env | grep -c TOKEN > seen
echo '{"rows": 3}' > "$STEPOUT_RESULT"
exec sh -c "$(echo "$STEPOUT_INPUT" | tr -d '"')"
"""
    done, failed, killed = (place.send(end) for end in ("exit 0", "echo no scene >&2; exit 5", "kill -9 $PPID"))
    environ = {**place.environ, "STEPOUT_BUCKET": bucket}
    options = ["--queue", place.url, "--poll", "1", "--idle-exit", "1", "--concurrency", "3", "--fresh-folder"]
    worker = started(environ, *options, "--output", "seen=seen", "--permanent", "5", "--", "sh", "-c", work)
    code, printed = worker.finish()
    assert code == 0
    document = place.strict.success(done)
    assert document["result"] == {"rows": 3}
    output = stepout.resolve_output(document, allow=[f"s3://{bucket}/"], client=place.aws.client("s3"))
    assert output["seen"].read_text() == "0\n"
    error, cause = place.strict.failure(failed)
    assert (error, cause["exitCode"]) == ("Stepout.Permanent", 5)
    assert "no scene" in cause["stderr"]
    assert place.strict.failure(killed)[0] == "Stepout.ContainerDied"  # ``stepout run`` itself was killed
    assert place.left() == (0, 0)
    assert "] no scene" in printed


def test_nothing_outlives_the_process_of_a_task(place: Place, tmp_path: Path) -> None:
    """What it started in its session is ended with it, even in another process group."""
    script = tmp_path / "leaves.py"
    script.write_text(f"""
import os, pathlib, signal, subprocess
left = subprocess.Popen(["sleep", "300"], process_group=0)
pathlib.Path({str(tmp_path / "left")!r}).write_text(str(left.pid))
os.kill(os.getpid(), signal.SIGKILL)
""")
    token = place.send()
    place.worker([sys.executable, str(script)]).run()
    assert place.strict.failure(token)[0] == "Stepout.ContainerDied"
    stat = Path(f"/proc/{(tmp_path / 'left').read_text()}/stat")
    wait_until(lambda: not stat.exists() or ") Z " in stat.read_text(), what="the end of what was left")


def test_debug_logs_show_no_token(place: Place, tmp_path: Path) -> None:
    """Botocore writes whole messages at that level; none of it gives a token away, in the worker or in its task."""
    token = place.send()
    script = f"""
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from stepout.callbacks import SqsWorker
SqsWorker({place.url!r}, {job(tmp_path, "pass")!r}, limit=1).run()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], env=place.environ, capture_output=True, text=True, timeout=300, check=True
    )
    assert place.strict.success(token)
    assert "ReceiveMessage" in ran.stderr
    assert token[:24] not in ran.stdout + ran.stderr


def test_the_first_process_of_a_container_collects_orphans() -> None:
    """What a task left behind, and nobody waits for, does not stay a zombie; children of others are left to them."""
    if sys.platform != "linux":
        pytest.skip("waitid")
    script = """
    import os, time
    from pathlib import Path
    from stepout.callbacks.process.orphans import reap_orphans
    def zombie(pid):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], os.environ, setpgroup=0)
    while not zombie(pid):
        time.sleep(0.01)
    assert reap_orphans(frozenset([pid])) == 0
    assert reap_orphans(frozenset()) == 1
    assert not Path(f"/proc/{pid}").exists()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=300)


def test_what_the_command_line_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors come before anything is taken."""
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
    assert main(["worker", "--help"]) == 0
    assert "dead-letter queue" in capsys.readouterr().out
    for words, why in (
        (["--", "true"], "required"),
        (["--queue", url, "--direct", "--output", "a=b", "--", "true"], "--direct"),
        (["--queue", url, "--concurrency", "2", "--output", "a=b", "--", "true"], "--fresh-folder"),
        (["--queue", url, "--stop-timeout", "soon", "--", "true"], "--stop-timeout"),
        (["--queue", "jobs", "--direct", "--", "true"], "queue"),
    ):
        assert main(["worker", *words]) == 2
        assert why in capsys.readouterr().err
