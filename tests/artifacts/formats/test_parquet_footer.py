"""Footers that pyarrow does not survive: each is refused before pyarrow looks at its column chunks."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parquet_reader import ReadingProcess
from support.shelf import Shelf
from support.thrift_trees import BINARY, I32, I64, LIST, STRUCT, Field, Items, Tree, fields_in, footer_of, with_footer

from stepout.artifacts.formats.parquet_footer import FIRST_READ, check_footer, read_end
from stepout.artifacts.media_types import PARQUET
from stepout.schemas.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = pa.table(
    {
        "whole": pa.array([3, None, 1, 7], pa.int32()),
        "text": ["b", "a" * 300, None, "c"],
        "fixed": pa.array([b"ab", b"zz", None, b"cc"], pa.binary(2)),
        "flag": [True, None, False, True],
        "list": [[1, 2], [], None, [3]],
        "nothing": pa.nulls(4),
    }
)
WHOLE, TEXT, FIXED, FLAG = 0, 1, 2, 3  # columns of the file


def _file(table: pa.Table = TABLE, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"row_group_size": 2, **options})
    return sink.getvalue()


FILE = _file()


@pytest.fixture(scope="module")
def reading() -> Iterator[ReadingProcess]:
    """A process that may die."""
    process = ReadingProcess()
    yield process
    process.close()


def _forged(change: Callable[[Tree], object], data: bytes = FILE) -> bytes:
    footer = footer_of(data)
    change(footer)
    return with_footer(data, footer)


def _metadata(footer: Tree, column: int, group: int = 0) -> Any:
    return footer.at(4, group, 1, column, 3)


def _texts_have_sizes(footer: Tree) -> None:
    _metadata(footer, WHOLE).put(16, STRUCT, Tree([Field(1, I64, 5)]))


def _encrypted(footer: Tree) -> None:
    key = Tree([Field(1, LIST, Items(BINARY, [b"whole"]))])
    footer.at(4, 0, 1, WHOLE).put(8, STRUCT, Tree([Field(2, STRUCT, key)]))


FORGED: dict[str, Callable[[Tree], object]] = {
    "another type": lambda footer: _metadata(footer, WHOLE).put(1, I32, 2),
    "an unknown type": lambda footer: _metadata(footer, TEXT, 1).put(1, I32, 40),
    "an unknown compression": lambda footer: _metadata(footer, WHOLE).put(4, I32, 43),
    "a long histogram": lambda footer: _metadata(footer, WHOLE).put(
        16, STRUCT, Tree([Field(3, LIST, Items(I64, [1, 2, 3]))])
    ),
    "a long histogram of repetitions": lambda footer: _metadata(footer, TEXT).put(
        16, STRUCT, Tree([Field(2, LIST, Items(I64, [1, 2]))])
    ),
    "sizes of texts": _texts_have_sizes,
    "short statistics": lambda footer: _metadata(footer, WHOLE).at(12).put(6, BINARY, b"\1"),
    "empty statistics": lambda footer: _metadata(footer, FLAG).at(12).put(5, BINARY, b""),
    "an encrypted column": _encrypted,
    "no metadata": lambda footer: footer.at(4, 0, 1, WHOLE).without(3),
    "a column too many": lambda footer: footer.at(4, 0, 1).values.append(copy.deepcopy(footer.at(4, 0, 1, 0))),
    "a column too few": lambda footer: footer.at(4, 1, 1).values.pop(),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_a_forged_footer_is_a_clear_error_everywhere(change: Callable[[Tree], object], reading: ReadingProcess) -> None:
    """And never the end of the process: tables, columns, filters, datasets and looks alike."""
    found = reading.outcomes(_forged(change))
    assert found.pop("look") == "CardProblem"
    assert set(found.values()) == {"UndecodableError"}


def test_statistics_that_a_writer_cut_off_do_no_harm_where_nobody_looks_at_them(reading: ReadingProcess) -> None:
    """Those of binaries of a fixed length, which arrow-rs cuts off at 64 bytes: pyarrow does not survive a look."""
    found = reading.outcomes(_forged(lambda footer: _metadata(footer, FIXED).at(12).put(5, BINARY, b"a")))
    assert (found.pop("table"), found.pop("columns")) == ("Table", "Table")
    assert found == {"look": "CardProblem", "filters": "UndecodableError", "dataset": "UndecodableError"}


def test_a_footer_that_was_written_again_is_as_good(reading: ReadingProcess) -> None:
    """What the tests above change is what is refused, and not how they write it."""
    assert with_footer(FILE, footer_of(FILE)) == FILE
    found = reading.outcomes(FILE)
    assert found.pop("look") == "TableInside"
    assert set(found.values()) == {"Table"}


def _check(data: bytes) -> None:
    check_footer(data, pq.read_metadata(pa.BufferReader(data)))


def test_what_two_readers_may_read_differently_is_refused() -> None:
    """A field that comes twice, or in disorder, and a list that says another type than its items have."""
    described = footer_of(FILE)

    def twice(footer: Tree) -> None:
        fields = _metadata(footer, WHOLE)
        fields.insert(1, Field(1, I32, 2))

    def other_items(footer: Tree) -> None:
        _metadata(footer, WHOLE).put(2, LIST, Items(BINARY, [b"", b""]))

    def too_large(footer: Tree) -> None:
        _metadata(footer, WHOLE).put(1, I32, _metadata(described, WHOLE).at(1) + 2**32)

    def an_end_with_a_step(footer: Tree) -> None:
        footer.at(4, 0, 1, WHOLE).insert(0, Field(1, 0))

    for change in (twice, other_items, too_large, an_end_with_a_step):
        with pytest.raises(ValueError, match=r"^the footer has"):
            check_footer(_forged(change), pq.read_metadata(pa.BufferReader(FILE)))


def test_fields_that_are_not_known_are_passed_over() -> None:
    """A format that grows is not refused."""

    def more(footer: Tree) -> None:
        footer.put(300, BINARY, b"what comes next")
        footer.put(301, LIST, Items(STRUCT, [Tree([Field(1, BINARY, b"x"), Field(2, 1)])] * 20))
        _metadata(footer, WHOLE).put(90, STRUCT, Tree([Field(1, 7, b"8 bytes."), Field(2, LIST, Items(2, []))]))

    _check(_forged(more))


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.4", "2.6"])
def test_what_pyarrow_writes_is_never_refused(compression: str, version: Any) -> None:
    """Whatever it writes, statistics or none, 40 columns or none."""
    for options in ({}, {"write_statistics": False}, {"write_page_index": True}, {"use_dictionary": False}):
        _check(_file(compression=compression, version=version, **options))
    _check(_file(pa.table({f"column {index}": [index] for index in range(40)}), compression=compression))
    _check(_file(pa.table({}), compression=compression))


def test_the_end_of_a_file_is_read_as_pyarrow_reads_it() -> None:
    """At once, and once more if the footer is larger."""
    large = _file(pa.table({"a" * FIRST_READ: [1]}))
    for data, reads in ((FILE, 1), (large, 2)):
        asked: list[int] = []

        def read_at(start: int, size: int, data: bytes = data, asked: list[int] = asked) -> memoryview:
            asked.append(size)
            return memoryview(data)[start : start + size]

        check_footer(read_end(read_at, len(data)), pq.read_metadata(pa.BufferReader(data)))
        assert len(asked) == reads


def test_the_error_says_which_column_and_what() -> None:
    """As ``UndecodableError`` does, with the object's address."""
    artifact = Shelf().artifact(_forged(FORGED["another type"]), "t.parquet", media_type=PARQUET)
    with pytest.raises(UndecodableError, match=r"a column chunk is of another type than the schema says: .* column 0"):
        artifact.read_table()


_NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 8, 65, -1, 2**31 - 1, -(2**31), 2**32 + 1, 2**63 - 1, -(2**63)])
_OTHERS: dict[int, Any] = {1: st.none(), I32: _NUMBERS, I64: _NUMBERS, 7: st.just(b"8 bytes."), BINARY: st.binary()}
_OTHERS[STRUCT] = st.builds(Tree)
_OTHERS[LIST] = st.builds(Items, st.sampled_from([I32, I64]), st.lists(_NUMBERS, max_size=3))


def _mutate(data: st.DataObject, footer: Tree) -> None:
    """Change a field, at any depth, in one of the ways in which it may be wrong."""
    every = list(fields_in(footer))
    tree, field = every[data.draw(st.integers(0, len(every) - 1))]
    how = data.draw(st.sampled_from(["other", "gone", "twice", "kind", "items", "another"]))
    if how == "gone":
        tree.remove(field)
    elif how == "twice":
        tree.insert(data.draw(st.integers(0, len(tree))), copy.deepcopy(field))
    elif how == "items" and isinstance(field.value, Items) and field.value.values:
        field.value.values[:] = (field.value.values * 2)[: data.draw(st.integers(0, len(field.value.values) * 2))]
    elif how == "kind" or field.kind not in _OTHERS:
        field.kind = data.draw(st.sampled_from(list(_OTHERS)))
        field.value = data.draw(_OTHERS[field.kind])
    elif how == "another":
        kind = data.draw(st.sampled_from(list(_OTHERS)))
        tree.put(data.draw(st.integers(1, 18)), kind, data.draw(_OTHERS[kind]))
    else:
        field.value = data.draw(_OTHERS[field.kind])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_footer_ends_the_process(reading: ReadingProcess, data: st.DataObject) -> None:
    """Whatever is in it, there is a table, or an error that says why not."""
    footer = footer_of(FILE)
    for _ in range(data.draw(st.integers(1, 2))):
        _mutate(data, footer)
    assert set(reading.outcomes(with_footer(FILE, footer)))
