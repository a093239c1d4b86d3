"""Datasets on real engines: Dask and Ray on two worker processes, DuckDB and polars in two processes of a pool.

Each gets the pickled ``Output``, or what ``to_dask`` and ``to_ray`` make of it, and builds clients of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from support import engine_queries
from support.engine_queries import DAY, SCHEMA, run_pickled
from support.profile import THOROUGH
from support.seaweed import ADMIN

import stepout
from stepout.artifacts.media_types import DATASET
from stepout.artifacts.reading.tables.engines import countable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout import Output

QUERIES = ("whole", "narrow")
ROWS = 48_000


def _table() -> pa.Table:
    numbers = random.Random(11)
    rows = range(ROWS)
    return pa.table(
        {
            "id": rows,
            "score": [None if n % 50 == 0 else numbers.random() for n in rows],
            "note": [None if n % 9 == 0 else f"n{n % 7}" for n in rows],
            "day": [None if n % 20 == 0 else DAY.replace(day=1 + n % 3) for n in rows],
            "n": [n % 2 for n in rows],
        },
        schema=SCHEMA,
    )


class Written:
    """A dataset on the server, whose pointers have no version and no ETag: damage is found by its bytes alone."""

    def __init__(self, server: Seaweed, bucket: str) -> None:
        self.client = server.client()
        self.bucket = bucket
        manager = stepout.ArtifactManager(bucket, "runs", client=self.client)
        pointer = manager.put_dataset("days", _table(), partition_by=["day", "n"])
        allow = [f"s3://{bucket}/"]
        manifest = stepout.resolve_artifact(pointer, allow=allow, client=self.client).manifest()
        files = [replace(file, pointer=replace(file.pointer, etag=None, version_id=None)) for file in manifest.files]
        bare = manager.put_bytes("bare", replace(manifest, files=tuple(files)).to_bytes(), media_type=DATASET)
        self.keys = [file.pointer.key for file in files]
        document = stepout.TaskOutput(artifacts={"days": replace(bare, etag=None)})
        self.output: Output = stepout.resolve_output(document.to_dict(), allow=allow)
        self.pickled = pickle.dumps(self.output)
        self.expected = {query: engine_queries.run("pyarrow", query, self.output["days"]) for query in QUERIES}

    def flipped(self, numbers: random.Random) -> Callable[[], None]:
        """Flip a random bit of a random file, near its end as often as not; return what mends it."""
        key = numbers.choice(self.keys)
        good = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        bad = bytearray(good)
        bad[numbers.randrange(max(len(good) - 5_000, 0) if numbers.random() < 0.5 else 0, len(good))] ^= 1 << (
            numbers.randrange(8)
        )
        self.client.put_object(Bucket=self.bucket, Key=key, Body=bytes(bad))
        return lambda: self.client.put_object(Bucket=self.bucket, Key=key, Body=good)


@pytest.fixture(scope="module")
def environment(seaweed: Seaweed) -> Iterator[pytest.MonkeyPatch]:
    """Where workers find the server and credentials: in their environment, and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN.secret_key)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PYTHONPATH", os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")]))
        yield patch


@pytest.fixture(scope="module")
def written(seaweed: Seaweed, environment: pytest.MonkeyPatch) -> Written:  # noqa: ARG001 - what it is read through
    """The dataset."""
    bucket = "engines"
    seaweed.client().create_bucket(Bucket=bucket)
    return Written(seaweed, bucket)


def _refused(kind: str, said: Any, *names: str) -> None:
    """Check that an answer is an error of ours, whatever it is wrapped in."""
    assert kind == "error", said.num_rows
    assert any(name in said for name in names), said


# DuckDB and polars ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(environment: pytest.MonkeyPatch) -> Iterator[ProcessPoolExecutor]:  # noqa: ARG001 - what they inherit
    """Two processes that share nothing with this one."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        yield processes


@pytest.mark.parametrize("engine", ["pyarrow", "duckdb", "polars"])
def test_an_engine_in_another_process_reads_the_same(engine: str, written: Written, pool: ProcessPoolExecutor) -> None:
    """From the pickled output: values, types and nulls, whole and narrowed."""
    pytest.importorskip(engine, reason=f"pip install {engine}")
    answers = {query: pool.submit(run_pickled, engine, query, written.pickled, "days") for query in QUERIES}
    for query, answer in answers.items():
        kind, table = answer.result()
        assert kind == "table", table
        assert table.equals(written.expected[query])
    assert written.expected["whole"].equals(engine_queries.ordered(_table(), SCHEMA.names))


@pytest.mark.parametrize("engine", ["pyarrow", "duckdb", "polars"])
def test_a_flipped_bit_is_our_error_in_another_process(
    engine: str, written: Written, pool: ProcessPoolExecutor
) -> None:
    """Anywhere in any file: a scan of all raises, one of some columns raises or is right; never a wrong number."""
    pytest.importorskip(engine, reason=f"pip install {engine}")
    numbers = random.Random(engine)
    for _ in range(24 if THOROUGH else 3):
        mend = written.flipped(numbers)
        try:
            answers = [pool.submit(run_pickled, engine, query, written.pickled, "days") for query in QUERIES]
            (kind, said), (kind_of_narrow, narrow) = [answer.result() for answer in answers]
        finally:
            mend()
        _refused(kind, said, "are not those that were written", "not the one that was written", "not the bytes written")
        if kind_of_narrow == "table":
            assert narrow.equals(written.expected["narrow"])
        else:
            _refused(kind_of_narrow, narrow, "written")


@pytest.mark.parametrize("engine", ["pyarrow", "duckdb", "polars"])
def test_a_deleted_file_and_a_process_without_credentials_are_our_errors(
    engine: str, written: Written, pool: ProcessPoolExecutor, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In words that name the object, or say what is missing."""
    pytest.importorskip(engine, reason=f"pip install {engine}")
    key = written.keys[-1]
    good = written.client.get_object(Bucket=written.bucket, Key=key)["Body"].read()
    written.client.delete_object(Bucket=written.bucket, Key=key)
    try:
        kind, said = pool.submit(run_pickled, engine, "whole", written.pickled, "days").result()
    finally:
        written.client.put_object(Bucket=written.bucket, Key=key, Body=good)
    _refused(kind, said, f"s3://{written.bucket}/{key}")
    if engine != "polars":  # each costs a process
        return
    with environment.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        patch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        patch.setenv("HOME", str(tmp_path))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as bare:
            kind, said = bare.submit(run_pickled, engine, "whole", written.pickled, "days").result()
    _refused(kind, said, "credentials", "Credentials")


