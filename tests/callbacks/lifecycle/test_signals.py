"""Signals in one process: the handler, the watcher, and everything around the edges of the block."""
# ruff: noqa: PT012 - what happens in the block is what is tested

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.lifecycle.signals import grace_of
from stepout.schemas import RunIdentity
from stepout.schemas.errors import StoreUnavailableError, TaskClosedError, TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepout.schemas import Pointer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def send(number: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to this process, as the outside would."""
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[int]]:
    """Signals outside a task are counted instead of ending the tests; handlers are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    outside: list[int] = []
    for number in before:
        signal.signal(number, lambda received, _frame: outside.append(received))
    yield outside
    for number, handler in before.items():
        signal.signal(number, handler)


class Uploads:
    """An artifact manager whose document waits for the abort, as an upload to a stalled server does."""

    run = RunIdentity()

    def __init__(self) -> None:
        self.pointers: Mapping[str, Pointer] = {}
        self.aborted = threading.Event()

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:  # noqa: ARG002 - a protocol's
        """Fail once it is aborted."""
        send()
        assert self.aborted.wait(60)
        raise StoreUnavailableError("aborted")

    def abort(self) -> None:
        """Let go of uploads, and fail at it."""
        self.aborted.set()
        raise StoreUnavailableError("no answer")


def error(target: RecordingTarget) -> str:
    """The error of the one failure."""
    (failure,) = target.failures
    assert target.successes == []
    return str(failure["error"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_block_interrupts_it(number: signal.Signals, code: int, handlers: list[int]) -> None:
    """Uploads are aborted, one failure, the conventional exit code; who handled it before is not asked."""
    target, uploads = RecordingTarget(), Uploads()
    with pytest.raises(SystemExit) as caught, Task(target, artifacts=uploads) as task:
        send(number)
        time.sleep(60)
    assert caught.value.code == code
    assert error(target) == "Stepout.Interrupted"
    assert uploads.aborted.is_set()
    assert task.cancelled
    assert handlers == []
    with pytest.raises(TaskInterrupted):
        task.check()


def test_an_interruption_that_became_another_exception_is_still_one() -> None:
    """Libraries wrap what passes through them."""
    target = RecordingTarget()
    with pytest.raises(SystemExit), Task(target):
        try:
            send()
            time.sleep(60)
        except TaskInterrupted as interrupted:
            raise ValueError("wrapped") from interrupted
    assert error(target) == "Stepout.Interrupted"
    assert "wrapped" in target.failures[0]["cause"]["traceback"]


def test_a_block_that_does_not_end_in_time_is_reported_by_the_watcher() -> None:
    """The process is ended from there; the main thread makes no second report."""
    target, ended = RecordingTarget(), threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    with pytest.raises(SystemExit), Task(target, stop_timeout=0.2, end_process=end):
        try:
            send()
            time.sleep(60)
        except TaskInterrupted:
            assert ended.wait(60)
    assert codes == [143]
    assert error(target) == "Stepout.Interrupted"
    assert "test_a_block_that_does_not_end_in_time" in target.failures[0]["cause"]["traceback"]


def test_the_main_thread_waits_for_a_report_of_the_watcher() -> None:
    """Else the process could end in the middle of it."""
    left, begun = threading.Event(), threading.Event()
    codes: list[int] = []

    class Slow(RecordingTarget):
        def failure(self, error: str, cause: str) -> None:
            """Take until the main thread has left the block."""
            begun.set()
            assert left.wait(60)
            super().failure(error, cause)

    target = Slow()
    with pytest.raises(SystemExit), Task(target, stop_timeout=0.2, end_process=codes.append):
        try:
            send()
            time.sleep(60)
        except TaskInterrupted:
            assert begun.wait(60)
            threading.Timer(0.2, left.set).start()
            raise ValueError("on the way out") from None
    assert codes == [143]
    assert error(target) == "Stepout.Interrupted"


def test_a_signal_waits_for_a_report_that_has_begun() -> None:
    """Success stays success; the targets are told to hurry; then the process ends as asked."""

    class Signalled(RecordingTarget):
        limited: tuple[float, ...] = ()

        def success(self, document: Mapping[str, Any]) -> None:
            """Be interrupted in the middle, for longer than there is time."""
            send()
            deadline = time.monotonic() + 60
            while not self.limited and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.3)
            super().success(document)

        def limit(self, seconds: float) -> None:
            """Note it, and fail."""
            self.limited += (seconds,)
            raise OSError

    target = Signalled()
    codes: list[int] = []
    with pytest.raises(SystemExit) as caught, Task(target, stop_timeout=0.2, end_process=codes.append):
        pass
    assert caught.value.code == 143
    assert len(target.successes) == 1
    assert target.failures == []
    assert codes == []
    assert list(target.limited) == [pytest.approx(0.1)]


def test_a_signal_during_the_report_of_a_failure_leaves_the_exception_alone() -> None:
    """It ends the process as well, and says more."""

    class Signalled(RecordingTarget):
        def failure(self, error: str, cause: str) -> None:
            """Be interrupted in the middle."""
            send()
            super().failure(error, cause)

    target = Signalled()
    with pytest.raises(ValueError, match="mine"), Task(target):
        raise ValueError("mine")
    assert error(target) == "ValueError"


def test_a_signal_during_the_first_heartbeat_means_no_work() -> None:
    """The block is never entered, and the state hears of it."""

    class Signalled(RecordingTarget):
        def heartbeat(self) -> None:
            """Be interrupted."""
            send()

    target = Signalled()
    with pytest.raises(SystemExit), Task(target):
        pytest.fail("the block ran")
    assert error(target) == "Stepout.Interrupted"


def test_a_signal_while_the_output_spills_aborts_it() -> None:
    """The report has not begun yet: it is an interruption."""
    target, uploads = RecordingTarget(), Uploads()
    with pytest.raises(SystemExit) as caught, Task(target, artifacts=uploads, budget=1_000) as task:
        task.result["text"] = "x" * 2_000
    assert caught.value.code == 143
    assert error(target) == "Stepout.Interrupted"


def test_a_signal_at_any_moment_leaves_exactly_one_report() -> None:
    """Around every edge of entering and leaving, hundreds of times; never none, never two."""
    generator, outcomes = random.Random(7), set()
    for number in range(20_000):
        if number >= 250 and (143, False) in outcomes:  # on a busy machine few come in time
            break
        target, delay, tell = RecordingTarget(), generator.random() / 400, threading.Event()

        def later(delay: float = delay, tell: threading.Event = tell) -> None:
            tell.wait()
            until = time.perf_counter() + delay
            while time.perf_counter() < until:
                pass
            send()

        thread = threading.Thread(target=later)
        thread.start()
        code: Any = None
        try:
            tell.set()
            with Task(target):
                sum(range(2_000))
        except SystemExit as left:
            code = left.code
        thread.join()
        assert len(target.successes) + len(target.failures) == 1
        assert code in (None, 143)
        assert code == 143 or target.successes
        outcomes.add((code, bool(target.successes)))
    assert (143, False) in outcomes


def test_who_listened_to_the_wake_up_descriptor_still_hears() -> None:
    """Bytes are passed on, and the descriptor is put back."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    before = signal.set_wakeup_fd(ours.fileno())
    with pytest.raises(SystemExit), Task(RecordingTarget()):
        send()
        time.sleep(60)
    assert signal.set_wakeup_fd(before) == ours.fileno()
    assert signal.SIGTERM in theirs.recv(16)
    ours.close()
    theirs.close()


def test_a_wake_up_descriptor_that_was_taken_over_is_left_alone() -> None:
    """An event loop that still runs needs it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    before = signal.set_wakeup_fd(-1)
    with Task(RecordingTarget()):
        signal.set_wakeup_fd(ours.fileno())
    assert signal.set_wakeup_fd(before) == ours.fileno()
    ours.close()
    theirs.close()


def test_an_ignored_keyboard_interrupt_stays_ignored() -> None:
    """A shell starts background jobs so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target = RecordingTarget()
    with Task(target):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        send(signal.SIGINT)
    assert len(target.successes) == 1


@pytest.mark.parametrize("end", ["goes on", "exits with 0", "exits with 143", "fails"])
def test_a_stop_that_the_job_handles_itself_is_no_success(end: str, handlers: list[int]) -> None:
    """Its handler is called, once, and stays; nothing is raised in the block, and the state hears of it."""
    target, seen = RecordingTarget(), []

    def mine(number: int, _frame: object) -> None:
        seen.append(number)
        if end.startswith("exits"):
            sys.exit(int(end.removeprefix("exits with ")))
        if end == "fails":
            raise ValueError("mine")

    with pytest.raises(SystemExit) as caught, Task(target) as task:
        signal.signal(signal.SIGTERM, mine)
        send()
        assert task.cancelled.wait(60)
        time.sleep(0.5)  # Time for the watcher to wake the main thread, which it must not do.
    assert caught.value.code == 143
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is mine
    assert error(target) == "Stepout.Interrupted"
    assert handlers == []


def test_a_job_that_handles_its_signals_is_told_that_nobody_waits() -> None:
    """Its own handlers are not called for that."""
    target, seen = RecordingTarget(), []
    with pytest.raises(TaskClosedError), Task(target, heartbeat=0.06):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: seen.append(1))
        target.close()
        time.sleep(60)
    assert seen == []


def test_a_handler_of_the_jobs_that_calls_ours_interrupts_the_block() -> None:
    """As handlers are chained."""
    target = RecordingTarget()
    with pytest.raises(SystemExit), Task(target):
        ours: Any = signal.getsignal(signal.SIGTERM)

        def mine(number: int, frame: object) -> None:
            ours(number, frame)

        signal.signal(signal.SIGTERM, mine)
        send()
        time.sleep(60)
    assert error(target) == "Stepout.Interrupted"
    assert "TaskInterrupted" in target.failures[0]["cause"]["traceback"]


@pytest.mark.parametrize("wait", [lambda: time.sleep(60), lambda: threading.Event().wait(60)])
def test_what_a_closing_event_loop_takes_away_is_set_again(wait: Any) -> None:
    """Handler and descriptor, also while the main thread waits for something."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    target = RecordingTarget()

    def send_once_armed() -> None:
        deadline = time.monotonic() + 60
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and time.monotonic() < deadline:
            time.sleep(0.01)
        send()

    with pytest.raises(SystemExit), Task(target):
        # As asyncio does it, without its noise.
        signal.set_wakeup_fd(ours.fileno())
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        threading.Thread(target=send_once_armed).start()
        wait()
    assert error(target) == "Stepout.Interrupted"
    ours.close()
    theirs.close()


def test_a_loop_that_takes_the_descriptor_still_hears_and_so_do_we() -> None:
    """Its descriptor is told all that comes, is given back in the end, and is not written to once it is closed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)
    target = RecordingTarget()
    before = signal.set_wakeup_fd(-1)
    with pytest.raises(SystemExit), Task(target) as task:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(ours.fileno())
        deadline = time.monotonic() + 60
        while ours.fileno() not in task._guard._wake_up._copies and time.monotonic() < deadline:  # type: ignore[union-attr]
            time.sleep(0.01)
        send()
        assert theirs.recv(16) == bytes([signal.SIGTERM])
        assert task.cancelled.wait(60)
    assert error(target) == "Stepout.Interrupted"
    assert signal.set_wakeup_fd(before) == ours.fileno()
    ours.close()
    theirs.close()


def test_without_pthread_kill_the_next_python_code_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where nothing wakes a wait."""
    monkeypatch.delattr(signal, "pthread_kill")
    target = RecordingTarget()
    with pytest.raises(TaskClosedError), Task(target, heartbeat=0.06):
        target.close()
        while True:
            time.sleep(0.01)


def test_a_signal_interrupts_every_task_around() -> None:
    """The inner one unwinds, the outer one follows with what leaves it, and neither reports success."""
    outer, inner = RecordingTarget(), RecordingTarget()
    with pytest.raises(SystemExit), Task(outer) as around:
        with pytest.raises(SystemExit), Task(inner):
            send()
            time.sleep(60)
        assert around.cancelled.wait(60)
    assert error(outer) == error(inner) == "Stepout.Interrupted"


def test_a_signal_while_an_inner_task_is_entered_reaches_it() -> None:
    """It came before the inner task listened."""

    class Signalled(RecordingTarget):
        @property
        def redactor(self) -> None:
            """Nothing."""

    outer, inner = RecordingTarget(), Signalled()
    with pytest.raises(SystemExit), Task(outer) as around:
        task = Task(inner)
        around._guard._noted = 15  # As its handler leaves it when it finds the inner task's __enter__ at work.
        with task:
            time.sleep(60)
    assert error(outer) == error(inner) == "Stepout.Interrupted"


@pytest.mark.parametrize(("stop_timeout", "grace"), [(120, 110), (30, 20), (20, 10), (12, 6), (2, 1)])
def test_the_watcher_leaves_itself_ten_seconds_or_half(stop_timeout: float, grace: float) -> None:
    """Enough to report before SIGKILL."""
    assert grace_of(stop_timeout) == grace
