"""The local AWS as a whole: what it gives, and that nothing of it is left."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import ROLE, register_job, run_task, wait_until

from stepout.local import LocalAws
from stepout.local.aws import clean_environment
from stepout.local.marked_processes import marked
from stepout.schemas.errors import ConfigurationError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEPER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""

OWNER = """
import sys, time
from stepout.local import LocalAws
with LocalAws() as aws:
    print(aws._mark, aws._folder, flush=True)
    ecs = aws.client("ecs")
    ecs.register_task_definition(family="f", containerDefinitions=[
        {"name": "job", "image": "x", "command": ["python", "-c", sys.argv[1]]}])
    ecs.run_task(cluster="default", taskDefinition="f")
    while not any("ready" in c.output for t in aws.tasks for c in t.containers):
        time.sleep(0.02)
    print("ready", flush=True)
    time.sleep(600)
"""


class Started:
    """What to look for after the end."""

    aws: LocalAws
    folder: Path | None


def make_everything(aws: LocalAws) -> None:
    """Have a Lambda worker, a container, and a child of it that left its process group."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("handler.py", "def handler(event, context):\n    return event\n")
    client = aws.client("lambda")
    client.create_function(
        FunctionName="echo",
        Runtime="python3.11",
        Role=ROLE,
        Handler="handler.handler",
        Code={"ZipFile": buffer.getvalue()},
    )
    wait_until(lambda: client.get_function(FunctionName="echo")["Configuration"]["State"] == "Active", what="echo")
    assert client.invoke(FunctionName="echo", Payload=b'{"a": 1}')["Payload"].read() == b'{"a": 1}'
    run_task(aws, register_job(aws, {"command": ["python", "-c", SLEEPER]}))
    wait_until(lambda: any("ready" in c.output for task in aws.tasks for c in task.containers), what="the container")


def test_client_and_environ_reach_this_aws_and_no_other(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a profile nor a service's own endpoint nor a proxy leads away from the local AWS."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    local_aws.client("s3").create_bucket(Bucket="reach-me")
    script = "import boto3; print('reach-me' in [b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']])"
    environ = {**clean_environment(os.environ), **local_aws.environ}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_server_listens_on_loopback_alone() -> None:
    """No interface but 127.0.0.1 answers."""
    with LocalAws() as aws:
        port = int(aws.endpoint.rpartition(":")[2])
        rows = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        ]
        listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
    assert listening == {"0100007F"}


def fail_in_the_middle(started: Started) -> None:
    """Raise in a block in which everything runs."""
    with LocalAws(stop_grace=0.5) as aws:
        make_everything(aws)
        started.aws, started.folder = aws, aws._folder
        assert len(aws.processes) >= 4
        raise ZeroDivisionError


def test_nothing_is_left_after_an_exception() -> None:
    """An exception in the block leaves no process (Lambda worker, container, daemon) and no folder."""
    started = Started()
    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle(started)
    assert started.aws.processes == []
    assert started.folder is not None
    assert not started.folder.exists()
    assert not started.aws.alive
    with pytest.raises(ConfigurationError, match="is not running"):
        _ = started.aws.endpoint


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_owner_is_killed(signum: signal.Signals) -> None:
    """Processes and folder go also when the program that held the block is killed."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, SLEEPER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    mark, folder = owner.stdout.readline().split()
    assert owner.stdout.readline() == "ready\n"
    owner.send_signal(signum)
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not list(marked(mark)) and not Path(folder).exists(), what="the janitor")


def test_two_run_side_by_side(local_aws: LocalAws) -> None:
    """Each local AWS has its own port and its own state."""
    with LocalAws() as other:
        assert other.endpoint != local_aws.endpoint
        other.client("s3").create_bucket(Bucket="only-in-the-other")
        names = [bucket["Name"] for bucket in local_aws.client("s3").list_buckets()["Buckets"]]
    assert "only-in-the-other" not in names


def test_port_that_is_taken_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taken port is an error that says so at once, before a server is started, and leaves nothing behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(StoreUnavailableError, match=f"did not start: port {port} is in use"),
            LocalAws(port=port),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_port_of_another_local_aws_is_not_taken_for_our_own(local_aws: LocalAws) -> None:
    """A second local AWS on the port of the first fails; it does not join the other's server."""
    port = int(local_aws.endpoint.rpartition(":")[2])
    with pytest.raises(StoreUnavailableError, match=f"port {port} is in use"), LocalAws(port=port):
        pass
    assert local_aws.alive


