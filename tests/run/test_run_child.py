"""The command's process in this one: odd starts and odd ends, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.forked_child import begin_child, exit_code

from stepout.callbacks.process.child_process import ChildProcess
from stepout.callbacks.process.forwarding import forwarding
from stepout.callbacks.process.output import write_all
from stepout.run import command as run_task
from stepout.run.command import RunPlan, run_command
from stepout.run.outputs import parse_outputs
from stepout.schemas.errors import ConfigurationError, StoreUnavailableError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")


def command(*words: str) -> ChildProcess:
    """A command that has not been started."""
    out, err = partial(write_all, 1), partial(write_all, 2)
    return ChildProcess(words, os.environ, stdout=out, stderr=err, tail=(9, 900), foreground=True)


def test_a_command_that_is_stopped_before_it_starts_never_does(tmp_path: Path) -> None:
    """The signal may come between the two."""
    child = command("touch", str(tmp_path / "started"))
    assert child.stop(signal.SIGTERM, 30)
    child.start()
    assert child.ended.wait(60)
    assert not (tmp_path / "started").exists()


def test_a_signal_that_comes_early_is_kept() -> None:
    """It is the command's, and it gets it; later there is nobody to get one."""
    child = command("sleep", "60")
    child.send(signal.SIGUSR1)
    child.start()
    assert child.ended.wait(60)
    assert child.returncode == -signal.SIGUSR1
    child.send(signal.SIGUSR1)


def test_a_command_that_no_system_can_start_is_refused() -> None:
    """Whatever is wrong with it."""
    for words in (["a\0b"], ["/no/such/program"]):
        child = command(*words)
        child.start()
        assert child.ended.wait(60)
        assert child.refused is not None


def test_what_is_left_and_ignores_sigterm_is_killed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """After two seconds; its output up to then is passed on."""
    pid = tmp_path / "pid"
    inner = f"trap '' TERM; echo $$ > {pid}; echo left; while :; do sleep 0.1; done"
    child = command("sh", "-c", f'sh -c "$1" & while ! test -s {pid}; do sleep 0.02; done', "sh", inner)
    child.start()
    assert child.ended.wait(60)
    assert child.returncode == 0
    assert capfd.readouterr().out == "left\n"
    status = Path(f"/proc/{pid.read_text().strip()}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_process_outside_the_group_does_not_hold_the_task_up(tmp_path: Path) -> None:
    """It still has standard output open, and says nothing."""
    pid = tmp_path / "pid"
    code = f"import os, time; os.setsid(); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    child = command("sh", "-c", f'"$0" -c "$1" & while ! test -s {pid}; do sleep 0.02; done', sys.executable, code)
    child.start()
    assert child.ended.wait(60)
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_the_command_notices_that_nobody_reads_its_output() -> None:
    """As it would without us: a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    before = os.dup(1)
    os.dup2(writer, 1)
    try:
        child = command("sh", "-c", "while :; do echo more || exit 9; done")
        child.start()
        assert child.ended.wait(60)
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(writer)
    assert child.returncode in (9, -signal.SIGPIPE)


def test_output_that_somebody_made_non_blocking_gets_everything() -> None:
    """A full pipe is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = os.dup(1)
    os.dup2(writer, 1)
    read: list[int] = []
    try:
        child = command("head", "-c", "1000000", "/dev/zero")
        child.start()
        while sum(read) < 1_000_000:
            read.append(len(os.read(reader, 1000)))
        assert child.ended.wait(60)
    finally:
        os.dup2(before, 1)
        for fd in (before, writer, reader):
            os.close(fd)
    assert sum(read) == 1_000_000


def test_ignored_signals_stay_ignored() -> None:
    """``nohup`` means it; the others come back as they were."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    quits = signal.getsignal(signal.SIGQUIT)
    heard: list[int] = []
    try:
        with forwarding(heard.append):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGQUIT)
        assert heard == [signal.SIGUSR2, signal.SIGQUIT]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGQUIT) == quits
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_signal_is_lost_while_another_is_passed_on() -> None:
    """Thousands, each sent in the moment in which the one before was heard, while the main thread waits."""
    heard: list[int] = []
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    sent = [numbers[turn % 3] for turn in range(3_000)]
    done, more = threading.Event(), threading.Semaphore(0)

    def hear(number: int) -> None:
        heard.append(number)
        more.release()

    def send() -> None:
        for number in sent:
            os.kill(os.getpid(), number)
            if not more.acquire(timeout=60):
                break
        done.set()

    with forwarding(hear, numbers):
        threading.Thread(target=send).start()
        done.wait(100)
    assert heard == sent


def test_signals_that_come_at_once_are_all_passed_on() -> None:
    """Also those that come last, before the block is left."""
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
    for _ in range(100):
        heard: list[int] = []
        with forwarding(heard.append, numbers):
            for number in numbers:
                os.kill(os.getpid(), number)
        assert sorted(heard) == sorted(numbers)


def test_a_forked_childs_signals_are_not_passed_on() -> None:
    """It shares the descriptor with its parent until it lets go of it."""
    heard: list[int] = []
    with forwarding(heard.append, [signal.SIGUSR1]):

        def signal_itself() -> int:
            os.kill(os.getpid(), signal.SIGUSR1)
            return 0

        assert exit_code(begin_child(signal_itself)) == 0
    assert heard == []


def test_without_a_folder_to_write_the_state_hears_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system without memory to write to either."""

    def refuse(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    environ = {"STEPOUT_TARGETS": (tmp_path / "out.json").as_uri()}
    with pytest.raises(ConfigurationError, match="TMPDIR"):
        run_command(RunPlan(command=["true"]), environ)
    assert "Stepout.Configuration" in (tmp_path / "out.json").read_text()


def test_a_result_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Before the command starts."""
    environ = {"STEPOUT_TARGETS": (tmp_path / "out.json").as_uri()}
    plan = RunPlan(command=["touch", str(tmp_path / "started")], result=tmp_path)
    with pytest.raises(ConfigurationError, match="--result"):
        run_command(plan, environ)
    assert not (tmp_path / "started").exists()
    later = RunPlan(
        command=["sh", "-c", 'mkdir "$0" && echo "{}" > "$0/r"', str(tmp_path / "new")], result=tmp_path / "new" / "r"
    )
    assert run_command(later, {**environ, "PATH": os.environ["PATH"]}) == 0


def test_a_failure_is_reported_even_if_its_outputs_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The exit code and the reason matter more."""

    def refuse(*_: Any) -> None:
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(run_task, "send_outputs", refuse)
    environ = {
        "STEPOUT_TARGETS": (tmp_path / "out.json").as_uri(),
        "STEPOUT_BUCKET": "none",
        "PATH": os.environ["PATH"],
    }
    plan = RunPlan(
        command=["sh", "-c", 'echo x > "$0"; exit 3', str(tmp_path / "log")],
        outputs=parse_outputs([f"log={tmp_path / 'log'}"], []),
        keep_on_failure=True,
    )
    assert run_command(plan, environ) == 1
    assert "the store is away" in capfd.readouterr().err
    assert "Stepout.CommandFailed" in (tmp_path / "out.json").read_text()
