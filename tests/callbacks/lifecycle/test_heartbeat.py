"""Heartbeats, cancellation by one that is answered "closed", and what a task leaves behind: nothing."""
# ruff: noqa: PT012 - what happens in the block is what is tested

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import RecordingTarget, StepFunctionsTarget, Task
from stepout.callbacks.delivery.retry_loop import ThrottledError
from stepout.callbacks.lifecycle.heartbeat import Beat, beats_a_second, fitting_heartbeat, interval_of, pause_after
from stepout.schemas import Pointer, RunIdentity
from stepout.schemas.errors import TaskClosedError, TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.sfn_strict import StrictStepFunctions


class MemoryManager:
    """Stands in for an artifact manager with nothing to write."""

    run = RunIdentity()

    def __init__(self) -> None:
        self.pointers: Mapping[str, Pointer] = {}
        self.aborted = threading.Event()

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write nothing: no test here spills."""
        raise AssertionError(f"{stem}: {len(document)} members")

    def abort(self) -> None:
        """Note it."""
        self.aborted.set()


def test_heartbeats_go_on_until_the_report() -> None:
    """A third of HeartbeatSeconds apart, from a daemon thread."""
    target = RecordingTarget()
    with Task(target, heartbeat=0.06):
        deadline = time.monotonic() + 60
        while target.heartbeats < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert any(thread.name == "stepout-heart" and thread.daemon for thread in threading.enumerate())
    assert target.heartbeats >= 4


def test_a_failed_beat_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """The next one is delivered again."""
    caplog.set_level(logging.INFO, logger="stepout")
    target = RecordingTarget()
    with Task(target, heartbeat=0.06):
        target.unreachable = True
        _wait_until(lambda: "not delivered" in caplog.text)
        target.unreachable = False
        _wait_until(lambda: "delivered again" in caplog.text)
    assert len(target.successes) == 1


def _wait_until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_closed_beat_wakes_a_sleeping_block() -> None:
    """The block is interrupted in the middle of a sleep, uploads are aborted, nothing is reported."""
    target, store = RecordingTarget(), MemoryManager()
    slept = []
    with pytest.raises(TaskClosedError), Task(target, artifacts=store, heartbeat=0.06) as task:
        target.close()
        time.sleep(60)
        slept.append(60)
    assert slept == []
    assert task.cancelled
    assert task.cancelled.is_set()
    assert store.aborted.is_set()
    assert (target.successes, target.failures) == ([], [])


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_a_job_that_swallows_the_cancellation_still_reports_nothing(swallowed: type[BaseException]) -> None:
    """``except Exception`` does not even see it."""
    target, seen = RecordingTarget(), []
    with pytest.raises(TaskClosedError), Task(target, heartbeat=0.06):
        target.close()
        try:
            time.sleep(60)
        except swallowed as error:
            seen.append(type(error))
    assert seen == ([TaskInterrupted] if swallowed is BaseException else [])
    assert (target.successes, target.failures) == ([], [])


def test_outside_the_main_thread_check_raises_when_cancelled() -> None:
    """No signal is handled there."""
    target, left = RecordingTarget(), []

    def job() -> None:
        try:
            with Task(target, heartbeat=0.06) as task:
                task.check()
                target.close()
                assert task.cancelled.wait(60)
                task.check()
        except TaskClosedError as closed:
            left.append(closed)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=job)
    thread.start()
    thread.join(60)
    assert len(left) == 1
    assert (target.successes, target.failures) == ([], [])
    assert signal.getsignal(signal.SIGTERM) is before


def test_everything_is_put_back_after_nested_and_sequential_tasks() -> None:
    """Handlers, wake-up descriptor, log filters, threads."""

    def state() -> Any:
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        return fd, handlers, list(logging.getLogger("botocore.endpoint").filters)

    before = state()
    for _ in range(3):
        with Task(RecordingTarget()):
            inside = state()
            with pytest.raises(ValueError, match="x"), Task(RecordingTarget()):
                raise ValueError("x")
            assert state() == inside
    assert state() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "stepout-signals"]


def test_logs_of_botocore_do_not_show_the_token(
    sfn_strict: StrictStepFunctions, caplog: pytest.LogCaptureFixture
) -> None:
    """At debug level botocore writes whole requests; a traceback in a log is redacted as well."""
    caplog.set_level(logging.DEBUG)
    token = sfn_strict.issue()
    with Task(StepFunctionsTarget(token, sfn_strict.client())):
        try:
            _ = dict[str, str]()[token]
        except KeyError:
            logging.getLogger("botocore.endpoint").exception("with %s", token)
    assert sfn_strict.success(token)
    assert "with [redacted]" in caplog.text
    assert "Making request" in caplog.text
    assert token[:30] not in caplog.text


@pytest.mark.parametrize("heartbeat", [78, 120, 600])
def test_beats_of_ten_thousand_containers_hold_the_quota(heartbeat: int) -> None:
    """They start within the same second; for ten minutes after, the smaller quota of the regions never runs dry.

    It is a bucket of 1,500 that takes 300 a second. One beat of each is lost, and still none is silent for
    ``HeartbeatSeconds``.
    """
    draw, containers, end = random.Random(7).random, 10_000, 600.0
    interval = interval_of(heartbeat, containers)
    seconds, longest = [0] * (int(end) + 1), 0.0
    for _ in range(containers):
        now, last, heard, lost = draw(), Beat.FIRST, 0.0, draw() * end
        heard = now
        while (now := now + pause_after(last, interval, draw())) < end:
            seconds[int(now)] += 1
            last = Beat.DELIVERED
            if now > lost:
                lost, last = end, Beat.LOST
                continue
            longest, heard = max(longest, now - heard), now
    assert max(seconds) <= 350
    left = 1_500
    for beats in seconds:
        left = min(1_500, left + 300 - beats)
        assert left > 1_200
    assert longest < heartbeat


def test_the_interval_grows_with_the_containers_and_never_too_far() -> None:
    """A third of HeartbeatSeconds is enough for few; 60 % is the most; the doctor says what would be enough."""
    assert interval_of(300, 1) == interval_of(300, 10_000) == interval_of(300) == 100
    assert interval_of(60, 5_000) == pytest.approx(5_000 / 216)
    assert interval_of(60, 10**6) == 36
    assert interval_of(None, 10**6) == 108
    for containers in (1_000, 7_000, 10_000):
        enough = fitting_heartbeat(containers)
        assert beats_a_second(containers, interval_of(enough, containers)) <= 240.001
        assert beats_a_second(containers, interval_of(enough - 1, containers)) > 240


def test_throttled_beats_come_later_and_spread() -> None:
    """What was lost is sent again soon; what was throttled not at once, and no two at the same time."""
    assert pause_after(Beat.LOST, 40.0, 0.0) == 10
    assert [pause_after(Beat.THROTTLED, 40.0, draw) for draw in (0.0, 0.5, 1.0)] == [10, 15, 20]
    assert [pause_after(Beat.FIRST, 40.0, draw) for draw in (0.0, 0.5, 0.999)] == [0, 18, pytest.approx(39.2, abs=0.1)]
    assert [pause_after(Beat.DELIVERED, 40.0, draw) for draw in (0.0, 1.0)] == [40, 32]


def test_a_throttled_beat_is_told_apart(sfn_strict: StrictStepFunctions) -> None:
    """By its class, after as many tries as a beat has."""
    target = StepFunctionsTarget(sfn_strict.issue(), sfn_strict.client(), sleep=lambda _: None)
    sfn_strict.fault("SendTaskHeartbeat", *["throttle"] * 3)
    with pytest.raises(ThrottledError, match="too many requests"):
        target.heartbeat()
    target.heartbeat()