@contextmanager
def _at_a_port_of_ours(**options: Any) -> Iterator[tuple[LocalAws, int]]:
    """Start one at a port that was free a moment ago; if somebody else has taken it, at another."""
    with ExitStack() as stack:
        for left in reversed(range(5)):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            try:
                aws = stack.enter_context(LocalAws(port=port, **options))
                break
            except StoreUnavailableError:
                if not left:
                    raise
        yield aws, port


def test_given_port_and_region_are_used() -> None:
    """The port and the region can be chosen."""
    with _at_a_port_of_ours(region="eu-west-1") as (aws, port):
        assert aws.endpoint == f"http://127.0.0.1:{port}"
        arn = run_task(aws, register_job(aws, {"command": ["python", "-c", "print('hi')"]}))
        assert ":eu-west-1:" in arn
        wait_until(lambda: [task.exit_code for task in aws.tasks] == [0], what="the task")


def test_missing_ministack_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error names it."""
    monkeypatch.setitem(sys.modules, "ministack", None)
    with pytest.raises(ConfigurationError, match='install stepout with its extra "local"'), LocalAws():
        pass


def test_output_goes_where_it_is_asked_to() -> None:
    """``on_output`` gets each line of a container."""
    lines: list[tuple[str, str]] = []
    with LocalAws(on_output=lambda name, line: lines.append((name, line))) as aws:
        arn = run_task(aws, register_job(aws, {"command": ["python", "-c", "print('one'); print('two')"]}))
        wait_until(lambda: [t for t in aws.tasks if t.status == "STOPPED"], what="the task")
    name = f"job {arn.rsplit('/', 1)[-1][:8]}"
    assert lines == [(name, "one"), (name, "two")]


def test_output_is_kept_whole_however_slowly_it_is_looked_at() -> None:
    """A command that printed faster than ``on_output`` takes it, or one for which that fails, loses no line."""
    lines: list[str] = []

    def slowly(_: str, line: str) -> None:
        time.sleep(0.05)
        lines.append(line)
        if line == "3":
            raise ValueError(line)

    with LocalAws(on_output=slowly) as aws:
        run_task(aws, register_job(aws, {"command": ["python", "-c", "for i in range(60): print(i)"]}))
        wait_until(lambda: [t for t in aws.tasks if t.status == "STOPPED"], what="the task")
        assert list(aws.tasks[0].containers[0].output) == [str(number) for number in range(60)]
    assert lines == [str(number) for number in range(60)]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_a_daemon_that_hid_itself_does_not_keep_the_block_open() -> None:
    """It left its group and its environment, so nobody can tell whose it is; it still holds the container's output."""
    hidden = "import subprocess, sys\nsleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
    hidden += "print(subprocess.Popen(sleep, env={}, start_new_session=True).pid)"
    with LocalAws() as aws:
        run_task(aws, register_job(aws, {"command": ["python", "-c", hidden]}))
        wait_until(lambda: [t for t in aws.tasks if t.status == "STOPPED"], what="the task")
        (pid,) = aws.tasks[0].containers[0].output
    os.kill(int(pid), signal.SIGKILL)
    assert aws.processes == []


@pytest.mark.parametrize("port", [0, 65_536, 99_999_999])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigurationError, match="from 1 to 65535"):
        LocalAws(port=port)
