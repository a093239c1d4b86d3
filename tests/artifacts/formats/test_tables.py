"""Tables to Parquet: what goes in comes out, in bounded row groups, or nothing is sent."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings
from stepout.schemas.errors import ConfigurationError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stepout.schemas import Pointer


@pytest.fixture
def store() -> MemoryStore:
    """An empty bucket."""
    return MemoryStore("results")


@pytest.fixture
def manager(store: MemoryStore) -> ArtifactManager:
    """A manager whose uploads become multipart early."""
    return ArtifactManager(store, settings=TransferSettings(memory=16 << 20))


def read(store: MemoryStore, pointer: Pointer) -> pa.Table:
    """Read a Parquet artifact back, page checksums verified."""
    return pq.read_table(pa.BufferReader(store.read(pointer.key)), page_checksum_verification=True)


def batches(*sizes: int) -> Iterator[pa.RecordBatch]:
    """Batches of one column that counts on."""
    numbers = itertools.count()
    for size in sizes:
        yield pa.record_batch({"n": pa.array(itertools.islice(numbers, size), pa.int64())})


# What goes in ------------------------------------------------------------------------------------------------------


def test_the_pointer_describes_the_file(manager: ArtifactManager, store: MemoryStore) -> None:
    """Rows, columns and row groups are the file's, and the footer's digest is over exactly its tail."""
    table = pa.table({"a": range(1000), "b": [str(n) for n in range(1000)]})
    pointer = manager.put_table("t", table, row_group_bytes=4000, annotations={"source": "test"})
    data = store.read(pointer.key)
    metadata = pq.read_metadata(pa.BufferReader(data))
    assert pointer.annotations is not None
    size = pointer.annotations["parquet"]["footerSize"]
    assert pointer.annotations == {
        "source": "test",
        "rows": 1000,
        "columns": 2,
        "parquet": {
            "rows": metadata.num_rows,
            "rowGroups": metadata.num_row_groups,
            "columns": metadata.num_columns,
            "pageChecksums": True,
            "footerSize": metadata.serialized_size + 8,
            "footerSha256": hashlib.sha256(data[-size:]).hexdigest(),
        },
    }
    assert metadata.num_row_groups > 2
    assert (pointer.media_type, pointer.key.rpartition(".")[2]) == ("application/vnd.apache.parquet", "parquet")
    assert read(store, pointer).equals(table)


def test_pages_carry_checksums(manager: ArtifactManager, store: MemoryStore) -> None:
    """A flipped bit in a page is found by a reader that verifies."""
    pointer = manager.put_table("t", pa.table({"a": list(range(1000))}), compression="none")
    data = bytearray(store.read(pointer.key))
    data[1000] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)


def test_every_library_goes_in(manager: ArtifactManager, store: MemoryStore, tmp_path: Path) -> None:
    """Shapes of pyarrow, pandas, polars, duckdb, datasets and iterators give the same table."""
    import duckdb
    import pandas as pd
    import polars as pl

    table = pa.table({"id": pa.array(range(100), pa.int64()), "name": [f"n{n}" for n in range(100)]})
    pq.write_table(table, tmp_path / "t.parquet")
    dataset = ds.dataset(tmp_path / "t.parquet")
    with duckdb.connect() as connection:
        connection.register("t", table)
        sources = {
            "table": table,
            "batch": table.to_batches()[0],
            "reader": table.to_reader(max_chunksize=7),
            "pandas": pd.DataFrame({"id": range(100), "name": [f"n{n}" for n in range(100)]}),
            "polars": pl.DataFrame({"id": range(100), "name": [f"n{n}" for n in range(100)]}),
            "duckdb": connection.sql("select id, name from t order by id"),
            "dataset": dataset,
            "memory_dataset": ds.dataset(table),
            "scanner": dataset.scanner(batch_size=10),
            "iterator": iter(table.to_batches(max_chunksize=9)),
            "list": table.to_batches(max_chunksize=9),
            "frames": (pd.DataFrame({"id": [n], "name": [f"n{n}"]}) for n in range(100)),
            "tables": iter([table.slice(0, 40), table.slice(40)]),
        }
        for name, source in sources.items():
            back = read(store, manager.put(name, source))
            assert back.select(["id", "name"]).to_pydict() == table.to_pydict(), name


def test_a_pandas_index_and_a_polars_category_survive(manager: ArtifactManager, store: MemoryStore) -> None:
    """What the libraries keep beside the columns comes back through them."""
    import pandas as pd
    import polars as pl

    frame = pd.DataFrame({"a": [1, 2], "c": pd.Categorical(["x", "y"])}, index=pd.Index([5, 6], name="key"))
    assert read(store, manager.put_table("a", frame)).to_pandas().equals(frame)
    colours = pl.DataFrame(
        {"c": pl.Series(["r", "g", "r"], dtype=pl.Categorical), "s": ["a", "b", None], "l": [["x"], [], ["y"]]}
    )
    assert read(store, manager.put_table("b", colours)).to_pydict() == colours.to_dict(as_series=False)


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "lz4", "brotli", "none"])
def test_compression_can_be_chosen(manager: ArtifactManager, store: MemoryStore, compression: str) -> None:
    """Each of them gives the table back."""
    table = pa.table({"a": [1, 2]})
    assert read(store, manager.put_table("t", table, compression=compression)).equals(table)


def test_no_rows_are_a_table(manager: ArtifactManager, store: MemoryStore) -> None:
    """A table without rows keeps its columns; one without columns and rows is fine, too."""
    empty = pa.table({"a": pa.array([], pa.int64()), "d": pa.array([], pa.dictionary(pa.int8(), pa.string()))})
    back = read(store, manager.put_table("t", empty))
    assert (back.num_rows, back.column_names) == (0, ["a", "d"])
    assert read(store, manager.put_table("u", pa.table({}))).shape == (0, 0)
    assert read(store, manager.put_table("v", batches(0, 0))).shape == (0, 1)
    assert manager.pointers["u"].annotations is not None
    assert manager.pointers["u"].annotations["rows"] == 0


TYPES = [
    pa.bool_(), pa.float16(), pa.binary(), pa.large_string(), pa.date32(), pa.timestamp("ns", "UTC"), pa.time64("us"),
    pa.duration("ms"), pa.decimal128(10, 2), pa.decimal256(50, 3), pa.null(), pa.list_(pa.list_(pa.int8())),
    pa.struct({"a": pa.int8(), "b": pa.struct({"c": pa.string()})}), pa.map_(pa.string(), pa.int32()),
    pa.list_(pa.int32(), 2), pa.large_list(pa.string()), pa.dictionary(pa.int8(), pa.string()),
    pa.list_(pa.dictionary(pa.int8(), pa.string())), pa.struct({"d": pa.dictionary(pa.int16(), pa.large_string())}),
    pa.dictionary(pa.uint32(), pa.string_view()), pa.string_view(), pa.binary_view(), pa.list_(pa.string_view()),
    pa.uuid(),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_types_survive(manager: ArtifactManager, store: MemoryStore, kind: pa.DataType) -> None:
    """Nulls of every type come back, and so do its values where the type has some here."""
    texts = pa.types.is_dictionary(kind) or ("string" in str(kind) and not pa.types.is_nested(kind))
    samples = ["x", "é", "x"] if texts else []
    column = pa.array([None, *samples], pa.string()).cast(kind) if samples else pa.nulls(3, kind)
    assert read(store, manager.put_table("t", pa.table({"c": column})))["c"].to_pylist() == column.to_pylist()


@settings(max_examples=settings().max_examples // 3)
@given(
    st.lists(
        st.lists(st.none() | st.integers(-(2**60), 2**60), max_size=30),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 400),
)
def test_however_it_is_cut_the_rows_are_the_same(pieces: list[list[int | None]], limit: int) -> None:
    """Any batches and any size of row group give the same rows in the same order."""
    store = MemoryStore("results")
    source = (
        pa.record_batch({"n": pa.array(piece, pa.int64()), "s": pa.array(map(str, piece), pa.string())})
        for piece in pieces
    )
    pointer = ArtifactManager(store).put_table("t", source, row_group_bytes=limit)
    assert read(store, pointer)["n"].to_pylist() == list(itertools.chain(*pieces))
    assert pointer.annotations is not None
    assert pointer.annotations["rows"] == sum(map(len, pieces))


# Row groups --------------------------------------------------------------------------------------------------------


def test_small_batches_are_gathered(manager: ArtifactManager) -> None:
    """A thousand batches of ten rows are one row group, not a thousand."""
    pointer = manager.put_table("t", batches(*[10] * 1000))
    assert pointer.annotations is not None
    assert (pointer.annotations["parquet"]["rowGroups"], pointer.annotations["rows"]) == (1, 10_000)


def test_large_batches_are_cut(manager: ArtifactManager, store: MemoryStore) -> None:
    """One batch of 80 MB becomes row groups of at most 64 MiB."""
    pointer = manager.put_table("t", pa.table({"n": pa.array(range(10_000_000), pa.int64())}))
    metadata = pq.read_metadata(pa.BufferReader(store.read(pointer.key)))
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert len(groups) == 2
    assert sum(groups) == 10_000_000
    assert max(groups) * 8 <= 64 << 20


def test_dictionaries_that_differ_are_unified(manager: ArtifactManager, store: MemoryStore) -> None:
    """Batches whose dictionaries outgrow their index type together come back as the values they are."""
    kind = pa.dictionary(pa.int8(), pa.string())
    values = [[f"v{n}" for n in range(start, start + 100)] for start in range(0, 500, 100)]
    source = (pa.record_batch({"d": pa.array(piece, pa.string()).cast(kind)}) for piece in values)
    pointer = manager.put_table("t", source)
    back = read(store, pointer)
    assert back["d"].to_pylist() == list(itertools.chain(*values))
    assert pointer.annotations is not None
    assert pointer.annotations["parquet"]["rowGroups"] == 1
    assert pa.types.is_dictionary(back.schema.field("d").type)


def test_nested_dictionaries_are_unified(manager: ArtifactManager, store: MemoryStore) -> None:
    """Dictionaries inside lists, and at the top, keep their values across batches."""
    pairs = [pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(pair)) for pair in ("xy", "yx")]
    source = [pa.record_batch({"o": one, "l": pa.ListArray.from_arrays([0, 1, 2], one)}) for one in pairs]
    back = read(store, manager.put_table("t", source)).to_pydict()
    assert back == {"o": ["x", "y", "y", "x"], "l": [["x"], ["y"], ["y"], ["x"]]}


def test_run_end_encoded_columns_are_decoded(manager: ArtifactManager, store: MemoryStore) -> None:
    """Parquet has no run-end encoding of its own type: the values come back plain."""
    column = pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"])
    assert read(store, manager.put_table("t", pa.table({"r": column})))["r"].to_pylist() == ["a", "a", "b"]


def test_a_batch_that_has_only_nulls_fits_any_type(manager: ArtifactManager, store: MemoryStore) -> None:
    """A column of unknown type in a later batch holds nulls, whatever type the first batch gave it."""
    pointer = manager.put_table("t", _pair({"a": ["x"], "n": [1]}, {"a": [None], "n": [None]}))
    assert read(store, pointer).to_pydict() == {"a": ["x", None], "n": [1, None]}


# What does not go in -----------------------------------------------------------------------------------------------


class NoColumns:
    """A stream of batches that have rows and no columns."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema = pa.schema([])
        struct = pa.array([{}, {}], pa.struct([]))
        reader = pa.RecordBatchReader.from_batches(schema, [pa.RecordBatch.from_struct_array(struct)])
        return reader.__arrow_c_stream__(requested_schema)


