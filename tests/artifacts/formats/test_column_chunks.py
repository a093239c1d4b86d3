"""A footer that contradicts itself is an error, and not the end of the process that reads it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from stepout.artifacts.formats.column_chunks import ColumnChunks

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def _written() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"list": [[1, 2], [3]], "text": ["a", None]}), sink)
    return sink.getvalue()


WHOLE = _written()


def _chunks(data: bytes) -> tuple[Any, ColumnChunks]:
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    return metadata, ColumnChunks(metadata)


def test_a_sound_footer_is_read_as_pyarrow_reads_it() -> None:
    """Chunks, in the order that was asked for, and their statistics."""
    metadata, chunks = _chunks(WHOLE)
    plain = [metadata.row_group(0).column(leaf) for leaf in (1, 0)]
    assert [each.to_dict() for each in chunks.of(0, [1, 0])] == [each.to_dict() for each in plain]
    assert chunks.statistics(0, 1).null_count == 1


def test_whatever_a_byte_of_the_footer_becomes_it_is_a_chunk_or_an_error() -> None:
    """Among them counts of levels that do not fit their column, at which pyarrow alone would end the process."""
    said: list[str] = []
    for place in range(len(WHOLE) - 8 - int.from_bytes(WHOLE[-8:-4], "little"), len(WHOLE) - 8):
        for value in (0, WHOLE[place] ^ 2, WHOLE[place] ^ 0x80):
            try:
                metadata, chunks = _chunks(WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :])
                for group in range(metadata.num_row_groups):
                    chunks.of(group, range(metadata.num_columns))
            except Exception as error:  # noqa: BLE001 - of every kind, as pyarrow has them
                said.append(str(error))
    assert any("histogram size mismatch" in each for each in said)


def test_a_chunk_of_another_type_than_its_column_has_no_statistics() -> None:
    """At which pyarrow alone would end the process as well."""
    told = []
    for place in range(len(WHOLE) - 8 - int.from_bytes(WHOLE[-8:-4], "little"), len(WHOLE) - 8):
        if WHOLE[place] != 12:  # how Thrift writes 6, the type of texts
            continue
        try:
            metadata, chunks = _chunks(WHOLE[:place] + bytes([4]) + WHOLE[place + 1 :])
            (chunk,) = chunks.of(0, [1])
        except Exception:  # noqa: BLE001 - another place
            continue
        if chunk.physical_type != metadata.schema.column(1).physical_type == "BYTE_ARRAY":
            with pytest.raises(ValueError, match="another type"):
                chunks.statistics(0, 1)
            told.append(place)
    assert told
