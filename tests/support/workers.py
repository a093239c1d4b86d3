"""What tests of workers share: queues, messages, jobs as programs, and workers as threads and as processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepout.callbacks.worker.sqs import SqsWorker
from stepout.local.aws import clean_environment
from support.ministack import unique, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stepout.callbacks.worker.protocols import WorkerCounts
    from stepout.callbacks.worker.worker import Worker
    from stepout.local import LocalAws
    from support.sfn_strict import StrictStepFunctions

__all__ = ["SHELL", "Place", "WorkerProcess", "job", "running"]

SHELL = ("sh", "-c", 'eval eval "$STEPOUT_INPUT"')
"""A command that runs its input, a JSON text of shell words, and reports nothing."""


def job(folder: Path, body: str) -> list[str]:
    """Return the command of a Python job; ``task`` and ``folder`` are there for ``body``."""
    lines = "\n    ".join(body.strip().splitlines())
    text = f"import os, sys, time, pathlib, stepout\nfolder = pathlib.Path({str(folder)!r})\n"
    path = folder / f"{unique('job')}.py"
    path.write_text(f"{text}with stepout.open_task() as task:\n    {lines}\n")
    return [sys.executable, str(path)]


@dataclass
class Place:
    """A queue of the test's own, and whoever waits for what is sent through it."""

    aws: LocalAws
    strict: StrictStepFunctions
    client: Any = field(init=False)
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.aws.client("sqs")
        self.url = self.queue()

    def queue(self, ending: str = "", **attributes: str) -> str:
        """Make another queue; a FIFO queue's name ends in ``.fifo``."""
        return str(self.client.create_queue(QueueName=unique("jobs") + ending, Attributes=attributes)["QueueUrl"])

    def arn(self, url: str) -> str:
        """The ARN of a queue."""
        answer = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def with_dead_letters(self, receives: int) -> str:
        """Give the place a queue with a dead-letter queue, and return the latter's URL."""
        dead = self.queue()
        policy = {"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": receives}
        self.url = self.queue(RedrivePolicy=json.dumps(policy))
        return dead

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a worker: SQS is the local AWS's, Step Functions the strict one."""
        return {**clean_environment(os.environ), **self.strict.environment, **self.aws.environ}

    def send(self, work: Any = None, *, token: str | None = None, **members: Any) -> str:
        """Send a message for a state that begins to wait, and return its token."""
        token = token or self.strict.issue()
        body = {"STEPOUT_TASK_TOKEN": token, "STEPOUT_STATE": "Mask", "STEPOUT_ATTEMPT": 0, **members}
        self.send_text(json.dumps(body if work is None else {**body, "STEPOUT_INPUT": work}))
        return token

    def send_text(self, text: str) -> None:
        """Send a message as it is."""
        self.client.send_message(QueueUrl=self.url, MessageBody=text)

    def left(self, url: str | None = None) -> tuple[int, int]:
        """How many messages are visible, and how many are not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.client.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def worker(self, command: Sequence[str], **options: Any) -> SqsWorker:
        """Make a worker of this queue that ends when nothing is left."""
        settings: dict[str, Any] = {
            "client": self.client,
            "sfn_client": self.strict.client(),
            "environ": self.environ,
            "idle_exit": 0.1,
            "poll": 0 if options.get("idle_exit", 0.1) else 1,
            "stop_timeout": 8.0,
            **options,
        }
        return SqsWorker(self.url, command, **settings)


@contextlib.contextmanager
def running(worker: Worker) -> Iterator[list[WorkerCounts]]:
    """Run a worker in a thread while the block runs, then stop it; what it tells in the end is in the list."""
    tallies: list[WorkerCounts] = []
    thread = threading.Thread(target=lambda: tallies.append(worker.run()))
    thread.start()
    try:
        yield tallies
    finally:
        worker.stop()
        thread.join()


class WorkerProcess:
    """``stepout worker …`` as a process, with what it prints."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stepout", "worker", *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until a text was printed so many times."""
        wait_until(lambda: self.printed.count(text) >= times, what=f"{text!r} among what the worker prints")

    @property
    def printed(self) -> str:
        """What was printed so far."""
        return "".join(list(self.lines))

    def finish(self) -> tuple[int, str]:
        """Wait for its end; returns the exit code and what it printed."""
        code = self.process.wait(timeout=300)
        self._reader.join(timeout=300)
        return code, self.printed
