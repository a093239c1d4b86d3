"""Starts jobs as a container would: real processes, a token of the strict Step Functions."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from support.forked import start_python

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

    from support.sfn_strict import StrictStepFunctions

PREAMBLE = """
import logging, os, sys, threading, time
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
import stepout
def ready():
    print("READY", flush=True)
def ready_in(function, busy=False):
    # Say so once the main thread is inside that function; native code begins a moment later, at the latest when the
    # thread has used more time of a processor than Python code before it could.
    def names(frame):
        while frame is not None:
            yield frame.f_code.co_name
            yield os.path.basename(frame.f_code.co_filename) + ":" + frame.f_code.co_name
            frame = frame.f_back
    def watch():
        main = threading.main_thread().ident
        while function not in names(sys._current_frames()[main]):
            time.sleep(0.01)
        if busy and hasattr(time, "pthread_getcpuclockid"):
            clock = time.pthread_getcpuclockid(main)
            enough = time.clock_gettime(clock) + 0.5
            while time.clock_gettime(clock) < enough:
                time.sleep(0.01)
        else:
            time.sleep(0.2)
        ready()
    threading.Thread(target=watch, daemon=True).start()
"""


class Job:
    """A process that runs a script as a container would, with a token of the strict Step Functions."""

    def __init__(self, server: StrictStepFunctions, script: str, *, measured: bool = True, **environment: str) -> None:
        self.server = server
        self.token = server.issue()
        left_out = ("AWS_", "STEPOUT_") if measured else ("AWS_", "STEPOUT_", "COVERAGE_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self.process = start_python(
            ["-c", PREAMBLE + textwrap.dedent(script)],
            env={
                **inherited,
                **server.environment,
                "STEPOUT_TASK_TOKEN": self.token,
                "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:Segment:one",
                "STEPOUT_STATE": "Mask",
                "STEPOUT_ATTEMPT": "0",
                **environment,
            },
            text=True,
        )

    def ready(self) -> Job:
        """Wait until the script says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "READY" in line:
                return self
        raise AssertionError(self.finish())

    def send(self, *signals: signal.Signals) -> Job:
        """Send signals, one after the other."""
        for number in signals:
            self.process.send_signal(number)
        return self

    def finish(self) -> tuple[int, str]:
        """Wait for the end; the token is in nothing that the process printed, not even at debug level."""
        stdout, stderr = self.process.communicate(timeout=300)
        assert self.token[:24] not in stdout + stderr
        return self.process.returncode, stdout + stderr


@pytest.fixture
def jobs(sfn_strict: StrictStepFunctions) -> Iterator[Any]:
    """Starts jobs; none outlives its test."""
    started: list[Job] = []

    def start(script: str, *, measured: bool = True, **environment: str) -> Job:
        started.append(Job(sfn_strict, script, measured=measured, **environment))
        return started[-1]

    yield start
    for job in started:
        job.process.kill()
        job.process.communicate()
