"""``stepout local``: what it starts, what it tells, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.ministack import wait_until

from stepout.cli import command_parser, main

STEPOUT = (sys.executable, "-m", "stepout")
SLEEPER = "import time; print('#', flush=True); time.sleep(600)"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", [(), ("--", sys.executable, "-c", SLEEPER)])
def test_local_ends_on_a_signal_and_leaves_nothing(
    tmp_path: Path, signum: signal.Signals, code: int, command: tuple[str, ...]
) -> None:
    """SIGTERM and SIGINT end ``stepout local`` with its command and its folder; a second one is harmless."""
    process = subprocess.Popen(
        [*STEPOUT, "local", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "AWS_PROFILE": "production"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("#")
    assert len(processes_of(tmp_path)) >= 2
    process.send_signal(signum)
    process.send_signal(signum)
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait() == code
    process.stdout.close()
    process.stderr.close()
    assert ("export AWS_ENDPOINT_URL=http://127.0.0.1:" in out) is (not command)
    assert err == ""
    wait_until(lambda: not processes_of(tmp_path), what="the processes' end")
    assert list(tmp_path.iterdir()) == []


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose environment names the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_local_runs_a_command_and_passes_its_exit_code_on(tmp_path: Path) -> None:
    """``stepout local -- COMMAND`` runs it apart from the caller's settings, and exits with its code."""
    script = (
        "import boto3, os, sys\n"
        "boto3.client('s3').create_bucket(Bucket='mine')\n"
        "print([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']], os.environ.get('AWS_PROFILE'))\n"
        "sys.exit(int(sys.argv[1]))"
    )
    done = subprocess.run(
        [*STEPOUT, "local", "--", sys.executable, "-c", script, "7"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "AWS_PROFILE": "production"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "['mine'] None\n", "")
    assert list(tmp_path.iterdir()) == []


def test_local_tells_what_its_tasks_do() -> None:
    """A container's output and its silent death go to standard error, without the token."""
    script = (
        "import boto3, time\n"
        "ecs = boto3.client('ecs')\n"
        "job = {'name': 'job', 'image': 'x', 'command': ['python', '-c', 'print(1 + 1); raise SystemExit(3)'],\n"
        "       'environment': [{'name': 'TASK_TOKEN', 'value': 'a-token'}]}\n"
        "ecs.register_task_definition(family='f', containerDefinitions=[job])\n"
        "arn = ecs.run_task(taskDefinition='f', cluster='default')['tasks'][0]['taskArn']\n"
        "while ecs.describe_tasks(cluster='default', tasks=[arn])['tasks'][0]['lastStatus'] != 'STOPPED':\n"
        "    time.sleep(0.05)\n"
    )
    done = subprocess.run(
        [*STEPOUT, "local", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0
    assert "] 2\n" in done.stderr
    assert "exit code job: 3" in done.stderr
    assert "a-token" not in done.stderr


def test_local_says_when_its_server_dies(tmp_path: Path) -> None:
    """``stepout local`` ends with an error when the server does, and still cleans up."""
    process = subprocess.Popen(
        [*STEPOUT, "local", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["environ"]["AWS_REGION"] == "us-east-1"
    for pid in processes_of(tmp_path):
        if b"stepout.local.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.endswith("stepout: the local AWS ended by itself\n")
    assert list(tmp_path.iterdir()) == []


def test_local_says_when_there_is_no_such_program(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that does not exist is 127, as in a shell."""
    assert main(["local", "--", "no-such-program-anywhere"]) == 127
    assert "no-such-program-anywhere" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--"], ["--", ""], ["--port", "4566", "--"], ["--json", "--"]])
def test_local_without_a_command_after_the_hyphens_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started: it would look as if the command had been run."""
    assert main(["local", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, "local: which command? stepout local [OPTION …] -- COMMAND" in err) == ("", True)


def test_local_keeps_to_its_own_options() -> None:
    """What follows the command is the command's; a port can be asked for."""
    arguments = command_parser(["local"]).parse_args(["local", "--port", "4566", "--", "job", "--port", "1", "--", "x"])
    assert (arguments.port, arguments.command[-5:]) == (4566, ["job", "--port", "1", "--", "x"])
    assert command_parser(["local"]).parse_args(["local"]).command == []
