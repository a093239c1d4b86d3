"""Import weight of the consumer: resolving and reading bytes load botocore at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("boto3", "botocore", "pyarrow", "s3fs", "PIL", "numpy", "pandas", "jsonschema", "hypothesis", "pytest")

READ = """
import hashlib, json, sys, tempfile
from stepout.artifacts.memory import MemoryStore
from stepout.artifacts.resolve import resolve_all, resolve_output
from stepout.artifacts.store_writes import WriteOptions
data = b"x" * 5_000_000
sha256 = hashlib.sha256(data).hexdigest()
store = MemoryStore("results")
store.put("runs/a", [memoryview(data)], checksum={"sha256": sha256}, options=WriteOptions())
pointer = {"stepout": "pointer/1", "bucket": "results", "key": "runs/a", "size": len(data),
           "checksum": {"sha256": sha256}, "mediaType": "text/plain"}
event = {"Payload": {"stepout": "output/1", "artifacts": {"a": pointer}, "result": {"rows": 1}}}
output = resolve_output(json.dumps(event), allow=["s3://results/runs/"], client=store, state=None)
assert output["a"].read_bytes() == data
assert output["a"].read_text() and output.result == {"rows": 1}
output["a"].verify()
with output["a"].open() as file:
    assert file.read() == data
with tempfile.TemporaryDirectory() as folder:
    output["a"].download(folder)
resolve_all(event, allow=["s3://results/"], client=store)
"""

CLIENT = """
from stepout.artifacts.reading.access import Access
from stepout.artifacts.allow import allowed_from
Access(allowed=allowed_from(["s3://results/"])).stores.of("results").endpoint_url
"""


def _loaded(script: str) -> set[str]:
    report = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    environment = {**os.environ, "AWS_DEFAULT_REGION": "eu-west-1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script + report],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path("/"),
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


def test_reading_bytes_loads_nothing_heavy() -> None:
    """With a store passed in, not even boto3."""
    assert _loaded(READ) == set()


def test_a_client_of_our_own_loads_botocore_and_nothing_else() -> None:
    """No boto3 (a tenth of a cold start), pyarrow, numpy, Pillow, jsonschema or s3fs beside it."""
    assert _loaded(CLIENT) == {"botocore"}


@pytest.mark.parametrize(
    "module",
    [
        "allow",
        "reading.artifact",
        "reading.tables.parquet",
        "resolve",
        "reading.fan_in.result_writer",
        "reading.output",
    ],
)
def test_each_module_alone_loads_nothing_heavy(module: str) -> None:
    """Whatever is imported first."""
    assert _loaded(f"import stepout.artifacts.{module}") == set()
