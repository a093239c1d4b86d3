"""``stepout run`` with real commands: what the state hears, what is in the bucket, with which code it ends."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.wire import Wire

if TYPE_CHECKING:
    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")

PYTHON = sys.executable


def test_a_shell_script(run: Any, place: dict[str, str], read: Any, tmp_path: Path) -> None:
    """Files, a folder and a glob become artifacts; the result comes from the file; what it prints passes through."""
    (tmp_path / "job.sh").write_text("""#!/bin/sh
        set -eu
        echo working; echo careful >&2
        mkdir -p out/plots
        echo 1,2 > out/table.csv
        for part in 0 1; do echo "$part" > out/part-$part.txt; done
        echo plot > out/plots/a.svg
        printf '{"rows": %s, "input": %s}' 2 "$STEPOUT_INPUT" > "$STEPOUT_RESULT"
    """)
    (tmp_path / "job.sh").chmod(0o755)
    declared = ["--output", "table=out/table.csv", "--output", "part_*=out/part-*.txt", "--dir", "plots=out/plots"]
    job = run(*declared, "--", "./job.sh", STEPOUT_INPUT='{"day": 1}', **place)
    code, out, err = job.finish()
    assert (code, out, err) == (0, b"working\n", "careful\n")
    document = job.success
    assert sorted(document["artifacts"]) == ["part_0", "part_1", "plots", "table"]
    assert document["result"] == {"rows": 2, "input": {"day": 1}}
    assert document["producer"]["state"] == "Mask"
    assert document["artifacts"]["table"]["mediaType"] == "text/csv"
    assert read(document, "table") == b"1,2\n"
    assert read(document, "part_1") == b"1\n"


C_PROGRAM = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **words) {
    FILE *out = fopen("numbers.bin", "wb");
    for (int number = 0; number < 256; number++) fputc(number, out);
    fclose(out);
    if (count > 1 && !strcmp(words[1], "crash")) { fprintf(stderr, "about to crash\\n"); raise(SIGSEGV); }
    out = fopen(getenv("STEPOUT_RESULT"), "w");
    fprintf(out, "{\\"count\\": 256}");
    fclose(out);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_c_program(run: Any, place: dict[str, str], read: Any, tmp_path: Path) -> None:
    """That ends well, and that crashes: the signal has a name, and what it left is kept if asked for."""
    (tmp_path / "job.c").write_text(C_PROGRAM)
    subprocess.run(["cc", "-o", "job", "job.c"], cwd=tmp_path, check=True)
    job = run("--output", "numbers=numbers.bin", "--", "./job", **place)
    assert job.finish()[0] == 0
    assert job.success["result"] == {"count": 256}
    assert read(job.success, "numbers") == bytes(range(256))
    job = run(
        "--output", "numbers=numbers.bin", "--output", "x=x", "--outputs-on-failure", "--", "./job", "crash", **place
    )
    code, _, err = job.finish()
    assert code == 139
    assert "SIGSEGV" in err
    error, cause = job.failure
    assert error == "Stepout.CommandFailed"
    assert (cause["exitCode"], cause["signal"], cause["stderr"]) == (139, "SIGSEGV", "about to crash")
    assert read(cause["output"], "numbers") == bytes(range(256))


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
def test_a_node_script(run: Any, place: dict[str, str], read: Any, tmp_path: Path) -> None:
    """Result and output; an uncaught exception's own words are the cause."""
    (tmp_path / "job.mjs").write_text("""
        import { writeFileSync } from "node:fs";
        if (process.argv[2] === "fail") throw new TypeError("no such mask");
        writeFileSync("features.json", JSON.stringify({ score: 0.5 }));
        writeFileSync(process.env.STEPOUT_RESULT, JSON.stringify({ files: 1 }));
    """)
    job = run("--output", "features=features.json", "--", "node", "job.mjs", **place)
    code, _, err = job.finish()
    assert code == 0, err
    assert json.loads(read(job.success, "features")) == {"score": 0.5}
    assert job.success["result"] == {"files": 1}
    job = run("--output", "features=features.json", "--", "node", "job.mjs", "fail", **place)
    assert job.finish()[0] == 1
    error, cause = job.failure
    assert error == "Stepout.CommandFailed"
    assert "TypeError: no such mask" in cause["stderr"]
    assert "output" not in cause


