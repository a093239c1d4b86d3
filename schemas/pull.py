"""What producer and consumer agree on in pull mode: failures beside an output, items of a table. Pure.

The state machine builds one URL and passes it to both sides. ``s3://bucket/key``: the output document is the object of
that key, written once; failures lie beside it. ``dynamodb://table/key``: one item, which a success closes.

Two read it: ``stepout.artifacts.reading.documents.outcome`` for a consumer, and
``stepout.callbacks.targets.pull_reading`` for the Lambda that gives a failure its name. Each fetches in its own way,
with its own client, retries and errors. What is looked at, in which order, and what it means is decided here, on
values.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stepout.schemas.array import child_in
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, OutputTooLargeError, invalid_document
from stepout.schemas.problems import Problem
from stepout.schemas.progress import PROGRESS_ATTRIBUTE
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.json_text import dump_json, load_json
from stepout.schemas.text.locations import PARTITION_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepout.schemas.identity import RunIdentity
    from stepout.schemas.text.locations import TablePlace

Time = TypeVar("Time", float, str)
"""When something was written: seconds since 1970, or ISO 8601; both can be put in order."""

SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"

ITEM_NAMES: Final = frozenset(
    {"status", "reportedAt", "execution", "state", "mapIndex", "attempt", "document", "sha256", "error", "cause"}
    | {PROGRESS_ATTRIBUTE}
)
"""The attributes of an item beside its partition key."""

FAILURE_LIMIT: Final = 256 << 10
"""The most that is read of a failure document, in bytes; a cause has 32,768 at most, and may be escaped."""

_FAILURES_READ: Final = 10  # each is a request, and whoever may write failures can leave thousands

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_ITEM_BYTES: Final = 400 * 1024
_ITEM_ROOM: Final = 8 * 1024  # for the key (at most 2,048 bytes) and the small attributes

_FAILURE: Final = re.compile(r"\.([0-9]{1,9}|x)-[A-Za-z0-9]{1,64}\.failure\.json")


def place_key(run: RunIdentity) -> str:
    """Return the key of a task's item where its URL names none: ``{execution}/{state}``, and ``/{mapIndex}`` in a Map.

    Raises:
        ConfigurationError: The execution or the state is not known.
    """
    if run.execution is None or run.state is None:
        raise ConfigurationError(
            "dynamodb://table keeps the outcome under {execution}/{state}, and STEPOUT_EXECUTION or STEPOUT_STATE is "
            "not set: pass $$.Execution.Id and $$.State.Name, or name the key: dynamodb://table/key"
        )
    key = "/".join(filter(None, (run.execution, run.state, run.map_index)))
    if len(key.encode("utf-8", "replace")) > PARTITION_KEY_BYTES:
        raise ConfigurationError(
            f"the outcome's key would have more than {PARTITION_KEY_BYTES:,} bytes: name it shorter"
        )
    return key


# Failures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A failure as a task reported it.

    Attributes:
        error: The name that ``Retry`` and ``Catch`` match.
        cause: JSON text, as ``SendTaskFailure`` takes it; text where it is no JSON.
        execution: Whose it is, as far as it says so.
        state: Which state's, as far as it says so.
        parent_execution: The execution that started that one, as far as it says so.
    """

    error: str
    cause: str = ""
    execution: str | None = None
    state: str | None = None
    parent_execution: str | None = None

    def __str__(self) -> str:
        """The error and the first line of its message, short enough for another message."""
        try:
            value = load_json(self.cause)
        except InvalidDocumentError:
            value = self.cause
        said = value.get("message", "") if isinstance(value, dict) else value
        first = shown(str(said).partition("\n")[0], 300)
        error = shown(" ".join(self.error.split()), 256) or "no name"
        return f"{error}: {first}" if first else error


