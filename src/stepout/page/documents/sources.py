"""What somebody wants a page of: an execution, the URL of an outcome, a ResultWriter's manifest, or documents."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.reading.documents.foreign import ForeignReference, load_foreign, opened_texts
from stepout.artifacts.reading.documents.given_document import given_value, is_outcome_url
from stepout.page.history.step_functions import execution_arn
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.locations import split_s3_url

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access
    from stepout.page.history.step_functions import ExecutionArn

_CONSOLE: Final = re.compile(r"https://[^\s/]*console\.[^\s/]+/states/.*?(arn:[a-z-]+:states:[^?#\s]+)", re.IGNORECASE)
_MOST_SHOWN: Final = 300


@dataclass(frozen=True, kw_only=True)
class PageSource:
    """One thing that somebody wants to see. One of its members says which.

    Attributes:
        label: What it is called on the page.
        arn: An execution.
        url: Where a task in pull mode was told to write its outcome.
        manifest: A ResultWriter's manifest.
        value: A document, parsed: anything that a document may be in.
        problem: Why it is no document.
    """

    label: str
    arn: ExecutionArn | None = None
    url: str = ""
    manifest: ForeignReference | None = None
    value: Any = None
    problem: InvalidDocumentError | None = None


def read_source(source: object, access: Access) -> PageSource:
    """Find out what a source is, and read it if it is a file.

    Args:
        source: As ``collect_run`` takes it.
        access: How documents are read; nothing is requested here.

    Raises:
        ConfigurationError: It is the ARN of something else than an execution that has a history, or is nothing.
        OSError: It is a file that cannot be read.
    """
    if isinstance(source, str):
        return _of_text(source.strip())
    if isinstance(source, os.PathLike):
        path = Path(source)
        return _of_json(path.read_bytes(), path.name)
    if isinstance(source, bytes | bytearray):
        return _of_json(bytes(source), "the document")
    try:
        return _of_value(given_value(source, access), "the document")
    except InvalidDocumentError as error:
        return PageSource(label="the document", problem=error)


def name_of(source: object) -> str:
    """Return a source as the page shows it: as the user said it, and the kind of thing where that is a document."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        is_name = isinstance(text, str) and not text.lstrip().startswith(("{", "["))
        return shown(text, _MOST_SHOWN) if is_name else "a document"
    return "a document"


def _of_text(text: str) -> PageSource:
    if text.startswith("arn:"):
        return PageSource(label=shown(text), arn=execution_arn(text))
    if (console := _CONSOLE.fullmatch(text)) is not None:
        return _of_text(console[1])
    if is_outcome_url(text):
        return _of_url(text)
    if text == "-":
        if sys.stdin is None:
            raise ConfigurationError("standard input is closed; nothing was read")
        return _of_json(sys.stdin.buffer.read(), "standard input")
    if text.startswith(("{", "[")):
        return _of_json(text, "the document")
    if not text:
        raise ConfigurationError("a source is empty: expected a file, -, JSON, a URL or an execution's ARN")
    return _of_json(Path(text).read_bytes(), Path(text).name)


def _of_url(url: str) -> PageSource:
    label = shown(url, _MOST_SHOWN)
    if not url.startswith("s3://") or not url.endswith("manifest.json"):
        return PageSource(label=label, url=url)
    try:
        return PageSource(label=label, manifest=ForeignReference("result-writer", *split_s3_url(url)))
    except ValueError:
        raise ConfigurationError(f"{label} is no URL of an object: expected s3://bucket/key") from None


def _of_json(text: str | bytes, label: str) -> PageSource:
    label = shown(label)
    try:
        return _of_value(load_foreign(text), label)
    except InvalidDocumentError as error:
        return PageSource(label=label, problem=error)


def _of_value(value: Any, label: str) -> PageSource:
    return PageSource(label=label, value=opened_texts(value))
