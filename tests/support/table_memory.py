"""A program that streams record batches through ``put_table`` and prints how much memory that took.

Run as ``python table_memory.py BYTES``: the store takes every byte and keeps none, checks each part's and the whole's
checksum as a server would, and the batches hold mixed columns that do not compress away. Prints JSON: Arrow bytes that
went in, bytes of Parquet that came out, peak memory above the idle process (after a first small put), in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.artifacts.checksums import combine_all, crc_of
from stepout.artifacts.store_writes import PartReceipt, StoreProfile, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.artifacts.store_writes import WriteOptions

ROWS = 1 << 16


class Discarding(MemoryStore):
    """Verifies what arrives, counts it, and forgets it."""

    total = 0

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Verify and count one part."""
        del key, upload
        assert crc_of("crc64nvme", body) == checksum
        size = sum(map(len, body))
        self.total += size
        return PartReceipt(number=number, etag=f'"{number}"', size=size, checksum=checksum)

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
        """Verify the whole."""
        del key, upload, options
        assert size == self.total
        assert combine_all("crc64nvme", [(part.checksum, part.size) for part in parts]) == checksum
        return Written(etag='"whole"')


def batches(size: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of numbers, short texts and a category until ``size`` bytes of Arrow memory have gone by."""
    random = np.random.default_rng(1)
    names = pa.array([f"name-{number:06}" for number in range(10_000)])
    sent = 0
    while sent < size:
        batch = pa.record_batch(
            {
                "id": pa.array(random.integers(0, 1 << 60, ROWS)),
                "score": pa.array(random.random(ROWS)),
                "name": names.take(pa.array(random.integers(0, 10_000, ROWS))),
                "digest": pa.Array.from_buffers(pa.binary(24), ROWS, [None, pa.py_buffer(random.bytes(24 * ROWS))]),
                "flag": pa.array(random.random(ROWS) < 0.1),
            }
        )
        sent += batch.nbytes
        yield batch


def peak() -> int:
    """Return the most resident memory that this process has had, in bytes."""
    # Kilobytes on Linux, bytes on macOS (getrusage(2)).
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(size: int) -> dict[str, Any]:
    """Stream ``size`` bytes and return what was measured."""
    store = Discarding("sink", profile=StoreProfile(multipart_checksum="crc64nvme"))
    manager = ArtifactManager(store)
    manager.put_table("warm", next(batches(1)))
    idle = peak()
    pointer = manager.put_table("stream", batches(size))
    annotations = pointer.annotations or {}
    return {"arrow": size, "parquet": pointer.size, "rows": annotations["rows"], "above": peak() - idle}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))))
