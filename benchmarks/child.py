"""One measured process: set up, say so, wait for the word, work, report.

It speaks lines of JSON with ``measure``: the job comes in, ``{"ready": …}`` goes out, a line comes in, the result goes
out. Imports and clients are set-up and are not measured (the cold suite measures those).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.job import Job, children_cpu

__all__ = ["main"]

TABLES = {
    "upload": "benchmarks.peers:TRANSFERS",
    "download": "benchmarks.peers:TRANSFERS",
    "put": "benchmarks.small:SMALL",
    "get": "benchmarks.small:SMALL",
    "put_one": "benchmarks.small:SMALL",
    "parquet": "benchmarks.parquet:TABLES",
    "scan": "benchmarks.datasets:DATASETS",
    "random": "benchmarks.datasets:DATASETS",
    "put_dataset": "benchmarks.datasets:DATASETS",
    "settle": "benchmarks.datasets:SETTLE",
    "put_directory": "benchmarks.directories:DIRECTORIES",
    "get_directory": "benchmarks.directories:DIRECTORIES",
    "one_file": "benchmarks.directories:ONE_FILE",
    "settle_directory": "benchmarks.directories:SETTLE_DIRECTORY",
    "settle_listing": "benchmarks.directories:SETTLE_DIRECTORY",
    "gather": "benchmarks.fan_in:FAN_IN",
    "settle_gather": "benchmarks.fan_in:SETTLE_FAN_IN",
    "validate": "benchmarks.validation:VALIDATION",
}


def _work(job: Job) -> Any:
    module, _, name = TABLES[job.operation].partition(":")
    table = getattr(importlib.import_module(module), name)
    return table[job.peer][job.operation](job)


def _cpu() -> float:
    """Return user and system seconds of this process and of its children that have ended."""
    return time.process_time() + children_cpu()


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _measured(job: Job) -> dict[str, Any]:
    work = _work(job)
    _say(ready=os.getpid())
    sys.stdin.readline()
    cpu, start = _cpu(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - start, _cpu() - cpu
    digest = result.get("sha256")
    if digest is not None and job.sha256 and digest != job.sha256:
        msg = f"SHA-256 is {digest}, expected {job.sha256}"
        raise AssertionError(msg)
    # What a peer timed for itself (the start of a stream, one phase of its work) goes beside the whole.
    return {"wall": wall, "cpu": cpu, **{name: value for name, value in result.items() if name != "sha256"}}


def main() -> None:
    """Run one job."""
    job = Job(**json.loads(sys.stdin.readline()))
    try:
        result = _measured(job)
    except ImportError as error:
        _say(skipped=f"{type(error).__name__}: {error}")
    except Exception as error:
        traceback.print_exc()
        _say(failed=f"{type(error).__name__}: {error}"[:400])
    else:
        _say(**result)
    sys.stdout.flush()
    os._exit(0)  # some peers' threads take seconds to wind down, which is nobody's measurement


if __name__ == "__main__":
    main()