def test_outputs_that_are_missing_fail_the_task(run: Any, place: dict[str, str], seaweed_client: Any) -> None:
    """All of them by name, with the end of what the command printed; nothing is sent."""
    job = run(
        "--output",
        "a=a.txt",
        "--output",
        "b=b*.txt",
        "--dir",
        "c=c",
        "--",
        "sh",
        "-c",
        "echo hint >&2; echo 1 > a.txt",
        **place,
    )
    code, _, err = job.finish()
    assert code == 1
    error, cause = job.failure
    assert error == "Stepout.OutputMissing"
    assert "b=b*.txt" in cause["message"]
    assert "c=c" in cause["message"]
    assert cause["message"] in err
    assert cause["stderr"] == "hint"
    assert "Contents" not in seaweed_client.list_objects_v2(Bucket=place["STEPOUT_BUCKET"])


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--", "sh", "-c", "exit 7"], 7, "Stepout.CommandFailed"),
        (["--permanent", "7", "--", "sh", "-c", "exit 7"], 7, "Stepout.Permanent"),
        (["--", "sh", "-c", "exit 3"], 1, "Stepout.CommandFailed"),  # 3 and 4 would mean something else
        (["--permanent", "4", "--", "sh", "-c", "exit 4"], 1, "Stepout.Permanent"),
        (["--", "sh", "-c", "kill -KILL $$"], 137, "Stepout.CommandFailed"),
        (["--", "no-such-program"], 127, "Stepout.CommandFailed"),
        (["--", "/"], 126, "Stepout.CommandFailed"),
        (["--output", "x=y", "--", "true"], 2, "Stepout.Configuration"),  # no bucket
        ([], 2, "Stepout.Configuration"),
        (["--", "sh", "-c", "echo '[1]' > $STEPOUT_RESULT"], 1, "Stepout.InvalidDocument"),
    ],
)
def test_every_end_has_a_name_and_a_code(run: Any, words: list[str], code: int, error: str) -> None:
    """The command's own code, and what a shell would say; a mistake in the arguments is reported, too."""
    job = run(*words)
    assert job.finish()[0] == code
    assert job.failure[0] == error


def test_bytes_pass_through_unchanged_and_in_bounded_memory(run: Any) -> None:
    """A hundred megabytes of every byte value, from standard input to standard output and back into a pipe."""
    script = """
        import hashlib, resource, sys
        block = bytes(range(256)) * 4096
        for _ in range(100):
            sys.stdout.buffer.write(block)
    """
    job = run("--", PYTHON, "-c", textwrap.dedent(script))
    digest, size, peak = hashlib.sha256(), 0, 0
    assert job.process.stdout is not None
    status = Path(f"/proc/{job.process.pid}/status")
    first = 0
    while data := job.process.stdout.read(1 << 20):
        digest.update(data)
        size += len(data)
        if status.exists() and size % (10 << 20) == 0:
            lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmRSS")]
            peak = max(peak, int(lines[0][1]) if lines else 0)
            first = first or peak
    assert job.finish()[0] == 0
    assert size == 100 << 20
    assert digest.digest() == hashlib.sha256(bytes(range(256)) * 4096 * 100).digest()
    assert peak - first < 20_000  # kB
    assert job.success["result"] == {}


def test_standard_input_reaches_the_command(run: Any) -> None:
    """As it comes."""
    job = run("--", "cat")
    assert job.finish(b"a\x00b")[:2] == (0, b"a\x00b")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_is_passed_on_and_reported(run: Any, number: signal.Signals, code: int) -> None:
    """The command has time to clean up; that it then ends well is no success."""
    trap = "trap 'echo cleaned; exit 0' TERM INT; echo READY; while :; do sleep 0.05; done"
    job = run("--", "sh", "-c", trap).until(b"READY")
    job.process.send_signal(number)
    ended, out, _ = job.finish()
    assert (ended, out) == (code, b"cleaned\n")
    error, cause = job.failure
    assert error == "Stepout.Interrupted"
    assert "exit code 0" in cause["message"]
    assert "cleaned" in cause["stdout"]


def test_a_command_that_ignores_sigterm_is_killed_in_time_to_report(run: Any) -> None:
    """With what it started, before the stop timeout."""
    script = "trap '' TERM; sleep 600 & echo PID $!; wait; while :; do sleep 600; done"
    job = run("--stop-timeout", "3", "--", "sh", "-c", script)
    assert job.process.stdout is not None
    grandchild = int(job.process.stdout.readline().split()[1])
    job.process.send_signal(signal.SIGTERM)
    assert job.finish()[0] == 143
    error, cause = job.failure
    assert error == "Stepout.Interrupted"
    assert "was killed after" in cause["message"]
    assert not _runs(grandchild)


