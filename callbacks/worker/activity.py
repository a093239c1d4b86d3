"""Tasks from a Step Functions activity.

Facts of the service (API reference of GetActivityTask): it holds a connection for up to 60 seconds, so a client waits
for at least 65; it answers with a null token when nothing came. A task that it handed out cannot be given back.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from typing import TYPE_CHECKING, Any, Unpack

from stepout.callbacks.delivery.answers import error_code, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.worker.job import read_job
from stepout.callbacks.worker.protocols import TakenTask, WorkerOptions
from stepout.callbacks.worker.worker import Worker
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, InvalidTokenError
from stepout.schemas.runtime.process import PerProcess
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logger("stepout.callbacks.worker")

_READ_TIMEOUT = 70.0
_LONGEST_NAME = 80
_PATIENCE = 60.0


class ActivitySource:
    """An activity as a source of tasks.

    Args:
        arn: The activity.
        client: A boto3 Step Functions client, used only for polling; one is built when it is needed.
        name: The worker's, for the execution history.
    """

    returnable = False
    remedy = "Does it exist in this account and region, and is states:GetActivityTask allowed to the worker's role?"

    def __init__(self, arn: str, *, client: Any, name: str) -> None:
        self._arn = arn
        self._client = PerProcess(
            lambda: build_client("stepfunctions", near=arn, read_timeout=_READ_TIMEOUT),
            client,
            name="Step Functions client",
        )
        self._name = name

    def __repr__(self) -> str:
        return f"activity {self._arn.rpartition(':')[2]}"

    def check(self) -> None:
        """Build the client.

        Raises:
            ConfigurationError: No client could be built, e.g. because no region is set.
        """
        self._client.get()

    def take(self, most: int, patience: float) -> Sequence[TakenTask]:  # noqa: ARG002 - one at a time, when the service answers
        """Wait for a task, for 60 seconds at most.

        Raises:
            ConfigurationError: The ARN or the worker's name breaks a rule of the service.
        """
        try:
            answer = self._client.get().get_activity_task(activityArn=self._arn, workerName=self._name)
        except Exception as error:
            if error_code(error) == "ValidationException":
                raise ConfigurationError(f"{self!r} cannot be read: {name_of(error)}. {self.remedy}") from error
            raise
        token = answer.get("taskToken")
        if not token:
            return []
        name = hashlib.sha256(token.encode()).hexdigest()[:8]
        try:
            return [TakenTask(job=read_job(answer.get("input") or "null", token), name=name)]
        except (InvalidDocumentError, InvalidTokenError) as error:
            _log.error("task %s cannot be read, and times out: %s", name, error)
            return []

    def keep(self, taken: TakenTask) -> float:
        """Do nothing: an activity needs only the task's own heartbeats."""
        return taken.every

    def absorb(self, running: TakenTask, again: TakenTask) -> None:
        """Do nothing: an activity hands out each task once."""

    def finish(self, taken: TakenTask) -> None:
        """Do nothing: the report has ended the task."""

    def give_back(self, taken: TakenTask) -> None:
        """Do nothing: a task of an activity cannot be given back."""

    def refuse(self, taken: TakenTask) -> None:
        """Do nothing: the task times out."""


class ActivityWorker(Worker):
    """Takes tasks from a Step Functions activity and runs a command for each.

    The input of the state is read as the body of a queue's message would be; the task token comes with it.

    Args:
        arn: The activity.
        command: The program and its arguments.
        worker_name: For the execution history; the host's name and the process's id unless given.
        client: A boto3 Step Functions client for polling, used as it is; its read timeout must be 65 seconds or more.
        options: By keyword, all optional; see ``WorkerOptions``. ``idle_exit`` is checked between two polls, each of
            which may take 60 seconds.

    Raises:
        ConfigurationError: An argument is invalid, or the program does not exist.

    Example:
        >>> import sys
        >>> ActivityWorker("arn:aws:states:eu-west-1:123456789012:activity:mask", [sys.executable, "-m", "mask"])
        ActivityWorker(activity mask)
    """

    def __init__(
        self,
        arn: str,
        command: Sequence[str],
        *,
        worker_name: str | None = None,
        client: Any = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        if not re.match(r"arn:[^:]+:states:[^:]+:[^:]*:activity:.", arn):
            raise ConfigurationError("an activity is named by its ARN, arn:aws:states:REGION:ACCOUNT:activity:NAME")
        name = worker_name or f"{platform.node()}-{os.getpid()}"
        source = ActivitySource(arn, client=client, name=re.sub(r"[^A-Za-z0-9._-]", "-", name)[:_LONGEST_NAME])
        super().__init__(source, command, patience=_PATIENCE, options=options)
