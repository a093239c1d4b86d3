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

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.clients import build_client
from stepout.callbacks.delivery.decisions import Answer
from stepout.callbacks.worker.job import read_job
from stepout.callbacks.worker.protocols import Taken, WorkerOptions
from stepout.callbacks.worker.worker import Worker
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, InvalidTokenError, TaskError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logger("stepout.callbacks.worker")

_READ_TIMEOUT = 70
_LONGEST_NAME = 80
_GONE = frozenset({"ActivityDoesNotExist", "InvalidArn", "ValidationException"})
_PATIENCE = 60.0


class ActivitySource:
    """An activity as a source of tasks.

    Args:
        arn: The activity.
        client: Makes a boto3 Step Functions client, used for polling alone.
        name: The worker's, for the execution history.
    """

    returnable = False

    def __init__(self, arn: str, *, client: Callable[[], Any], name: str) -> None:
        self._arn = arn
        self._make_client = client
        self._name = name
        self._worked = False

    def __repr__(self) -> str:
        return f"activity {self._arn.rpartition(':')[2]}"

    def check(self) -> None:
        """Build the client."""
        self._client = self._make_client()

    def take(self, most: int, patience: float) -> Sequence[Taken]:  # noqa: ARG002 - one at a time, when the service answers
        """Wait for a task, for 60 seconds at most.

        Raises:
            ConfigurationError: There is no such activity, or it may not be read.
        """
        try:
            answer = self._client.get_activity_task(activityArn=self._arn, workerName=self._name)
        except Exception as error:
            refused = not self._worked and answer_to(error) is Answer.DENIED
            if _code(error) in _GONE or refused:
                raise ConfigurationError(
                    f"{self!r} cannot be read: {name_of(error)}. Does it exist in this account and region, and is "
                    "states:GetActivityTask allowed to the worker's role?"
                ) from error
            raise TaskError(name_of(error)) from error
        self._worked = True
        token = answer.get("taskToken")
        if not token:
            return []
        name = hashlib.sha256(token.encode()).hexdigest()[:8]
        try:
            return [Taken(job=read_job(answer.get("input") or "null", token), name=name)]
        except (InvalidDocumentError, InvalidTokenError) as error:
            _log.error("task %s cannot be read, and times out: %s", name, error)
            return []

    def keep(self, taken: Taken) -> float:
        """Do nothing: the task's own heartbeats are all that an activity wants."""
        return taken.every

    def absorb(self, running: Taken, again: Taken) -> None:
        """Do nothing: it is one task."""

    def finish(self, taken: Taken) -> None:
        """Do nothing: the report was the end of it."""

    def give_back(self, taken: Taken) -> None:
        """Do nothing: that cannot be done."""

    def refuse(self, taken: Taken) -> None:
        """Do nothing: it times out."""


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


class ActivityWorker(Worker):
    """Takes tasks from a Step Functions activity and runs a command for each.

    The input of the state is read as the body of a queue's message would be; the task token comes with it.

    Args:
        arn: The activity.
        command: The program and its arguments.
        worker_name: For the execution history; the host's name and the process's id unless given.
        client: A boto3 Step Functions client for polling, used as it is; its read timeout must be 65 seconds or more.
        options: By keyword, all optional: ``concurrency``, ``stop_timeout``, ``idle_exit``, ``limit``, ``label``,
            ``environ``, ``sfn_client``, ``clock``; see ``WorkerOptions``. ``idle_exit`` is looked at between two polls,
            each of which may take 60 seconds.

    Raises:
        ConfigurationError: An argument makes no sense, or there is no such program.

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
        source = ActivitySource(
            arn,
            client=lambda: client if client is not None else _make_client(arn),
            name=re.sub(r"[^A-Za-z0-9._-]", "-", name)[:_LONGEST_NAME],
        )
        super().__init__(source, command, patience=_PATIENCE, options=options)


def _make_client(arn: str) -> Any:
    """A client that outwaits a long poll."""
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": 1},
        user_agent_extra="stepout",
        tcp_keepalive=True,
    )
    return build_client("stepfunctions", near=arn, config=config)
