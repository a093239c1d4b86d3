"""What stepout is held against: the ratios that this project has set itself."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.network.grid import cells, mean
from benchmarks.stats import best_peer, memory_of, ratio_between, row_of

if TYPE_CHECKING:
    from benchmarks.sections import Section

__all__ = ["TARGETS", "Outcome", "Target", "outcomes"]

MEMORY = "memory"
SECONDS = "seconds"
LATER = "later"


@dataclass(frozen=True)
class Target:
    """At most ``limit`` × another contender in every section whose name has all of ``words``.

    ``other`` may also be ``"best"``, ``MEMORY`` (the limit is in MiB), ``SECONDS``, or ``LATER``: so many seconds later
    than ``beside`` in the same round.
    """

    suite: str
    words: tuple[str, ...]
    other: str
    limit: float
    metrics: tuple[str, ...] = ("wall",)
    mine: str = "stepout"
    beside: str | None = None
    """A row whose memory, or time, is not counted."""


@dataclass(frozen=True)
class Outcome:
    """A target and what came of it."""

    section: str
    text: str
    got: str
    met: bool


TARGETS = (
    Target("upload", ("HTTP",), "by hand, signed", 1.10),
    Target("upload", ("HTTP",), "by hand", 1.10, mine="stepout, unsigned"),
    Target("upload", ("HTTPS",), "by hand", 1.10),
    Target("upload", (), "best", 1.0),
    Target("upload", ("HTTP",), "best", 1.0, mine="stepout, unsigned"),
    Target("download", (), "by hand", 1.25),
    Target("download", (), "best", 1.0),
    Target("upload", (), MEMORY, 256),
    Target("download", (), MEMORY, 256),
    Target("growth", (), MEMORY, 256),
    Target("growth", ("1", "MiB"), "boto3", 1.0),
    Target("growth", ("Parquet",), MEMORY, 64, mine="stepout put_table, stream", beside="encode only, stream"),
    Target("small", (), "boto3", 0.5),
    Target("small", (), "boto3", 0.5, mine="stepout many, no extra"),
    Target("small", (), "boto3, 8 threads", 0.5, mine="stepout many, no extra"),
    Target("small", ("put",), "obstore, create-only, 8 threads", 1.5, mine="stepout many"),
    Target("small", ("get",), "obstore, 8 threads", 1.5, mine="stepout many"),
    Target("parquet", (), "pyarrow S3 stream", 1.05, mine="stepout put_table"),
    Target("cold", ("verified",), "bare sockets", 1.3),
    Target("cold", ("verified",), "boto3", 0.9, mine="stepout, no extra"),
    Target("cold", ("first",), "boto3", 1.0),
    Target("cold", ("first",), "boto3", 1.0, mine="stepout, no extra"),
    Target("validation", (), SECONDS, 0.003, mine="stepout, as consumer"),
    Target("validation", (), SECONDS, 0.05, mine="stepout, as producer"),
    Target("network", (), "best", 1.05),
    Target("network", (), "best", 1.10, mine="stepout, 64 MiB"),
    Target("network", (), MEMORY, 256),
    Target("network", (), MEMORY, 64, mine="stepout, 64 MiB"),
    Target("tails", (), LATER, 0.3, mine="stepout, one request stalls", beside="stepout"),
    Target("lines", (), "best", 1.05),
    Target("bad networks", (), "best", 1.10),
    Target("datasets", ("pyarrow:",), "pyarrow, s3fs", 1.15, mine="pyarrow, stepout"),
    Target("datasets", ("Dask:",), "Dask, s3fs", 1.15, mine="Dask, stepout"),
    Target("datasets", ("DuckDB:",), "DuckDB, s3fs", 1.15, mine="DuckDB, stepout"),
    Target("datasets", ("polars:",), "polars, s3fs", 1.15, mine="polars, stepout"),
    Target("datasets", ("random",), "s3fs", 1.0, mine="stepout, pyarrow file system"),
    Target("datasets", ("random",), "s3fs", 1.0, mine="stepout, fsspec"),
    Target("directories", ("put",), "s5cmd", 1.0, mine="stepout put_directory"),
    Target("directories", ("get",), "s5cmd", 1.0, mine="stepout download"),
    Target("directories", ("one",), "boto3, whole listing", 1.0, mine="stepout file"),
    Target("fan-in", (), MEMORY, 100 / 1.048576, mine="stepout gather"),
    Target("fan-in", (), SECONDS, 1.0, mine="stepout gather, first child"),
    Target("datasets", ("put",), "encode only", 1.10, mine="stepout put_dataset"),
    Target("throttle", (), "the limit", 1 / 0.9, mine="stepout many"),
    Target("throttle", (), "the limit", 1 / 0.9, mine="stepout many, no extra"),
)
MEANS = {"stepout": 1.0, "stepout, 64 MiB": 1.1}
"""Of the geometric mean over the cells of the network's grid, of one direction."""


