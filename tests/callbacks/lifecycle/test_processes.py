"""Real processes and real signals: what the state hears, with which code the process ends, and what it printed."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

SLEEPING = """
    with stepout.open_task() as task:
        ready()
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGTERM], 143),
        ([signal.SIGINT], 130),
        ([signal.SIGTERM] * 5, 143),
    ],
)
def test_a_signal_ends_a_sleeping_job(
    sfn_strict: StrictStepFunctions, jobs: Any, signals: list[signal.Signals], code: int
) -> None:
    """One failure by the name of the interruption, however many signals come."""
    job = jobs(SLEEPING).ready()
    ended, printed = job.send(*signals).finish()
    assert ended == code, printed
    error, cause = sfn_strict.failure(job.token)
    assert error == "Stepout.Interrupted"
    assert cause["run"]["state"] == "Mask"
    assert "TaskInterrupted" in cause["traceback"]


@pytest.mark.parametrize("swallows", ["Exception", "BaseException"])
def test_a_job_cannot_swallow_its_way_to_success(sfn_strict: StrictStepFunctions, jobs: Any, swallows: str) -> None:
    """``except Exception`` does not see the signal, and swallowing it changes nothing."""
    job = jobs(f"""
        with stepout.open_task() as task:
            try:
                ready()
                time.sleep(60)
            except {swallows}:
                print("swallowed")
            task.result["rows"] = 3
    """).ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert ("swallowed" in printed) is (swallows == "BaseException")
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


