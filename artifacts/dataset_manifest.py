"""The manifest of a dataset: Parquet files of one schema, committed as one artifact. Untrusted like any document.

The manifest is the artifact: JSON, media type ``application/vnd.stepout.dataset+json``, written after every file.

- ``stepout``: ``dataset/1``;
- ``schema``: base64 of the schema as an Arrow IPC message, as ``pyarrow.Schema.serialize()`` gives it. The partition
  columns are in it, last, in the order of ``columns``; the files do not hold them;
- ``partitioning``: ``{"flavor": "hive", "columns": ["day"]}``; no columns where the dataset is not partitioned;
- ``rows``: of all files together;
- ``files``: for each its ``path``, ``rows``, ``partition``, ``pointer``, and ``statistics`` or not.

A ``path`` is one folder ``column=value`` for each partition column, and a file in it. Values in paths are percent-
encoded but for ``A-Z a-z 0-9 - . _ ~``, as pyarrow writes them; ``__HIVE_DEFAULT_PARTITION__`` stands for null.
``partition`` has the exact value of each column, as the text that Arrow casts it to, or null: nothing has to be parsed
from a path, and a path that says anything else is refused. ``statistics`` has the least and the greatest value of
top-level columns, ``{"id": {"min": 0, "max": 499}}``: numbers, booleans or text, dates as ISO 8601. It is a hint and
may be absent. stepout skips no file by it, but by partition values and by the statistics in a file's own footer, whose
digest is compared; so a wrong one loses no rows. Partition values and ``rows`` are the word of whoever wrote the
manifest, as the rows themselves are. Size, checksum, version and the footer's digest are ``pointer``'s.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from stepout.artifacts.media_types import DATASET, PARQUET, essence
from stepout.artifacts.paths import collisions, path_fault
from stepout.schemas import rules
from stepout.schemas.errors import InvalidDocumentError, NotAllowedError
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, describe_problems, item, member
from stepout.schemas.text.json_text import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST_VERSION: Final = "dataset/1"

DATASET_FILES_LIMIT: Final = 10_000
"""Files in one dataset: a manifest is read whole."""

NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in a path: https://cwiki.apache.org/confluence/display/Hive/Tutorial, and pyarrow's default."""

_UNTOLD: Final = {
    "": "it is the empty text, which Hive cannot tell from null",
    NULL_PARTITION: "it is the text that stands for null in Hive's paths",
}
_SEGMENT_LIMIT: Final = 255  # bytes: of every common file system, and of object stores that keep objects as files
# Engines pass over folders that begin with _ or . (pyarrow's ignore_prefixes), and split a segment at its first =.
_COLUMN = re.compile(r"[^\W_][\w.\- ]*")
_COMPARED: Final = frozenset((int, float, str, bool))
_MESSAGE: Final = b"\xff\xff\xff\xff"  # how an IPC message begins: https://arrow.apache.org/docs/format/Columnar.html


@dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """One Parquet file of a dataset.

    Attributes:
        path: Relative, with slashes: ``day=2026-01-01/part-00000.parquet``.
        pointer: The file.
        rows: How many it has.
        partition: The value of each partition column, as Arrow casts it to text, or ``None`` for null.
        statistics: ``min`` and ``max`` of columns, JSON's numbers, booleans or text; ``None``: nobody said.
    """

    path: str
    pointer: Pointer
    rows: int
    partition: Mapping[str, str | None]
    statistics: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """What a dataset consists of.

    Attributes:
        schema: An Arrow IPC schema message; the partition columns are last, in the order of ``columns``.
        columns: The partition columns; the files do not hold them.
        rows: Of all files together.
        files: In the order in which rows are read.
    """

    schema: bytes
    columns: tuple[str, ...]
    rows: int
    files: tuple[DatasetFile, ...]

    def to_bytes(self) -> bytes:
        """Return the manifest as compact JSON."""
        return dump_json(
            {
                "stepout": MANIFEST_VERSION,
                "schema": base64.b64encode(self.schema).decode("ascii"),
                "partitioning": {"flavor": "hive", "columns": list(self.columns)},
                "rows": self.rows,
                "files": [_wire_form(file) for file in self.files],
            }
        )


def _wire_form(file: DatasetFile) -> dict[str, Any]:
    document: dict[str, Any] = {"path": file.path, "rows": file.rows, "partition": dict(file.partition)}
    if file.statistics is not None:
        document["statistics"] = {name: dict(bounds) for name, bounds in file.statistics.items()}
    return {**document, "pointer": file.pointer.to_dict()}


_NO_FILE: Final = DatasetFile(
    path="", pointer=Pointer(bucket="", key="", size=0, checksum={}), rows=0, partition=MappingProxyType({})
)
"""Stands for a file that is too wrong to look into, until all problems are known."""


def is_dataset(pointer: Pointer) -> bool:
    """Tell whether a pointer names a dataset's manifest."""
    return essence(pointer.media_type) == DATASET


