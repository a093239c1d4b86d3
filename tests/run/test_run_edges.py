"""``stepout run`` at its edges: before it can listen, while it reports, with streams closed, with files of before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepout.run.command import RunPlan, run_command
from stepout.run.outputs import find_outputs, find_what_is_there, marks_of, parse_outputs
from stepout.schemas.errors import OutputMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--outptu=x=y", "--", "true"], "unknown option --outptu: did you mean --output"), (["--tail"], "--tail")],
)
def test_the_state_hears_of_options_that_cannot_be_read(run: Any, words: list[str], told: str) -> None:
    """It would wait for its heartbeat otherwise; people see the usage as ever, once."""
    job = run(*words)
    code, _, err = job.finish()
    assert code == 2
    assert err.startswith("usage:")
    assert err.count(told) == 1
    error, cause = job.failure
    assert error == "Stepout.Configuration"
    assert told in cause["message"]


def test_closed_streams_keep_no_task_from_running(run: Any, tmp_path: Path) -> None:
    """They lead nowhere; above all, no connection to Step Functions becomes the command's standard output."""
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    script = 'cat && echo out && echo err >&2 && echo \'{"n": 1}\' > "$STEPOUT_RESULT"'
    job = run("--", "sh", "-c", script, prefix=closed)
    assert job.finish()[0] == 0
    assert job.success["result"] == {"n": 1}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STEPOUT_", "TASK_"))}
    words = ["sh", "-c", 'exec "$@" >&-', "sh", PYTHON, "-m", "stepout", "run", "--", "touch", "started"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr
    assert not (tmp_path / "started").exists()


def test_the_exit_code_survives_that_nobody_reads_standard_error(run: Any) -> None:
    """It is the command's."""
    job = run("--", "sh", "-c", "read line; exit 7")
    job.process.stderr.close()
    job.process.stdin.write(b"go\n")
    job.process.stdin.flush()
    assert job.process.wait(timeout=300) == 7
    assert job.failure[1]["exitCode"] == 7


def test_on_a_desk_the_document_is_a_line_of_its_own(tmp_path: Path) -> None:
    """Also after a command that does not end its last one."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STEPOUT_", "TASK_"))}
    for script, code in (("printf hello", 0), ("printf hello; kill $PPID; sleep 60", 143)):
        words = [PYTHON, "-m", "stepout", "run", "--", "sh", "-c", script]
        done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, check=False, text=True)
        hello, document = done.stdout.splitlines()
        assert (hello, done.returncode) == ("hello", code)
        assert ("error" in json.loads(document)) == (code != 0)


def test_a_failure_is_printed_once(run: Any) -> None:
    """By the command's own task, if it opened one; by us, if only we know; whose exit code is not passed on is said."""
    script = "import stepout\nwith stepout.open_task(): raise ValueError('no such mask')"
    job = run("--", PYTHON, "-c", script)
    code, _, err = job.finish()
    assert (code, err.count("no such mask"), err.count("ValueError")) == (1, 1, 2)
    assert job.failure[1]["message"] == "no such mask"
    job = run("--", "sh", "-c", "exit 3")
    code, _, err = job.finish()
    assert (code, err.count("exit code 3"), err.count("\n")) == (1, 1, 1)
    assert job.failure[1]["exitCode"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_stop_is_passed_on_too(run: Any, number: signal.Signals) -> None:
    """Many programs clean up after the first, and give up after the second."""
    trap = (
        "n=0; trap 'n=$((n+1)); echo got $n; [ $n -lt 2 ] || exit 9' TERM INT; echo READY; while :; do sleep 0.05; done"
    )
    job = run("--stop-timeout", "120", "--", "sh", "-c", trap).until(b"READY")
    job.process.send_signal(number)
    job.until(b"got 1").process.send_signal(number)
    code, out, _ = job.finish()
    assert (code, out) == (128 + number, b"got 2\n")
    error, cause = job.failure
    assert error == "Stepout.Interrupted"
    assert "exit code 9" in cause["message"]


def test_a_signal_for_the_command_that_comes_while_its_end_is_reported_kills_nobody(
    run: Any, sfn_strict: StrictStepFunctions
) -> None:
    """SIGHUP and the like end a process by default, and the state would hear nothing."""
    sfn_strict.fault("SendTaskSuccess", "stall")
    job = run("--", "true")
    sfn_strict.wait_for("SendTaskSuccess")
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        job.process.send_signal(number)
    sfn_strict.release()
    assert job.finish()[0] == 0
    assert job.success["result"] == {}


EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "stepout.run.command":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
"""


def test_a_stop_that_comes_while_it_is_starting_is_reported(run: Any, tmp_path: Path) -> None:
    """Before the task can listen; the command never starts."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(EARLY)
    job = run("--", "touch", "started", PYTHONPATH=str(tmp_path / "early"))
    code, _, err = job.finish()
    assert code == 143, err
    assert job.failure[0] == "Stepout.Interrupted"
    assert not (tmp_path / "started").exists()


def test_a_command_that_cannot_be_followed_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's limit of processes, say: what went on unseen is ended, and the task fails."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "stepout-output":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    environ = {"STEPOUT_TARGETS": (tmp_path / "out.json").as_uri(), "PATH": os.environ["PATH"]}
    with pytest.raises(RuntimeError, match="could not be started"):
        run_command(RunPlan(command=["sleep", "600"]), environ)
    outcome = json.loads((tmp_path / "out.json").read_text())
    assert outcome["error"] == "RuntimeError"
    assert "can't start new thread" in outcome["cause"]["traceback"]


def test_what_the_command_did_not_write_is_none_of_its_outputs(run: Any, place: dict[str, str], tmp_path: Path) -> None:
    """A file of the image's, or of the task before in the same folder, would pass for this one's."""
    (tmp_path / "table.csv").write_text("old\n")
    job = run("--output", "table=table.csv", "--", "true", **place)
    assert job.finish()[0] == 1
    error, cause = job.failure
    assert error == "Stepout.OutputMissing"
    assert "table=table.csv (is from before the command, which did not write it)" in cause["message"]
    job = run("--output", "table=table.csv", "--", "touch", "table.csv", **place)
    assert job.finish()[0] == 0
    assert sorted(job.success["artifacts"]) == ["table"]


def test_outputs_are_told_from_what_was_there(tmp_path: Path) -> None:
    """Files, matches of a glob and folders: what was written, replaced or changed counts, however like the old."""
    folder = tmp_path / "plots" / "deep"
    folder.mkdir(parents=True)
    for name in ("a.bin", "b.bin", "c.bin", "plots/deep/p.svg"):
        (tmp_path / name).write_text("old")
    outputs = [f"all_*={tmp_path}/*.bin", f"one={tmp_path}/[ad].bin"]
    declared = parse_outputs(outputs, [f"plots={tmp_path}/plots"])
    before = marks_of(declared)
    with pytest.raises(OutputMissingError, match=r"3 of 3 .*matches nothing but what is from before"):
        find_outputs(declared, before=before)
    assert find_what_is_there(declared, before=before) == ()
    (tmp_path / "b.bin").write_text("new")
    (tmp_path / "new").write_text("old")
    (tmp_path / "new").replace(tmp_path / "c.bin")
    (tmp_path / "d.bin").write_text("new")
    (folder / "p.svg").write_text("new")
    found = {each.name: each.path.name for each in find_outputs(declared, before=before)}
    assert found == {"all_b": "b.bin", "all_c": "c.bin", "all_d": "d.bin", "one": "d.bin", "plots": "plots"}
