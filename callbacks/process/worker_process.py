"""One process for one task of a worker: its group, its end, and what it prints."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stepout.callbacks.delivery.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_DRAIN_SECONDS = 2.0
"""How long the rest of the output is waited for, once the process and its group have ended."""

_LONGEST_LINE = 1 << 16
"""In bytes; what goes on longer, or never ends, is broken into several."""

_printing = threading.Lock()


class Child:
    """A running process, the leader of a session of its own: a signal for the worker does not reach it by itself.

    Args:
        command: The program and its arguments; no shell.
        environment: The whole environment.
        label: Stands before each line that it prints; ``None`` leaves its output untouched.
        secrets: Are taken out of labelled lines.
        folder: The working directory; the worker's own by default.

    Raises:
        OSError: It cannot be started.
        ValueError: The same.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        label: str | None,
        secrets: Sequence[str] = (),
        folder: str | None = None,
    ) -> None:
        self._redactor = Redactor(secrets)
        self._label = label
        self._process = _spawn(command, environment, piped=label is not None, folder=folder)
        self._pumps = [
            threading.Thread(target=self._pump, args=(source, sink), name="stepout-output", daemon=True)
            for source, sink in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
            if source is not None
        ]
        self.killed = False
        """Whether the worker lost patience with it."""
        self.ended = threading.Event()
        self.code = 0
        try:
            for thread in (*self._pumps, threading.Thread(target=self._wait, name="stepout-child", daemon=True)):
                thread.start()
        except RuntimeError as error:  # Nobody would notice its end.
            self._kill_group()
            with self._process:  # Waits, and closes what it had printed to.
                raise BlockingIOError(errno.EAGAIN, str(error)) from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to stop, it alone, as a container's first process is asked: SIGTERM."""
        if not self.ended.is_set():
            with contextlib.suppress(OSError):
                self._process.terminate()

    def kill(self) -> None:
        """End it with its whole group at once: SIGKILL."""
        if not self.ended.is_set():
            self.killed = True
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        for pid in _session(self._process.pid):  # 'stepout run' gives its command a group of its own.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _wait(self) -> None:
        code = self._process.wait()
        if sys.platform != "win32":
            self._kill_group()  # What the task left running would take the next one's memory.
        for pump in self._pumps:
            pump.join(_DRAIN_SECONDS)
        self.code = code
        self.ended.set()

    def _pump(self, source: IO[bytes], sink: IO[str]) -> None:
        with source, contextlib.suppress(OSError, ValueError):
            while raw := source.readline(_LONGEST_LINE):
                line = self._redactor.text(raw.decode("utf-8", "replace").rstrip("\r\n"))
                with _printing:
                    sink.write(f"[{self._label}] {line}\n")
                    sink.flush()


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], *, piped: bool, folder: str | None
) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE if piped else None
    if sys.platform == "win32":
        return subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    return subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
        list(command),
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )


def _session(leader: int) -> Iterator[int]:
    """The processes of a session, where ``/proc`` shows them."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # After the name, which may hold anything: state, parent, group, session.
            if int(entry.read_text("utf-8", "replace").rpartition(")")[2].split()[3]) == leader:
                yield int(entry.parent.name)


def reap_orphans(own: frozenset[int]) -> int:
    """Collect ended processes that nobody waits for, as the first process of a container has to.

    Args:
        own: Children that somebody else waits for.

    Returns:
        How many were collected.
    """
    reaped = 0
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while (seen := os.waitid(os.P_ALL, 0, options)) is not None:
                # In our own group, it is a child of some library's: one that fetches credentials, say.
                if seen.si_pid in own or os.getpgid(seen.si_pid) == os.getpgrp():
                    break
                os.waitpid(seen.si_pid, 0)
                reaped += 1
    return reaped
