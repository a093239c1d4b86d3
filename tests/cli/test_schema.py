"""``schema``, help, and the frame around every command."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.ministack import wait_until

from stepout import __version__
from stepout.cli import COMMANDS, main

STEPOUT = (sys.executable, "-m", "stepout")
SLEEPER = "import time; print('#', flush=True); time.sleep(600)"
POINTER = {
    "stepout": "pointer/1",
    "bucket": "results-bucket",
    "key": "runs/a.bin",
    "size": 1,
    "checksum": {"sha256": "0" * 64},
    "mediaType": "application/octet-stream",
}


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_teaches_by_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help has examples of that command."""
    assert main([name, "--help"]) == 0
    assert f"  stepout {name} " in capsys.readouterr().out.partition("examples:")[2] + " "


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of ``stepout`` names each command with its summary."""
    assert main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(f"{command.name} {command.summary}" in out for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["get"], ["put", "a", "b", "--mode", "sideways"]])
def test_usage_error_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What argparse refuses is exit code 2 with the usage."""
    assert main(words) == 2
    assert "usage: stepout" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pointer", "output"])
def test_schema_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``schema NAME`` prints the JSON Schema."""
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == f"urn:stepout:schema:{name}:1"


def test_check_lists_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``schema --check`` lists every problem of every document, and exits 1 if there is any."""
    good, bad, text = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "text.json"
    good.write_text(json.dumps(POINTER))
    bad.write_text(json.dumps({**POINTER, "size": -1, "checksum": {"sha256": "00"}}))
    text.write_text("{,}")
    assert main(["schema", "--check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: valid\n"
    assert main(["schema", "--check", str(good), str(bad), str(text)]) == 1
    out = capsys.readouterr().out
    assert f"{bad}: 2 problems" in out
    assert "$.size: " in out
    assert "$.checksum.sha256: " in out
    assert f"{text}: 1 problem" in out
    assert main(["schema", "--check", str(bad), "--json"]) == 1
    (checked,) = json.loads(capsys.readouterr().out)["documents"]
    kinds = {problem["kind"] for problem in checked["problems"]}
    assert "range" in kinds


def test_check_can_insist_on_a_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A valid pointer is no valid output."""
    file = tmp_path / "pointer.json"
    file.write_text(json.dumps(POINTER))
    assert main(["schema", "pointer", "--check", str(file)]) == 0
    assert main(["schema", "output", "--check", str(file)]) == 1
    assert "$.artifacts" in capsys.readouterr().out


def test_debug_shows_the_traceback() -> None:
    """``--debug``, before or after the command, lets the error out whole."""
    for words in (["--debug", "show", "no-such-file"], ["show", "--debug", "no-such-file"]):
        with pytest.raises(FileNotFoundError):
            main(words)


def test_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that nobody foresaw is one line with its name, not a traceback."""

    def broken(_arguments: object) -> str:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("stepout.cli.show._named", broken)
    assert main(["show", "x"]) == 1
    assert capsys.readouterr().err == "stepout: ZeroDivisionError: a b (unexpected; --debug shows where)\n"


def test_version() -> None:
    """``python -m stepout`` is the command line."""
    done = subprocess.run([*STEPOUT, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"stepout {__version__}\n"


def test_character_that_the_terminal_lacks_is_escaped() -> None:
    """A document's text goes to an ASCII terminal escaped, not as a traceback."""
    document = json.dumps({"stepout": "output/1", "artifacts": {}, "result": {"who": "é"}})
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*STEPOUT, "show", document], capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert r'result: {"who":"\xe9"}' in done.stdout


def test_reader_that_leaves_is_no_traceback() -> None:
    """``stepout … | head`` ends in silence."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*STEPOUT, "schema", "output"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="closes streams by a shell's syntax")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("schema output >&-", 1, "standard output is closed"),
        ("show - <&-", 2, "standard input is closed"),
        ("schema 2>&-", 2, ""),
    ],
)
def test_closed_stream_is_told(words: str, code: int, told: str) -> None:
    """A stream that the caller closed is one line at most, not an AttributeError."""
    done = subprocess.run(f"{shlex.join(STEPOUT)} {words}", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert (told in done.stderr) if told else (done.stderr == "")


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


@pytest.mark.parametrize(
    "words", [["run", "--", "true"], ["put", "a", "nowhere"], ["verify", "{}"], ["show", "{}"], ["schema", "pointer"]]
)
def test_a_misspelt_variable_is_told_once(words: list[str]) -> None:
    """Whatever command it is, and whether it fails: one line that says what was meant."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPOUT_")}
    environ |= {"STEPOUT_ALOW": "s3://a/", "STEPOUT_BUCKET": "some-bucket"}
    done = subprocess.run([*STEPOUT, *words], capture_output=True, text=True, check=False, env=environ, timeout=60)
    assert done.stderr.count("STEPOUT_ALOW") == done.stderr.count("did you mean STEPOUT_ALLOW?") == 1
    assert "STEPOUT_ALOW" not in done.stdout


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
    from stepout.cli import command_parser

    arguments = command_parser(["local"]).parse_args(["local", "--port", "4566", "--", "job", "--port", "1", "--", "x"])
    assert (arguments.port, arguments.command[-5:]) == (4566, ["job", "--port", "1", "--", "x"])
    assert command_parser(["local"]).parse_args(["local"]).command == []
