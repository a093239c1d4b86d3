"""Turns an exception into the ``error`` and ``cause`` that Step Functions takes. Pure.

Step Functions bounds ``error`` by 256 characters and ``cause`` by 32,768 (API reference of SendTaskFailure), and
botocore checks neither. Names that begin with ``States.`` are reserved.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from stepout.callbacks.delivery.exception_groups import leaves_of, speaker_of
from stepout.schemas.text.foreign_text import shown_json

if TYPE_CHECKING:
    from stepout.callbacks.delivery.redaction import Redactor

_T = TypeVar("_T")

MAX_ERROR = 256
MAX_CAUSE = 32_768
CAUSE_BUDGET = 4_096
_SHOWN = 5


def error_of(exception: BaseException) -> str:
    """Return the name that ``Retry`` and ``Catch`` match.

    Args:
        exception: What left the block.

    Returns:
        Its ``error_name`` (inherited, too) or its class's qualified name without module; at most 256 characters, never
        one of the reserved ``States.*``. For an exception group, the name on which all its members agree.

    Examples:
        >>> error_of(KeyError("id")), error_of(ExceptionGroup("", [KeyError("id"), KeyError("name")]))
        ('KeyError', 'KeyError')
        >>> error_of(ExceptionGroup("", [KeyError("id"), OSError()]))
        'ExceptionGroup'
    """
    return _name_of(told_of(exception))


def told_of(exception: BaseException) -> BaseException:
    """Return the exception to report: itself, or the first of a group whose members agree on their name."""
    return speaker_of(exception, _name_of)


def _name_of(exception: BaseException) -> str:
    kind = type(exception)
    named = _quietly(lambda: getattr(exception, "error_name", None), None)
    name = named if isinstance(named, str) and named.strip() else kind.__qualname__.rpartition("<locals>.")[2]
    name = " ".join(clean(name).split())
    if name.casefold().startswith("states."):
        name = f"Job.{name}"
    return name[:MAX_ERROR]


def cause_of(
    exception: BaseException, *, run: Mapping[str, Any], redactor: Redactor, budget: int = CAUSE_BUDGET
) -> str:
    """Return JSON text that says what happened: ``message``, ``traceback`` and ``run``.

    Args:
        exception: What left the block.
        run: The run identity, as a document.
        redactor: Takes secrets out before any text is shortened: half a secret could not be recognised.
        budget: Bytes of UTF-8, at most 32,768.

    Returns:
        Valid JSON of at most ``budget`` bytes. If an exception has ``cause_members`` (a mapping), the cause holds these
        members instead of a traceback. For a group whose members agree, the message is the first member's,
        ``retryable`` is set if every member sets it, and the traceback shows every member.
    """
    told = told_of(exception)
    own = _quietly(lambda: getattr(told, "cause_members", None), None)
    members = own if isinstance(own, Mapping) else {"traceback": _traceback(exception)}
    document: dict[str, Any] = {"message": _message(told), "run": dict(run), **members}
    if (retryable := _retryable(exception)) is not None:
        document["retryable"] = retryable
    return fit_cause(redactor.json(_clean_json(document)), budget)


def fit_cause(document: Mapping[str, Any], budget: int = CAUSE_BUDGET) -> str:
    """Return the document as JSON text, its long texts shortened until it fits, the message last.

    Args:
        document: Has ``message``, and perhaps ``stdout``, ``stderr`` and ``traceback``, all text.
        budget: Bytes of UTF-8; more than 32,768 counts as 32,768.

    Returns:
        Valid JSON. The message keeps its beginning; the other texts keep their end, which shows where it happened.
    """
    budget = min(budget, MAX_CAUSE)
    long = [(name, cut) for name, cut in _LONG if isinstance(document.get(name), str)]
    shortened = dict(document)
    if _size({**shortened, **{name: "" for name, _ in long}}) > budget:
        shortened = {name: text for name, text in shortened.items() if name in dict(long)}
    for member, cut in long:
        if _size(shortened) <= budget:
            break
        shortened[member] = _longest(shortened, member, cut, budget)
    return _dump(shortened)


def _longest(document: Mapping[str, Any], member: str, cut: Callable[[str, int], str], budget: int) -> str:
    """The longest cut of a member with which the document fits, or nothing."""
    whole = str(document[member])
    low, high = 0, len(whole)
    while low < high:
        middle = (low + high + 1) // 2
        if _size({**document, member: cut(whole, middle)}) <= budget:
            low = middle
        else:
            high = middle - 1
    return cut(whole, low)


def _keep_end(text: str, length: int) -> str:
    return text if length >= len(text) else f"[cut] {text[len(text) - length :]}" if length else ""


def _keep_start(text: str, length: int) -> str:
    return text if length >= len(text) else f"{text[:length]} [cut]" if length else ""


_LONG = (("stdout", _keep_end), ("traceback", _keep_end), ("stderr", _keep_end), ("message", _keep_start))


def _dump(document: Mapping[str, Any]) -> str:
    return shown_json(json.dumps(document, ensure_ascii=False, allow_nan=False, default=str))


def _size(document: Mapping[str, Any]) -> int:
    return len(_dump(document).encode())


def at_most(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` bytes of UTF-8; lone surrogates, which UTF-8 cannot hold, become ``?``."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def clean(text: str) -> str:
    """Return ``text`` with ``?`` for each lone surrogate, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): _clean_json(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean_json(member) for member in value]
    return value


def _message(exception: BaseException) -> str:
    if isinstance(exception, SystemExit):
        return f"the job exited with code {exception.code}"
    if _is_group(exception):
        return _message_of_group(exception)
    return _quietly(lambda: str(exception), f"a {type(exception).__name__} whose message cannot be printed")


def _message_of_group(exception: BaseException) -> str:
    """List the members' own messages: a group's message gives only their number."""
    leaves = leaves_of(exception)
    shown = "; ".join(f"{_name_of(each)}: {_message(each)}" for each in leaves[:_SHOWN])
    more = f"; and {len(leaves) - _SHOWN:,} more" if len(leaves) > _SHOWN else ""
    return f"{_quietly(lambda: str(exception), 'a group')}: {shown}{more}"


def _retryable(exception: BaseException) -> bool | None:
    """The exception's own ``retryable``; for a group, true only if every member says that trying again may help."""
    asked = leaves_of(exception) if _is_group(exception) else [exception]
    said = _quietly(lambda: [getattr(each, "retryable", None) for each in asked], [None])
    return all(said) if all(isinstance(each, bool) for each in said) else None


def _is_group(exception: BaseException) -> bool:
    return type(exception) in (ExceptionGroup, BaseExceptionGroup)  # not a class of the job's, which speaks for itself


def _traceback(exception: BaseException) -> str:
    return _quietly(lambda: "".join(traceback.format_exception(exception)).rstrip(), "")


def _quietly(read: Callable[[], _T], otherwise: _T) -> _T:
    """Call ``read``; the exception is the job's own, so its ``__str__`` and its attributes may fail, too."""
    try:
        return read()
    except BaseException:  # noqa: BLE001 - whatever a job's exception does, the failure must be reported
        return otherwise
