"""The messages from a container to the relay: each is one JSON document with a version. Pure.

``{"stepout": "report/1", "id": "…", "kind": "success", "taskToken": "…", "output": {…}, "run": {…}}``, with ``error``
and ``cause`` instead of ``output`` where the kind is ``failure``, and neither where it is ``heartbeat``. The message
holds the task token: anyone who can read the queue can end the state. This module never shows a token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping  # noqa: TC003 - typing.get_type_hints works on the model
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from stepout.callbacks.targets.sfn import check_token
from stepout.schemas import Problem, RunIdentity, dump_json, invalid_document, load_json, rules
from stepout.schemas.errors import InvalidTokenError
from stepout.schemas.identity import producer_problems, read_producer

Kind = Literal["success", "failure", "heartbeat"]

REPORT_VERSION: Final = "report/1"

MAX_MESSAGE: Final = 1_048_576
"""Bytes of an SQS message (developer guide, "Amazon SQS message quotas"); the output in it has 262,144 at most."""

_KINDS: Final = frozenset({"success", "failure", "heartbeat"})
_LONGEST_ID: Final = 128
_EXPECTED_ID: Final = f"text of 1 to {_LONGEST_ID} printable characters, another one in each report"

# XML 1.0 does not allow these characters, so SQS refuses them. It accepts them as JSON escapes.
_NOT_IN_SQS: Final = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report on its way.

    Attributes:
        id: Unique to the report; every try sends the same id.
        kind: The kind of the report.
        token: The task token.
        output: The output document of a success.
        error: The name of a failure's error.
        cause: A failure's cause, JSON text.
        run: Identifies the run that reports, for people who look at a queue.
    """

    id: str
    kind: Kind
    token: str = field(repr=False)
    output: Any = field(default=None, repr=False)
    error: str = ""
    cause: str = field(default="", repr=False)
    run: RunIdentity = field(default_factory=RunIdentity)

    def to_json(self) -> str:
        """Return the message as text that SQS accepts.

        Raises:
            InvalidDocumentError: A member cannot be written as JSON.
        """
        document: dict[str, Any] = {"stepout": REPORT_VERSION, "id": self.id, "kind": self.kind}
        document["taskToken"] = self.token
        if self.kind == "success":
            document["output"] = self.output
        elif self.kind == "failure":
            document |= {"error": self.error, "cause": self.cause}
        if run := self.run.to_dict():
            document["run"] = run
        return dump_json(document).decode().translate(_NOT_IN_SQS)


def parse_report(text: Any) -> Report:
    """Read a message strictly, and ignore unknown members.

    Args:
        text: The body; anything but text is refused.

    Returns:
        The report. Its output may be any JSON; the relay checks whether it is a task output.

    Raises:
        InvalidDocumentError: The message is invalid. The error lists every problem, and shows no value.

    Examples:
        >>> parse_report('{"stepout": "report/1", "id": "7", "kind": "heartbeat", "taskToken": "AQC"}').kind
        'heartbeat'
        >>> parse_report('{"stepout": "report/1", "id": "7", "kind": "success", "taskToken": "AQC"}')
        Traceback (most recent call last):
        stepout.schemas.errors.InvalidDocumentError: the message is not valid: 1 problem: $.output: is missing
    """
    document = load_json(text, max_bytes=MAX_MESSAGE)
    if problems := list(_problems(document)):
        raise invalid_document("the message", problems)
    return Report(
        id=document["id"],
        kind=cast("Kind", document["kind"]),
        token=check_token(document["taskToken"]),
        output=document.get("output"),
        error=document.get("error", ""),
        cause=document.get("cause", ""),
        run=read_producer(document["run"]) if "run" in document else RunIdentity(),
    )


def group_of(token: str) -> str:
    """Return a hash that stands for a token where the token must not be seen, e.g. as a FIFO queue's message group.

    Example:
        >>> group_of("AQC")
        '6e3a7291b73c98f2a55d04d04c7adbc2'
    """
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:32]


def _problems(document: object) -> Iterator[Problem]:
    if not isinstance(document, dict):
        yield rules.wrong_type("$", "object", document)
        return
    if document.get("stepout") != REPORT_VERSION:
        wrong = "stepout" in document
        yield rules.wrong_version("$.stepout", REPORT_VERSION) if wrong else rules.missing("$.stepout")
    yield from _id_problems(document)
    yield from _token_problems(document)
    yield from _kind_problems(document)
    if "run" in document:
        yield from producer_problems(document["run"], "$.run")


def _id_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    if "id" not in document:
        yield rules.missing("$.id")
    elif not isinstance(name := document["id"], str):
        yield rules.wrong_type("$.id", "string", name)
    elif not (0 < len(name) <= _LONGEST_ID and name.isprintable()):
        yield rules.wrong_pattern("$.id", _EXPECTED_ID)


def _token_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    if "taskToken" not in document:
        yield rules.missing("$.taskToken")
    elif not isinstance(token := document["taskToken"], str):
        yield rules.wrong_type("$.taskToken", "string", token)
    else:
        try:
            check_token(token)
        except InvalidTokenError:
            yield rules.wrong_pattern("$.taskToken", "a task token as Step Functions issued it")


def _kind_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        yield rules.wrong_pattern("$.kind", f"one of {', '.join(sorted(_KINDS))}")
    elif kind == "success" and "output" not in document:
        yield rules.missing("$.output")
    elif kind == "failure":
        if not document.get("error"):
            yield rules.missing("$.error")
        for name in ("error", "cause"):
            if name in document and not isinstance(document[name], str):
                yield rules.wrong_type(f"$.{name}", "string", document[name])
