"""How winding the roads through the code are: ``python -m benchmarks.roads``.

Six things that every user does, each done twice against SeaweedFS, the second time under ``sys.setprofile``. Told of
each, for the thread that asked for it: the files of stepout that it passes through, the calls of its own functions, and
the switches: calls from one of the files into another. A reader who follows the road opens a file at every switch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.job import BUCKET
from benchmarks.measure import ROOT, child_environment
from benchmarks.servers import seaweed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ROOMS = tuple(f"{ROOT / folder}{os.sep}" for folder in ("artifacts", "callbacks", "schemas", "src"))


class Counter:
    """Counts while it is the profile function of a thread."""

    def __init__(self) -> None:
        self.calls = 0
        self.switches = 0
        self.files: set[str] = set()
        self._ours: dict[str, str] = {}

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Take note of one call; returns, and calls of functions in C, do not count."""
        if event != "call" or not (file := self._file(frame)):
            return
        self.calls += 1
        self.files.add(file)
        caller = frame.f_back
        while caller is not None and not self._file(caller):
            caller = caller.f_back
        if caller is not None and self._file(caller) != file:
            self.switches += 1

    def _file(self, frame: FrameType) -> str:
        name = frame.f_code.co_filename
        if name not in self._ours:
            real = os.path.realpath(name)
            self._ours[name] = real.removeprefix(f"{ROOT}{os.sep}") if real.startswith(ROOMS) else ""
        return self._ours[name]


def count(road: Callable[[int], object]) -> Counter:
    """Do it once so that everything is imported and connected, then once more, counting."""
    road(1)
    counter = Counter()
    sys.setprofile(counter)
    try:
        road(2)
    finally:
        sys.setprofile(None)
    return counter


def roads(folder: Path) -> dict[str, Callable[[int], object]]:
    """The six roads; each takes the number of its round, for names that must not recur."""
    import pyarrow as pa

    import stepout

    manager = stepout.ArtifactManager(BUCKET, "roads")
    allow = [f"s3://{BUCKET}/roads/"]
    table = pa.table({"id": range(1000), "score": [0.5] * 1000})
    large = folder / "large.bin"
    large.write_bytes(os.urandom(20 << 20))
    small = manager.put_bytes("small", os.urandom(10_000)).to_dict()
    features = manager.put_table("features", table).to_dict()

    def task(_round: int) -> None:
        with stepout.open_task() as opened:
            opened.artifacts.put_json("figures", {"rows": 1000})
            opened.result["rows"] = 1000

    def read_columns(_round: int) -> object:
        return stepout.resolve_artifact(features, allow=allow).read_table(columns=["id"])

    return {
        "put 10 KB": lambda number: manager.put_bytes(f"bytes_{number}", os.urandom(10_000)),
        "put a table": lambda number: manager.put_table(f"table_{number}", table),
        "put a file of 20 MiB": lambda number: manager.put_file(f"file_{number}", large),
        "resolve and read 10 KB": lambda _: stepout.resolve_artifact(small, allow=allow).read_bytes(),
        "resolve and read one column": read_columns,
        "a task with one artifact": task,
    }


def main() -> None:
    """Print a table for people and one line of JSON for programs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with seaweed(folder) as server:
            os.environ.update(child_environment(None))
            os.environ.update(
                AWS_ENDPOINT_URL_S3=server.endpoint,
                STEPOUT_BUCKET=BUCKET,
                STEPOUT_PREFIX="roads",
                STEPOUT_TARGETS=(folder / "outcome.json").as_uri(),
                STEPOUT_S3_PROFILE="compatible",
            )
            counted: dict[str, Any] = {}
            sys.stdout.write(f"{'road':30}{'files':>7}{'calls':>7}{'switches':>10}\n")
            for road, walk in roads(folder).items():
                found = count(walk)
                counted[road] = {"files": len(found.files), "calls": found.calls, "switches": found.switches}
                sys.stdout.write(f"{road:30}{len(found.files):7}{found.calls:7}{found.switches:10}\n")
    sys.stdout.write(f"{json.dumps(counted)}\n")


if __name__ == "__main__":
    main()
