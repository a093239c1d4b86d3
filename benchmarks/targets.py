"""What stepout is held against: the ratios that this project has set itself."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.stats import memory_of, ratio_between

if TYPE_CHECKING:
    from benchmarks.suites import Section

__all__ = ["TARGETS", "Outcome", "Target", "outcomes"]

MEMORY = "memory"
SECONDS = "seconds"


@dataclass(frozen=True)
class Target:
    """At most ``limit`` × another contender in every section whose name has all of ``words``.

    ``other`` may also be ``"best"``, ``MEMORY`` (the limit is in MiB) or ``SECONDS``.
    """

    suite: str
    words: tuple[str, ...]
    other: str
    limit: float
    metrics: tuple[str, ...] = ("wall",)
    mine: str = "stepout"
    beside: str | None = None
    """For memory: a row whose own is not counted."""


@dataclass(frozen=True)
class Outcome:
    """A target and what came of it."""

    section: str
    text: str
    got: str
    met: bool


BOTH = ("wall", "cpu")
TARGETS = (
    Target("upload", ("HTTP",), "boto3", 0.22, BOTH),
    Target("upload", ("HTTP",), "obstore", 0.70),
    Target("upload", ("HTTP",), "s5cmd", 0.42),
    Target("upload", ("HTTP",), "SHA-256 alone", 1.4),
    Target("upload", ("HTTP",), "boto3", 0.22, BOTH, "stepout, unsigned"),
    Target("upload", ("HTTP",), "obstore", 0.70, ("wall",), "stepout, unsigned"),
    Target("upload", ("HTTP",), "s5cmd", 0.42, ("wall",), "stepout, unsigned"),
    Target("upload", ("HTTP",), "SHA-256 alone", 1.4, ("wall",), "stepout, unsigned"),
    Target("upload", ("HTTPS",), "boto3", 0.42, BOTH),
    Target("upload", ("HTTPS",), "obstore", 0.80),
    Target("upload", ("HTTPS",), "s5cmd", 0.5),
    Target("download", ("HTTP",), "boto3", 0.35),
    Target("download", ("HTTP",), "obstore", 0.65),
    Target("download", ("HTTP",), "s5cmd", 0.55),
    Target("download", ("HTTPS",), "boto3", 0.48),
    Target("download", ("HTTPS",), "best", 1.0),
    Target("upload", (), MEMORY, 64),
    Target("download", (), MEMORY, 64),
    Target("growth", (), MEMORY, 64),
    Target("latency", (), MEMORY, 64),
    Target("small", (), "boto3", 0.5),
    Target("small", (), "boto3", 0.5, mine="stepout many, no extra"),
    Target("small", (), "boto3, 8 threads", 0.5, mine="stepout many, no extra"),
    Target("small", ("put",), "obstore, create-only, 8 threads", 1.5, mine="stepout many"),
    Target("small", ("get",), "obstore, 8 threads", 1.5, mine="stepout many"),
    Target("small", ("put",), "bare put_object", 1.15, ("cpu",)),
    Target("parquet", (), "pyarrow S3 stream", 1.10, ("wall",), "stepout put_table"),
    Target("growth", ("Parquet",), MEMORY, 64, mine="stepout put_table, stream", beside="encode only, stream"),
    Target("cold", (), "boto3", 0.22),
    Target("cold", (), "boto3", 1.05, mine="stepout, no extra"),
    Target("validation", (), SECONDS, 0.003, mine="stepout, as consumer"),
    Target("validation", (), SECONDS, 0.1, mine="stepout, as producer"),
    Target("latency", (), "best", 1 / 0.9),
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


def outcomes(sections: list[Section]) -> list[Outcome]:
    """Hold every section against every target that speaks of it."""
    return [
        outcome
        for section in sections
        for target in TARGETS
        if target.suite == section.suite and set(target.words) <= set(section.name.replace(",", "").split())
        for outcome in _outcomes(section, target)
    ]


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
    if target.other == SECONDS:
        seconds = _seconds(section, target.mine)
        if seconds is None:
            return []
        text = f"{target.mine}: at most {1000 * target.limit:g} ms"
        return [Outcome(section.name, text, f"{1000 * seconds:.1f} ms", seconds <= target.limit)]
    found = []
    for metric in target.metrics:
        other = _best(section, target.mine) if target.other == "best" else target.other
        ratio = ratio_between(section, target.mine, other, metric)
        if ratio is not None:
            shown = f"the best peer ({other})" if target.other == "best" else target.other
            text = f"{target.mine}: {metric} at most {target.limit:.2f} × {shown}"
            found.append(Outcome(section.name, text, str(ratio), ratio.median <= target.limit))
    return found


def _memory(section: Section, label: str) -> float | None:
    row = next((row for row in section.rows if row.label == label), None)
    return memory_of(row) if row else None


def _seconds(section: Section, label: str) -> float | None:
    row = next((row for row in section.rows if row.label == label), None)
    walls = [result["wall"] for result in row.rounds if result] if row else []
    return statistics.median(walls) if walls else None


def _best(section: Section, mine: str) -> str | None:
    """Name the peer that did the same job fastest."""
    ratios = {
        row.label: ratio
        for row in section.rows
        if row.group == "same job" and not row.label.startswith("stepout") and row.label != mine
        if (ratio := ratio_between(section, row.label, section.baseline, "wall")) is not None
    }
    return min(ratios, key=lambda label: ratios[label].median, default=None)