def _frame(*args: Any, **options: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(*args, **options)


def _lazy() -> Any:
    import polars as pl

    return pl.LazyFrame({"a": [1]})


def _union() -> pa.Array:
    return pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])


def _pair(first: Any, second: Any) -> Iterator[Any]:
    return (pa.record_batch(columns) for columns in (first, second))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "duplicate names": (lambda: pa.table([[1], [2]], names=["a", "a"]), "more than one column named 'a'"),
    "duplicate names in pandas": (lambda: _frame([[1, 2]], columns=["a", "a"]), "more than one column of one name"),
    "rows without columns": (NoColumns, "2 rows but no columns"),
    "a lazy query": (_lazy, r"frame\.collect\(\)"),
    "mixed types in pandas": (lambda: _frame({"c": [1, "secret"]}, dtype=object), "column 'c' of type object holds"),
    "an interval": (lambda: pa.table({"i": pa.nulls(1, pa.month_day_nano_interval())}), "column 'i' is of type month"),
    "a union": (lambda: pa.table({"u": _union()}), "column 'u' is of type sparse_union"),
    "an empty struct": (lambda: pa.table({"s": pa.nulls(1, pa.struct([]))}), "column 's' is of type struct<>"),
    "a time beyond Parquet's": (
        lambda: pa.table({"a": [1], "t": pa.array([2**62], pa.int64()).cast(pa.timestamp("s"))}),
        r"column 't' of type timestamp\[s\] could not be encoded",
    ),
    "an array": (lambda: pa.array([1]), "could not be turned into an Arrow table"),
    "no batches": (lambda: iter(()), "the iterator of batches has none"),
    "an iterator of numbers": (lambda: iter([1, 2]), r"an iterator of builtins\.int"),
    "a number": (lambda: 7, r"got builtins\.int"),
    "text": (lambda: "a,b", r"got builtins\.str"),
    "a mapping": (lambda: {"a": [1]}, r"got builtins\.dict"),
    "other columns later": (lambda: _pair({"a": [1]}, {"b": [1]}), "batch 1 has the columns b"),
    "other types later": (lambda: _pair({"a": [1]}, {"a": ["x"]}), "column 'a' of batch 1 is of"),
    "a number later": (lambda: iter([pa.record_batch({"a": [1]}), 7]), "item 1 of the iterator is of type int"),
    "nulls that are none": (
        lambda: iter([
            pa.record_batch({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)])),
            pa.record_batch({"a": [None]}, schema=pa.schema({"a": pa.int64()})),
        ]),
        "has nulls",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_parquet_could_not_give_back_is_refused(manager: ArtifactManager, store: MemoryStore, case: str) -> None:
    """A ValueError that says which column, quotes no value, and leaves nothing; the name is free again."""
    make, match = REFUSED[case]
    with pytest.raises(ConfigurationError, match=match) as caught:
        manager.put_table("t", make())
    assert "secret" not in str(caught.value)
    assert store.keys() == store.open_uploads == []
    manager.put("t", b"")


