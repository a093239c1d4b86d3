"""How far a command of ``stepout run`` says it is: in a file, in any language, or by a task that it opens."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.forked import start_python
from support.ministack import unique

from stepout.callbacks import RecordingTarget, Task
from stepout.run.told_progress import ToldProgress
from stepout.schemas.progress import read_progress_text

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.local import LocalAws

SHELL = r"""printf '{"done": 1, "total": 3}\n{"done": 2, "total": 3, "message": "of sh"}\n' >> "$STEPOUT_PROGRESS" """
NESTED = """
import stepout
with stepout.open_task() as task:
    task.progress(2, 3, "of a task")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")
@pytest.mark.parametrize(
    ("command", "message"),
    [(["sh", "-c", SHELL], "of sh"), ([sys.executable, "-c", NESTED], "of a task")],
    ids=["shell", "task"],
)
def test_what_a_command_tells_is_beside_its_outcome(
    command: list[str], message: str, local_aws: LocalAws, tmp_path: Path
) -> None:
    """The last line of the file counts, also where the command has ended before anybody looked."""
    bucket, client = unique("told"), local_aws.client("s3")
    client.create_bucket(Bucket=bucket)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    told = {"STEPOUT_OUTPUT": f"s3://{bucket}/Mask.json", "STEPOUT_EXECUTION": "run-1", "STEPOUT_STATE": "Mask"}
    environ = {**inherited, **local_aws.environ, **told}
    running = start_python(["-m", "stepout", "run", "--", *command], env=environ, cwd=tmp_path, text=True)
    out, err = running.communicate(timeout=300)
    assert (running.returncode, out, err) == (0, "", "")
    body = client.get_object(Bucket=bucket, Key="Mask.json.progress.json")["Body"].read()
    assert str(read_progress_text(body)) == f"2 of 3 (66%): {message}"
    assert client.get_object(Bucket=bucket, Key="Mask.json")["Body"].read()


@pytest.mark.parametrize(
    ("text", "done"),
    [
        (b'{"done": 3}', 3),
        (b'{"done": 1}\n{"done": 4}\n\n', 4),
        (b'{"progress": {"done": 5}, "run": {}}\n', 5),
        (b"x" * 200_000 + b'\n{"done": 6}', 6),
        (b"", None),
        (b"\n", None),
        (b'{"done": 1}\n{"done": ', None),
        (b"[1]\n", None),
        (b'{"total": 3}\n', None),
        (b"\xff\xfe\x00\n", None),
        (b'{"done": "many"}', None),
    ],
)
def test_the_last_line_counts_and_nothing_fails_the_task(
    text: bytes, done: float | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands there, the task succeeds; what cannot be understood at the end is a warning."""
    target, path = RecordingTarget(), tmp_path / "progress.json"
    with Task(target) as task:
        told = ToldProgress(path, task)
        told.look()
        path.write_bytes(text)
        told.look()
        told.look(last=True)
    assert target.successes
    assert [each.done for each in target.progress] == ([] if done is None else [done])
    assert bool(caplog.records) is (done is None and bool(text.strip()))


def test_what_is_half_written_is_read_at_the_next_look_and_nothing_twice(tmp_path: Path) -> None:
    """The file may be written over at any moment."""

    class Heard:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def progress(self, *told: Any) -> None:
            self.told.append(told)

    heard: Any = Heard()
    path = tmp_path / "progress.json"
    told = ToldProgress(path, heard)
    for text in ('{"do', '{"done": 1}', '{"done": 1}', '{"done": 22, "total": 30, "message": "x"}'):
        path.write_text(text)
        told.look()
        told.look()
    told.look(last=True)
    assert heard.told[0] == (1, None, "")
    assert heard.told[-1] == (22, 30, "x")
    path.unlink()
    path.mkdir()
    told.look(last=True)
    assert heard.told[-1] == (22, 30, "x")
