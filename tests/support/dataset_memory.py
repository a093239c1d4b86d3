"""A program that streams rows of many partitions, interleaved, through ``put_dataset`` and prints its memory.

Run as ``python dataset_memory.py BYTES PARTITIONS``. Prints JSON: Arrow bytes that went in, bytes of Parquet that came
out, files, and peak memory above the idle process (after a first small put), in bytes.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stepout.artifacts import ArtifactManager
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, Written
from support.table_memory import ROWS, Discarding, batches, peak

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stepout.artifacts.store_writes import WriteOptions


class Forgetting(Discarding):
    """Counts what arrives, of any number of uploads and objects, and forgets it."""

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Count an object of one request."""
        del key, checksum, options
        self.total += sum(map(len, body))
        return Written(etag='"whole"')

    def complete_upload(  # noqa: PLR0913 - the protocol's signature
        self,
        key: str,
        upload: str,
        parts: Sequence[PartReceipt],
        *,
        size: int,
        checksum: str | None,
        options: WriteOptions,
    ) -> Written:
        """Check the size of one."""
        del key, upload, checksum, options
        assert size == sum(part.size for part in parts)
        return Written(etag='"whole"')


def partitioned(size: int, partitions: int) -> Iterator[pa.RecordBatch]:
    """Yield ``batches`` with a partition column whose values are interleaved."""
    random = np.random.default_rng(2)
    for batch in batches(size):
        values = pa.array(random.integers(0, partitions, ROWS))
        yield pa.RecordBatch.from_arrays([*batch.columns, values], [*batch.schema.names, "p"])


def main(size: int, partitions: int) -> dict[str, Any]:
    """Stream ``size`` bytes and return what was measured."""
    manager = ArtifactManager(Forgetting("sink", profile=StoreProfile(multipart_checksum="crc64nvme")))
    manager.put_dataset("warm", next(partitioned(1, 2)), partition_by=["p"])
    idle = peak()
    said = manager.put_dataset("stream", partitioned(size, partitions), partition_by=["p"]).annotations or {}
    return {"arrow": size, "parquet": said["bytes"], "files": said["files"], "above": peak() - idle}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
