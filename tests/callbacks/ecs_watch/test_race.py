"""The race: a success that is on its way when the task is known to have stopped. It wins, always.

A real process reports through a proxy that holds its report back, and the watcher hears of the end before the report
arrives. While the watcher waits, the network delivers: a grace that is longer than the network is slow.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.ministack import wait_until
from support.watch_events import stopped_event
from support.wire import Fault, Wire

from stepout.callbacks.ecs_watch import Watcher, WatchSettings
from stepout.callbacks.targets.sfn import StepFunctionsTarget
from stepout.local.aws import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_stepfunctions import SFNClient
    from support.sfn_strict import StrictStepFunctions

SUCCEED = """
import stepout
with stepout.open_task() as task:
    task.result["rows"] = 3
"""
DOCUMENT = {"stepout": "output/1", "artifacts": {}, "result": {"rows": 3}}


@pytest.fixture
def wire(sfn_strict: StrictStepFunctions) -> Iterator[Wire]:
    """The container's way to Step Functions; the watcher has another."""
    with Wire(sfn_strict.endpoint_url) as wire:
        yield wire


def hold(wire: Wire, request: int) -> Fault:
    """Hold back the container's request of this number."""
    seen = itertools.count(1)
    return wire.arm(Fault(lambda _line: next(seen) == request, "stall", 1))


def start(sfn: StrictStepFunctions, wire: Wire, token: str) -> subprocess.Popen[bytes]:
    """Start a container's process: its first request is a heartbeat, its second the success."""
    environment = {**sfn.environment, "AWS_ENDPOINT_URL_SFN": wire.endpoint, "STEPOUT_TASK_TOKEN": token}
    return subprocess.Popen(
        [sys.executable, "-c", SUCCEED], env={**clean_environment(os.environ), **environment}, stderr=subprocess.DEVNULL
    )


def watch(client: SFNClient, token: str, code: int, sleep: Callable[[float], None]) -> list[str]:
    """Let a watcher deal with the end of the container."""
    watcher = Watcher(WatchSettings(), states=client, clock=lambda: 0.0, sleep=sleep)
    return watcher.handle(stopped_event(token, code))


def let_arrive(sfn: StrictStepFunctions, token: str, fault: Fault) -> None:
    """Let the network deliver, and wait until it has."""
    fault.release()
    wait_until(lambda: sfn.accepted(token), what="the success")


@pytest.mark.parametrize("killed", [True, False], ids=["killed before the answer", "still waiting for the answer"])
@pytest.mark.parametrize("events", [1, 2])
def test_success_in_the_network_wins_against_the_event(
    sfn_strict: StrictStepFunctions, wire: Wire, killed: bool, events: int
) -> None:
    """A report that the network still holds when the events come, one or two at once, is the task's outcome."""
    token = sfn_strict.issue()
    fault = hold(wire, request=2)
    process = start(sfn_strict, wire, token)
    try:
        assert fault.struck.wait(60)
        if killed:
            process.kill()
            process.wait()
        waiting = threading.Barrier(events)

        def sleep(_seconds: float) -> None:
            waiting.wait(60)  # each has asked, and found the token open
            let_arrive(sfn_strict, token, fault)

        client = sfn_strict.client()
        with ThreadPoolExecutor(events) as pool:
            heard = [pool.submit(watch, client, token, 137 if killed else 0, sleep) for _ in range(events)]
            assert [each.result() for each in heard] == [["closed"]] * events
        assert process.wait() == (-9 if killed else 0)
    finally:
        process.kill()
        process.wait()
    assert sfn_strict.success(token)["result"] == {"rows": 3}


def test_success_in_the_network_wins_many_times(sfn_strict: StrictStepFunctions, wire: Wire) -> None:
    """Twelve tasks, their events twice each and before, during and after the report: every one succeeds."""
    client, slow_client = sfn_strict.client(), _through(wire)
    for index in range(12):
        token = sfn_strict.issue()
        code = (0, 1, 3, 4, 137, 143)[index % 6]
        slow = index % 3 != 2
        fault = wire.arm(Fault(lambda _line: True, "stall", 1 if slow else 0))
        target = StepFunctionsTarget(token, slow_client)
        reporting = threading.Thread(target=target.success, args=(DOCUMENT,))
        reporting.start()
        if slow:
            assert fault.struck.wait(60)
        else:
            reporting.join()

        def sleep(_seconds: float, token: str = token, fault: Fault = fault) -> None:
            let_arrive(sfn_strict, token, fault)

        with ThreadPoolExecutor(2) as pool:
            heard = [pool.submit(watch, client, token, code, sleep) for _ in range(2)]
            assert [each.result() for each in heard] == [["closed"]] * 2
        reporting.join()
        assert sfn_strict.success(token)["result"] == {"rows": 3}


def _through(wire: Wire) -> SFNClient:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "stepfunctions",
        endpoint_url=wire.endpoint,
        region_name="eu-west-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )
