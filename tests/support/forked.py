"""Starts Python programs as forks of a process that has imported botocore already, which is most of what they cost.

A ``Forked`` program is a real process with an environment, pipes and signals of its own, used as a ``subprocess.Popen``
of ``python -c`` or ``python -m`` is. It has no fresh interpreter: where that is the point, tests use ``subprocess``.

The process that forks (this file as a program) has one thread. Each program has a parent that waits for it and passes
its status on, as another process's child is nothing that one can wait for.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTH = 8


def start_python(
    arguments: list[str], *, env: dict[str, str], cwd: str | os.PathLike[str] | None = None, text: bool = False
) -> Any:
    """Start ``python`` with these arguments, ``-c`` or ``-m`` first, and with pipes for its streams."""
    measured = any(name.startswith("COVERAGE_") for name in env)  # coverage begins with an interpreter, not with a fork
    if sys.platform == "linux" and not measured and _of_start(env) == _of_start(os.environ):
        return Forked(arguments, env=env, cwd=cwd, text=text)
    command, pipe = [sys.executable, *arguments], subprocess.PIPE
    return subprocess.Popen(command, env=env, cwd=cwd, text=text, stdin=pipe, stdout=pipe, stderr=pipe)


def _of_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a program reads when it starts, and a fork does not."""
    return {name: value for name, value in environ.items() if name.startswith(("LD_", "PYTHON"))}


class Forked:
    """A running program; what it has in common with ``subprocess.Popen`` has the same name."""

    def __init__(
        self, arguments: list[str], *, env: dict[str, str], cwd: str | os.PathLike[str] | None, text: bool
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        (stdin, self_stdin), (self_stdout, stdout), (self_stderr, stderr) = (os.pipe() for _ in range(3))
        kind = "" if text else "b"
        self.stdin: Any = open(self_stdin, f"w{kind}")  # noqa: SIM115, PTH123 - closed as a Popen's are
        self.stdout: Any = open(self_stdout, f"r{kind}")  # noqa: SIM115, PTH123
        self.stderr: Any = open(self_stderr, f"r{kind}")  # noqa: SIM115, PTH123
        self._status, theirs = socket.socketpair()
        order = json.dumps({"arguments": arguments, "cwd": os.fspath(cwd or Path.cwd()), "environ": env}).encode()
        server = _server()
        socket.send_fds(server, [len(order).to_bytes(_LENGTH, "big")], [stdin, stdout, stderr, theirs.fileno()])
        server.sendall(order)
        theirs.close()
        for each in (stdin, stdout, stderr):
            os.close(each)
        self.pid = int.from_bytes(self._status.recv(_LENGTH), "big")

    def poll(self) -> int | None:
        """Return the exit code; ``None`` while the program runs."""
        if self.returncode is None:
            self._status.settimeout(0)
            self._note()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            self._note()
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def _note(self) -> None:
        try:
            told = self._status.recv(_LENGTH)
        except (BlockingIOError, TimeoutError):
            return
        self._status.close()
        self.returncode = os.waitstatus_to_exitcode(int.from_bytes(told, "big") if told else signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write standard input, read what is left of the other streams, and wait for the end."""
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(_rest, each) for each in (self.stdout, self.stderr)]
            with contextlib.suppress(BrokenPipeError, ValueError), self.stdin:  # it has ended; it was closed
                if given:
                    self.stdin.write(given)
            self.wait(timeout)
            out, err = (each.result() for each in reading)
        return out, err


def _rest(stream: Any) -> Any:
    if stream.closed:
        return None
    with stream:
        return stream.read()


@functools.cache
def _server() -> socket.socket:
    """Start the process that forks, once; it ends when this process does."""
    ours, theirs = socket.socketpair()
    left_out = ("AWS_", "STEPOUT_", "COVERAGE_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    reads, writes = os.pipe()  # the streams are pipes from the start: Python remembers what kind they are
    with theirs:
        command = [sys.executable, __file__, str(theirs.fileno())]
        process = subprocess.Popen(
            command, env=environ, pass_fds=[theirs.fileno()], stdin=reads, stdout=writes, stderr=writes
        )
    os.close(writes)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


# The process that forks -----------------------------------------------------------------------------------------------


def _read(connection: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        if not (piece := connection.recv(length - len(found))):
            sys.exit()
        found += piece
    return bytes(found)


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for each order; return it in the program that it asks for, and never here."""
    while True:
        head, fds, _, _ = socket.recv_fds(connection, _LENGTH, 4)
        with contextlib.suppress(ChildProcessError):  # what programs took counts as this process's
            while os.waitpid(-1, 0 if not head else os.WNOHANG)[0]:
                pass
        if not head:
            sys.exit()
        order: dict[str, Any] = json.loads(_read(connection, int.from_bytes(head, "big")))
        if os.fork() == 0:
            break
        for each in fds:
            os.close(each)
    connection.close()
    if pid := os.fork():
        _wait_for(pid, fds)
    for number, each in enumerate(fds[:3]):
        os.dup2(each, number)
    os.closerange(3, max(fds) + 1)
    return order


def _wait_for(pid: int, fds: list[int]) -> None:
    """Be the parent of a program: say who it is and how it ended."""
    for each in fds[:3]:
        os.close(each)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # to a whole group; the status is still wanted
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=fds[3]) as told:
        told.sendall(pid.to_bytes(_LENGTH, "big"))
        _, status = os.waitpid(pid, 0)
        told.sendall(status.to_bytes(_LENGTH, "big"))
    os._exit(0)


def _prepare() -> None:
    """Import what programs take long to import; what botocore reads of its data stays in its cache."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import boto3

    from support.shared_models import share_models

    del sys.path[0]
    share_models()
    for service in ("s3", "stepfunctions", "sqs"):
        made = {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        boto3.session.Session().client(service, **made)  # type: ignore[call-overload]


def _become(order: dict[str, Any]) -> tuple[str, str]:
    """Take over a program's environment, folder and arguments; return how it is started."""
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    how, what, *more = order["arguments"]
    sys.argv = ["-c" if how == "-c" else what, *more]
    sys.path[0] = "" if how == "-c" else order["cwd"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        import coverage

        coverage.process_startup()
    return how, what


if __name__ == "__main__":
    _prepare()
    _how, _what = _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
    if _how == "-m":
        runpy.run_module(_what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(_what, "<string>", "exec"), vars(sys.modules["__main__"]))
