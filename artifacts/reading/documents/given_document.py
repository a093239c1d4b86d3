"""What a caller passes as a document, in whatever form: its JSON value, or the URL of a task's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.output import Output
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.text.json_value import plain_copy

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access


def given_value(document: object, access: Access, *, execution: str | None = None, state: str | None = None) -> Any:
    """Return the JSON value of a document, whatever form it came in."""
    if isinstance(document, Output):
        return document.document.to_dict()
    if isinstance(document, Artifact):
        return document.pointer.to_dict()
    if isinstance(document, Pointer | TaskOutput):
        return document.to_dict()
    if is_outcome_url(document):
        from stepout.artifacts.reading.documents.outcome import OutcomeReader
        from stepout.schemas.pull import AskedRun

        return OutcomeReader(AskedRun(execution=execution, state=state)).read(document, access)
    if isinstance(document, str | bytes | bytearray | memoryview):
        from stepout.artifacts.reading.documents.foreign import load_foreign

        return load_foreign(document)
    return plain_copy(document) if isinstance(document, Mapping) and not isinstance(document, dict) else document


def is_outcome_url(document: object) -> TypeGuard[str]:
    """Tell whether a document is the URL of an outcome, or of a place with many of them."""
    return isinstance(document, str) and document.strip().startswith(("s3://", "dynamodb://"))
