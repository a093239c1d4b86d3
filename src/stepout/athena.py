"""DDL for Amazon Athena over a dataset's files: ``CREATE EXTERNAL TABLE``, its partitions, and lists of files.

Athena reads whatever lies in a table's or a partition's LOCATION. A table over symlinks reads the files that text files
in its LOCATION name, one URL a line, and nothing else; each partition has such a list in a folder of its own:

- CREATE TABLE: https://docs.aws.amazon.com/athena/latest/ug/create-table.html
- ALTER TABLE ADD PARTITION: https://docs.aws.amazon.com/athena/latest/ug/alter-table-add-partition.html
- data types: https://docs.aws.amazon.com/athena/latest/ug/data-types.html
- lists of files, for a partitioned table: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-athena-query.html
- limits, such as 262,144 bytes a statement: https://docs.aws.amazon.com/athena/latest/ug/service-limits.html

Pure: it makes text of a schema and a manifest, and asks nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from stepout.artifacts.dataset_manifest import DatasetFile, DatasetManifest

SYMLINKS: Final = "symlink.txt"
"""The name of each list of files."""

WARNING: Final = (
    "Athena verifies nothing: it compares no checksum and no version, and reads what lies at these places when it runs"
)

_STATEMENT: Final = 200_000  # bytes of partitions in one statement; Athena takes 262,144
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f`]+")
_NESTED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # quotes inside of a type are not documented
_TABLE: Final = re.compile(r"([A-Za-z0-9_]{1,255}\.)?[A-Za-z0-9_]{1,255}")
_NAME_BYTES: Final = 255  # https://docs.aws.amazon.com/athena/latest/ug/tables-databases-columns-names.html
_DECIMAL_DIGITS: Final = 38
_PLAIN: Final[Mapping[str, str]] = {
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "uint8": "int",  # Parquet keeps it in 32 bits, where it is never negative
    "uint16": "int",
    "float": "float",
    "double": "double",
    "string": "string",
    "large_string": "string",
    "string_view": "string",
    "binary": "binary",
    "large_binary": "binary",
    "date32[day]": "date",
    "date64[ms]": "date",
}
_INSTEAD: Final[Mapping[str, str]] = {
    "uint32": "cast it to int64",
    "uint64": "cast it to decimal(20, 0) or to text",
    "halffloat": "cast it to float",
    "time": "cast it to text",
    "duration": "cast it to int64",
    "null": "it has no values: leave it out",
    "fixed_size_binary": "cast it to binary",
    "dictionary": "cast it to the type of its values",
}


@dataclass(frozen=True)
class AthenaTable:
    """Statements, and the lists of files that they refer to.

    Attributes:
        statements: Each a whole one: Athena takes one at a time.
        lists: For a table over symlinks, the text of each list by its relative path, to be put below the URL.
    """

    statements: tuple[str, ...]
    lists: Mapping[str, str]


def athena_table(manifest: DatasetManifest, schema: pa.Schema, table: str, symlinks: str | None) -> AthenaTable:
    """Make the statements for a dataset.

    Args:
        manifest: Of the dataset.
        schema: Its schema, partition columns last.
        table: ``table`` or ``database.table``.
        symlinks: ``s3://bucket/prefix/`` where the lists of files will be; ``None``: the files' own folders.

    Raises:
        ConfigurationError: A type, a name or a value is none of Athena's, the dataset is empty, or its files do not lie
            as a table without symlinks needs it.
    """
    if not _TABLE.fullmatch(table):
        raise ConfigurationError(
            f"table {table!r}: expected TABLE or DATABASE.TABLE, of letters, digits and _, each of 255 at most"
        )
    if not manifest.files:
        raise ConfigurationError("the dataset has no files, so there is nothing for a table to read")
    _check_names(schema.names, "column")
    groups = _by_partition(manifest)
    locations = _symlinked(symlinks, groups) if symlinks is not None else _own_folders(groups)
    lines = [_create(manifest, schema, table, symlinks is not None, _root(symlinks, locations))]
    if manifest.columns:
        kinds = {name: schema.field(name).type for name in manifest.columns}
        lines += _add_partitions(table, {_spec(group[0], kinds): locations[key] for key, group in groups.items()})
    lists = {} if symlinks is None else {f"{key}{SYMLINKS}": _list(group) for key, group in groups.items()}
    return AthenaTable(tuple(lines), lists)


# Where the files are -----------------------------------------------------------------------------------------------


def _by_partition(manifest: DatasetManifest) -> dict[str, list[DatasetFile]]:
    """Return the files of each partition, by its folders: ``day=2026-01-01/``, or the empty text."""
    groups: dict[str, list[DatasetFile]] = {}
    for file in manifest.files:
        folder, slash, _ = file.path.rpartition("/")
        groups.setdefault(folder + slash, []).append(file)
    return groups


def _folder(file: DatasetFile) -> str:
    return f"{file.pointer.url.rpartition('/')[0]}/"


def _own_folders(groups: Mapping[str, Sequence[DatasetFile]]) -> dict[str, str]:
    locations, taken = dict[str, str](), set[str]()
    for key, group in groups.items():
        folders = sorted({_folder(file) for file in group})
        if len(folders) > 1 or folders[0] in taken:
            fault = f"the files of {key or 'the dataset'} lie in {len(folders)} folders, {folders[0]} among them"
            if len(folders) == 1:
                fault = f"several partitions have files in {folders[0]}"
            msg = (
                f"{fault}; Athena reads one folder for each partition, and all of it. Use --symlink s3://BUCKET/PREFIX/"
            )
            raise ConfigurationError(
                f"{msg}, which names every file by itself (a dataset that was merged or appended to)"
            )
        locations[key] = folders[0]
        taken.add(folders[0])
    return locations


def _symlinked(symlinks: str, groups: Mapping[str, Sequence[DatasetFile]]) -> dict[str, str]:
    return {key: f"{symlinks.rstrip('/')}/{key}" for key in groups}


def _list(files: Sequence[DatasetFile]) -> str:
    for file in files:
        if "\n" in file.pointer.url or "\r" in file.pointer.url:
            raise ConfigurationError(f"{file.path}: its key has a line end, which no list of files can hold")
    return "".join(f"{file.pointer.url}\n" for file in files)


def _root(symlinks: str | None, locations: Mapping[str, str]) -> str:
    """Return the table's own location: the folder that has all others."""
    if symlinks is not None:
        return f"{symlinks.rstrip('/')}/"
    first, last = min(locations.values()), max(locations.values())
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return f"{first[:length].rpartition('/')[0]}/"


