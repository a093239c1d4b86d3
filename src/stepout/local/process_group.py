"""Start processes in groups of their own, and end them with everything that they started.

Each process that the local AWS starts leads its own process group, so that Ctrl-C at a terminal reaches the command
line alone, and so that one call ends a server together with its workers. A process that left its group (a daemon) is
found by ``MARKER`` in its environment, where ``/proc`` shows it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MARKER = "STEPOUT_LOCAL_ID"
"""The environment variable that marks every process of one local AWS."""

_POLL_SECONDS = 0.02
_KILLED_WITHIN_SECONDS = 10.0


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdout: IO[bytes] | int,
    stdin: int = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` as the leader of a new process group, standard error joined to standard output.

    Args:
        command: The program and its arguments; no shell.
        env: The whole environment.
        stdout: A file, or ``subprocess.PIPE``.
        stdin: ``subprocess.DEVNULL``, or ``subprocess.PIPE``.
        cwd: The working directory; this process's own by default.

    Returns:
        The running process.

    Raises:
        OSError: The program cannot be started.
    """
    if sys.platform == "win32":
        return subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
            command,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    return subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
        command,
        env=dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        start_new_session=True,
    )


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ask the process alone to stop, as a container's first process is asked: SIGTERM."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


def kill_group(pid: int) -> None:
    """End every process of the group that ``pid`` leads, at once: SIGKILL."""
    _signal_group(pid, kill=True)


def end_group(process: subprocess.Popen[bytes], *, grace: float) -> None:
    """Ask the whole group to stop, wait ``grace`` seconds at most, then kill what is left of it.

    Args:
        process: The group's leader.
        grace: In seconds.
    """
    _signal_group(process.pid, kill=False)
    deadline = time.monotonic() + grace
    while _group_alive(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal_group(process.pid, kill=True)
    deadline = time.monotonic() + _KILLED_WITHIN_SECONDS
    while _group_alive(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of other processes that carry ``mark``, or a mark below it; none where there is no ``/proc``.

    Args:
        mark: The value of ``MARKER``; ``"a"`` finds ``"a"`` and ``"a/b"``.
    """
    whole, below = f"{MARKER}={mark}".encode(), f"{MARKER}={mark}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if int(entry.name) != os.getpid() and any(v == whole or v.startswith(below) for v in variables):
                yield int(entry.name)


def end_marked(mark: str) -> None:
    """Kill the processes that carry ``mark`` and left their groups, until none is left or ten seconds are over."""
    deadline = time.monotonic() + _KILLED_WITHIN_SECONDS
    while (left := list(marked(mark))) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _signal_group(pid: int, *, kill: bool) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(pid, signal.SIGTERM)
        else:
            os.killpg(pid, signal.SIGKILL if kill else signal.SIGTERM)


def _group_alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether any process of the group still runs; reaps its leader."""
    running = process.poll() is None
    if sys.platform == "win32":
        return running
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS answers so for a group of which only zombies are left
        return running
    return True
