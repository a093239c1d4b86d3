"""How near a server's limit of requests we come: what it took a second, over what it takes a second.

The sink counts what it took and what it refused, so an upload's own requests need not be known here.

    python -m benchmarks.throttle [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import servers
from benchmarks.data import Data
from benchmarks.job import MIB, Job
from benchmarks.measure import Row, run_job

if TYPE_CHECKING:
    from benchmarks.servers import Server

__all__ = ["LIMITS", "limit_row", "main"]

LIMITS: Final = (250.0, 100.0)
"""Requests a second, both below what a client of this machine's can send."""

_OBJECT: Final = 10 * 1024


def limit_row(count: int, limit: float) -> Row:
    """Return the row that nobody can beat: so many requests at the server's own rate."""
    return Row("the limit", lambda: {"wall": count / limit, "cpu": 0.0}, "floor")


def _shares(job: Job, server: Server, limit: float) -> tuple[float, float]:
    """Run a job; return what the server took, of what it could have taken, and the share that it refused."""
    before = server.counters()
    result = run_job(job)
    if "wall" not in result:
        msg = f"{job.peer}, {job.operation}: {result}"
        raise RuntimeError(msg)
    after = server.counters()
    slowed = after["slowed"] - before["slowed"]
    requests = after["requests"] - before["requests"]
    return (requests - slowed) / result["wall"] / limit, slowed / requests


def main(arguments: list[str] | None = None) -> None:
    """Print a table: medians of all rounds, and the refused share."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throttle", allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="what the rows' names begin with")
    options = parser.parse_args(arguments)
    rounds: int = options.rounds
    with tempfile.TemporaryDirectory() as name:
        data = Data(Path(name), 256 * MIB)
        small = Job(
            peer="stepout many", operation="put", path=str(data.pattern), size=_OBJECT, sha256=data.sha256(_OBJECT),
            count=2000,
        )  # fmt: skip
        size = 256 * MIB
        large = Job(
            peer="stepout", operation="upload", path=str(data.file(size)), size=size, sha256=data.sha256(size),
            key=f"pattern/{size}",
        )  # fmt: skip
        jobs = [
            ("put_many, 2,000 × 10 KiB", small, 250.0),
            ("put_many, 2,000 × 10 KiB, no extra", replace(small, peer="stepout many, no extra"), 250.0),
            ("read_many, 2,000 × 10 KiB", replace(small, operation="get"), 250.0),
            ("put_file, 256 MiB", large, 5.0),
        ]
        print("| what | limit, requests a second | taken, of the limit | refused |")
        print("| --- | --- | --- | --- |")
        for label, job, limit in jobs:
            if not label.startswith(options.only):
                continue
            with servers.sink(data.pattern, limit=limit) as server:
                found = [_shares(replace(job, endpoint=server.endpoint), server, limit) for _ in range(rounds)]
            share, refused = (statistics.median(values) for values in zip(*found, strict=True))
            print(f"| {label} | {limit:g} | {share:.2f} | {100 * refused:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