def test_a_stop_while_outputs_are_sent_leaves_nothing_half_done(
    run: Any, place: dict[str, str], seaweed: Seaweed, seaweed_client: Any
) -> None:
    """The command has succeeded, the task has not: no artifact, no open upload, no success.

    The list of an upload's blocks may be there, which no pointer names: it is stored beside the last parts.
    """
    with Wire(seaweed.endpoint) as wire:
        fault = wire.when("UploadPart", "stall", times=99)
        place = {**place, "AWS_ENDPOINT_URL_S3": wire.endpoint}
        job = run(
            "--stop-timeout", "6", "--output", "big=big", "--", "sh", "-c", "head -c 30000000 /dev/zero > big", **place
        )
        assert fault.struck.wait(60)
        job.process.send_signal(signal.SIGTERM)
        code, _, err = job.finish()
    assert code == 143, err
    assert job.failure[0] == "Stepout.Interrupted"
    listed = seaweed_client.list_multipart_uploads(Bucket=place["STEPOUT_BUCKET"])
    assert not listed.get("Uploads")
    there = seaweed_client.list_objects_v2(Bucket=place["STEPOUT_BUCKET"]).get("Contents", [])
    assert [each["Key"] for each in there if "/blocks-" not in each["Key"]] == []


def test_other_signals_go_to_the_command_alone(run: Any) -> None:
    """The task goes on."""
    trap = "trap 'echo one' USR1; trap 'echo two; exit 0' USR2; echo READY; while :; do sleep 0.05; done"
    job = run("--", "sh", "-c", trap).until(b"READY")
    job.process.send_signal(signal.SIGUSR1)
    job.until(b"one").process.send_signal(signal.SIGUSR2)
    assert job.finish()[:2] == (0, b"two\n")
    assert job.success["result"] == {}


def test_what_the_command_leaves_running_is_ended(run: Any, tmp_path: Path) -> None:
    """It would hold the output open, and change files while they are sent."""
    job = run("--", "sh", "-c", "sleep 600 & echo $! > pid; exit 0")
    assert job.finish()[0] == 0
    assert not _runs(int((tmp_path / "pid").read_text()))
    assert job.success["result"] == {}


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_nobody_waits_any_more(run: Any, sfn_strict: StrictStepFunctions) -> None:
    """The next heartbeat says so: the command is stopped, nothing is reported, exit code 4."""
    job = run(
        "--",
        "sh",
        "-c",
        "trap 'echo asked; exit 0' TERM; echo READY; while :; do sleep 0.05; done",
        STEPOUT_HEARTBEAT_SECONDS="1",
    ).until(b"READY")
    sfn_strict.close(job.token)
    code, out, _ = job.finish()
    assert (code, out) == (4, b"asked\n")
    assert sfn_strict.accepted(job.token) == []


def test_a_closed_token_starts_nothing(run: Any, sfn_strict: StrictStepFunctions, tmp_path: Path) -> None:
    """The first heartbeat comes before the command."""
    token = sfn_strict.issue()
    sfn_strict.close(token)
    job = run("--", "touch", "started", STEPOUT_TASK_TOKEN=token)
    assert job.finish()[0] == 4
    assert not (tmp_path / "started").exists()


def test_a_command_and_its_tasks_have_one_record(run: Any, place: dict[str, str], seaweed_client: Any) -> None:
    """The one report is the one record: it names what the command's own task has written, whose objects say so."""
    code = "import stepout\nwith stepout.open_task() as task: task.artifacts.put_bytes('inner', b'i')"
    job = run("--output", "outer=a", "--", "sh", "-c", f'echo 1 > a; {sys.executable} -c "{code}"', **place)
    assert job.finish()[0] == 0
    found = seaweed_client.list_objects_v2(Bucket=place["STEPOUT_BUCKET"])["Contents"]
    (record,) = [each["Key"] for each in found if each["Key"].endswith("/_output.json")]
    document = json.load(seaweed_client.get_object(Bucket=place["STEPOUT_BUCKET"], Key=record)["Body"])
    assert document == job.success
    assert sorted(document["artifacts"]) == ["inner", "outer"]
    for pointer in document["artifacts"].values():
        head = seaweed_client.head_object(Bucket=pointer["bucket"], Key=pointer["key"])
        assert head["Metadata"]["stepout-record"].endswith("/_output.json")


