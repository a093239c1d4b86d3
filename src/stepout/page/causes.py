"""The cause of a failure, for people: what happened in a sentence, and what is worth unfolding. Pure.

A cause may be stepout's JSON, Lambda's, the description of an ECS, Batch or Glue task, or any text. Descriptions list
what the task was given, its token included, so nothing of that is shown; and secrets are taken out of all texts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from stepout.artifacts.reading.documents.foreign import load_foreign
from stepout.callbacks.delivery.redaction import Redactor
from stepout.page.task_tokens import without_token_shapes
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.search.described_task import described_failure, input_members
from stepout.schemas.text.foreign_text import shown

_MOST_CAUSE: Final = 2_000
_MOST_DETAILS: Final = 16_000
_UNFOLDED: Final = ("traceback", "stderr", "stdout")
_DEEPEST: Final = 20
_REDACTOR: Final = Redactor()


@dataclass(frozen=True, kw_only=True)
class ToldCause:
    """A cause, for people.

    Attributes:
        cause: What happened.
        details: More of it, such as a traceback; may be empty.
        value: The cause as JSON; ``None`` if it is none. It may hold a token, and is never shown.
    """

    cause: str = ""
    details: str = ""
    value: Any = None


def told_cause(text: object) -> ToldCause:
    """Return what a cause says.

    Args:
        text: As a history has it; anything but text says nothing.

    Returns:
        The cause, in which what people should not see is missing.

    >>> told_cause('{"message": "too dark", "traceback": "line 3", "run": {}}').cause
    'too dark'
    """
    if not isinstance(text, str) or not text.strip():
        return ToldCause()
    if text.lstrip()[:1] not in {"{", "["}:
        return ToldCause(cause=plain(text))
    try:
        value = load_foreign(text)
    except InvalidDocumentError:
        # What was cut short may be the description of a task, and list what that was given.
        return ToldCause(cause="the cause is JSON that was cut short, so that nothing of it can be shown")
    cause, details = _of_json(value)
    return ToldCause(cause=plain(cause), details=plain(details, _MOST_DETAILS), value=value)


def plain(text: str, longest: int = _MOST_CAUSE) -> str:
    """Return text that others wrote without secrets, and with what acts on a terminal or a reader's eye escaped."""
    return shown(_REDACTOR.text(without_token_shapes(text[: 2 * longest])), longest, lines=True)


def _of_json(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        return _dumped(value)
    if isinstance(message := value.get("message"), str):
        unfolded = [(name, value[name]) for name in _UNFOLDED if isinstance(value.get(name), str) and value[name]]
        alone = len(unfolded) == 1
        return message, "\n\n".join(told if alone else f"{name}:\n{told}" for name, told in unfolded)
    if isinstance(message := value.get("errorMessage"), str):
        trace = value.get("stackTrace", value.get("trace"))
        lines = trace if isinstance(trace, list) else []
        return message, "\n".join(line.rstrip("\n") for line in lines if isinstance(line, str))
    reason = described_failure(value)
    if reason is not None:
        return _of_task(value, reason), ""
    return _dumped(value)


def _of_task(value: dict[str, Any], reason: str) -> str:
    """Say how a task ended that the cause describes: the service's reason, and how each of its containers ended."""
    told = [reason] if reason else []
    containers = value.get("Containers", value.get("containers"))
    for each in containers if isinstance(containers, list) else ():
        if isinstance(each, dict):
            code, why = each.get("ExitCode", each.get("exitCode")), each.get("Reason", each.get("reason"))
            ended = [f"exit code {code}"] if isinstance(code, int) else []
            ended += [why] if isinstance(why, str) and why else []
            name = each.get("Name", each.get("name"))
            told += [f"container {name if isinstance(name, str) else '?'}: {', '.join(ended)}"] if ended else []
    return "; ".join(told) or "the task failed, and its service does not say why"


def _dumped(value: Any) -> tuple[str, str]:
    text = json.dumps(_without_inputs(value), ensure_ascii=False, indent=1)
    return ("what failed told it as JSON", text) if len(text) > _MOST_CAUSE else (text, "")


def _without_inputs(value: Any, room: int = _DEEPEST) -> Any:
    if isinstance(value, dict):
        hidden = input_members(value)
        return {name: _without_inputs(each, room - 1) for name, each in value.items() if room and name not in hidden}
    return [_without_inputs(each, room - 1) for each in value if room] if isinstance(value, list) else value
