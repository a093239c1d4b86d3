"""Memory: a stream of record batches takes the same memory, however long it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import support.table_memory

SIZE = 600_000_000
LIMIT = 384 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage is not there")
def test_a_long_stream_takes_bounded_memory() -> None:
    """600 MB of batches pass with far less above the idle process: a row group, a pool of buffers, a footer."""
    program = Path(support.table_memory.__file__)
    run = subprocess.run([sys.executable, program, str(SIZE)], check=True, capture_output=True, text=True)
    measured = json.loads(run.stdout)
    assert measured["parquet"] > SIZE // 2
    assert measured["above"] < LIMIT < SIZE
    assert run.stderr == ""
