"""A child process: started, fed with signals, listened to, and never left behind.

One thread owns it, so that an exception in the main thread, which signals raise there, can lose nothing: it starts the
command as the leader of a group of its own, waits for it, and ends what is left of the group. Up to two more take what
it prints.
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
"""Takes what a process prints, piece by piece; ``b""`` at the end."""

_CHUNK: Final = 1 << 16
_REST_SECONDS: Final = 2.0
"""How long processes that a foreground command left behind have between SIGTERM and SIGKILL."""
_SILENCE_MS: Final = 500
"""How long a stream that somebody else still holds may say nothing once the command and its group have ended."""


def kill_after(grace: float) -> float:
    """Return the seconds from a signal to SIGKILL for the command, which leaves time to report.

    Args:
        grace: Seconds after which the task's watcher would report by itself; see ``signals.grace_of``.

    Example:
        >>> kill_after(20.0), kill_after(1.0)
        (18.0, 0.75)
    """
    return grace - min(2.0, grace / 4)


class ChildProcess:
    """A command, from its start to the end of everything that it started in its group.

    In the background it leads a session of its own, reads nothing, and whatever it leaves behind is killed at once: the
    next task needs the memory. In the foreground it does this process's work in its place: it stays in the session (so
    that whoever started us can end it with us), it reads our standard input, and what it leaves behind has two seconds.

    Args:
        command: The program and its arguments; no shell.
        environ: Its whole environment.
        stdout: Takes its standard output; ``None``: it has ours.
        stderr: Takes its standard error; ``None``: it has ours. The same object as ``stdout``: both go there, in order.
        tail: How much of each is kept.
        folder: The working directory; ours by default.
        foreground: See above.
        drain: Seconds for which the rest of its output is waited for, at most, once it and its group have ended.
        first_process: Whether it is to reap the orphans that this process inherits, as PID 1 has to.

    Attributes:
        launched: Set once it runs, or could not be started.
        exited: Set once it has ended itself; or could not be started.
        ended: Set once it has ended, with its group and its output; or could not be started.
        returncode: As ``subprocess`` has it: negative for a signal.
        killed: Whether ``kill`` ended it.
        refused: Why the system would not start it.
        broken: Why it could not be started, or followed to its end, for a fault of ours: a thread too many, no memory.
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
        self._lock = threading.RLock()  # A signal handler may come upon its own thread inside.
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
        except RuntimeError as error:  # As many threads as the process may have.
            self.broken = error
            self._set_all()

    def send(self, signum: int) -> None:
        """Send a signal to the command's process group; to nobody once that has ended."""
        # Under the lock, as the owner says under it that the group is gone: its number may then be another's.
        with self._lock:
            if self._process is None:
                self._early.append(signum)
            elif not self._gone:
                signal_group(self._process.pid, signum)

    def terminate(self) -> None:
        """Ask it to stop, it alone, as a container's first process is asked: SIGTERM."""
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
        """Ask it to end, wait, and end it.

        Args:
            signum: What to ask it with; ``None`` if it was sent already.
            seconds: From then to SIGKILL.

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
        except BaseException as error:  # noqa: BLE001 - else it would be taken for a command that ended well
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
        # What it left behind would change outputs while they are sent, take the next task's memory, outlive the task.
        # A group that is empty is seen at once; whether a session is, only by looking at every process.
        if not self._foreground:
            end_group(process, grace=0.0)
        elif signal_group(process.pid, 0) and end_group(process, grace=_REST_SECONDS):
            _log.warning("the command left processes behind: they were ended")
        with self._lock:
            self._gone = True
        # Not before: until here, silence says nothing about what the group has yet to print.
        self._hushed.set()
        deadline = None if self._drain is None else time.monotonic() + self._drain
        for pump in pumps:
            pump.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _pump(self, source: IO[bytes], sink: Sink, tail: Tail) -> None:
        """Pass on bytes as they come; when nobody takes them any more, the command is to notice."""
        fd = source.fileno()
        with contextlib.closing(source), contextlib.suppress(OSError, ValueError):
            while self._awaits_more(fd) and (data := os.read(fd, _CHUNK)):
                tail.add(data)
                sink(data)
            sink(b"")

    def _awaits_more(self, fd: int) -> bool:
        """Wait for output; once the group has ended, only while somebody outside it who holds the stream goes on."""
        if sys.platform == "win32":  # There, pipes cannot be waited for: whoever reads waits.
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
