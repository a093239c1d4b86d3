"""What a Distributed Map's ``ItemReader`` reads: JSON Lines, one item a child execution, as an artifact.

``ItemReader`` takes ``InputType: JSONL`` and the object's ``Bucket``, ``Key`` and ``VersionId``
(https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html), which all stand in the artifact's
pointer: so the state machine finds the items by paths in the output of the task that wrote them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from stepout.schemas import Pointer, invalid_document, json_problems
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.output import TaskOutput
from stepout.schemas.problems import Problem, item
from stepout.schemas.text.json_text import dump_plain_json
from stepout.schemas.text.json_value import DEPTH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from stepout.artifacts.writing.planned_put import PutOptions

ITEM_MOST: Final = 262_144 - 1_024
"""Bytes of an item: the 256 KiB of a child's input, less what an ``ItemSelector`` puts around it."""

_IN_MEMORY: Final = 8 << 20
_MEDIA_TYPE: Final = "application/jsonl"
# Some readers take these for the end of a line; JSON has them in texts alone, where they may be written otherwise.
_LINE_ENDS: Final = {character.encode(): f"\\u{ord(character):04x}".encode() for character in "\u0085\u2028\u2029"}


class PutsFiles(Protocol):
    """Writes a file object as an artifact, as ``ArtifactManager`` does."""

    def put_file(self, name: str, path: Any, **options: Unpack[PutOptions]) -> Pointer:
        """Write it."""
        ...


@runtime_checkable
class HasPointer(Protocol):
    """An artifact that is there already."""

    @property
    def pointer(self) -> Pointer:
        """Its pointer."""
        ...


@runtime_checkable
class HasDocument(Protocol):
    """A task output that was resolved."""

    @property
    def document(self) -> TaskOutput:
        """Its document."""
        ...


def write_item_reader_manifest(manager: PutsFiles, name: str, items: Iterable[Any]) -> Pointer:
    """Write the items of a Distributed Map as JSON Lines, an artifact of the manager's task.

    ``stepout asl map`` prints the state machine that reads it: ``ItemReader`` finds bucket, key and version in the
    task's output, at ``$.artifacts.NAME``. Nothing is sent before the last item was taken; more than 8 MiB of them
    wait in a temporary file.

    Args:
        manager: The task's, ``task.artifacts``.
        name: The artifact's name.
        items: What one child execution each is given: JSON, in which a ``Pointer``, a ``TaskOutput``, an ``Artifact``
            or an ``Output`` may stand for its document, at any depth. An iterator is taken one item at a time.

    Returns:
        The pointer. Its annotations are ``items``, the count, and ``readerConfig``, the state's ``ReaderConfig``.

    Raises:
        InvalidDocumentError: An item is not JSON, or larger than ``ITEM_MOST`` bytes; ``problems`` says which. Nothing
            was sent.
        ConfigurationError: ``items`` is one document or one text, not many items.
        StoreError: The write failed; nothing was kept.
    """
    if isinstance(items, str | bytes | Mapping | Pointer | TaskOutput):
        msg = f"the items of artifact {name!r} are a {type(items).__name__}: expected a list or an iterator of items"
        raise ConfigurationError(f"{msg}; one item alone is [item]. Nothing was sent")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as lines:
        count = _write_lines(lines, name, items)
        lines.seek(0)
        annotations = {"items": count, "readerConfig": {"InputType": "JSONL"}}
        return manager.put_file(name, lines, media_type=_MEDIA_TYPE, suffix=".jsonl", annotations=annotations)


def _write_lines(file: IO[bytes], name: str, items: Iterable[Any]) -> int:
    count = 0
    for count, value in enumerate(items, 1):
        file.write(_line(name, item("$", count - 1), _plain(value)))
    return count


def _line(name: str, location: str, value: Any) -> bytes:
    problems = json_problems(value, location, convertible=True)
    line = b"" if problems else dump_plain_json(value)
    for character, escaped in _LINE_ENDS.items():
        line = line.replace(character, escaped)
    if len(line) > ITEM_MOST:
        message = f"has {len(line):,} bytes, and {ITEM_MOST:,} are what a child's input has room for: put a pointer"
        problems = [Problem(location, "size", message)]
    if problems:
        raise invalid_document(f"the items of artifact {name!r}", problems, "Nothing was sent.")
    return line + b"\n"


def _plain(value: Any, room: int = DEPTH_LIMIT) -> Any:
    """Return JSON, with documents in the place of what stands for them; too deep, the value as it is."""
    if value is None or isinstance(value, str | int | float):
        return value  # most of them, and a Protocol is slow to ask for
    if isinstance(value, Pointer | TaskOutput):
        return value.to_dict()
    if type(value) is dict and room:
        return {key: _plain(member, room - 1) for key, member in value.items()}
    if type(value) is list and room:
        return [_plain(member, room - 1) for member in value]
    if isinstance(value, HasPointer):
        return value.pointer.to_dict()
    return value.document.to_dict() if isinstance(value, HasDocument) else value