# Statements --------------------------------------------------------------------------------------------------------


def _create(manifest: DatasetManifest, schema: pa.Schema, table: str, symlinks: bool, location: str) -> str:
    held = [field for field in schema if field.name not in manifest.columns]
    columns = ",\n".join(f"  {_quoted(field.name)} {athena_type(field.type, field.name)}" for field in held)
    parts = [f"CREATE EXTERNAL TABLE {_table(table)} (\n{columns}\n)"]
    if manifest.columns:
        own = [schema.field(name) for name in manifest.columns]
        parts.append(f"PARTITIONED BY ({', '.join(f'{_quoted(each.name)} {_partition_type(each)}' for each in own)})")
    if symlinks:
        formats = "org.apache.hadoop.hive.ql.io"
        parts += [
            f"ROW FORMAT SERDE '{formats}.parquet.serde.ParquetHiveSerDe'",
            f"STORED AS INPUTFORMAT '{formats}.SymlinkTextInputFormat'",
            f"OUTPUTFORMAT '{formats}.HiveIgnoreKeyTextOutputFormat'",
        ]
    else:
        parts.append("STORED AS PARQUET")
    return "\n".join([*parts, f"LOCATION {_text(location)}"]) + ";\n"


def _add_partitions(table: str, locations: Mapping[str, str]) -> list[str]:
    statements, lines, size = [], list[str](), 0
    for spec, location in locations.items():
        line = f"PARTITION ({spec}) LOCATION {_text(location)}"
        if lines and size + len(line.encode()) > _STATEMENT:
            statements.append(_alter(table, lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line.encode()) + 3
    return [*statements, _alter(table, lines)]


def _alter(table: str, lines: Sequence[str]) -> str:
    return "\n  ".join([f"ALTER TABLE {_table(table)} ADD IF NOT EXISTS", *lines]) + ";\n"


def _spec(file: DatasetFile, kinds: Mapping[str, Any]) -> str:
    """Return a partition's values; only numbers and booleans stand without quotes."""
    values = []
    for name, kind in kinds.items():
        value = file.partition[name]
        if value is None:
            msg = f"the partition column {name!r} has null in {file.path}; Athena's ADD PARTITION has no null"
            raise ConfigurationError(f"{msg}: write the dataset with a value in its place")
        bare = athena_type(kind, name) in {"boolean", "tinyint", "smallint", "int", "bigint"}
        values.append(f"{_quoted(name)} = {value if bare else _text(value)}")
    return ", ".join(values)


def _partition_type(field: pa.Field) -> str:
    kind = athena_type(field.type, field.name)
    if kind == "timestamp":
        raise ConfigurationError(
            f"the partition column {field.name!r} is a {field.type}: partition by a date or by text"
        )
    return kind


# Types and names ---------------------------------------------------------------------------------------------------


def athena_type(kind: pa.DataType, column: str) -> str:
    """Return Athena's type for Arrow's.

    Args:
        kind: Arrow's.
        column: Which column has it, for the message.

    Raises:
        ConfigurationError: Athena has none that holds every value.
    """
    import pyarrow.types as is_

    if (plain := _PLAIN.get(str(kind))) is not None:
        return plain
    if is_.is_timestamp(kind):
        return "timestamp"
    if is_.is_decimal(kind) and kind.precision <= _DECIMAL_DIGITS and 0 <= kind.scale <= kind.precision:
        return f"decimal({kind.precision},{kind.scale})"
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return f"array<{athena_type(kind.value_type, column)}>"
    if is_.is_map(kind):
        return f"map<{athena_type(kind.key_type, column)},{athena_type(kind.item_type, column)}>"
    if is_.is_struct(kind) and kind.num_fields:
        _check_names([field.name for field in kind], f"column {column!r}, member")
        return f"struct<{','.join(_member(field, column) for field in kind)}>"
    instead = next((told for name, told in _INSTEAD.items() if str(kind).startswith(name)), "leave it out, or cast it")
    raise ConfigurationError(
        f"column {column!r} is of type {kind}, which Athena cannot hold: {instead}. Nothing was made"
    )


def _member(field: pa.Field, column: str) -> str:
    if not _NESTED.fullmatch(field.name):
        msg = f"column {column!r} has a member {field.name!r}: Athena takes letters, digits and _ there"
        raise ConfigurationError(f"{msg}. Nothing was made")
    return f"{field.name}:{athena_type(field.type, column)}"


def _check_names(names: Sequence[str], what: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        fault = None
        if not _NAME.fullmatch(name):
            fault = "Athena takes no empty name, and no backtick, line end or control character in one"
        elif len(name.encode()) > _NAME_BYTES:
            fault = f"Athena takes names of {_NAME_BYTES} bytes at most"
        elif (other := seen.setdefault(name.lower(), name)) != name:
            fault = f"it and {other!r} are one to Athena, which reads names in lower case"
        if fault is not None:
            raise ConfigurationError(f"{what} {name[:_NAME_BYTES]!r}: {fault}. Nothing was made")


def _table(name: str) -> str:
    return ".".join(map(_quoted, name.split(".")))


def _quoted(name: str) -> str:
    return f"`{name}`"  # which has none inside: ``_check_names``


def _text(value: str) -> str:
    r"""Return a literal.

    >>> _text("it's")
    "'it\\'s'"
    """
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    if any(character < " " or character == "\x7f" for character in escaped):
        raise ConfigurationError(f"{value!r}: a control character cannot be in a statement. Nothing was made")
    return f"'{escaped}'"
