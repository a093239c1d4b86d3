"""A child process: started, fed with signals, listened to, and never left behind.

Signals raise exceptions in the main thread, so a thread of its own handles the child, and no exception can interrupt
that work. This thread starts the command as the leader of a process group, waits for its end, and ends the processes
that are left in the group. Up to two more threads read the command's output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final

from stepout.callbacks.process.orphans import reap_orphans_until
from stepout.callbacks.process.process_group import end_group, kill_group, signal_group, spawn
from stepout.callbacks.process.tail import DEFAULT_SIZE, Tail, TailSize
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_log = logger("stepout.callbacks.child")

Sink = Callable[[bytes], object]
"""Takes a process's output, piece by piece; ``b""`` means the end."""

_CHUNK: Final = 1 << 16
_REST_SECONDS: Final = 2.0
"""Seconds from SIGTERM to SIGKILL for the processes that a foreground command left behind."""
_SILENCE_MS: Final = 500
"""Seconds of silence, after the end of the command and its group, before a stream that others hold open is dropped."""


def kill_after(grace: float) -> float:
    """Return the seconds from a signal to the command's SIGKILL, few enough to leave time for a report.

    Args:
        grace: Seconds after which the task's watcher reports by itself; see ``signals.grace_of``.

    Example:
        >>> kill_after(20.0), kill_after(1.0)
        (18.0, 0.75)
    """
    return grace - min(2.0, grace / 4)