def outcomes(sections: list[Section]) -> list[Outcome]:
    """Hold every section against every target that speaks of it."""
    return [
        outcome
        for section in sections
        for target in TARGETS
        if target.suite == section.suite and set(target.words) <= set(section.name.replace(",", "").split())
        for outcome in _outcomes(section, target)
    ] + _means(sections)


def _means(sections: list[Section]) -> list[Outcome]:
    """Hold the grid as a whole against its targets."""
    found = cells(sections)
    outcomes = []
    for operation in sorted({cell.operation for cell in found}):
        chosen = [cell for cell in found if cell.operation == operation]
        for mine, limit in MEANS.items():
            if (value := mean(chosen, mine)) is not None:
                text = f"{mine}: geometric mean at most {limit:.2f} × the best peer of each cell"
                outcomes.append(Outcome(f"{operation}, {len(chosen)} cells", text, f"{value:.2f}", value <= limit))
    return outcomes


def _outcomes(section: Section, target: Target) -> list[Outcome]:
    if target.other == MEMORY:
        memory = _memory(section, target.mine)
        if memory is None:
            return []
        text = f"{target.mine}: at most {target.limit:g} MiB of extra memory"
        if target.beside is not None:
            memory -= _memory(section, target.beside) or 0
            text += f" above {target.beside}"
        return [Outcome(section.name, text, f"{memory:.0f} MiB", memory <= target.limit)]
    if target.other == LATER:
        later = _later(section, target.mine, target.beside)
        text = f"{target.mine}: at most {1000 * target.limit:g} ms later than {target.beside}"
        return [] if later is None else [Outcome(section.name, text, f"{1000 * later:.0f} ms", later <= target.limit)]
    if target.other == SECONDS:
        seconds = _seconds(section, target.mine)
        if seconds is None:
            return []
        text = f"{target.mine}: at most {1000 * target.limit:g} ms"
        return [Outcome(section.name, text, f"{1000 * seconds:.1f} ms", seconds <= target.limit)]
    found = []
    for metric in target.metrics:
        other = best_peer(section) if target.other == "best" else target.other
        ratio = ratio_between(section, target.mine, other, metric)
        if ratio is not None:
            shown = f"the best peer ({other})" if target.other == "best" else target.other
            text = f"{target.mine}: {metric} at most {target.limit:.2f} × {shown}"
            found.append(Outcome(section.name, text, str(ratio), ratio.median <= target.limit))
    return found


def _memory(section: Section, label: str) -> float | None:
    return memory_of(row_of(section, label))


def _seconds(section: Section, label: str) -> float | None:
    row = row_of(section, label)
    walls = [result["wall"] for result in row.rounds if result] if row else []
    return statistics.median(walls) if walls else None


def _later(section: Section, label: str, other: str | None) -> float | None:
    row, base = row_of(section, label), row_of(section, other)
    pairs = zip(row.rounds, base.rounds, strict=False) if row and base else ()
    later = [mine["wall"] - theirs["wall"] for mine, theirs in pairs if mine and theirs]
    return statistics.median(later) if later else None
