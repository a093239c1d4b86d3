"""``stepout run`` with logs and metrics switched on: one metrics line for all, and standard error is JSON alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")

JOB = """
import sys
import stepout
print("working", end="", flush=True)
with stepout.open_task() as task:
    task.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    task.artifacts.put_bytes("mask", b"12345")
open("log.txt", "w").write("abc")
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 7])
def test_a_command_that_opens_a_task_is_one_task(run: Any, place: dict[str, str], tmp_path: Path, code: int) -> None:
    """Its artifacts count, its trace is the document's, and its end and what it says are told once."""
    (tmp_path / "job.py").write_text(JOB)
    switches = {"STEPOUT_LOG": "json", "STEPOUT_METRICS": "emf"}
    job = run("--output", "log=log.txt", "--", sys.executable, "job.py", str(code), **place, **switches)
    ended, out, err = job.finish()
    lines = [json.loads(line) for line in err.splitlines()]
    assert ended == code
    working, metrics = out.decode().splitlines()
    assert working == "working"
    told = json.loads(metrics)
    assert (told["StateMachine"], told["State"], told["Succeeded"]) == ("Segment", "Mask", int(not code))
    assert {line["state"] for line in lines} == {"Mask"}
    tasks = [line["event"]["outcome"] for line in lines if line.get("event", {}).get("kind") == "task"]
    if code:
        assert job.failure[0] == "Stepout.CommandFailed"
        assert (tasks, told["error"]) == (["success", "failure"], "Stepout.CommandFailed")
        assert lines[-1]["message"].endswith("ended with exit code 7")
    else:
        assert job.success["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        assert (tasks, told["Artifacts"]) == (["success", "success"], 2)
        assert told["BytesWritten"] >= 8
