"""``stepout show``: what a document names."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from stepout.artifacts.directory_listing import tree_of
from stepout.artifacts.listing import count_of_files, size_of_files
from stepout.artifacts.reading.documents.foreign import find_references, load_foreign, opened_texts
from stepout.cli.documents import artifacts_of
from stepout.cli.job_log import document_in
from stepout.cli.options import add_document, add_json, add_reading, document_text, reading_settings
from stepout.cli.printing import artifact_entry, print_json, print_table, short_checksum
from stepout.cli.selection import (
    AtPath,
    add_paths,
    entries_of,
    lone_name,
    pick,
    pointers_of,
    say_beside,
    say_failures,
    to_be_read,
    wanted_path,
    with_hint,
    with_results,
)
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.search.locate import find_documents, find_failures, the_document
from stepout.schemas.text.foreign_text import shown, shown_json
from stepout.schemas.text.json_text import dump_json
from stepout.schemas.text.sizes import human_size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from stepout.artifacts.reading.documents.resolved import Resolved
    from stepout.schemas.identity import RunIdentity
    from stepout.schemas.search.locate import Found, TheDocument

_EPILOG = """\
examples:
  stepout show output.json
  aws stepfunctions describe-execution … --query output --output text | stepout show -
  stepout show map-results.json --all
  stepout show chain.json --at '$.score'
  python mask.py | stepout show -          (finds the report among what the job printed)

A directory is shown with its files' size and number, and the digest of its content ("tree"), as its pointer says them.

Nothing is read from S3, except where the document is a URL, or is kept in a manifest artifact and you say what may be
read (--allow).
"""

_RESULT_SHOWN = 400


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout show``."""
    parser.epilog = _EPILOG
    add_document(parser)
    add_paths(parser)
    add_json(parser)
    add_reading(parser)
    parser.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    pointers, output, note = _named(arguments)
    if note:
        sys.stderr.write(f"stepout: {note}\n")
    if arguments.json:
        entries = [artifact_entry(name, pointer, size_of_files(pointer)) for name, pointer in pointers.items()]
        print_json({"artifacts": entries})
        return 0
    if output is not None and output.producer is not None:
        sys.stdout.write(shown(_producer(output.producer), None) + "\n")
    print_table(("NAME", "SIZE", "TYPE", "CHECKSUM", "WHERE"), [_row(*item) for item in pointers.items()])
    if output is not None and output.result is not None and not isinstance(output.result, Pointer):
        text = shown_json(dump_json(output.result).decode())
        sys.stdout.write(f"result: {text if len(text) <= _RESULT_SHOWN else human_size(len(text.encode()))}\n")
    return 0


def _named(arguments: argparse.Namespace) -> tuple[dict[str, Pointer], TaskOutput | None, str]:
    """Return the pointers by name, the output they stand in, and what there is to say about it."""
    may_read = bool(arguments.allow or arguments.allow_any or os.environ.get("STEPOUT_ALLOW"))
    text = document_in(document_text(arguments.document))
    if arguments.document == "-":  # standard input can be read once
        arguments.document = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
    if isinstance(text, str) and text.startswith(("s3://", "dynamodb://")):
        return _resolved(arguments), None, ""
    value = load_foreign(text)
    value = value if find_documents(value) else opened_texts(value)
    try:
        found = _the_one(value, arguments)
    except InvalidDocumentError as error:
        raise with_hint(error, value) from None
    if found is None:
        return _listed(value, arguments, may_read=may_read)
    if found.kind == "pointer":
        pointer = Pointer.from_dict(found.document)
        return {lone_name(pointer): pointer}, None, ""
    beside = say_beside(value, found.location) if arguments.at is None else []
    output = TaskOutput.from_dict(found.document)
    if output.artifacts is not None:
        spilled = {"(result)": output.result} if isinstance(output.result, Pointer) else {}
        return {**output.artifacts, **spilled}, output, "; ".join(beside)
    if may_read:
        return _resolved(arguments), output, ""  # it has said what lies beside
    assert output.manifest is not None  # noqa: S101 - an output has artifacts or a manifest
    note = "this output is kept in its manifest; say what may be read (--allow) to list what is in it"
    return {"(manifest)": output.manifest}, output, "; ".join([note, *beside])


def _the_one(value: Any, arguments: argparse.Namespace) -> Found | TheDocument | None:
    """Return the document that is shown by itself; ``None`` for ``--all``, and for a path within a document."""
    if arguments.all:
        return None
    if arguments.at is None:
        return the_document(value)
    wanted = wanted_path(arguments.at)
    return next((each for each in find_documents(opened_texts(value)) if each.location == wanted), None)


def _listed(value: Any, arguments: argparse.Namespace, *, may_read: bool) -> tuple[dict[str, Pointer], None, str]:
    """Return what several documents name; only what is kept in manifests and references is read, if that may be."""
    value = opened_texts(value)
    found, unread = with_results(find_documents(value)), len(find_references(value))
    entries, places = list(pointers_of(found)), [each.location for each in found]
    unread += sum(entry.name == "(manifest)" for entry in entries)
    failures = find_failures(value)
    if unread and may_read:
        read = _read(value, arguments)
        entries = [entry for entry in entries if entry.name != "(manifest)"]
        entries += [
            AtPath(each.at, each.path, each.name, each.found.pointer) for each in entries_of(read, spilled=True)
        ]
        places, failures, unread = list(dict.fromkeys([*places, *read])), {**failures, **read.failures}, 0
    more = f"{unread} manifests or references are kept in S3; say what may be read (--allow) to list what is in them"
    if not places and not unread:
        the_document(value)  # it says what there is instead
    hint = f"; {more}" if unread else ""
    pointers = pick(entries, places, arguments.at, more=hint)
    failed = say_failures(failures) if arguments.all else []
    return pointers, None, "; ".join([*failed, *([more] if unread else [])])


def _read(value: Any, arguments: argparse.Namespace) -> Resolved:
    from stepout import resolve_all

    return resolve_all(json.dumps(to_be_read(value)), **reading_settings(arguments))


def _resolved(arguments: argparse.Namespace) -> dict[str, Pointer]:
    return {name: artifact.pointer for name, artifact in artifacts_of(arguments, spilled=True).items()}


def _row(name: str, pointer: Pointer) -> tuple[str, ...]:
    files, tree = count_of_files(pointer), tree_of(pointer)
    kind = pointer.media_type if files is None else f"{pointer.media_type}, {files:,} files"
    checksum = short_checksum(dict(pointer.checksum) if tree is None else {"tree": tree})
    return name, human_size(size_of_files(pointer)), kind, checksum, pointer.url


def _producer(run: RunIdentity) -> str:
    parts: Mapping[str, Any] = {
        "execution": run.execution,
        "state": run.state,
        "attempt": run.attempt,
        "map": run.map_index,
        "redrive": run.redrive,
        "stepout": run.version,
    }
    return "task output  " + "  ".join(f"{name}={value}" for name, value in parts.items() if value is not None)