def test_a_second_signal_does_not_break_the_unwinding(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """A job's own clean-up runs to its end."""
    job = jobs("""
        with stepout.open_task() as task:
            try:
                ready()
                time.sleep(60)
            finally:
                ready()
                time.sleep(0.5)
                print("CLEANED UP", flush=True)
    """).ready()
    job.send(signal.SIGTERM).ready()
    ended, printed = job.send(signal.SIGTERM, signal.SIGINT).finish()
    assert ended == 143
    assert "CLEANED UP" in printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


NATIVE = """
    import numpy, pyarrow, pyarrow.compute
    values = pyarrow.array(numpy.random.default_rng(1).random(40_000_000))
    with stepout.open_task() as task:
        ready_in("compute.py:wrapper", busy=True)
        pyarrow.compute.sort_indices(values)
        print("SORTED", flush=True)
        time.sleep(60)
"""


def test_native_code_does_not_keep_the_state_waiting(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """A sort of 40 million rows holds Python's handlers back; the watcher reports, says where, and ends the process."""
    # A coverage tracer runs Python in the main thread, where this test wants nothing but native code.
    job = jobs(NATIVE, measured=False, STEPOUT_STOP_TIMEOUT="1").ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert "SORTED" not in printed
    error, cause = sfn_strict.failure(job.token)
    assert error == "Stepout.Interrupted"
    assert "could not be interrupted" in cause["message"]
    assert "pyarrow/compute.py" in cause["traceback"]


BLOCKED = """
    import boto3, socket
    from botocore.config import Config
    server = socket.create_server(("127.0.0.1", 0))
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:%d" % server.getsockname()[1],
                          config=Config(read_timeout=300, retries={"total_max_attempts": 1}))
    path = os.path.join(os.environ["FOLDER"], "large")
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    with stepout.open_task() as task:
        ready_in("upload_file")
        client.upload_file(path, "bucket", "key")
"""


def test_a_blocked_upload_does_not_keep_the_state_waiting(
    sfn_strict: StrictStepFunctions, jobs: Any, tmp_path: Any
) -> None:
    """boto3's upload to a server that never answers: its executor waits for its threads when it is left."""
    job = jobs(BLOCKED, STEPOUT_STOP_TIMEOUT="2", FOLDER=str(tmp_path)).ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


MANAGED = """
    import boto3, socket
    from botocore.config import Config
    server = socket.create_server(("127.0.0.1", 0))
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:%d" % server.getsockname()[1],
                          config=Config(read_timeout=300, retries={"total_max_attempts": 1}))
    with stepout.open_task(bucket="results", client=client) as task:
        ready_in("put_bytes")
        task.artifacts.put_bytes("large", bytes(64 << 20))
"""


def test_a_blocked_artifact_does_not_keep_the_state_waiting(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """The same through the artifact manager, whose abort meets the same silent server."""
    job = jobs(MANAGED, STEPOUT_STOP_TIMEOUT="4").ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


def test_a_signal_waits_for_a_report_that_has_begun(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """The success that is on its way is finished, then the process ends as asked."""
    sfn_strict.fault("SendTaskSuccess", "throttle", "throttle", "throttle")
    job = jobs("""
        with stepout.open_task() as task:
            task.result["rows"] = 3
        print("NEVER")
    """)
    sfn_strict.wait_for("SendTaskSuccess")
    ended, printed = job.send(signal.SIGTERM, signal.SIGTERM).finish()
    assert ended == 143, printed
    assert "NEVER" not in printed
    assert sfn_strict.success(job.token)["result"] == {"rows": 3}


def test_a_signal_while_the_task_is_entered_means_no_work(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """The first heartbeat is under way; the block never runs, the state hears of it."""
    sfn_strict.fault("SendTaskHeartbeat", "throttle", "throttle")
    job = jobs("""
        with stepout.open_task() as task:
            print("NEVER", flush=True)
            time.sleep(60)
    """)
    sfn_strict.wait_for("SendTaskHeartbeat")
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert "NEVER" not in printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


def test_sigkill_says_nothing(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """No process can: the state's heartbeat has to find out."""
    job = jobs(SLEEPING).ready()
    ended, _ = job.send(signal.SIGKILL).finish()
    assert ended == -signal.SIGKILL
    assert sfn_strict.accepted(job.token) == []


def test_a_closed_heartbeat_ends_the_process_with_4(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """In the middle of a sleep, without a report."""
    job = jobs(SLEEPING, STEPOUT_HEARTBEAT_SECONDS="1").ready()
    sfn_strict.close(job.token)
    ended, printed = job.finish()
    assert ended == 4, printed
    assert "TaskClosedError" in printed
    assert sfn_strict.accepted(job.token) == []
    assert sfn_strict.count("SendTaskFailure") == 0


def test_a_closed_token_ends_the_process_with_4_before_any_work(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """The first heartbeat finds out."""
    sfn_strict.fault("SendTaskHeartbeat", "throttle")
    job = jobs(SLEEPING)
    sfn_strict.close(job.token)
    ended, printed = job.finish()
    assert (ended, "READY" in printed) == (4, False)


def test_an_undelivered_outcome_ends_the_process_with_3(
    sfn_strict: StrictStepFunctions, jobs: Any, tmp_path: Any
) -> None:
    """Work done, nobody to tell: the message says where the document is."""
    sfn_strict.fault("SendTaskSuccess", "denied")
    job = jobs('with stepout.open_task() as task: task.result["rows"] = 3', TMPDIR=str(tmp_path))
    ended, printed = job.finish()
    assert ended == 3, printed
    (path,) = tmp_path.glob("stepout-undelivered-*/output.json")
    assert printed.count(str(path)) == 1  # Not logged and raised.


def test_an_uncaught_traceback_is_printed_without_the_token(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """Though the job kept the token and put it into its message."""
    job = jobs("""
        kept = os.environ["STEPOUT_TASK_TOKEN"]
        with stepout.open_task() as task:
            assert "STEPOUT_TASK_TOKEN" not in os.environ
            try:
                raise KeyError(kept)
            except KeyError:
                raise ValueError("no mask for " + kept)
    """)
    ended, printed = job.finish()
    assert ended == 1
    assert "ValueError: no mask for [redacted]" in printed
    assert "KeyError: '[redacted]'" in printed
    error, cause = sfn_strict.failure(job.token)
    assert (error, cause["message"]) == ("ValueError", "no mask for [redacted]")


def test_a_forked_child_neither_reports_nor_interrupts_its_parent(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """Pools terminate their workers by SIGTERM; a child that leaves the block reports nothing."""
    job = jobs("""
        import multiprocessing, signal
        context = multiprocessing.get_context("fork")
        with stepout.open_task() as task:
            child = context.Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            print("CHILD", child.exitcode)
            if (pid := os.fork()) == 0:
                sys.exit(0)
            os.waitpid(pid, 0)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                task.result["rows"] = sum(pool.map(int, "12"))
    """)
    ended, printed = job.finish()
    assert ended == 0, printed
    assert "CHILD -15" in printed
    assert sfn_strict.success(job.token)["result"] == {"rows": 3}


def test_asyncio_jobs_are_interrupted_too(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """A coroutine function under the decorator, with an event loop that handles a signal of its own."""
    job = jobs("""
        import asyncio, signal
        @stepout.task
        async def job(task):
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
            ready()
            await asyncio.sleep(60)
        asyncio.run(job())
    """).ready()
    ended, printed = job.send(signal.SIGUSR1, signal.SIGTERM).finish()
    assert ended == 143, printed
    assert sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


@pytest.mark.parametrize(("code", "shown"), [(3, 1), (4, 1), (256, 1), (7, 7)])
def test_a_jobs_own_exit_code_is_not_taken_for_ours(
    sfn_strict: StrictStepFunctions, jobs: Any, code: int, shown: int
) -> None:
    """3 and 4 say what became of the outcome; a job that ends with them has failed, and that was reported."""
    job = jobs(f"with stepout.open_task() as task: sys.exit({code})")
    assert job.finish()[0] == shown
    error, cause = sfn_strict.failure(job.token)
    assert (error, cause["message"]) == ("SystemExit", f"the job exited with code {code}")


def test_a_task_in_a_task_tells_both_states(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """Each has its own token; one signal interrupts both."""
    inner = sfn_strict.issue()
    job = jobs(
        """
        token = os.environ.pop("INNER")
        with stepout.open_task() as outer:
            with stepout.open_task(token=token) as task:
                ready()
                time.sleep(60)
        """,
        INNER=inner,
    ).ready()
    ended, printed = job.send(signal.SIGTERM).finish()
    assert ended == 143, printed
    assert inner[:24] not in printed
    assert sfn_strict.failure(inner)[0] == sfn_strict.failure(job.token)[0] == "Stepout.Interrupted"


def test_the_heart_does_not_keep_a_process_alive(sfn_strict: StrictStepFunctions, jobs: Any) -> None:
    """A task that was entered and never left ends with its process, though a beat hangs."""
    job = jobs(
        """
        task = stepout.open_task()
        task.__enter__()
        ready()
        input()
    """,
        STEPOUT_HEARTBEAT_SECONDS="1",
    ).ready()
    sfn_strict.fault("SendTaskHeartbeat", "stall")
    sfn_strict.wait_for("SendTaskHeartbeat", 2)
    assert job.process.stdin is not None
    job.process.stdin.write("\n")
    job.process.stdin.flush()
    ended, _ = job.finish()
    assert ended == 0
