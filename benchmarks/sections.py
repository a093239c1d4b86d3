"""What all suites share: a table of contenders, and where and for how long they run."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.job import MIB, Job
from benchmarks.measure import Row, interleave, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.data import Data
    from benchmarks.servers import Server

__all__ = ["Context", "Section", "human", "transfer"]


@dataclass
class Section:
    """One table: contenders that did the same thing in interleaved rounds.

    Attributes:
        suite: Which suite it belongs to.
        name: Its heading.
        size: Bytes that each contender moved, or 0.
        rows: The contenders.
        baseline: Whom the ratios are to.
        floor: The row that is the bill nobody escapes, if there is one.
        above: A row whose time is subtracted from all others before anything is compared (a bare interpreter).
        downloads: The kind of file system that downloads were written to, where it is known.
        commit: What was measured, where git says so.
        cell: For a cell of the network's grid: the operation, the size and the network's conditions.
        line: Bits per second of the line that all connections share, if there is one.
    """

    suite: str
    name: str
    size: int
    rows: list[Row]
    baseline: str = "boto3"
    floor: str | None = None
    above: str | None = None
    downloads: str | None = None
    commit: str | None = None
    cell: dict[str, Any] | None = None
    line: float | None = None


@dataclass
class Context:
    """What all suites share."""

    data: Data
    size: int
    rounds: int
    quick: bool
    certificates: tuple[Path, Path]
    say: Callable[[str], object]
    deadline: float = float("inf")
    timeout: float = 120
    only: frozenset[str] = frozenset()
    cells: tuple[str, ...] = ()
    """Words of which each must be in the name of what is measured behind the network; what was kept stays."""
    downloads: Path | None = None
    downloads_kind: str | None = None
    commit: str | None = None
    kept: list[Section] = field(default_factory=list)
    """What an earlier run of the same day measured of the same suite."""
    _began: float = 0
    _number: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def run(self, section: Section, server: Server | None, *, rounds: int | None = None, share: float = 1) -> Section:
        """Run a section's rounds; ``share`` of the time that the suite has left is its own."""
        self.begin(section)
        left = self.deadline - time.monotonic()
        counters = server.counters if server and server.name == "sink" else None
        interleave(
            section.rows,
            rounds or self.rounds,
            counters=counters,
            deadline=time.monotonic() + left * share,
            say=self.say,
        )
        return section

    def begin(self, section: Section) -> None:
        """Leave only the contenders that were asked for, and note what is measured."""
        if self.only:
            floors = {row.label for row in section.rows if row.group == "floor"}
            kept = {section.baseline, section.above, *floors, *self.only}
            section.rows = [row for row in section.rows if row.label in kept]
        if section.name.startswith("download"):
            section.downloads = self.downloads_kind
        section.commit = self.commit
        self.say(f"{section.suite}: {section.name}")

    def time_for(self, number: int) -> bool:
        """Say whether one more of several equal things ends in time, after so many; the first one always does."""
        if number == 0:
            self._began = time.monotonic()
            return True
        now = time.monotonic()
        return now + (now - self._began) / number < self.deadline

    def row(self, label: str, job: Job, group: str = "same job") -> Row:
        """Make a row of one job; a download's file is new each time and goes away afterwards."""

        def act() -> dict[str, Any]:
            if job.operation not in {"download", "get_directory"}:
                return run_job(job, timeout=self.timeout)
            path = (self.downloads or self.data.folder) / f"out-{next(self._number)}"
            try:
                return run_job(replace(job, path=str(path)), timeout=self.timeout)
            finally:
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)

        return Row(label, act, group)


def transfer(context: Context, operation: str, server: Server, size: int, **more: Any) -> Job:
    """Return the job that moves one large object."""
    path = str(context.data.file(size)) if operation == "upload" else ""
    return Job(
        peer="", operation=operation, endpoint=server.endpoint, authority=server.authority, path=path, size=size,
        sha256=context.data.sha256(size), key=f"pattern/{size}", **more,
    )  # fmt: skip


def human(size: int) -> str:
    """Return a size as people say it."""
    for unit, name in ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"
