"""What several commands share: where documents come from, what may be read, how S3 is reached, and tables."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.search.locate import find_documents, the_document
from stepout.schemas.text.foreign_text import shown, shown_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from stepout.artifacts.reading.artifact import Artifact
    from stepout.schemas.pointer import Pointer

_LARGEST_DIRECTORY = 1 << 40  # a person asked for it; requests and entries keep their bounds
_LONGEST_CELL = 2_000  # A URL of the longest bucket and key fits.
DOCUMENT_HELP = (
    "a file, - for standard input, JSON itself, s3://bucket/key or dynamodb://table/key of an outcome; what a job "
    "printed will do if one of its lines is the document"
)


JSON_SHAPE = "one JSON object on one line, for machines; errors stay on standard error"


def add_document(parser: argparse.ArgumentParser) -> None:
    """Declare the document that a command reads."""
    parser.add_argument("document", metavar="DOCUMENT", help=DOCUMENT_HELP)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help=f"print {JSON_SHAPE}")


def add_store(parser: argparse.ArgumentParser) -> None:
    """Declare how S3 is reached."""
    group = parser.add_argument_group("S3")
    group.add_argument("--endpoint-url", metavar="URL", help="another server than AWS (or AWS_ENDPOINT_URL_S3)")
    group.add_argument(
        "--profile",
        help="what the server can do: aws, or those that it needs of compatible, unconditional, no-checksums, with a "
        "comma between (or STEPOUT_S3_PROFILE; stepout doctor --probe finds out)",
    )
    group.add_argument(
        "--requester-pays",
        action="store_const",
        const="requester",
        help="pay for requests to buckets whose owner does not (or STEPOUT_REQUEST_PAYER=requester)",
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare what may be read, and how."""
    group = parser.add_argument_group("what may be read")
    group.add_argument(
        "--allow",
        action="append",
        metavar="s3://BUCKET/PREFIX/",
        help="read nothing but what lies under this prefix; repeatable; default: STEPOUT_ALLOW",
    )
    group.add_argument("--allow-any", action="store_true", help="trust the document: read wherever it points")
    group.add_argument("--expected-bucket-owner", metavar="ACCOUNT", help="refuse buckets of any other account")
    add_store(parser)


def store_environ(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment with what ``--profile`` and ``--requester-pays`` say instead of its variables."""
    given = {"STEPOUT_S3_PROFILE": arguments.profile, "STEPOUT_REQUEST_PAYER": arguments.requester_pays}
    return {**os.environ, **{name: value for name, value in given.items() if value}}


def store_client(arguments: argparse.Namespace) -> Any:
    """Return the S3 client that ``--endpoint-url`` and ``--profile`` ask for.

    Returns:
        ``None`` where neither is given: then the library builds its own, which takes the fast routes too.

    Raises:
        ConfigurationError: There is no such profile, or no client could be built.
    """
    if not (arguments.endpoint_url or arguments.profile):
        return None
    from stepout.artifacts.s3.clients import make_client, profile_from_env

    profile = profile_from_env(store_environ(arguments))
    client = make_client(endpoint_url=arguments.endpoint_url or None, profile=profile, sign_payload=True)
    if not profile.checksum_headers:
        # A store over a client that was passed in knows the environment's profile alone, and would ask for checksums.
        client.meta.events.register("provide-client-params.s3.HeadObject", _without_checksums)
    return client


def _without_checksums(params: dict[str, Any], **_: object) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "ChecksumMode"}


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        ConfigurationError: It is closed.
    """
    if sys.stdin is None:
        raise ConfigurationError("standard input is closed; nothing was read")
    return sys.stdin.buffer


def document_text(source: str) -> str | bytes:
    """Return a document's text: of a file, of standard input (``-``), or the argument itself if it is JSON or a URL.

    Raises:
        OSError: The file cannot be read.
    """
    if source == "-":
        return standard_input().read()
    if source.lstrip().startswith(("{", "[")) or source.startswith(("s3://", "dynamodb://")):
        return source
    return Path(source).read_bytes()


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
    from stepout.artifacts.reading.foreign import load_foreign
    from stepout.cli.job_log import document_in
    from stepout.cli.selection import entries_of, lone_name, pick, say_beside, say_failures, with_hint

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
    return {lone_name(found.pointer, is_directory=found.is_directory): found}


def reading_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of ``resolve`` and ``resolve_all`` that the options of ``add_reading`` stand for."""
    from stepout import ANY_BUCKET, ReadBudget

    return {
        "allow": ANY_BUCKET if arguments.allow_any else arguments.allow,
        "client": store_client(arguments),
        "expected_bucket_owner": arguments.expected_bucket_owner,
        "request_payer": arguments.requester_pays,
        "budget": ReadBudget(bytes=_LARGEST_DIRECTORY),
    }


def _say(lines: Iterable[str]) -> None:
    sys.stderr.writelines(f"stepout: {line}\n" for line in lines)


def _searched(document: str) -> Any:
    """Parse a document as ``resolve`` does: texts in it are opened where nothing is found without."""
    from stepout.artifacts.reading.foreign import load_foreign, opened_texts

    value = load_foreign(document)
    return value if find_documents(value) else opened_texts(value)


def command_of(words: Sequence[str], name: str) -> list[str]:
    """Return the program and its arguments, without the ``--`` before them; what argparse keeps of the rest.

    Raises:
        ConfigurationError: There is none.
    """
    command = list(words[1:] if words[:1] == ["--"] else words)
    if not command or not command[0]:
        raise ConfigurationError(f"{name}: which command? stepout {name} [OPTION …] -- COMMAND [ARGUMENT …]")
    return command


def artifact_entry(name: str, pointer: Pointer, size: int | None) -> dict[str, Any]:
    """Return what ``--json`` says of an artifact, the same for every command.

    Args:
        name: Its name.
        pointer: Its pointer, which stays as it is: of a directory its ``size`` is the listing's.
        size: Bytes, of a directory those of its files together; ``None`` where nobody knows.
    """
    entry = {"name": name, "url": pointer.url, "size": size, "mediaType": pointer.media_type}
    return {**entry, "pointer": pointer.to_dict()}


def human_size(size: int | None) -> str:
    """Return a size as people write it.

    Examples:
        >>> human_size(0), human_size(1536), human_size(5 * 2**30), human_size(None)
        ('0 B', '1.5 KiB', '5.0 GiB', '?')
    """
    if size is None:
        return "?"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:  # noqa: PLR2004 - the definition of a KiB
        value /= 1024
        units.pop(0)
    return f"{size} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


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
