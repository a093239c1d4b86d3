"""A dataset of 20 partitions: written, scanned by several engines, and a large object read in small pieces.

Every engine reads the same committed files three ways: verified through stepout; through s3fs, which verifies nothing;
and by its own reader, where it has one that reaches the server.
"""

from __future__ import annotations

import functools
import io
import os
import random
import tempfile
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from benchmarks.clients import REGION, pyarrow_filesystem, s3fs_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.job import Job, Work

PARTITIONS = 20
ROW_BYTES = 96
TWO = ["id", "score"]
PIECE = 64 << 10
LARGE = 128 << 20


def table_of(size: int) -> Any:
    """Make a table of 12 columns and one to partition by, of about ``size`` bytes in memory."""
    import numpy as np
    import pyarrow as pa

    rows = max(size // ROW_BYTES, PARTITIONS)
    rng = np.random.default_rng(11)
    labels = pa.array([f"item-{number}" for number in range(10_000)])
    columns: dict[str, Any] = {"id": np.arange(rows, dtype=np.int64)}
    columns |= {name: rng.random(rows) for name in ("score", "weight", "x", "y", "z")}
    columns |= {name: rng.integers(0, 1 << 20, rows, dtype=np.int32) for name in ("a", "b", "c")}
    columns["label"] = labels.take(pa.array(rng.integers(0, len(labels), rows)))
    columns["at"] = pa.array(rng.integers(0, 10**15, rows), pa.timestamp("us"))
    columns["flag"] = pa.array(rng.random(rows) < 0.5, mask=rng.random(rows) < 0.05)
    columns["day"] = pa.array(np.sort(rng.integers(0, PARTITIONS, rows)).astype("int32"))
    return pa.table(columns)


# Scans ---------------------------------------------------------------------------------------------------------------


def _wanted(job: Job) -> tuple[list[str] | None, int | None]:
    """Return the columns and the least ``id`` that a job asks for; ``None`` for all."""
    return (TWO, job.options["least"]) if job.options["part"] else (None, None)


def _artifact(job: Job) -> Any:
    import stepout

    os.environ["AWS_ENDPOINT_URL"] = job.endpoint
    return stepout.resolve_artifact(job.options["pointer"], allow=[f"s3://{job.bucket}/"])


def _dataset(job: Job, filesystem: Any) -> Any:
    import pyarrow.dataset as ds

    return ds.dataset(job.options["root"], filesystem=filesystem, format="parquet", partitioning="hive")


_SOURCES: dict[str, Callable[[Job], Any]] = {
    "stepout": lambda job: _artifact(job).dataset(),
    "s3fs": lambda job: _dataset(job, s3fs_filesystem(job)),
    "native": lambda job: _dataset(job, pyarrow_filesystem(job)),
}


def _pyarrow(source: str, job: Job) -> Work:
    import pyarrow.dataset as ds

    columns, least = _wanted(job)

    def work() -> dict[str, Any]:
        condition = None if least is None else ds.field("id") >= least
        table = _SOURCES[source](job).to_table(columns=columns, filter=condition)
        return {"rows": table.num_rows}

    return work


def _polars(source: str, job: Job) -> Work:
    import polars as pl

    columns, least = _wanted(job)
    native = {
        "aws_endpoint_url": job.endpoint, "aws_region": REGION, "aws_allow_http": "true",
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    }  # fmt: skip

    def work() -> dict[str, Any]:
        if source == "stepout":
            frame = _artifact(job).scan_polars()
        elif source == "s3fs":
            frame = pl.scan_pyarrow_dataset(_SOURCES["s3fs"](job))
        else:
            frame = pl.scan_parquet(f"s3://{job.options['root']}/**/*.parquet", storage_options=native)
        if least is not None:
            frame = frame.filter(pl.col("id") >= least).select(columns)
        return {"rows": frame.collect().height}

    return work


def _duckdb(source: str, job: Job) -> Work:
    import duckdb

    columns, least = _wanted(job)
    shown = ", ".join(columns or ["*"])
    where = "" if least is None else f" WHERE id >= {least}"

    def work() -> dict[str, Any]:
        connection = duckdb.connect()
        if source == "stepout":
            relation = _artifact(job).to_duckdb(connection)
        else:
            connection.register_filesystem(s3fs_filesystem(job))
            pattern = f"s3://{job.options['root']}/**/*.parquet"
            relation = connection.sql(f"SELECT * FROM read_parquet('{pattern}', hive_partitioning=true)")  # noqa: S608 - ours
        # What a caller takes home: Arrow, as of the others.
        found = connection.sql(f"SELECT {shown} FROM relation{where}").to_arrow_table()  # noqa: S608 - ours
        del relation
        return {"rows": found.num_rows}

    return work


def _dask(source: str, job: Job) -> Work:
    import dask
    import dask.dataframe as dd

    columns, least = _wanted(job)
    options = {
        "client_kwargs": {"endpoint_url": job.endpoint, "region_name": REGION},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }

    def work() -> dict[str, Any]:
        dask.config.set(scheduler="threads", num_workers=2)
        if source == "stepout":
            frame = _artifact(job).to_dask()
        else:
            more: dict[str, Any] = {"storage_options": options}
            if source == "native":
                more = {"filesystem": pyarrow_filesystem(job)}
            frame = dd.read_parquet(f"s3://{job.options['root']}/", **more)
        if least is not None:
            frame = frame[frame.id >= least][columns]
        return {"rows": len(frame.compute())}

    return work


_ENGINES: dict[str, tuple[Callable[[str, Job], Work], tuple[str, ...]]] = {
    "pyarrow": (_pyarrow, ("stepout", "s3fs", "native")),
    "Dask": (_dask, ("stepout", "s3fs", "native")),
    "DuckDB": (_duckdb, ("stepout", "s3fs")),  # its own reader is an extension, which is downloaded
    "polars": (_polars, ("stepout", "s3fs", "native")),
}
SCANS = {
    f"{engine}, {source}": {"scan": functools.partial(make, source)}
    for engine, (make, sources) in _ENGINES.items()
    for source in sources
}


# Small pieces of a large object --------------------------------------------------------------------------------------


def _pieces(job: Job) -> list[int]:
    places = random.Random(5)  # noqa: S311 - where to read
    return [places.randrange(job.size - PIECE) for _ in range(job.count)]


def _read_file(open_file: Callable[[Job], Any], job: Job) -> Work:
    starts = _pieces(job)

    def work() -> dict[str, Any]:
        with open_file(job) as file:
            for start in starts:
                file.seek(start)
                if len(file.read(PIECE)) != PIECE:
                    raise AssertionError("a piece is short")
        return {}

    return work


def _read_ranges(job: Job) -> Work:
    starts, filesystem = _pieces(job), s3fs_filesystem(job)

    def work() -> dict[str, Any]:
        for start in starts:
            filesystem.cat_file(job.options["path"], start=start, end=start + PIECE)
        return {}

    return work


RANDOM: dict[str, dict[str, Callable[[Job], Work]]] = {
    "stepout, pyarrow file system": {
        "random": functools.partial(_read_file, lambda job: _artifact(job).filesystem().open_input_file("artifact"))
    },
    "stepout, fsspec": {
        "random": functools.partial(_read_file, lambda job: _artifact(job).filesystem("fsspec").open("artifact"))
    },
    "stepout, open()": {"random": functools.partial(_read_file, lambda job: _artifact(job).open())},
    "s3fs": {"random": functools.partial(_read_file, lambda job: s3fs_filesystem(job).open(job.options["path"]))},
    "s3fs, exact ranges": {"random": _read_ranges},
    "pyarrow S3, native": {
        "random": functools.partial(
            _read_file, lambda job: pyarrow_filesystem(job).open_input_file(job.options["path"])
        )
    },
}


# Writing -------------------------------------------------------------------------------------------------------------


class _Nothing(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def _put(job: Job) -> Work:
    table, writer = table_of(job.size), ours.manager(job)
    batches = table.to_batches(max_chunksize=1 << 17)

    def work() -> dict[str, Any]:
        writer.put_dataset("scanned", iter(batches), partition_by=["day"])
        return {}

    return work


def _encode(job: Job) -> Work:
    """Encode the same rows of the same partitions, sorted as they are: the least that anybody does."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = table_of(job.size)
    batches = table.to_batches(max_chunksize=1 << 17)

    def work() -> dict[str, Any]:
        import pyarrow as pa

        groups: dict[int, list[Any]] = {}
        for batch in batches:
            for value in pc.unique(batch.column("day")).to_pylist():
                chosen = batch.filter(pc.equal(batch.column("day"), value)).drop_columns(["day"])
                groups.setdefault(value, []).append(chosen)
        for group in groups.values():
            pq.write_table(pa.Table.from_batches(group), _Nothing(), write_page_checksum=True)
        return {}

    return work


def _write_dataset(job: Job) -> Work:
    """Write the files to this machine, and send and hash nothing."""
    import pyarrow.dataset as ds

    table = table_of(job.size)

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            ds.write_dataset(table, folder, format="parquet", partitioning=["day"], partitioning_flavor="hive")
        return {}

    return work


WRITES = {
    "stepout put_dataset": {"put_dataset": _put},
    "encode only": {"put_dataset": _encode},
    "pyarrow write_dataset, to files": {"put_dataset": _write_dataset},
}

DATASETS = {**SCANS, **RANDOM, **WRITES}


def _settle(job: Job) -> Work:
    """Write what the scans and the random reads read, and return pointers of both for ``Job.options``."""
    manager = ours.manager(job)

    def work() -> dict[str, Any]:
        table = table_of(job.size)
        dataset = manager.put_dataset("dataset", table, partition_by=["day"])
        data = manager.put_bytes("large", random.Random(3).randbytes(LARGE))  # noqa: S311 - any bytes
        root = f"{manager.url.removeprefix('s3://')}dataset"
        return {
            "scan": {"pointer": dataset.to_dict(), "root": root, "least": table.num_rows * 9 // 10},
            "random": {"pointer": data.to_dict(), "path": f"{job.bucket}/{data.key}"},
        }

    return work


SETTLE = {"stepout": {"settle": _settle}}