class ChildProcess:
    """A command, from its start to the end of everything that it started in its group.

    A background command leads a session of its own and reads no input; processes that it leaves behind are killed at
    once, because the next task needs the memory. A foreground command does this process's work in its place: it stays
    in the session (so that our parent process can end it together with us), it reads our standard input, and processes
    that it leaves behind have two seconds.

    Args:
        command: The program and its arguments; no shell.
        environ: Its whole environment.
        stdout: Takes its standard output; ``None``: it writes to ours.
        stderr: Takes its standard error; ``None``: it writes to ours. If it is the same object as ``stdout``, that
            takes both, in order.
        tail: How many lines and bytes of each stream are kept.
        folder: The working directory; ours by default.
        foreground: See above.
        drain: The most seconds to wait for the rest of its output, once it and its group have ended.
        first_process: Whether to reap the orphans that this process inherits, as PID 1 must.

    Attributes:
        launched: Set once it runs, or could not be started.
        exited: Set once the command itself has ended, or could not be started.
        ended: Set once the command, its group and its output have ended, or it could not be started.
        returncode: As ``subprocess`` has it: negative for a signal.
        killed: Whether ``kill`` ended it.
        refused: The system's error if it would not start the command.
        broken: The error if this process could not start or follow the command: no thread or no memory was left.
        stdout: The end of its standard output.
        stderr: The end of its standard error.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each with its own meaning
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        tail: TailSize = DEFAULT_SIZE,
        folder: str | None = None,
        foreground: bool = False,
        drain: float | None = None,
        first_process: bool = False,
    ) -> None:
        self._command, self._environ, self._folder = list(command), dict(environ), folder
        self._sinks, self._foreground, self._drain = (stdout, stderr), foreground, drain
        self._reaps_orphans = first_process and hasattr(os, "waitid")
        self._lock = threading.RLock()  # Reentrant: a signal handler may run in the thread that holds it.
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = False
        self._early: list[int] = []
        self._begun = self._never = False
        self._hushed = threading.Event()
        self.launched, self.exited, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.returncode = 0
        self.killed = False
        self.refused: OSError | None = None
        self.broken: BaseException | None = None
        self.stdout, self.stderr = Tail(tail), Tail(tail)

    @property
    def pid(self) -> int | None:
        """Its process id, once it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, in the thread that owns it from then on."""
        self._begun = True
        try:
            threading.Thread(target=self._run, name="stepout-child", daemon=True).start()
        except RuntimeError as error:  # The process may not start one more thread.
            self.broken = error
            self._set_all()

    def send(self, signum: int) -> None:
        """Send a signal to the command's process group; do nothing once the group has ended."""
        # Under the lock: the owner thread notes the group's end under it, and the number may then be another group's.
        with self._lock:
            if self._process is None:
                self._early.append(signum)
            elif not self._gone:
                signal_group(self._process.pid, signum)

    def terminate(self) -> None:
        """Send SIGTERM to the command alone, not to its group, as a container's first process gets it."""
        with self._lock, contextlib.suppress(OSError):
            if self._process is not None and not self._gone:
                self._process.terminate()

    def kill(self) -> None:
        """End it with its whole group, and its session, at once: SIGKILL."""
        with self._lock:
            if self._process is not None and not self._gone:
                self.killed = not self.exited.is_set()
                kill_group(self._process.pid)

    def stop(self, signum: int | None, seconds: float) -> bool:
        """Send a signal, wait, and kill the command if it still runs.

        Args:
            signum: The signal to send; ``None`` if it was sent already.
            seconds: Seconds from now to SIGKILL.

        Returns:
            Whether it ended by itself.
        """
        with self._lock:
            self._never = self._process is None
        if signum is not None:
            self.send(signum)
        if not self._begun or self.ended.wait(seconds):
            return True
        _log.warning("the command did not end within %.1f s of a signal: it is killed", seconds)
        self.kill()
        self.ended.wait(min(1.0, seconds / 6))
        return False

    # In the thread that owns it --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            process = self._started()
            self.launched.set()
            if process is not None:
                self._follow(process)
        except BaseException as error:  # noqa: BLE001 - else the command would seem to have ended well
            self.broken = error
            self._give_up()
        finally:
            self._set_all()
        if self._reaps_orphans:
            reap_orphans_until(None)  # As long as this process lives on, e.g. while it sends outputs.

    def _set_all(self) -> None:
        for event in (self.launched, self.exited, self.ended):
            event.set()

    def _give_up(self) -> None:
        self.kill()
        if (process := self._process) is not None:
            with process:  # Closes the pipes, and reaps it.
                self._hushed.set()

    def _started(self) -> subprocess.Popen[bytes] | None:
        out, err = self._sinks
        with self._lock:
            if self._never:  # Asked to stop before it began.
                return None
            try:
                process = spawn(
                    self._command,
                    self._environ,
                    new_session=not self._foreground,
                    # Outside the terminal's foreground group, reading from it would stop the command for ever.
                    stdin=None if self._foreground and not _is_terminal(0) else subprocess.DEVNULL,
                    stdout=None if out is None else subprocess.PIPE,
                    stderr=None if err is None else subprocess.STDOUT if err is out else subprocess.PIPE,
                    folder=self._folder,
                )
            except (OSError, ValueError) as error:
                self.refused = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
                return None
            self._process = process
        for signum in self._early:
            self.send(signum)
        return process

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        streams = zip((process.stdout, process.stderr), self._sinks, (self.stdout, self.stderr), strict=True)
        pumps = [
            threading.Thread(target=self._pump, args=(source, sink, tail), name="stepout-output", daemon=True)
            for source, sink, tail in streams
            if source is not None
        ]
        for pump in pumps:
            pump.start()
        if self._reaps_orphans:
            reap_orphans_until(process.pid)
        self.returncode = process.wait()
        self.exited.set()
        # Processes left behind could change outputs while they are sent, take the next task's memory, or outlive the
        # task. One call shows whether a group is empty; for a session, every process must be looked at.
        if not self._foreground:
            end_group(process, grace=0.0)
        elif signal_group(process.pid, 0) and end_group(process, grace=_REST_SECONDS):
            _log.warning("the command left processes behind: they were ended")
        with self._lock:
            self._gone = True
        # Not earlier: until the group has ended, a silent stream may still get output.
        self._hushed.set()
        deadline = None if self._drain is None else time.monotonic() + self._drain
        for pump in pumps:
            pump.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _pump(self, source: IO[bytes], sink: Sink, tail: Tail) -> None:
        """Pass bytes on as they come. If the sink fails, close the pipe, so that the command notices."""
        fd = source.fileno()
        with contextlib.closing(source), contextlib.suppress(OSError, ValueError):
            while self._awaits_more(fd) and (data := os.read(fd, _CHUNK)):
                tail.add(data)
                sink(data)
            sink(b"")

    def _awaits_more(self, fd: int) -> bool:
        """Wait for output; once the group has ended, only while a process outside it still writes to the stream."""
        if sys.platform == "win32":  # Windows cannot wait for a pipe with a timeout: the read itself blocks.
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            hushed = self._hushed.is_set()  # Before the wait: what came before the end is read.
            if poll.poll(_SILENCE_MS):
                return True
            if hushed:
                return False


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
