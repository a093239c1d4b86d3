"""The part of ECS that a stand-in without Docker leaves out: it runs the containers' commands."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.local.silent_tasks import waits_for
from stepout.local.task import LocalTask, TaskRun, container_specs
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_logger = logger("stepout.local")

_POLL_SECONDS = 0.15
_REASON_CHARACTERS = 255


class EcsAgent(threading.Thread):
    """Watches the local ECS for tasks that run, and runs their commands on this machine.

    A task that disappears from ECS's list of running tasks (StopTask) gets SIGTERM, and SIGKILL after its stop
    timeout. A task whose command ended is stopped in ECS. ECS on the stand-in then says exit code 0 for any
    command; the real one is in ``tasks``, and in ``stoppedReason``.

    Args:
        ecs: A boto3 client.
        states: A boto3 client for Step Functions, which is asked whether a task that ended had reported.
        environ: The environment that every container starts from.
        folder: Where each task gets a temporary folder.
        mark: The mark of every process of this local AWS.
        on_line: Called with a container's name and one line of its output.
        on_group: Called with ``+pid`` and ``-pid`` as process groups come and go.
        on_change: Called when a task runs and when it has stopped: with a copy of its record, and what DescribeTasks
            says of it.
    """

    def __init__(  # noqa: PLR0913 - every part is given from outside
        self,
        ecs: Any,
        states: Any,
        *,
        environ: Mapping[str, str],
        folder: Path,
        mark: str,
        on_line: Callable[[str, str], None],
        on_group: Callable[[str], None],
        on_change: Callable[[LocalTask, Mapping[str, Any]], object],
    ) -> None:
        super().__init__(name="stepout-local-ecs", daemon=True)
        self._ecs, self._states = ecs, states
        self._environ, self._folder, self._mark = environ, folder, mark
        self._on_line, self._on_group, self._on_change = on_line, on_group, on_change
        self._closing = threading.Event()
        self._runs: dict[str, TaskRun] = {}
        self._unreachable = False

    @property
    def tasks(self) -> tuple[LocalTask, ...]:
        """Every task seen so far, in the order of their start."""
        return tuple(run.record for run in list(self._runs.values()))

    def run(self) -> None:
        """Poll until ``close``; a poll that fails is logged once and tried again."""
        while not self._closing.wait(_POLL_SECONDS):
            try:
                self._poll()
                self._unreachable = False
            except Exception as error:  # noqa: BLE001 - the agent must outlive whatever one poll meets
                if not self._unreachable:
                    _logger.warning("the local ECS cannot be asked (%s); trying again", type(error).__name__)
                self._unreachable = True

    def close(self, *, grace: float) -> None:
        """Stop watching and end every task: SIGTERM, then SIGKILL after ``grace`` seconds or the stop timeout."""
        self._closing.set()
        if self.is_alive():
            self.join()
        for run in self._runs.values():
            run.stop(grace=grace)
        for run in self._runs.values():
            run.join()

    def _poll(self) -> None:
        running = dict(self._running())
        for arn, cluster in running.items():
            if arn not in self._runs and not self._closing.is_set():
                self._start(arn, cluster)
        for arn, run in self._runs.items():
            if arn not in running and run.is_alive():
                run.stop()

    def _running(self) -> Iterator[tuple[str, str]]:
        for clusters in self._ecs.get_paginator("list_clusters").paginate():
            for cluster in clusters["clusterArns"]:
                for page in self._ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="RUNNING"):
                    for arn in page["taskArns"]:
                        yield arn, cluster

    def _start(self, arn: str, cluster: str) -> None:
        task = self._ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"][0]
        definition = self._ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])["taskDefinition"]
        record = LocalTask(arn=arn, definition=task["taskDefinitionArn"])
        run = TaskRun(
            record,
            container_specs(definition, task.get("overrides", {})),
            environ=self._environ,
            folder=self._folder / record.id,
            mark=self._mark,
            on_line=self._on_line,
            on_group=self._on_group,
            on_end=lambda ended, tokens: self._ended(ended, tokens, cluster),
        )
        self._runs[arn] = run
        _logger.info("task %s starts: %s", record.id[:8], definition["family"])
        self._on_change(replace(record), task)
        run.start()

    def _ended(self, task: LocalTask, tokens: set[str], cluster: str) -> None:
        """Tell ECS, and say so if nobody was told of the task's outcome."""
        _logger.info("task %s ended: %s", task.id[:8], task.reason)
        try:
            if tokens:
                task.reported = not any(self._waiting(token) for token in tokens)
            self._ecs.stop_task(cluster=cluster, task=task.arn, reason=(task.reason or "")[:_REASON_CHARACTERS])
            if not self._closing.is_set():
                described = self._ecs.describe_tasks(cluster=cluster, tasks=[task.arn])["tasks"][0]
                self._on_change(replace(task, status="STOPPED"), described)
        except Exception as error:  # noqa: BLE001 - a task's thread must end in order, whatever ECS answers
            _logger.warning("the end of task %s could not be recorded (%s)", task.id, type(error).__name__)
        if task.reported is False:
            _logger.error(
                "task %s ended with exit code %s and reported nothing: its state still waits, until its "
                "HeartbeatSeconds or TimeoutSeconds",
                task.id[:8],
                task.exit_code,
            )

    def _waiting(self, token: str) -> bool:
        """Whether a state still waits for this token, after a moment in which a report may arrive."""
        for _ in range(3):
            if not waits_for(self._states, token):
                return False
            time.sleep(_POLL_SECONDS)
        return True
