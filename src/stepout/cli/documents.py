"""What a command's document leads to: its artifacts by name, resolved, all or those that were chosen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from stepout.artifacts.listing import names_files
from stepout.artifacts.reading.documents.foreign import load_foreign, opened_texts
from stepout.cli.job_log import document_in
from stepout.cli.options import document_text, reading_settings
from stepout.cli.selection import entries_of, lone_name, pick, say_beside, say_failures, with_hint
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.search.locate import find_documents, the_document

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from stepout.artifacts.reading.artifact import Artifact


def artifacts_of(arguments: argparse.Namespace, *, spilled: bool = False) -> dict[str, Artifact]:
    """Resolve the command's document and return its artifacts by name; a lone pointer is named after its key.

    With ``--at`` it is the document at that place that counts; with ``--all`` every artifact of every document, by its
    path, and standard error says which tasks failed.

    Args:
        arguments: The command's.
        spilled: Whether a result that was spilled is one of them, as ``(result)``.

    Raises:
        ConfigurationError: Nothing says what may be read, or nothing is where ``--at`` says.
        StepoutError: The document is invalid, or what it leads through cannot be read.
    """
    from stepout import Output, resolve, resolve_all

    if arguments.allow is None and not arguments.allow_any and os.environ.get("STEPOUT_ALLOW") is None:
        raise ConfigurationError(
            "what may this document make us read? Pass --allow s3://BUCKET/PREFIX/ (repeatable), set STEPOUT_ALLOW, or "
            "pass --allow-any if you trust whoever wrote it. Nothing was read."
        )
    text = document_in(document_text(arguments.document))
    document = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
    settings = reading_settings(arguments)
    if arguments.at is not None or arguments.all:
        every = resolve_all(document, **settings)
        if every:
            _say(say_failures(every.failures) if arguments.all else [])
            return pick(list(entries_of(every, spilled=spilled)), list(every), arguments.at)
    try:
        found = resolve(document, **settings)
    except InvalidDocumentError as error:
        if not any(each.kind == "several" for each in error.problems):
            raise
        raise with_hint(error, load_foreign(document), reading=True) from None
    if isinstance(found, Output):
        if spilled and not document.startswith(("s3://", "dynamodb://")):
            value = _searched(document)
            _say(say_beside(value, the_document(value).location))
        return {**found, "(result)": found.spilled} if spilled and found.spilled else dict(found)
    return {lone_name(found.pointer, stem=names_files(found.pointer)): found}


def _say(lines: Iterable[str]) -> None:
    sys.stderr.writelines(f"stepout: {line}\n" for line in lines)


def _searched(document: str) -> Any:
    """Parse a document as ``resolve`` does: texts in it are opened where nothing is found without."""
    value = load_foreign(document)
    return value if find_documents(value) else opened_texts(value)
