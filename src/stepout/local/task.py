"""One ECS task on this machine: its containers' commands as processes, stopped the way ECS stops them."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from stepout.callbacks.process.child_process import ChildProcess
from stepout.callbacks.process.exit_codes import code_of
from stepout.callbacks.process.output import LineSplitter
from stepout.local.marked_processes import MARKER, end_marked
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_logger = logger("stepout.local")

DEFAULT_STOP_TIMEOUT = 30.0
"""Seconds between SIGTERM and SIGKILL where a container definition has no ``stopTimeout`` (ECS documentation)."""

_KEPT_LINES = 1_000
_POLL_SECONDS = 0.05
_DRAIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """What a task definition and RunTask's overrides say about one container."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    essential: bool = True
    stop_timeout: float = DEFAULT_STOP_TIMEOUT


@dataclass(kw_only=True)
class LocalContainer:
    """The record of one container.

    Attributes:
        name: Its name in the task definition.
        pid: Of its process, once started.
        exit_code: ``None`` while it runs; 128 + n where signal n ended it, as Docker counts.
        reason: Why it was not started.
        output: The last thousand lines of its standard output and standard error, tokens taken out.
    """

    name: str
    pid: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES), repr=False)


@dataclass(kw_only=True)
class LocalTask:
    """The record of one ECS task: what the stand-in's DescribeTasks cannot hold.

    Attributes:
        arn: The task's ARN.
        definition: The task definition's ARN.
        status: ``"RUNNING"`` or ``"STOPPED"``.
        stop_code: ``EssentialContainerExited``, ``UserInitiated`` or ``TaskFailedToStart``; ``None`` while it runs.
        reason: A sentence for people.
        reported: Whether every task token it was given had been used when it ended; ``None`` without a token.
        containers: In the order of the task definition.
    """

    arn: str
    definition: str
    status: Literal["RUNNING", "STOPPED"] = "RUNNING"
    stop_code: str | None = None
    reason: str | None = None
    reported: bool | None = None
    containers: list[LocalContainer] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def exit_code(self) -> int | None:
        """The first container's exit code."""
        return self.containers[0].exit_code if self.containers else None