@dataclass(frozen=True, kw_only=True)
class AskedRun:
    """The run whose outcome is asked for.

    Attributes:
        execution: The ARN of its execution, or of the one that started that; ``None``: any.
        state: The name of its state; ``None``: any.
        since: When it began, in seconds since 1970: failures from before are an earlier attempt's; ``None``: not known.
    """

    execution: str | None = None
    state: str | None = None
    since: float | None = None

    def may_have(self, failure: Failure) -> bool:
        """Tell whether a failure may be this run's; what is not known, on either side, matches.

        >>> AskedRun(execution="arn:2").may_have(Failure("Demo.Error", execution="arn:1"))
        False
        """
        executions = (failure.execution, failure.parent_execution)
        pairs = ((executions, self.execution), ((failure.state,), self.state))
        return all(said[0] is None or asked is None or asked in said for said, asked in pairs)


def failure_prefix(key: str) -> str:
    """Return what the keys of all failures beside an output begin with."""
    return f"{key}."


def failure_key(key: str, *, attempt: int | None, nonce: str) -> str:
    """Return the key of a failure beside the output at ``key``.

    >>> failure_key("outputs/1.json", attempt=0, nonce="a1b2")
    'outputs/1.json.0-a1b2.failure.json'
    """
    return f"{failure_prefix(key)}{'x' if attempt is None else attempt}-{nonce}.failure.json"


def _is_failure_key(key: str, output: str) -> bool:
    return key.startswith(output) and _FAILURE.fullmatch(key[len(output) :]) is not None


def failures_beside(key: str, listed: Iterable[tuple[str, Time]], since: Time | None = None) -> list[str]:
    """Return the keys of the failures beside the output at ``key``, the newest first.

    Args:
        key: The output's.
        listed: What the bucket has under ``failure_prefix(key)``: keys, and when each was written.
        since: Failures from before that time do not count.
    """
    found = [(written, name) for name, written in listed if _is_failure_key(name, key)]
    return [name for written, name in sorted(found, reverse=True) if since is None or written >= since]


def newest_failure(texts: Iterable[str | bytes | None], run: AskedRun) -> tuple[int, Failure] | None:
    """Return the newest failure of a run, and how many newer failures lie beside the output that are not its own.

    Args:
        texts: Failure documents, the newest first (``None`` for one that is gone); no more are taken than are needed,
            and ten at most.
        run: Whose failure counts.

    Raises:
        InvalidDocumentError: No failure of the run was among them, and one of them is no failure document.
    """
    unread: InvalidDocumentError | None = None
    for position, text in enumerate(islice(texts, _FAILURES_READ)):
        try:
            failure = None if text is None else read_failure(text)
        except InvalidDocumentError as error:  # it says nothing of the others beside it
            unread = error
            continue
        if failure is not None and run.may_have(failure):
            return position, failure
    if unread is not None:
        raise unread
    return None


def children_below(key: str, names: Iterable[str]) -> int:
    """Return how many children of an array job are seen to have reported, from the keys below that of the whole array.

    Whoever asks for one output where an array job reports is told so, instead of being told that there is nothing.
    """
    return len({index for name in names if (index := child_in(name[len(key) :])) is not None})


def read_failure(text: str | bytes) -> Failure:
    """Read a failure document, ``{"error": …, "cause": …}``. It is untrusted input: bounded, and nothing but text.

    Raises:
        InvalidDocumentError: It is no such document.
    """
    return _failure(load_json(text, max_bytes=FAILURE_LIMIT))


def _failure(value: Any) -> Failure:
    error, cause = (value.get("error"), value.get("cause", "")) if isinstance(value, dict) else (None, None)
    if not isinstance(error, str) or not error.strip():
        raise invalid_document("the failure document", [Problem("$.error", "type", "must be text, and not empty")])
    text = cause if isinstance(cause, str) else dump_json(cause).decode()
    run = _run_in(cause)
    return Failure(
        error.strip()[:256],
        text[:32_768],
        execution=run.get("execution"),
        state=run.get("state"),
        parent_execution=run.get("parentExecution"),
    )


def _run_in(cause: Any) -> dict[str, str]:
    """Return what a cause says of its run: stepout's own name it in ``run``."""
    try:
        value = load_json(cause) if isinstance(cause, str) else cause
    except InvalidDocumentError:
        return {}
    run = value.get("run") if isinstance(value, dict) else None
    return {name: text for name, text in run.items() if isinstance(text, str)} if isinstance(run, dict) else {}


