"""Starts measured processes, watches their memory from outside, and gathers interleaved rounds."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.job import Job

__all__ = ["ROOT", "Row", "child_environment", "interleave", "run_job"]

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.01
_ANONYMOUS = re.compile(rb"Rss(?:Anon|Shmem):\s+(\d+) kB")


def child_environment(authority: str | None) -> dict[str, str]:
    """Return the environment of measured processes: no profile, no proxy, no metadata service, our authority."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    # Installed packages come compiled; so may ours be, after their first run.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "PYTHONDONTWRITEBYTECODE"):
        kept.pop(name, None)
    fixed = {
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),  # this checkout's, whatever is installed
        "PYTHONWARNINGS": "ignore",
    }
    trust = {"AWS_CA_BUNDLE": authority, "SSL_CERT_FILE": authority} if authority else {}
    return {**kept, **fixed, **trust}


def _anonymous(pid: int) -> int:
    """Return the memory of a process and its descendants that no file backs, in bytes; 0 where the system is silent.

    Shared anonymous maps (``mmap(-1, …)``) count as shared memory there, so both kinds are added up.
    """
    total = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - read a hundred times a second
            total = sum(map(int, _ANONYMOUS.findall(file.read()))) * 1024
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as above
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123 - as above
                total += sum(_anonymous(int(child)) for child in file.read().split())
    except OSError:
        return total
    return total


class _MemoryWatch:
    """Polls a process's memory from this one, so that the measured one is not disturbed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.idle = self.peak = _anonymous(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.peak = max(self.peak, _anonymous(self._pid))

    def extra(self) -> int | None:
        """Stop; return the peak above idle in bytes, or ``None`` where it cannot be known."""
        self._done.set()
        self._thread.join()
        return self.peak - self.idle if self.idle else None


def run_job(job: Job, *, timeout: float = 300) -> dict[str, Any]:
    """Run one job in a fresh process.

    Returns:
        ``wall`` and ``cpu`` in seconds, ``memory`` in bytes above idle; or ``skipped`` or ``failed`` with the reason.
    """
    with tempfile.TemporaryFile("w+") as errors, _warm_memory(job) as held:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=child_environment(job.authority),
        )
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            result = _talk(process, job, held)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if "failed" in result:
            errors.seek(0)
            result["log"] = errors.read()[-1000:]
        return result


def _warm_memory(job: Job) -> mmap.mmap:
    """Return memory that has been touched; given back just before a download, it is what that one's file lies in.

    A virtual machine's host takes free pages back within seconds, and the first touch of such a page is dear: over two
    seconds a GiB on one machine, for whoever happens to get them.
    """
    known = "SC_AVPHYS_PAGES" in os.sysconf_names  # not on macOS
    needed = job.size * 3 // 2 if known and job.operation == "download" else 0
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") if known else 0
    size = max(min(needed, free // 4), mmap.PAGESIZE)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    memory[:: mmap.PAGESIZE] = bytes(len(range(0, len(memory), mmap.PAGESIZE)))
    return memory


def _talk(process: subprocess.Popen[str], job: Job, held: mmap.mmap) -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - as above
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job.to_dict()) + "\n")
        process.stdin.flush()
    first = _message(process.stdout.readline())
    if "ready" not in first:
        return first
    watch = _MemoryWatch(process.pid)
    held.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("go\n")
        process.stdin.flush()
    result = _message(process.stdout.readline())
    memory = watch.extra()
    return {**result, "memory": memory} if "wall" in result else result


def _message(line: str) -> dict[str, Any]:
    if not line:
        return {"failed": "the process ended without a word, or took too long"}
    return dict(json.loads(line))


@dataclass
class Row:
    """All rounds of one contender.

    Attributes:
        label: What the report calls it.
        act: Runs it once.
        group: ``"same job"``, ``"less"`` or ``"floor"``.
        rounds: What each run answered, by round; ``None`` where it was not run.
        reason: Why it is out, if it is.
        counters: What the server saw in the first round.
    """

    label: str
    act: Callable[[], dict[str, Any]]
    group: str = "same job"
    rounds: list[dict[str, Any] | None] = field(default_factory=list)
    reason: str | None = None
    counters: dict[str, int] | None = None

    def run(self, counters: Callable[[], dict[str, int]] | None) -> None:
        """Run once more, unless it is out."""
        if self.reason is not None:
            self.rounds.append(None)
            return
        before = counters() if counters else {}
        result = self.act()
        if counters and self.counters is None:
            self.counters = {name: value - before[name] for name, value in counters().items() if value != before[name]}
        if "wall" not in result:
            self.reason = next(
                (f"{kind}: {result[kind]}" for kind in ("skipped", "failed") if kind in result), "failed"
            )
            sys.stderr.write(f"  {self.label}: {self.reason}\n{result.get('log', '')}")
            self.rounds.append(None)
            return
        self.rounds.append(result)


def interleave(
    rows: Sequence[Row],
    rounds: int,
    *,
    counters: Callable[[], dict[str, int]] | None = None,
    deadline: float = float("inf"),
    say: Callable[[str], object] = lambda _text: None,
) -> int:
    """Run A B C, B C A, …, so that a slow minute hits everybody and nobody always follows the same neighbour.

    Args:
        rows: The contenders.
        rounds: How often each is run.
        counters: What the server has seen so far.
        deadline: ``time.monotonic()`` by which the last round ends, as far as the one before tells; one is always run.
        say: Told about each round.

    Returns:
        How many rounds were run.
    """
    lasted = 0.0
    for number in range(rounds):
        if number and time.monotonic() + lasted > deadline:
            return number
        start = time.monotonic()
        first = number % len(rows)
        for row in [*rows[first:], *rows[:first]]:
            row.run(counters)
        lasted = time.monotonic() - start
        say(f"  round {number + 1} of {rounds}: {lasted:.0f} s")
    return rounds