# Paths -------------------------------------------------------------------------------------------------------------


def column_fault(name: str) -> str | None:
    """Return why a column may not be in a path, or ``None``.

    >>> column_fault("day"), column_fault("a=b")
    (None, 'its name has other characters than letters, digits, _, -, . and spaces, or does not begin with a letter')
    """
    if not _COLUMN.fullmatch(name):
        return "its name has other characters than letters, digits, _, -, . and spaces, or does not begin with a letter"
    return None


def partition_segment(column: str, value: str | None) -> str:
    """Return the folder of one partition value.

    >>> partition_segment("day", "2026-01-01"), partition_segment("path", "a/b"), partition_segment("day", None)
    ('day=2026-01-01', 'path=a%2Fb', 'day=__HIVE_DEFAULT_PARTITION__')
    """
    return f"{column}={NULL_PARTITION if value is None else quote(value, safe='')}"


def value_fault(column: str, value: str | None) -> str | None:
    """Return why a partition value cannot be in a path, or ``None``; no text of it is in the answer.

    >>> value_fault("day", ""), value_fault("day", "2026-01-01") is None
    ('it is the empty text, which Hive cannot tell from null', True)
    """
    if value is not None and value in _UNTOLD:
        return _UNTOLD[value]
    if value is not None and "\0" in value:
        return "it has a NUL, at which readers of paths end"
    try:
        size = len(partition_segment(column, value).encode())
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    long = f"its folder's name would have {size:,} bytes, percent-encoded; stores of objects take {_SEGMENT_LIMIT}"
    return long if size > _SEGMENT_LIMIT else None


# Parsing -----------------------------------------------------------------------------------------------------------


def parse_manifest(data: bytes, url: str) -> DatasetManifest:
    """Parse a dataset's manifest.

    Args:
        data: JSON; the module's docstring says which.
        url: Where it was read, for messages.

    Raises:
        NotAllowedError: A path would leave the folder it is downloaded to.
        InvalidDocumentError: It is no manifest, or contradicts itself; ``problems`` has all of them.
    """
    document = load_json(data)
    if not isinstance(document, dict) or document.get("stepout") != MANIFEST_VERSION:
        raise _invalid(url, [Problem("$", "version", f'must be an object with "stepout": "{MANIFEST_VERSION}"')])
    files = document.get("files")
    if not isinstance(files, list):
        raise _invalid(url, [rules.wrong_type("$.files", "array", files)])
    if len(files) > DATASET_FILES_LIMIT:
        message = f"has {len(files):,} files; writers keep to {DATASET_FILES_LIMIT:,}"
        raise _invalid(url, [Problem("$.files", "size", message)])
    problems: list[Problem] = []
    columns = _columns(document.get("partitioning"), problems)
    schema = _schema(document.get("schema"), problems)
    found = [_file(file, item("$.files", index), columns, problems, url) for index, file in enumerate(files)]
    problems += _twice(found)
    rows = _rows(document.get("rows"), "$.rows", problems)
    if not problems and (total := sum(file.rows for file in found)) != rows:
        problems.append(Problem("$.rows", "value", f"is not the sum of the files' rows, which is {total:,}"))
    if problems:
        raise _invalid(url, problems)
    return DatasetManifest(schema=schema, columns=columns, rows=rows, files=tuple(found))


