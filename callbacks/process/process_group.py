"""Process groups and sessions: starts their leaders, signals them, and ends every process in them.

Each child leads its own group, so that Ctrl-C at a terminal reaches only our own process, and so that one call ends a
program together with the processes that it started. A session also holds the groups that its processes made.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KILL: Final = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL
"""Ends a process at once: on Windows, ``os.kill`` does that with SIGTERM."""

_POLL_SECONDS: Final = 0.02
_KILLED_WITHIN_SECONDS: Final = 10.0
_ENDED: Final = frozenset({b"Z", b"X"})


def spawn(  # noqa: PLR0913 - what subprocess needs, each by keyword
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    stdin: int | None = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = subprocess.STDOUT,
    folder: str | None = None,
    new_session: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a program as the leader of a new process group.

    Args:
        command: The program and its arguments; no shell.
        environ: The whole environment.
        stdin: As ``subprocess`` has it, like the other two.
        stdout: ``None`` for this process's own.
        stderr: Joined to standard output by default.
        folder: The working directory; ours by default.
        new_session: Whether the program leads a session, too.

    Returns:
        The running process.

    Raises:
        OSError: The program cannot be started.
        ValueError: The program cannot be started, because an argument is invalid on every system (a zero character).
    """
    own: dict[str, Any] = {"start_new_session": True} if new_session else {"process_group": 0}
    if sys.platform == "win32":
        own = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
        list(command), env=dict(environ), stdin=stdin, stdout=stdout, stderr=stderr, cwd=folder, **own
    )


def signal_group(leader: int, signum: int) -> bool:
    """Send a signal to the group that a process leads or led; return whether there is one."""
    try:
        if sys.platform == "win32":
            os.kill(leader, signum)
        else:
            os.killpg(leader, signum)
    except PermissionError:
        return sys.platform != "darwin"  # macOS answers so for a group of which only zombies are left.
    except OSError:
        return False
    return True


def kill_group(leader: int) -> None:
    """End every process of the group and of the session that a process leads or led, at once: SIGKILL."""
    signal_group(leader, KILL)
    # 'stepout run' gives its command a group of its own, in the session in which a worker started it.
    for pid, _ in _members(leader):
        with contextlib.suppress(OSError):
            os.kill(pid, KILL)


def end_group(process: subprocess.Popen[bytes], *, grace: float) -> bool:
    """End everything in the group and in the session of a process, itself included, and wait until it has ended.

    Args:
        process: The leader.
        grace: Seconds between SIGTERM and SIGKILL; 0 for SIGKILL at once.

    Returns:
        Whether there was anything to end.
    """
    if not _alive(process):
        return False
    if grace > 0:
        signal_group(process.pid, signal.SIGTERM)
        _wait(process, grace)
    kill_group(process.pid)
    _wait(process, _KILLED_WITHIN_SECONDS)
    return True


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _alive(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether anything of the group or the session still runs; what has ended and waits to be reaped does not."""
    running = process.poll() is None  # Reaps the leader.
    if sys.platform == "win32" or running:
        return running
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-process.pid, os.WNOHANG)[0]:  # PID 1 inherits the others.
            pass
    states = {state for _, state in _members(process.pid)}
    # Without /proc, or if it hides other users' processes, signal 0 shows whether the group exists.
    return not states <= _ENDED if states else signal_group(process.pid, 0)


def _members(leader: int) -> Iterator[tuple[int, bytes]]:
    """Yield the id and state of each process in a group or session; nothing without Linux's ``/proc``."""
    for path in glob.iglob("/proc/[0-9]*/stat"):  # noqa: PTH207 - nothing but names is needed
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name, which may hold anything: state, parent, group, session.
            state, _, group, session = Path(path).read_bytes().rpartition(b")")[2].split()[:4]
            if leader in (int(group), int(session)):
                yield int(Path(path).parent.name), state
