"""Options and arguments that several commands share: how each is declared, and what it stands for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


_LARGEST_DIRECTORY = 1 << 40  # a person asked for it; requests and entries keep their bounds
DOCUMENT_HELP = (
    "a file, - for standard input, JSON itself, or the URL of an outcome in pull mode (s3://bucket/key, "
    "dynamodb://table/key); what a job printed is taken too, if one of its lines is the document"
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
    group.add_argument(
        "--endpoint-url", metavar="URL", help="the S3 server, if it is not AWS; default: AWS_ENDPOINT_URL_S3"
    )
    group.add_argument(
        "--profile",
        help="what the server can do: aws, or one or more of compatible, unconditional, no-checksums, with commas "
        "between; stepout doctor --probe finds out; default: STEPOUT_S3_PROFILE, or aws",
    )
    group.add_argument(
        "--requester-pays",
        action="store_const",
        const="requester",
        help="pay for the requests, if the bucket's owner does not; default: STEPOUT_REQUEST_PAYER",
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare what may be read, and how."""
    group = parser.add_argument_group("what may be read")
    group.add_argument(
        "--allow",
        action="append",
        metavar="s3://BUCKET/PREFIX/",
        help="read only what lies below this prefix; repeatable; default: STEPOUT_ALLOW",
    )
    group.add_argument("--allow-any", action="store_true", help="trust the document: read wherever it points")
    group.add_argument("--expected-bucket-owner", metavar="ACCOUNT", help="refuse buckets of any other account")
    group.add_argument(
        "--allow-expired",
        action="store_true",
        help="also try to read artifacts whose pointers say that they have expired",
    )
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


def reading_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of ``resolve`` and ``resolve_all`` that the options of ``add_reading`` stand for."""
    from stepout import ANY_BUCKET, ReadBudget

    return {
        "allow": ANY_BUCKET if arguments.allow_any else arguments.allow,
        "client": store_client(arguments),
        "expected_bucket_owner": arguments.expected_bucket_owner,
        "request_payer": arguments.requester_pays,
        "budget": ReadBudget(bytes=_LARGEST_DIRECTORY),
        "allow_expired": arguments.allow_expired,
    }


def option_of(member: str) -> str:
    """Return the option that sets a member of the parsed arguments.

    >>> option_of("queue_url")
    '--queue-url'
    """
    return f"--{member.replace('_', '-')}"


def command_of(words: Sequence[str], name: str) -> list[str]:
    """Return the program and its arguments, without the ``--`` before them; what argparse keeps of the rest.

    Raises:
        ConfigurationError: There is no command.
    """
    command = list(words[1:] if words[:1] == ["--"] else words)
    if not command or not command[0]:
        raise ConfigurationError(f"{name}: which command? stepout {name} [OPTION …] -- COMMAND [ARGUMENT …]")
    return command
