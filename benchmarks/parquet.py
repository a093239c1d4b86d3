"""A table of mixed columns, encoded and sent: how far encoding, hashing and sending overlap."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from benchmarks.clients import boto3_client, pyarrow_filesystem, s3fs_filesystem
from benchmarks.job import Job, Work, hash_file

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TABLES"]

ROW_BYTES = 48
CODEC = "zstd"
OPTIONS: dict[str, Any] = {"compression": CODEC, "row_group_size": 1 << 20}


def _table(job: Job) -> Any:
    """Make a table of ``job.size`` bytes: integers, floats, a category, text, times, and some nulls."""
    import numpy as np
    import pyarrow as pa

    rows = max(job.size // ROW_BYTES, 1)
    rng = np.random.default_rng(7)
    words = pa.array(["north", "south", "east", "west", "unknown"])
    labels = pa.array([f"item-{number}" for number in range(10_000)])
    table = pa.table(
        {
            "id": np.arange(rows, dtype=np.int64),
            "score": rng.random(rows),
            "weight": pa.array(rng.standard_normal(rows).astype(np.float32), mask=rng.random(rows) < 0.05),
            "kind": words.take(pa.array(rng.integers(0, len(words), rows))),
            "label": labels.take(pa.array(rng.integers(0, len(labels), rows))),
            "at": pa.array(rng.integers(0, 10**15, rows), pa.timestamp("us")),
        }
    )
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # Linux: what making it took must not hide what sending takes
        ctypes.CDLL(None).malloc_trim(0)
    return table


class _Counting(io.RawIOBase):
    """Takes bytes and keeps none."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


class _Hashing(io.RawIOBase):
    """Hashes what passes through to another stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._stream.write(data)
        return len(data)


def _encode_only(job: Job) -> Work:
    import pyarrow.parquet as pq

    table = _table(job)

    def work() -> dict[str, Any]:
        pq.write_table(table, _Counting(), **OPTIONS)
        return {}

    return work


def _pyarrow_stream(job: Job) -> Work:
    import pyarrow.parquet as pq

    table, filesystem = _table(job), pyarrow_filesystem(job)

    def work() -> dict[str, Any]:
        with filesystem.open_output_stream(f"{job.bucket}/{job.key}") as stream:
            pq.write_table(table, stream, **OPTIONS)
        return {}

    return work


def _pyarrow_hashed(job: Job) -> Work:
    import pyarrow.parquet as pq

    table, filesystem = _table(job), pyarrow_filesystem(job)

    def work() -> dict[str, Any]:
        with filesystem.open_output_stream(f"{job.bucket}/{job.key}") as stream:
            hashing = _Hashing(stream)
            pq.write_table(table, hashing, **OPTIONS)
        hashing.digest.hexdigest()
        return {}

    return work


def _buffer_then_put(job: Job) -> Work:
    import pyarrow.parquet as pq

    table, client = _table(job), boto3_client(job)

    def work() -> dict[str, Any]:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **OPTIONS)
        hashlib.sha256(buffer.getbuffer()).hexdigest()
        buffer.seek(0)
        client.upload_fileobj(buffer, job.bucket, job.key)
        return {}

    return work


def _file_then_upload(job: Job) -> Work:
    import pyarrow.parquet as pq

    table, client = _table(job), boto3_client(job)

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "table.parquet"))
            pq.write_table(table, path, **OPTIONS)
            hash_file(path)
            client.upload_file(path, job.bucket, job.key)
        return {}

    return work


def _s3fs(job: Job) -> Work:
    import pyarrow.parquet as pq

    table, filesystem = _table(job), s3fs_filesystem(job)

    def work() -> dict[str, Any]:
        with filesystem.open(f"{job.bucket}/{job.key}", "wb") as stream:
            hashing = _Hashing(stream)
            pq.write_table(table, hashing, **OPTIONS)
        return {}

    return work


def _ours(job: Job) -> Work:
    import pyarrow.parquet  # noqa: F401 - every contender's set-up has it

    table, writer = _table(job), ours.manager(job)

    def work() -> dict[str, Any]:
        writer.put_table("table", table, compression=CODEC)
        return {}

    return work


STREAMED = 64 << 20


def _stream(job: Job) -> Any:
    """Make a reader of ``job.size`` bytes that holds one row group of them: the same rows again and again."""
    import pyarrow as pa

    table = _table(replace(job, size=min(STREAMED, job.size)))
    batches = table.to_batches(max_chunksize=1 << 18)
    count = max(job.size // table.nbytes, 1)
    return pa.RecordBatchReader.from_batches(table.schema, (batch for _ in range(count) for batch in batches))


def _encode_stream(job: Job) -> Work:
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader = _stream(job)

    def work() -> dict[str, Any]:
        with pq.ParquetWriter(_Counting(), reader.schema, compression=CODEC) as writer:
            group: list[Any] = []
            for batch in reader:
                group.append(batch)
                if sum(each.nbytes for each in group) >= STREAMED:
                    writer.write_table(pa.Table.from_batches(group))
                    group.clear()
            if group:
                writer.write_table(pa.Table.from_batches(group))
        return {}

    return work


def _our_stream(job: Job) -> Work:
    import pyarrow.parquet  # noqa: F401 - every contender's set-up has it

    reader, writer = _stream(job), ours.manager(job)

    def work() -> dict[str, Any]:
        writer.put_table("table", reader, compression=CODEC)
        return {}

    return work


_MAKES: dict[str, Callable[[Job], Work]] = {
    "stepout put_table": _ours,
    "encode only": _encode_only,
    "pyarrow S3 stream": _pyarrow_stream,
    "pyarrow S3 stream, hashed": _pyarrow_hashed,
    "buffer, hash, boto3": _buffer_then_put,
    "file, hash, boto3": _file_then_upload,
    "s3fs, hashed": _s3fs,
}
TABLES = {name: {"parquet": make} for name, make in _MAKES.items()}
TABLES |= {"stepout put_table, stream": {"parquet": _our_stream}, "encode only, stream": {"parquet": _encode_stream}}