# Items ------------------------------------------------------------------------------------------------------------


def item_key(place: TablePlace) -> dict[str, Any]:
    """Return the key of an item, in DynamoDB's JSON, as GetItem asks for it.

    >>> from stepout.schemas.text.locations import TablePlace
    >>> item_key(TablePlace("outcomes", "7f3c"))
    {'id': {'S': '7f3c'}}
    """
    return {place.attribute: {"S": place.key}}


def success_item(place: TablePlace, document: Mapping[str, Any], *, run: RunIdentity, time: str) -> dict[str, Any]:
    """Return the item of a success, in DynamoDB's JSON.

    Args:
        place: Where it goes; with a key.
        document: The output document; kept as text, so that every reader sees the very same JSON.
        run: The producer.
        time: When it is reported, RFC 3339.

    Raises:
        OutputTooLargeError: It would not fit an item.
    """
    text = dump_json(document)
    if len(text) > _ITEM_BYTES - _ITEM_ROOM:
        sizes = f"{len(text):,} bytes; an item of DynamoDB holds {_ITEM_BYTES:,}, of which {_ITEM_ROOM:,} are kept free"
        raise OutputTooLargeError(f"the output document has {sizes}. Nothing was sent")
    item = {"document": {"S": text.decode()}, "sha256": {"S": hashlib.sha256(text).hexdigest()}}
    return {**_common(place, SUCCEEDED, run, time), **item}


def failure_item(place: TablePlace, failure: Failure, *, run: RunIdentity, time: str) -> dict[str, Any]:
    """Return the item of a failure, in DynamoDB's JSON; arguments as for ``success_item``."""
    said = {"error": {"S": failure.error}, "cause": {"S": failure.cause}}
    return {**_common(place, FAILED, run, time), **said}


def _common(place: TablePlace, status: str, run: RunIdentity, time: str) -> dict[str, Any]:
    texts = {place.attribute: place.key, "status": status, "reportedAt": time}
    texts |= {"execution": run.execution, "state": run.state, "mapIndex": run.map_index}
    item: dict[str, Any] = {name: {"S": text} for name, text in texts.items() if text is not None}
    return item if run.attempt is None else {**item, "attempt": {"N": str(run.attempt)}}


def holds_no_outcome(item: Mapping[str, Any]) -> bool:
    """Tell whether an item tells only how far a task is, which has reported nothing yet.

    >>> holds_no_outcome({"id": {"S": "7f3c"}, "progress": {"S": "{}"}}), holds_no_outcome({"id": {"S": "7f3c"}})
    (True, False)
    """
    return PROGRESS_ATTRIBUTE in item and not {"status", "document", "error"} & set(item)


def read_item(item: Mapping[str, Any]) -> Any:
    """Return what an item holds: the output document as JSON, or a ``Failure``; ``None``: only a task's progress.

    Raises:
        InvalidDocumentError: It is no item of ours, or its text is not the one that was written.
    """
    if not isinstance(item, dict):
        raise invalid_document("the item", [Problem("$", "type", "must be an object")])
    if holds_no_outcome(item):
        return None
    status, text = _text(item, "status"), _text(item, "document")
    if status == FAILED:
        failure = _failure({"error": _text(item, "error"), "cause": _text(item, "cause") or ""})
        whose = {name: _text(item, name) or getattr(failure, name) for name in ("execution", "state")}
        return replace(failure, **whose)
    if status != SUCCEEDED or text is None:
        problem = Problem("$.status", "value", f"must be {SUCCEEDED} with a document, or {FAILED} with an error")
        raise invalid_document("the item", [problem])
    digest = _text(item, "sha256")
    if digest is not None and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != digest:
        raise invalid_document("the item", [Problem("$.document", "checksum", "is not the text that was written")])
    return load_json(text)


def _text(item: Mapping[str, Any], name: str) -> str | None:
    value = item.get(name)
    text = value.get("S") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None
