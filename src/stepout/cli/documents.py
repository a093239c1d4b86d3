"""What a command's document leads to: its artifacts by name, all or those that ``--name`` and ``--file`` choose."""

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
from stepout.terminal_progress import transfer_bar

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


def chosen(found: dict[str, Artifact], name: str | None) -> dict[str, Artifact]:
    """Return what ``--name`` means: the artifacts of that name; all of them where it is not given."""
    if name is None:
        return found
    if named := {path: each for path, each in found.items() if path.endswith(f".artifacts.{name}")}:  # with --all
        return named
    if name not in found:
        raise ConfigurationError(f"there is no artifact {name!r} in the document, only {_listed(found)}")
    return {name: found[name]}


def add_file(parser: argparse.ArgumentParser) -> None:
    """Declare ``--file``."""
    parser.add_argument("--file", metavar="PATH", help="one file of a directory or a dataset, by its path in there")


def one_file(found: dict[str, Artifact], path: str | None) -> dict[str, Artifact]:
    """Return what ``--file`` means, by its last segment; everything where it is not given.

    Raises:
        ConfigurationError: Several artifacts may have it.
        StepoutError: The artifact has no such file, or its listing could not be read.
    """
    if path is None:
        return found
    if len(found) != 1:
        raise ConfigurationError(f"--file: of which artifact? Pass --name with one of {_listed(found)}")
    (artifact,) = found.values()
    return {path.rpartition("/")[2]: artifact.file(path)}


def print_artifact(arguments: argparse.Namespace) -> int:
    """Write the one artifact that is meant to standard output; ``get -o -`` does the same."""
    found = chosen(artifacts_of(arguments), arguments.name)
    if len(found) != 1:
        raise ConfigurationError(f"cat: which one? Pass --name with one of {_listed(found)}")
    ((name, artifact),) = one_file(found, arguments.file).items()
    if names_files(artifact.pointer):
        raise ConfigurationError("cat: that is a directory or a dataset: --file says which file; stepout get has all")
    from stepout.artifacts.transfer.progress import counted

    # A bar would stand amidst the bytes where these go to the terminal.
    with transfer_bar(quiet=arguments.quiet or sys.stdout.isatty()) as bar, artifact.open() as stream:
        count = counted(bar, name, artifact.size)
        while block := stream.read(1 << 20):
            sys.stdout.buffer.write(block)
            count(len(block))
    sys.stdout.buffer.flush()
    return 0


def _listed(found: dict[str, Artifact]) -> str:
    return ", ".join(sorted(found)) or "none at all"


def _say(lines: Iterable[str]) -> None:
    sys.stderr.writelines(f"stepout: {line}\n" for line in lines)


def _searched(document: str) -> Any:
    """Parse a document as ``resolve`` does: texts in it are opened where nothing is found without."""
    value = load_foreign(document)
    return value if find_documents(value) else opened_texts(value)
