"""What commands print: JSON, tables, an artifact as ``--json`` shows it, and what the library logs."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from stepout.schemas.text.foreign_text import shown, shown_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.schemas.pointer import Pointer

_LONGEST_CELL = 2_000  # A URL of the longest bucket and key fits.


def artifact_entry(name: str, pointer: Pointer, size: int | None) -> dict[str, Any]:
    """Return what ``--json`` says of an artifact, the same for every command.

    Args:
        name: Its name.
        pointer: Its pointer, which stays as it is: of a directory its ``size`` is the listing's.
        size: Bytes, of a directory those of its files together; ``None``: unknown.
    """
    entry = {"name": name, "url": pointer.url, "size": size, "mediaType": pointer.media_type}
    return {**entry, "pointer": pointer.to_dict()}


def short_checksum(checksum: dict[str, str]) -> str:
    """Return the strongest checksum, shortened for a table.

    Examples:
        >>> short_checksum({"sha256": "0123456789abcdef" * 4, "crc64nvme": "0" * 16})
        'sha256 0123456789ab…'
    """
    if not checksum:
        return "none"
    name = "sha256" if "sha256" in checksum else next(iter(checksum))
    return f"{name} {checksum[name][:12]}…"


def print_json(value: object, *, one_line: bool = True) -> None:
    """Print JSON: on one line for machines, indented for people."""
    sys.stdout.write(shown_json(json.dumps(value, ensure_ascii=False, indent=None if one_line else 2)) + "\n")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its widest cell; what a document must not do to a terminal is escaped."""
    cells = [[shown(cell, _LONGEST_CELL) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


@contextlib.contextmanager
def logged(name: str, form: str) -> Iterator[None]:
    """Show on standard error what the library logs, from level INFO on, while a command runs.

    Args:
        name: The logger's.
        form: How a record becomes a line, for ``logging.Formatter``.
    """
    logger, handler = logging.getLogger(name), logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