# Dask -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask_workers(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001
    """A cluster of two worker processes, each with one thread."""
    distributed = pytest.importorskip("distributed", reason="pip install 'dask[dataframe]' distributed")
    folder = str(tmp_path_factory.mktemp("dask"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of a busy machine
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("dask_workers")
def test_dask_reads_the_same_on_two_processes(written: Written) -> None:
    """Whole and narrowed, with types and nulls; a flipped bit is our error."""
    days = written.output["days"]
    for query in QUERIES:
        assert engine_queries.run("dask", query, days).equals(written.expected[query])
    numbers = random.Random(5)
    for _ in range(8 if THOROUGH else 2):
        mend = written.flipped(numbers)
        try:
            with pytest.raises(stepout.ChecksumMismatchError):
                engine_queries.run("dask", "whole", days)
        finally:
            mend()


# Ray ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_workers(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:  # noqa: ARG001
    """Ray on two CPUs of this machine."""
    ray = pytest.importorskip("ray", reason="pip install 'ray[data]'")
    services, deadline = ray._private.services, time.monotonic() + 500
    get_node = services.get_node

    def patient(*names: Any) -> Any:
        """Wait longer than Ray's half a minute for a node that starts on a busy machine."""
        while True:
            try:
                return get_node(*names)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # its own
        patch.setattr(services, "get_node", patient)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _temp_dir=str(tmp_path_factory.mktemp("r")),
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=128 << 20,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("ray_workers")
def test_ray_reads_the_same_on_two_processes(written: Written) -> None:
    """Whole and narrowed, with types and nulls; a flipped bit is our error."""
    days = written.output["days"]
    for query in QUERIES:
        assert engine_queries.run("ray", query, days).equals(written.expected[query])
    numbers = random.Random(6)
    for _ in range(3):
        mend = written.flipped(numbers)
        try:
            with pytest.raises(Exception, match="written") as raised:  # Ray's own class, which has ours as its cause
                engine_queries.run("ray", "whole", days)
        finally:
            mend()
        assert "ChecksumMismatchError" in engine_queries.told(raised.value) or isinstance(
            raised.value, stepout.ChecksumMismatchError
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("ray_workers")
def test_ray_counts_rows_behind_a_filter(written: Written) -> None:
    """Of a count Ray reads no column at all, and still gets every row; with a filter of ours and with one of Ray's."""
    from ray.data.expressions import col

    days = written.output["days"]
    assert days.to_ray().count() == ROWS
    expected = sum(score is not None and score > 0.5 for score in written.expected["whole"]["score"].to_pylist())
    assert days.to_ray().filter(expr=col("score") > 0.5).count() == expected
    assert days.to_ray(filters=[("score", ">", 0.5)]).count() == expected
    assert days.to_ray(filters=[("score", ">", 2.0)]).count() == 0


def test_tables_without_columns_keep_their_rows_when_ray_joins_them() -> None:
    """What ``to_ray`` gives Ray for a count survives the way that Ray puts blocks together."""
    bare = _table().select([])
    assert pa.concat_tables([bare, bare]).num_rows == 0  # what made Ray count nothing
    assert pa.concat_tables([countable(bare), countable(bare)]).num_rows == 2 * ROWS
    assert countable(_table()).schema == SCHEMA


def test_the_documents_that_travel_hold_no_credentials(written: Written) -> None:
    """Neither the pickled output nor a piece of a dataset has a key, and the document is what was resolved."""
    pieces = pickle.dumps(written.output["days"].dataset())
    for travels in (written.pickled, pieces):
        assert ADMIN.secret_key.encode() not in travels
        assert ADMIN.access_key.encode() not in travels
    assert json.dumps(written.output.document.to_dict()).count("pointer/1") == 1