def test_a_command_keeps_no_record_where_none_is_wanted(run: Any, place: dict[str, str], seaweed_client: Any) -> None:
    """Nor do its tasks, and no object says so."""
    code = "import stepout\nwith stepout.open_task() as task: task.artifacts.put_bytes('inner', b'i')"
    job = run("--", sys.executable, "-c", code, STEPOUT_COMMIT_RECORD="off", **place)
    assert job.finish()[0] == 0
    (found,) = seaweed_client.list_objects_v2(Bucket=place["STEPOUT_BUCKET"])["Contents"]
    assert seaweed_client.head_object(Bucket=place["STEPOUT_BUCKET"], Key=found["Key"])["Metadata"] == {}


def test_an_outcome_that_cannot_be_delivered_is_kept(
    run: Any, sfn_strict: StrictStepFunctions, place: dict[str, str], seaweed_client: Any
) -> None:
    """Exit code 3, and the document lies beside the artifacts."""
    sfn_strict.fault("SendTaskSuccess", "denied", "denied", "denied")
    job = run("--output", "a=a", "--", "sh", "-c", "echo 1 > a", **place)
    code, _, err = job.finish()
    assert code == 3, err
    assert "stepout-undelivered" in err
    keys = [each["Key"] for each in seaweed_client.list_objects_v2(Bucket=place["STEPOUT_BUCKET"])["Contents"]]
    assert any("stepout-undelivered" in key for key in keys)


def test_the_token_is_not_the_commands(run: Any, tmp_path: Path) -> None:
    """Neither in its environment nor in its arguments; its own processes see none either."""
    script = "env > env.txt; tr '\\0' '\\n' < /proc/self/environ > own.txt; ps -ef > ps.txt 2>/dev/null || true"
    job = run("--", "sh", "-c", script)
    assert job.finish()[0] == 0
    for name in ("env.txt", "own.txt", "ps.txt"):
        assert job.token[:24] not in (tmp_path / name).read_text()
    names = {line.partition("=")[0] for line in (tmp_path / "env.txt").read_text().splitlines()}
    assert {"STEPOUT_EXECUTION", "STEPOUT_STATE", "STEPOUT_RESULT", "STEPOUT_TARGETS"} <= names
    assert not {"STEPOUT_TASK_TOKEN", "TASK_TOKEN"} & names


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("setpriv") is None, reason="needs Linux and setpriv")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give up a capability")
def test_the_kernel_keeps_the_token_from_the_command(run: Any) -> None:
    """Without further capabilities, nobody reads the environment that stepout was started with."""
    lacking = "-sys_ptrace,-sys_admin,-perfmon"  # as in containers
    bounded = ("setpriv", "--bounding-set", lacking, "--inh-caps", lacking)
    job = run("--", "sh", "-c", "cat /proc/$PPID/environ && echo READABLE", prefix=bounded)
    code, out, err = job.finish()
    assert code != 0
    assert b"READABLE" not in out
    assert "Permission denied" in err


NESTED = """
import os, stepout
with stepout.open_task() as task:
    task.artifacts.put_text("inner", "from inside")
    task.result["inside"] = 1
    {more}
"""


def test_a_command_that_opens_a_task_is_merged_into_one_report(
    run: Any, place: dict[str, str], read: Any, sfn_strict: StrictStepFunctions
) -> None:
    """Its artifacts, its result and what it declares; the state hears one success."""
    more = "open('outer.txt', 'w').write('x'); open(os.environ['STEPOUT_RESULT'], 'w').write('{\"outside\": 2}')"
    job = run("--output", "outer=outer.txt", "--", PYTHON, "-c", NESTED.format(more=more), **place)
    code, _, err = job.finish()
    assert code == 0, err
    assert job.success["result"] == {"inside": 1, "outside": 2}
    assert read(job.success, "inner") == b"from inside"
    assert read(job.success, "outer") == b"x"
    assert sfn_strict.count("SendTaskSuccess") == 1