@pytest.mark.parametrize(
    ("options", "match"), [({"compression": "lzo"}, "compression 'lzo'"), ({"row_group_bytes": 0}, "row_group_bytes")]
)
def test_bad_options_of_a_table_are_refused(manager: ArtifactManager, options: Any, match: str) -> None:
    """Options that pyarrow does not have are named."""
    with pytest.raises(ConfigurationError, match=match):
        manager.put_table("t", pa.table({"a": [1]}), **options)


def test_an_annotation_may_not_contradict_the_file(manager: ArtifactManager) -> None:
    """The put counts the rows itself."""
    with pytest.raises(ConfigurationError, match="rows of artifact 't'"):
        manager.put_table("t", pa.table({"a": [1]}), annotations={"rows": 5})


class JobError(Exception):
    """What a generator raises."""


def _failing() -> Iterator[pa.RecordBatch]:
    block = pa.record_batch({"x": pa.array(range(1_000_000), pa.int64())})
    for _ in range(30):
        yield block
    raise JobError("halfway")


@pytest.mark.parametrize(
    "wrap", [iter, lambda source: pa.RecordBatchReader.from_batches(pa.schema({"x": pa.int64()}), source)]
)
def test_an_iterator_that_raises_halfway_leaves_nothing(
    manager: ArtifactManager, store: MemoryStore, wrap: Any
) -> None:
    """Its own exception comes out unchanged, and everything that was sent is gone."""
    with pytest.raises(JobError, match=r"^halfway$"):
        manager.put_table("t", wrap(_failing()), compression="none")
    assert store.keys() == store.open_uploads == []
    assert manager.pointers == {}


def test_a_store_that_fails_halfway_says_so_itself() -> None:
    """The store's own error passes through Arrow unchanged."""

    class Failing(MemoryStore):
        def put_part(self, *_: Any, **__: Any) -> Any:
            """Fail."""
            raise StoreUnavailableError("the server has gone away")

    store = Failing("results")
    manager = ArtifactManager(store, settings=TransferSettings(memory=16 << 20))
    with pytest.raises(StoreUnavailableError):
        manager.put_table("t", (pa.record_batch({"x": range(1_000_000)}) for _ in range(30)), compression="none")
    assert store.open_uploads == []
