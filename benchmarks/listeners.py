"""What it costs that puts and reads can be listened to: ``python -m benchmarks.listeners [--before FOLDER]``.

10 KB are put and read again, many times, in child processes that take turns: with nobody listening, with one listener,
with JSON logs and metrics, and with spans that a real SDK makes and drops. ``--before`` names the checkout of another
commit, such as one without the seam, which takes its turn as well. Told of each: processor time of the process for one
call, the least of the rounds, and its ratio to the first. In memory nothing hides what the code costs; SeaweedFS is a
server on the network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.job import BUCKET
from benchmarks.measure import ROOT, child_environment
from benchmarks.servers import seaweed

_SPANS: Final = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""
_LISTENER: Final = "events = {'events': stepout.Events([lambda event: None])}"
_SWITCHES: Final = """
import sys
from stepout.observe.switches import observe
events = {'events': stepout.Events()}
on = {'STEPOUT_LOG': 'json', 'STEPOUT_METRICS': 'emf'}
observe(events['events'], on, stepout.RunIdentity(), prints_document=True)
"""
_CHILD: Final = """
import json, os, sys, time
{before}
import stepout
from stepout.testing import MemoryStore
events = {{}}
{after}
memory, count = {memory}, {count}
bucket = MemoryStore("memory") if memory else {bucket!r}
manager = stepout.ArtifactManager(bucket, "listeners", **events)
options = {{"allow": stepout.ANY_BUCKET, **({{"client": bucket}} if memory else {{}}), **events}}
data = os.urandom(10_000)
artifact = stepout.resolve_artifact(manager.put_bytes("first", data).to_dict(), **options)
assert artifact.read_bytes() == data
clock, told = time.process_time, {{}}
for name, call in {{
    "put": lambda number: manager.put_bytes(f"n{{number}}", data),
    "read": lambda number: artifact.read_bytes(),
    "resolve": lambda number: stepout.resolve_artifact(artifact.pointer.to_dict(), **options),
}}.items():
    began = clock()
    for number in range(count):
        call(number)
    told[name] = (clock() - began) / count
print(json.dumps(told))
"""


def _variants(before: Path | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        "nobody listens": {},
        "one listener": {"after": _LISTENER},
        "JSON logs, EMF": {"after": _SWITCHES},
        "spans": {"before": _SPANS},
    }
    return {"the other commit": {"folder": before}, **found} if before is not None else found


def measured(variant: dict[str, Any], *, memory: bool, count: int) -> dict[str, float]:
    """Run one round in a process of its own; return seconds of processor time for each call, by name."""
    parts = {"before": "", "after": "", **variant}
    folder = parts.pop("folder", None) or ROOT
    code = _CHILD.format(**parts, memory=memory, count=count, bucket=BUCKET)
    environ = {**os.environ, "PYTHONPATH": str(Path(folder) / "src")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    told: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Print one table for each store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listeners", description=__doc__, allow_abbrev=False)
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same run")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    variants = _variants(arguments.before)
    with tempfile.TemporaryDirectory() as name, seaweed(Path(name)) as server:
        os.environ.update(child_environment(None))
        os.environ.update(AWS_ENDPOINT_URL_S3=server.endpoint, STEPOUT_S3_PROFILE="compatible")
        for store, count in (("in memory", 2_000), ("SeaweedFS", 400)):
            rounds: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
            for _ in range(arguments.rounds):
                for variant, parts in variants.items():
                    rounds[variant].append(measured(parts, memory=store == "in memory", count=count))
            _print(store, rounds)


def _print(store: str, rounds: dict[str, list[dict[str, float]]]) -> None:
    least = {
        variant: {name: min(each[name] for each in found) * 1e6 for name in found[0]}
        for variant, found in rounds.items()
    }
    first = next(iter(least.values()))
    print(f"{store:20}" + "".join(f"{name:>22}" for name in first))
    for variant, found in least.items():
        cells = [f"{value:9.1f} µs {value / first[name]:6.2f} ×" for name, value in found.items()]
        print(f"{variant:20}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