@pytest.mark.parametrize(
    ("more", "words", "code", "error", "told"),
    [
        ("raise stepout.RetryableError('try again')", [], 1, "Stepout.Retryable", "try again"),
        ("open('inner.txt', 'w').write('x')", ["--output", "inner=inner.txt"], 1, "Stepout.InvalidDocument", "inner"),
        ("os._exit(9)", [], 9, "Stepout.CommandFailed", "exit code 9"),
    ],
)
def test_a_nested_task_that_goes_wrong(  # noqa: PLR0913, PLR0917 - a table's columns
    run: Any, place: dict[str, str], more: str, words: list[str], code: int, error: str, told: str
) -> None:
    """Its failure is passed on, a clash of names is one, and dying without a word is the command's failure."""
    job = run(*words, "--", PYTHON, "-c", NESTED.format(more=more), **place)
    assert job.finish()[0] == code
    heard, cause = job.failure
    assert heard == error
    assert told in cause["message"]
    if error == "Stepout.Retryable":
        assert cause["retryable"] is True
        assert "RetryableError" in cause["traceback"]


def test_what_a_nested_task_spilled_is_read_back(run: Any, place: dict[str, str]) -> None:
    """The one report spills it again, within its own budget."""
    more = "task.result['text'] = 'x' * 300_000"
    job = run("--", PYTHON, "-c", NESTED.format(more=more), **place)
    code, _, err = job.finish()
    assert code == 0, err
    assert job.success["result"]["stepout"] == "pointer/1"
    assert sorted(job.success["artifacts"]) == ["inner"]


def test_killing_stepout_itself_reports_nothing(run: Any, sfn_strict: StrictStepFunctions) -> None:
    """The state's heartbeat runs out: no success is made up."""
    job = run("--", "sh", "-c", "echo PID $$; exec sleep 600")
    assert job.process.stdout is not None
    command = int(job.process.stdout.readline().split()[1])
    job.process.kill()
    job.process.wait()
    try:
        assert sfn_strict.accepted(job.token) == []
    finally:
        os.kill(command, signal.SIGKILL)


def _new_pid_namespace() -> tuple[str, ...] | None:
    unshare = shutil.which("unshare")
    words = ("--pid", "--fork", "--mount-proc", "--kill-child")
    if unshare is None or subprocess.run([unshare, *words, "true"], check=False, capture_output=True).returncode:
        return None
    return (unshare, *words)


@pytest.mark.skipif(_new_pid_namespace() is None, reason="may not make a PID namespace here")
def test_as_the_first_process_it_reaps_orphans(run: Any) -> None:
    """Grandchildren whose parents are gone would stay zombies; the main command's own end is not lost among them."""
    script = """
        import os, subprocess, time
        assert os.getppid() == 1
        for number in range(20):
            # setsid: out of the command's group; the shell in between ends at once, and 1 inherits the rest.
            subprocess.run(["sh", "-c", "setsid true & true & exit 0"], check=True)
        def orphans():
            found = []
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    state, parent = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[:2]
                except OSError:
                    continue
                if parent == "1" and int(name) != os.getpid():
                    found.append((name, state))
            return found
        deadline = time.monotonic() + 60
        while orphans() and time.monotonic() < deadline:
            time.sleep(0.02)
        print("LEFT", orphans(), flush=True)
        raise SystemExit(5)
    """
    prefix = _new_pid_namespace() or ()
    job = run("--", PYTHON, "-c", textwrap.dedent(script), prefix=prefix)
    code, out, err = job.finish()
    assert b"LEFT []" in out, err
    assert code == 5
    assert job.failure[1]["exitCode"] == 5


@pytest.mark.skipif(_new_pid_namespace() is None, reason="may not make a PID namespace here")
def test_as_the_first_process_it_hears_sigterm(run: Any) -> None:
    """The kernel keeps signals without a handler from PID 1; this one has handlers."""
    job = run("--", "sh", "-c", "echo READY; sleep 600", prefix=_new_pid_namespace() or ()).until(b"READY")
    inside = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children").read_text().split()
    os.kill(int(inside[0]), signal.SIGTERM)
    assert job.finish()[0] == 143
    assert job.failure[0] == "Stepout.Interrupted"


def test_on_a_desk_the_outcome_is_printed(tmp_path: Path) -> None:
    """Nobody waits: the document is the last line, and a mistake is one line."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STEPOUT_", "TASK_"))}
    words = [PYTHON, "-m", "stepout", "run"]
    done = subprocess.run(
        [*words, "--", "sh", "-c", 'echo hello; echo \'{"n": 1}\' > "$STEPOUT_RESULT"'],
        cwd=tmp_path, env=environ, capture_output=True, check=True, text=True,
    )  # fmt: skip
    hello, document = done.stdout.splitlines()
    assert hello == "hello"
    assert json.loads(document)["result"] == {"n": 1}
    done = subprocess.run(
        [*words, "--tail", "x", "--", "true"], env=environ, capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("stepout: --tail is LINES")
