"""A task in a process that was forked off its own, or that it would be pickled for: nothing is lost in silence."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import stepout
from stepout.artifacts import MemoryStore
from stepout.callbacks import RecordingTarget

if TYPE_CHECKING:
    from pathlib import Path

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = """
import json, multiprocessing, os, sys
import stepout
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from stepout.artifacts import MemoryStore
from stepout.callbacks import RecordingTarget
target, store = RecordingTarget(), MemoryStore("results")

def opened(**options):
    return stepout.open_task(environ={}, targets=target, bucket=store, **options)

def said(act):
    before = store.keys()
    try:
        act()
    except Exception as error:
        return [type(error).__name__, str(error), store.keys() == before]
    return ["nothing", "", False]
"""

RECORDING = {
    "put": "task.artifacts.put('x', b'x')",
    "put_bytes": "task.artifacts.put_bytes('x', b'x')",
    "put_text": "task.artifacts.put_text('x', 'x')",
    "put_json": "task.artifacts.put_json('x', {})",
    "put_file": "task.artifacts.put_file('x', __file__)",
    "put_directory": "task.artifacts.put_directory('x', '.')",
    "put_image": "task.artifacts.put_image('x', None)",
    "put_table": "task.artifacts.put_table('x', None)",
    "put_many": "task.artifacts.put_many({'x': b'x'})",
    "put_document": "task.artifacts.put_document('x-y', {})",
    "adopt": "task.artifacts.adopt('x', 's3://results/x')",
    "open": "task.artifacts.open('x')",
    "open text": "task.artifacts.open('x', 'w')",
    "write": "writer.write(b'x' * 100)",
    "close": "other.close()",
    "text": "text.close()",
    "assign": "setattr(task, 'result', {})",
    "item": "task.result.update(a=1)",
    "nested": "task.result['nested'].append(1)",
    "held": "held.__setitem__('a', 1)",
    "held update": "held.update(a=1)",
    "held pop": "held.pop('nested')",
}


def _run(program: str) -> Any:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(program)],
        env=kept, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@forks
def test_every_recording_call_in_a_forked_process_raises_before_a_byte_is_sent() -> None:
    """It names both processes and says what to do; the parent's task goes on, and reports what is its own."""
    calls = ", ".join(f"{name!r}: lambda: {call}" for name, call in RECORDING.items()).replace(
        "__file__", "sys.executable"
    )
    found = _run(f"""
        with opened() as task:
            task.result["nested"] = []
            held = task.result
            task.artifacts.put("before", b"before")
            writer, text = task.artifacts.open("stream"), task.artifacts.open("text", "w")
            other = task.artifacts.open("other")
            writer.write(b"begun"), text.write("begun"), other.write(b"begun")
            receiver, sender = os.pipe()
            if not (child := os.fork()):
                os.close(receiver)
                with os.fdopen(sender, "w") as file:
                    json.dump({{name: said(act) for name, act in {{ {calls} }}.items()}}, file)
                os._exit(0)
            os.close(sender)
            with os.fdopen(receiver) as file:
                found = json.load(file)
            os.waitpid(child, 0)
            writer.close(), text.close(), other.close()
            task.result["rows"] = 3
        (document,) = target.successes
        print(json.dumps([found, sorted(document["artifacts"]), document["result"], target.failures]))
    """)
    outcomes, artifacts, result, failures = found
    assert set(outcomes) == set(RECORDING)
    for name, (kind, message, nothing_sent) in outcomes.items():
        assert (name, kind, nothing_sent) == (name, "OtherProcessError", True), message
        assert "belongs to process" in message, name
        assert "Return the data to that process" in message, name
        assert "adopt" in message, name
    assert (artifacts, result, failures) == (["before", "other", "stream", "text"], {"nested": [], "rows": 3}, [])


@forks
@pytest.mark.parametrize(
    "leave", ["raise ValueError('in the child')", "sys.exit(3)", "task.artifacts.put('x', b'x')", "pass"]
)
def test_a_child_that_leaves_the_block_reports_nothing(leave: str) -> None:
    """However it leaves it; the outcome, the heartbeat and open writers are the parent's."""
    found = _run(f"""
        pid = os.getpid()
        code = None
        try:
            with opened() as task:
                writer = task.artifacts.open("stream")
                writer.write(b"stream")
                if not (child := os.fork()):
                    {leave}
                else:
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    writer.close()
        finally:
            if os.getpid() != pid:
                os._exit(50 + len(target.successes) + len(target.failures))
        print(json.dumps([code, len(target.successes), len(target.failures)]))
    """)
    assert found == [50, 1, 0]


@forks
@pytest.mark.parametrize("way", ["ProcessPoolExecutor", "Process"])
def test_pools_of_forked_processes_hear_of_it(way: str) -> None:
    """What a worker tries is refused there, comes back as an error, and what it returns can be recorded."""
    pool = """
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                error = type(pool.submit(record).exception()).__name__
                task.artifacts.put("mask", pool.submit(bytes, 3).result())
    """
    process = """
            child = multiprocessing.get_context("fork").Process(target=record)
            sys.stderr = open(os.devnull, "w")
            child.start(), child.join()
            error = "OtherProcessError" if child.exitcode == 1 else child.exitcode
            task.artifacts.put("mask", bytes(3))
    """
    found = _run(f"""
        def record():
            task.artifacts.put("mask", b"lost")
        with opened() as task:
            {(pool if way == "ProcessPoolExecutor" else process).strip()}
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(lambda n: task.artifacts.put(f"t{{n}}", b"t"), range(4)))
                threads.submit(task.result.update, rows=4).result()
        (document,) = target.successes
        print(json.dumps([error, sorted(document["artifacts"]), document["result"]]))
    """)
    assert found == ["OtherProcessError", ["mask", "t0", "t1", "t2", "t3"], {"rows": 4}]


def test_pickling_a_task_or_what_it_holds_says_in_one_sentence_what_to_do(tmp_path: Path) -> None:
    """Spawned processes and pools pickle what they are given; data in the result is data."""
    (tmp_path / "a").write_bytes(b"a")
    with stepout.open_task(environ={}, targets=RecordingTarget(), bucket=MemoryStore("results")) as task:
        writer, text = task.artifacts.open("a"), task.artifacts.open("b", "w")
        for held in (
            task,
            task.artifacts,
            task.artifacts.put,
            task.check,
            writer,
            text,
            task.cancelled,
            [task],
            {"t": task},
        ):
            with pytest.raises(
                stepout.OtherProcessError, match=r"cannot be pickled or copied, .* and adopt its URL here$"
            ):
                pickle.dumps(held)
        task.result["rows"] = [3]
        copy = pickle.loads(pickle.dumps(task.result))
        assert (type(copy), copy) == (dict, {"rows": [3]})
        writer.close()
        text.close()


@forks
def test_a_manager_without_a_task_goes_on_in_a_forked_process() -> None:
    """Nobody reports its pointers but those who get them; once a task has it, its children are refused."""
    found = _run("""
        manager = stepout.ArtifactManager(store)
        def outcome():
            receiver, sender = os.pipe()
            if not (child := os.fork()):
                os.write(sender, json.dumps(said(lambda: manager.put("x", b"x"))).encode())
                os._exit(0)
            os.waitpid(child, 0)
            return json.loads(os.read(receiver, 4000))[0]
        first = outcome()
        with stepout.open_task(environ={}, targets=target, artifacts=manager):
            second = outcome()
        print(json.dumps([first, second]))
    """)
    assert found == ["nothing", "OtherProcessError"]
