"""The command of ``stepout run``: started, fed with signals, listened to, and never left behind.

One thread owns the command, so that an exception in the main thread, which signals raise there, can lose nothing: it
starts the command as the leader of a process group of its own, waits for it, ends what is left of the group, and reaps
the orphans that a container's first process (PID 1) inherits. Two more pass standard output and error through.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stepout.callbacks.process.tail import Tail, TailSize
from stepout.callbacks.process.wakeup import WakeUp, watch_forks
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_log = logger("stepout.callbacks.child")

FORWARDED: Final = tuple(
    number
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
"""What the command is told beside ``STOPS``, which a task hears first."""

_CHUNK: Final = 1 << 16
_REST_SECONDS: Final = 2.0
"""How long processes that the command left behind have between SIGTERM and SIGKILL."""
_SILENCE_MS: Final = 500
"""How long a stream that somebody else still holds may say nothing once the command and its group have ended."""
_FOREIGN_TRIES: Final = 250


def kill_after(grace: float) -> float:
    """Return the seconds from a signal to SIGKILL for the command, which leaves time to report.

    Args:
        grace: Seconds after which the task's watcher would report by itself; see ``signals.grace_of``.

    Example:
        >>> kill_after(20.0), kill_after(1.0)
        (18.0, 0.75)
    """
    return grace - min(2.0, grace / 4)


class CommandProcess:
    """A command, from its start to the end of everything that it started in its group.

    Args:
        command: The program and its arguments; no shell.
        environ: Its whole environment.
        tail: How much of its standard output and error is kept.
        first_process: Whether this process is PID 1, which inherits orphans.

    Attributes:
        ended: Set once it has ended, with its group and its output; or could not be started.
        returncode: As ``subprocess`` has it: negative for a signal.
        refused: Why the system would not start it.
        broken: Why it could not be started, or followed to its end, for a fault of ours: a thread too many, no memory.
        stdout: The end of its standard output.
        stderr: The end of its standard error.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], *, tail: TailSize, first_process: bool | None = None
    ) -> None:
        self._command, self._environ = list(command), dict(environ)
        self._reaps_orphans = (os.getpid() == 1 if first_process is None else first_process) and hasattr(os, "waitid")
        self._lock = threading.RLock()  # A signal handler may come upon its own thread inside.
        self._process: subprocess.Popen[bytes] | None = None
        self._gone = False
        self._early: list[int] = []
        self._begun = self._never = False
        self._hushed = threading.Event()
        self.ended = threading.Event()
        self.returncode = 0
        self.refused: OSError | None = None
        self.broken: BaseException | None = None
        self.stdout, self.stderr = Tail(tail), Tail(tail)

    def start(self) -> None:
        """Start it, in the thread that owns it from then on."""
        self._begun = True
        threading.Thread(target=self._run, name="stepout-command", daemon=True).start()

    def send(self, signum: int) -> None:
        """Send a signal to the command's process group; to nobody once that has ended."""
        with self._lock:
            if self._process is None:
                self._early.append(signum)
            elif not self._gone:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signum)

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
        self.send(signal.SIGKILL)
        self.ended.wait(min(1.0, seconds / 6))
        return False

    # In the thread that owns it --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            process = self._started()
            if process is not None:
                self._follow(process)
        except BaseException as error:  # noqa: BLE001 - else it would be taken for a command that ended well
            self.broken = error
            self._give_up()
        finally:
            self.ended.set()
        if self._reaps_orphans:
            self._reap(None)  # As long as this process lives on, e.g. while it sends outputs.

    def _give_up(self) -> None:
        self.send(signal.SIGKILL)
        if (process := self._process) is not None:
            with process:  # Closes the pipes, and reaps it.
                self._hushed.set()

    def _started(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._never:  # Asked to stop before it began.
                return None
            try:
                process = subprocess.Popen(  # noqa: S603 - running the user's command is what this is for
                    self._command,
                    env=self._environ,
                    # Outside the terminal's foreground group, reading from it would stop the command for ever.
                    stdin=subprocess.DEVNULL if _is_terminal(0) else None,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    process_group=0,
                )
            except (OSError, ValueError) as error:
                self.refused = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
                return None
            self._process = process
        for signum in self._early:
            self.send(signum)
        return process

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        pumps = [
            threading.Thread(target=self._pump, args=(source, sink, tail), name="stepout-output", daemon=True)
            for source, sink, tail in ((process.stdout, 1, self.stdout), (process.stderr, 2, self.stderr))
        ]
        for pump in pumps:
            pump.start()
        if self._reaps_orphans:
            self._reap(process.pid)
        self.returncode = process.wait()
        self._end_group(process.pid)
        self._hushed.set()
        for pump in pumps:
            pump.join()

    def _end_group(self, group: int) -> None:
        """End what the command left behind: it would change outputs while they are sent, and outlive the task."""
        if self._alive(group):
            _signal_group(group, signal.SIGTERM)
            _log.warning("the command left processes behind: they are ended")
            deadline = time.monotonic() + _REST_SECONDS
            while self._alive(group) and time.monotonic() < deadline:
                time.sleep(0.02)
            _signal_group(group, signal.SIGKILL)
        with self._lock:
            self._gone = True

    def _alive(self, group: int) -> bool:
        if self._reaps_orphans:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
        return _signal_group(group, 0) and not _only_zombies(group)

    def _reap(self, until: int | None) -> None:
        """Reap orphans until the command itself has ended, which is left to ``wait``; without one, while there are any.

        Children of our own process group are somebody else's: a client that asks a program for credentials.
        """
        own, tries = os.getpgrp(), 0
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid == until:
                return
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if os.getpgid(found.si_pid) == own and tries < _FOREIGN_TRIES:
                    tries += 1
                    time.sleep(0.02)
                    continue
                os.waitpid(found.si_pid, os.WNOHANG)
            tries = 0

    def _pump(self, source: Any, sink: int, tail: Tail) -> None:
        """Pass on bytes as they come; when nobody takes them any more, the command is to notice."""
        fd = source.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        with contextlib.closing(source), contextlib.suppress(OSError):
            while True:
                hushed = self._hushed.is_set()
                if not poll.poll(_SILENCE_MS):
                    if hushed:
                        return
                    continue
                data = os.read(fd, _CHUNK)
                if not data:
                    return
                tail.add(data)
                _write_all(sink, data)


def _write_all(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:  # Somebody set our output to non-blocking.
            select.select([], [sink], [])


def _signal_group(group: int, signum: int) -> bool:
    """Send a signal to a group; return whether there is one."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _only_zombies(group: int) -> bool:
    """Whether a group's processes have all ended, and wait for an init process that takes its time; Linux knows."""
    states = set()
    for path in glob.iglob("/proc/[0-9]*/stat"):  # noqa: PTH207 - nothing but names is needed
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _parent, its_group = Path(path).read_bytes().rpartition(b")")[2].split()[:3]
            if int(its_group) == group:
                states.add(state)
    return bool(states) and states <= {b"Z", b"X"}


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


class _Forwarding:
    """Reads signals from the wake-up descriptor, in a thread of its own, and passes each on as often as it came."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._wake_up = WakeUp()
        self._closing = False
        self._numbers: frozenset[int] = frozenset()
        self._thread = threading.Thread(target=self._run, name="stepout-forward", daemon=True)

    def begin(self, numbers: Iterable[int]) -> None:
        self._numbers = frozenset(numbers)
        if self._wake_up.take():
            watch_forks(self)
            self._thread.start()

    def end(self) -> None:
        if self._thread.ident is not None:
            self._closing = True
            self._wake_up.note()
            self._thread.join()
            self._pass_on(self._wake_up.give_back())
            self._wake_up.close()

    def forget(self) -> None:
        """In a forked child: its signals are not the command's."""
        self._wake_up.abandon()

    def _run(self) -> None:
        while not self._closing:
            self._wake_up.wait(None)
            self._pass_on(self._wake_up.read())

    def _pass_on(self, came: Iterable[int]) -> None:
        for signum in came:
            if signum in self._numbers:
                self._send(signum)


@contextlib.contextmanager
def _handled(numbers: Iterable[int], handle: Callable[[int, Any], object]) -> Iterator[list[int]]:
    """Handle these signals while the block runs; one that is ignored stays so."""
    before: dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it.
            before[number] = signal.signal(number, handle)
    try:
        yield list(before)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def forwarding(
    send: Callable[[int], object], numbers: Iterable[int] = FORWARDED, *, also: Iterable[int] = ()
) -> Iterator[None]:
    """While the block runs, pass these signals on, each as often as it comes; by default those that end no task.

    A handler in Python would run once for two that came while the main thread was busy, and not at all before the end
    of a wait that began in that very moment.

    Args:
        send: Is called with a signal's number, in a thread of its own; at the latest when the block is left.
        numbers: The signals; one that is ignored stays so.
        also: Further ones, that somebody else handles as well.
    """
    passing = _Forwarding(send)
    with _handled(numbers, lambda *_: None) as handled:
        passing.begin([*handled, *also])
        try:
            yield
        finally:
            passing.end()


@contextlib.contextmanager
def noting(came: list[int], numbers: Iterable[int]) -> Iterator[None]:
    """While the block runs, note these signals, unless somebody else handles them meanwhile.

    Args:
        came: What they are added to, in the main thread.
        numbers: The signals; one that is ignored stays so.
    """
    with _handled(numbers, lambda number, _frame: came.append(number)):
        yield