def _columns(value: object, problems: list[Problem]) -> tuple[str, ...]:
    place = "$.partitioning"
    if not isinstance(value, dict):
        problems.append(rules.wrong_type(place, "object", value))
        return ()
    if value.get("flavor") != "hive":
        problems.append(Problem(f"{place}.flavor", "value", 'must be "hive"'))
    columns = value.get("columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        problems.append(Problem(f"{place}.columns", "type", "must be an array of text"))
        return ()
    for index, name in enumerate(columns):
        fault = "occurs more than once" if name in columns[:index] else column_fault(name)
        if fault is not None:
            problems.append(Problem(item(f"{place}.columns", index), "name", fault))
    return tuple(columns)


def _schema(value: object, problems: list[Problem]) -> bytes:
    if not isinstance(value, str):
        problems.append(rules.wrong_type("$.schema", "string", value))
        return b""
    try:
        schema = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        problems.append(Problem("$.schema", "encoding", "must be base64"))
        return b""
    if not schema.startswith(_MESSAGE):
        problems.append(Problem("$.schema", "value", "must be an Arrow IPC message, which begins with FF FF FF FF"))
    return schema


def _rows(value: object, place: str, problems: list[Problem]) -> int:
    rows = rules.whole(value)
    if rows is None:
        problems.extend(rules.integer_problems(value, place))
    return rows or 0


def _file(value: Any, place: str, columns: tuple[str, ...], problems: list[Problem], url: str) -> DatasetFile:
    if not isinstance(value, dict):
        problems.append(rules.wrong_type(place, "object", value))
        return _NO_FILE
    absent = [name for name in ("path", "rows", "partition", "pointer") if name not in value]
    if absent:
        problems += [rules.missing(member(place, name)) for name in absent]
        return _NO_FILE
    path = _path(value["path"], member(place, "path"), problems, url)
    rows = _rows(value["rows"], member(place, "rows"), problems)
    partition = _partition(value["partition"], member(place, "partition"), columns, problems)
    if path and partition is not None:
        folders = [partition_segment(column, partition[column]) for column in columns]
        if path.split("/")[:-1] != folders:
            problems.append(Problem(member(place, "path"), "value", "has other folders than its partition values have"))
    statistics = value.get("statistics")
    if statistics is not None:
        problems += _statistics_problems(statistics, member(place, "statistics"), columns)
    pointer = _pointer(value["pointer"], member(place, "pointer"), rows, problems)
    return DatasetFile(path=path, pointer=pointer, rows=rows, partition=partition or {}, statistics=statistics)


def _path(value: object, place: str, problems: list[Problem], url: str) -> str:
    if not isinstance(value, str):
        problems.append(rules.wrong_type(place, "string", value))
        return ""
    fault = path_fault(value, windows=False)
    if fault is not None:
        raise NotAllowedError(f"refused the manifest {url}: {place} could leave the target folder: {fault}")
    return value


def _partition(
    value: object, place: str, columns: tuple[str, ...], problems: list[Problem]
) -> dict[str, str | None] | None:
    """Return the partition values; ``None`` where they are not those of all columns."""
    if not isinstance(value, dict):
        problems.append(rules.wrong_type(place, "object", value))
        return None
    found = [rules.missing(member(place, name)) for name in columns if name not in value]
    for name, text in value.items():
        if name not in columns:
            found.append(Problem(member(place, name), "unexpected", "is no partition column"))
        elif not isinstance(text, str | None):
            found.append(Problem(member(place, name), "type", f"must be text or null, is {rules.kind_of(text)}"))
        elif (fault := value_fault(name, text)) is not None:
            found.append(Problem(member(place, name), "value", fault))
    problems += found
    return None if found else value


def _pointer(value: object, place: str, rows: int, problems: list[Problem]) -> Pointer:
    try:
        pointer = Pointer.from_dict(value)
    except InvalidDocumentError as error:
        problems += [each.below(place) for each in error.problems]
        return _NO_FILE.pointer
    if essence(pointer.media_type) != PARQUET:
        problems.append(Problem(f"{place}.mediaType", "value", f"must be {PARQUET}: a dataset has no other files"))
    own = (pointer.annotations or {}).get("parquet")
    said = own.get("rows", rows) if isinstance(own, dict) else rows
    if said != rows:
        problems.append(Problem(f"{place}.annotations.parquet.rows", "value", "is not what the file's rows say"))
    return pointer


def _statistics_problems(value: object, place: str, columns: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield rules.wrong_type(place, "object", value)
        return
    for name, bounds in value.items():
        if name in columns or not _are_bounds(bounds):
            yield from _bounds_problems(bounds, member(place, name), partition=name in columns)


def _are_bounds(bounds: object) -> bool:
    """Whether all is well, in a hurry: a manifest may have a hundred thousand of them."""
    if not isinstance(bounds, dict):
        return False
    least: Any = bounds.get("min")
    greatest: Any = bounds.get("max")
    return type(least) is type(greatest) and type(least) in _COMPARED and bool(least <= greatest)


def _bounds_problems(bounds: object, place: str, *, partition: bool) -> Iterator[Problem]:
    if partition:
        yield Problem(place, "unexpected", "is a partition column, which the files do not hold")
    if not isinstance(bounds, dict) or not bounds.keys() >= {"min", "max"}:
        yield Problem(place, "type", 'must be an object with "min" and "max"')
        return
    kinds = {rules.kind_of(bounds[end]) for end in ("min", "max")}
    if len(kinds) > 1 or not kinds <= {"number", "boolean", "text"}:
        yield Problem(place, "type", 'must have a "min" and a "max" that are both numbers, booleans or text')
    elif bounds["min"] > bounds["max"]:
        yield Problem(place, "value", 'must have a "min" that is no more than its "max"')


def _twice(files: list[DatasetFile]) -> Iterator[Problem]:
    yield from collisions([file.path for file in files if file is not _NO_FILE])
    seen: set[tuple[str, str, str | None]] = set()
    for index, file in enumerate(files):
        named = (file.pointer.bucket, file.pointer.key, file.pointer.version_id)
        if named in seen and file.pointer is not _NO_FILE.pointer:
            place = member(item("$.files", index), "pointer")
            yield Problem(place, "duplicate", "names an object that another file names: its rows would count twice")
        seen.add(named)


def _invalid(url: str, problems: list[Problem]) -> InvalidDocumentError:
    msg = f"the dataset manifest {url} is invalid: {describe_problems(problems)}. Nothing was read by it"
    return InvalidDocumentError(msg, problems)