def container_specs(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[ContainerSpec]:
    """Merge a task definition with RunTask's overrides, as ECS does.

    An override's ``command`` replaces the definition's, ``entryPoint`` stays in front, and environment variables are
    replaced one by one. Images are ignored.

    Args:
        definition: The ``taskDefinition`` of DescribeTaskDefinition.
        overrides: The ``overrides`` of DescribeTasks.

    Returns:
        One specification for each container definition.

    Examples:
        >>> definition = {"containerDefinitions": [{"name": "job", "entryPoint": ["python"], "command": ["a.py"]}]}
        >>> container_specs(definition, {"containerOverrides": [{"name": "job", "command": ["b.py"]}]})[0].command
        ('python', 'b.py')
    """
    by_name = {each.get("name"): each for each in overrides.get("containerOverrides", ())}
    return [_merge(each, by_name.get(each["name"], {})) for each in definition.get("containerDefinitions", ())]


def _merge(container: Mapping[str, Any], override: Mapping[str, Any]) -> ContainerSpec:
    command = override.get("command") or container.get("command") or ()
    pairs = (*container.get("environment", ()), *override.get("environment", ()))
    return ContainerSpec(
        name=container["name"],
        command=(*container.get("entryPoint", ()), *command),
        environment={pair["name"]: pair.get("value", "") for pair in pairs},
        essential=container.get("essential", True),
        stop_timeout=float(container.get("stopTimeout", DEFAULT_STOP_TIMEOUT)),
    )


def open_tokens(specs: Sequence[ContainerSpec]) -> set[str]:
    """Return the task tokens among the containers' variables: every one whose name ends in ``TOKEN``."""
    return {
        value for spec in specs for name, value in spec.environment.items() if value and name.upper().endswith("TOKEN")
    }


def container_environ(spec: ContainerSpec, base: Mapping[str, str], *, folder: Path, mark: str) -> dict[str, str]:
    """Return the whole environment of a container's process.

    Args:
        spec: The container; its own variables win over the others.
        base: What every container of this local AWS has.
        folder: Its task's temporary folder.
        mark: The mark of its task's processes; the container's own variables cannot replace it.
    """
    return {**base, "TMPDIR": str(folder), **spec.environment, MARKER: mark}


class TaskRun(threading.Thread):
    """Runs one task: starts its containers, follows them, stops them, and writes its record."""

    def __init__(  # noqa: PLR0913 - every part is given from outside
        self,
        record: LocalTask,
        specs: Sequence[ContainerSpec],
        *,
        environ: Mapping[str, str],
        folder: Path,
        mark: str,
        on_line: Callable[[str, str], None],
        on_group: Callable[[str], None],
        on_end: Callable[[LocalTask, set[str]], None],
    ) -> None:
        super().__init__(name=f"stepout-local-{record.id}", daemon=True)
        self.record = record
        self._specs = [spec for spec in specs if spec.command]
        self._tokens = open_tokens(specs)
        self._environ = environ
        self._folder = folder
        self._mark = f"{mark}/{record.id}"
        self._on_line, self._on_group, self._on_end = on_line, on_group, on_end
        self._stopping = threading.Event()
        self._grace = float("inf")
        self._children: list[ChildProcess] = []

    def stop(self, *, grace: float = float("inf")) -> None:
        """Ask the containers to stop; each is killed after its stop timeout, or ``grace`` seconds if that is less."""
        self._grace = min(self._grace, grace)
        self._stopping.set()

    def run(self) -> None:
        """Run the task to its end."""
        try:
            if self._start_all():
                self._follow()
                self._end_all()
        finally:
            self._close()

    def _start_all(self) -> bool:
        self._folder.mkdir(parents=True)
        if not self._specs:
            return self._failed("no container of the task definition has a command (images are not run here)")
        for spec in self._specs:
            try:
                self._start(spec)
            except (OSError, ValueError) as error:
                self._end_all()
                why = f"CannotStartContainerError: {spec.name}: {_why(error)}"
                self.record.containers.append(LocalContainer(name=spec.name, reason=why))
                return self._failed(why)
        return True

    def _failed(self, reason: str) -> bool:
        self.record.stop_code, self.record.reason = "TaskFailedToStart", reason
        _logger.error("task %s was not started: %s", self.record.id, reason)
        return False

    def _start(self, spec: ContainerSpec) -> None:
        environ = container_environ(spec, self._environ, folder=self._folder, mark=self._mark)
        program = shutil.which(spec.command[0], path=environ.get("PATH")) or spec.command[0]
        container = LocalContainer(name=spec.name)
        lines = LineSplitter(partial(self._keep_line, container))
        child = ChildProcess((program, *spec.command[1:]), environ, stdout=lines, stderr=lines, drain=_DRAIN_SECONDS)
        child.start()
        child.launched.wait()
        if child.pid is None:
            raise child.refused or OSError(f"{child.broken}")
        # First: should this process be killed now, the janitor ends the group.
        self._on_group(f"+{child.pid}")
        container.pid = child.pid
        self.record.containers.append(container)
        self._children.append(child)

    def _keep_line(self, container: LocalContainer, line: str) -> None:
        for token in self._tokens:
            line = line.replace(token, "[task token]")
        container.output.append(line)
        try:
            self._on_line(f"{container.name} {self.record.id[:8]}", line)
        except Exception:
            # A fault in the callback must not stop the container that prints.
            _logger.exception("on_output failed for a line of %s", container.name)

    def _follow(self) -> None:
        while not self._stopping.is_set() and not self._ended():
            self._stopping.wait(_POLL_SECONDS)
        if self._ended():
            codes = ", ".join(f"{c.name}: {c.exit_code}" for c in self.record.containers if c.exit_code is not None)
            self.record.stop_code = "EssentialContainerExited"
            self.record.reason = f"Essential container in task exited (exit code {codes})"
        else:
            self.record.stop_code, self.record.reason = "UserInitiated", "StopTask"

    def _ended(self) -> bool:
        self._collect()
        pairs = list(zip(self._specs, self._children, strict=True))
        gone = [spec for spec, child in pairs if child.exited.is_set()]
        return len(gone) == len(pairs) or any(spec.essential for spec in gone)

    def _collect(self) -> None:
        for child, container in zip(self._children, self.record.containers, strict=True):
            if child.exited.is_set():
                container.exit_code = code_of(child.returncode)

    def _end_all(self) -> None:
        """Send SIGTERM to every container, SIGKILL to those that outlive their stop timeout; then end what is left."""
        started = time.monotonic()
        for child in self._children:
            child.terminate()
        for spec, child in zip(self._specs, self._children, strict=False):
            # In short waits: ``stop`` may shorten the grace meanwhile.
            while not child.exited.wait(_POLL_SECONDS):
                if time.monotonic() - started >= min(spec.stop_timeout, self._grace):
                    child.kill()
                    break
            child.exited.wait()
        self._collect()
        # Before the wait for the output: a daemon that left its session may hold the stream open.
        end_marked(self._mark)

    def _close(self) -> None:
        for child in self._children:
            child.ended.wait()
            self._on_group(f"-{child.pid}")
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._on_end(self.record, self._tokens)
        finally:
            self.record.status = "STOPPED"


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
