"""A process that reads Parquet files of any bytes in every way there is: what kills it is a failure with an example.

As a program, it reads files from standard input, each behind its size, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.resolve import resolve_artifact
from stepout.schemas.errors import StepoutError
from support.looks import Bench
from support.shelf import ALLOW

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = 8


class ReadingProcess:
    """The process, from outside; one that has died is started anew."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def outcomes(self, data: bytes) -> dict[str, str]:
        """Return what came of each way to read a file: the name of what came, or of the error.

        Raises:
            AssertionError: The process has died of it.
        """
        if self._process is None:
            pipe = subprocess.PIPE
            command = [sys.executable, "-m", "support.parquet_reader"]
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment())
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(data).to_bytes(_SIZE, "little") + data)
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            self._process = None
            _, told = process.communicate()
            raise AssertionError(f"reading ended the process with {process.returncode}: {told[-500:]!r}")
        found: dict[str, str] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


# The program ----------------------------------------------------------------------------------------------------------


_CONDITION = (ds.field("whole") > 1) & (ds.field("text") > "a") & ds.field("fixed").is_valid()


def ways() -> dict[str, Callable[[bytes], object]]:
    """Return every way to read a file; each returns what came, and raises a ``StepoutError``."""
    bench = Bench()

    def artifact(data: bytes) -> Any:
        pointer = bench.shelf.put(data, "t.parquet", media_type=PARQUET)
        return resolve_artifact(pointer, allow=ALLOW, client=bench.shelf.store)

    def look(data: bytes) -> object:
        seen = bench.look(bench.shelf.put(data, "t.parquet", media_type=PARQUET))
        return seen.problem or seen.inside

    return {
        "look": look,
        "table": lambda data: artifact(data).read_table(),
        "columns": lambda data: artifact(data).read_table(columns=["whole", "text"]),
        "filters": lambda data: artifact(data).read_table(filters=[("whole", ">", 1), ("text", ">", "a")]),
        "dataset": lambda data: artifact(data).dataset().to_table(filter=_CONDITION),
    }


def _outcome(way: Callable[[bytes], object], data: bytes) -> str:
    try:
        return type(way(data)).__name__
    except (StepoutError, pa.ArrowException, OSError) as error:  # Arrow's own scanner has errors of its own
        return type(error).__name__


def main() -> None:
    """Read files until there are no more."""
    known = ways()
    while size := int.from_bytes(sys.stdin.buffer.read(_SIZE), "little"):
        data = sys.stdin.buffer.read(size)
        print(json.dumps({name: _outcome(way, data) for name, way in known.items()}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
