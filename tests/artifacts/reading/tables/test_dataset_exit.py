"""No use of a dataset ends the interpreter, or keeps it from ending: each in a process of its own, by its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from support.seaweed import ADMIN

import stepout

if TYPE_CHECKING:
    from support.seaweed import Seaweed

BEGIN = """
import copy, json, os, pickle, sys, threading
import pyarrow as pa
import stepout
output = stepout.resolve_output(json.loads(os.environ["DOCUMENT"]), allow=["s3://"+os.environ["BUCKET"]+"/"])
dataset = output["days"].dataset()
"""
WAYS = {
    "left halfway": "batches = dataset.to_batches(batch_size=100); next(batches)",
    "left halfway and dropped": "batches = dataset.to_batches(batch_size=100); next(batches); del batches",
    "left by an exception": """
batches = dataset.to_batches(batch_size=100)
next(batches)
sys.excepthook = lambda *_: None
raise SystemExit(0)
""",
    "left in a thread": """
def scan():
    for batch in dataset.to_batches(batch_size=100):
        left.set()
        return batch
left = threading.Event()
threading.Thread(target=scan).start()
left.wait()
""",
    "left halfway in a fork's child": """
dataset.to_table()
child = os.fork()
if child == 0:
    batches = output["days"].dataset().to_batches(batch_size=100)
    next(batches)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    "pickled and copied": """
again = pickle.loads(pickle.dumps(dataset))
assert again.to_table().equals(dataset.to_table())
assert copy.copy(dataset).files == dataset.files == again.files
fragment = pickle.loads(pickle.dumps(next(iter(dataset.get_fragments()))))
assert fragment.count_rows() > 0
for thing in (dataset.filesystem, dataset.replace_schema(dataset.schema), dataset.schema):
    pickle.loads(pickle.dumps(thing))
try:
    pickle.dumps(dataset.filter(pa.compute.field("id") > 1))
except (TypeError, ValueError):  # pyarrow's own
    pass
""",
    "a reader that raises": """
from stepout.artifacts.reading.ranges import random_access
def broken(*_, **__): raise RuntimeError("broken reader")
dataset.filesystem.open_input_file(dataset.files[0]).close()
for name, module in list(sys.modules.items()):
    if name.startswith("stepout.artifacts.reading") and hasattr(module, "open_random"):
        module.open_random = broken
try:
    dataset.to_table()
except RuntimeError as error:
    assert "broken reader" in str(error)
else:
    raise AssertionError
""",
    "files that are gone": """
from botocore.session import get_session
client = get_session().create_client("s3")
for file in output["days"].manifest().files:
    client.delete_object(Bucket=file.pointer.bucket, Key=file.pointer.key)
for read in (dataset.to_table, dataset.count_rows, lambda: next(dataset.to_batches())):
    try:
        read()
    except stepout.ArtifactNotFoundError:
        pass
    else:
        raise AssertionError
""",
    "polars left halfway": "frame = output['days'].scan_polars(); assert frame.head(1).collect().height == 1",
    "DuckDB left halfway": "relation = output['days'].to_duckdb(); assert len(relation.limit(1).fetchall()) == 1",
}


EVERY_DAY = {"left halfway", "pickled and copied", "files that are gone"}


@pytest.mark.parametrize("way", [pytest.param(way, marks=() if way in EVERY_DAY else pytest.mark.slow) for way in WAYS])
def test_the_interpreter_ends_as_it_should(way: str, seaweed: Seaweed, bucket: str) -> None:
    """Exit code 0, and nothing on standard error: no abort, no segmentation fault, no hanging thread."""
    table = pa.table({"id": range(8_000), "day": [number % 4 for number in range(8_000)]})
    manager = stepout.ArtifactManager(bucket, "runs", client=seaweed.client())
    pointer = manager.put_dataset("days", table, partition_by=["day"], max_rows_per_file=200)
    document = stepout.TaskOutput(artifacts={"days": pointer}).to_dict()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BUCKET": bucket,
        "DOCUMENT": json.dumps(document),
    }
    words = [sys.executable, "-c", BEGIN + WAYS[way]]
    run = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert (run.returncode, run.stderr) == (0, "")
