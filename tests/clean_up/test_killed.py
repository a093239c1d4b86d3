"""A clean-up that is killed, one that runs twice at once, and one that races a task which still writes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.left_behind import execution
from support.seaweed import ADMIN

from stepout import resolve_output
from stepout.artifacts.resolve import resolve_artifact
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.left_behind import LeftBehind
    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

    from stepout.clean_up import CleanUp

DONE, FAILED = execution("done"), execution("failed")
KILLS = int(os.environ.get("STEPOUT_TEST_KILLS", "3"))


@pytest.fixture
def begin(left: LeftBehind, seaweed: Seaweed, sfn_strict: StrictStepFunctions) -> Callable[[], subprocess.Popen[bytes]]:
    """Start a clean-up in a process of its own."""
    environment = {
        **os.environ,
        **sfn_strict.environment,
        "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "STEPOUT_S3_PROFILE": "compatible",
    }
    words = ["gc", f"s3://{left.bucket}/runs/", "--older-than", "0s", "--delete", "--json"]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "stepout", *words], env=environment, stdout=subprocess.PIPE)

    return start


def _leave(left: LeftBehind, sfn: StrictStepFunctions, *, failed: int = 60) -> tuple[set[str], set[str]]:
    """Leave objects of a failed task, and a committed output that names one of them; returns both sets of keys."""
    sfn.executions |= {DONE: "SUCCEEDED", FAILED: "FAILED"}
    lost, kept = left.task(FAILED), left.task(DONE)
    lost.put_many({f"lost_{n}": b"1" for n in range(failed)})
    resumed = lost.put("resumed", b"2")
    kept.put_many({f"kept_{n}": b"1" for n in range(10)})
    record = left.commit(kept, artifacts={**kept.pointers, "resumed": resumed})
    named = {record, resumed.key, *(pointer.key for pointer in kept.pointers.values())}
    return {pointer.key for name, pointer in lost.pointers.items() if name != "resumed"}, named


def test_killed_at_random_points_it_takes_nothing_that_is_named(
    left: LeftBehind, sfn_strict: StrictStepFunctions, begin: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """SIGKILL whenever: what a record names is whole, and the next run ends the work."""
    lost, named = _leave(left, sfn_strict)
    began = time.monotonic()
    process = begin()
    sfn_strict.wait_for("DescribeExecution")
    takes = time.monotonic() - began
    for _ in range(KILLS):
        time.sleep(random.uniform(0, takes / 10))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert named <= left.stored() <= lost | named
        process = begin()
        time.sleep(takes * random.uniform(0.5, 1.1))
    process.communicate()
    last = begin()
    last.communicate()
    assert last.returncode == 0
    assert left.stored() == named


def test_two_at_once_do_no_harm(
    left: LeftBehind, sfn_strict: StrictStepFunctions, begin: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """What the other has removed already is no error."""
    _lost, named = _leave(left, sfn_strict, failed=200)
    both = [begin(), begin()]
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    assert left.stored() == named


def test_a_task_that_writes_meanwhile_loses_nothing(
    left: LeftBehind, clean_up: Callable[..., CleanUp], sfn_strict: StrictStepFunctions
) -> None:
    """A loop of tasks that write, commit and end, against clean-ups: every output reads as it was written."""
    outputs: list[dict[str, Any]] = []
    ended = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(12):
                arn = execution(f"e{number}")
                sfn_strict.executions[arn] = "RUNNING"
                with suppress(ZeroDivisionError), left.open_task(arn) as failed:
                    half = failed.artifacts.put("half", f"half {number}".encode())
                    failed.artifacts.put("lost", b"nobody names it")
                    raise ZeroDivisionError  # noqa: TRY301 - the task's failure
                target = RecordingTarget()
                with left.open_task(arn, targets=target) as task:
                    task.artifacts.put_json("summary", {"number": number})
                    task.result["half"] = half.to_dict()  # it goes on with what the first attempt sent
                sfn_strict.executions[arn] = "SUCCEEDED"
                outputs.extend(target.successes)
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)
        finally:
            ended.set()

    worker = threading.Thread(target=work)
    worker.start()
    runs = 0
    while not ended.is_set() or runs < 2:
        list(clean_up(age=timedelta(0), delete=True).leftovers())
        runs += 1
    worker.join()
    list(clean_up(age=timedelta(0), delete=True).leftovers())
    assert errors == []
    for number, output in enumerate(outputs):
        allowed: dict[str, Any] = {"allow": [f"s3://{left.bucket}/"], "client": left.client}
        read = resolve_output(output, **allowed)
        assert resolve_artifact(output["result"]["half"], **allowed).read_bytes() == f"half {number}".encode()
        assert read["summary"].read_json() == {"number": number}
    assert not any(key.endswith("/lost") for key in left.stored())


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=2)])
def test_ages_are_by_the_servers_clock(
    left: LeftBehind,
    seaweed: Seaweed,
    sfn_strict: StrictStepFunctions,
    clean_up: Callable[..., CleanUp],
    ahead: timedelta,
) -> None:
    """A local clock that is off changes nothing: what is two days old by the server's Date goes, whatever we think."""
    lost, named = _leave(left, sfn_strict, failed=1)
    client = seaweed.client()

    def answered(parsed: dict[str, Any], **_: object) -> None:
        headers = parsed["ResponseMetadata"]["HTTPHeaders"]
        headers["date"] = format_datetime(parsedate_to_datetime(headers["date"]) + ahead, usegmt=True)

    client.meta.events.register("after-call.s3", answered)
    removal = clean_up(age=timedelta(days=1), delete=True, client=client)
    list(removal.leftovers())
    assert left.stored() == (named if ahead else lost | named)
    assert removal.tally.removed == (len(lost) if ahead else 0)
