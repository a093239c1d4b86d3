"""A Lambda for state machines in pull mode: it returns a task's output, or raises the task's failure by its name.

``stepout.callbacks.named_failure.handler``. Its event::

    {"url": "s3://bucket/key", "execution": "…", "state": "…", "caught": {"Error": "…", "Cause": "…"}, "raise": true}

``url`` is the URL that the task got as its output's place; ``execution`` and ``state`` are those that the task got.
Both are checked if given: another run's output is an error, and another run's failure does not count. ``caught`` is the
error that a ``Catch`` of the task's state passed on, if there was one. It may also be a member of ``input``, so that a
state can pass its whole input whether or not there was a ``Catch``.

- A success is returned: the output document, as a state with a task token would get it.
- A failure is raised as an exception whose class has the failure's name, so that ``Retry`` and ``Catch`` match it:
  Lambda reports the class's name as ``errorType`` (``handle_event_request`` of AWS's Python runtime interface client),
  and Step Functions takes that as the error. The cause is its message.
- If the task reported nothing, ``caught`` decides by what it says about the task's end, as in ``ecs_watch``:
  ``Stepout.OutOfMemory``, ``Stepout.ContainerDied``, ``Stepout.TaskFailedToStart``, …; ``Stepout.NothingReported``
  if ``caught`` says nothing.

For an array job, ``url`` is the URL that the whole job got, and ``"count"`` is the number of its children. If all
children succeeded, ``{"url": …, "count": …}`` is returned, with ``execution`` and ``state`` if given: a consumer passes
these to ``stepout.resolve_all``. Otherwise the failure of the first child that reported a failure is raised by its
name, or ``Stepout.NothingReported`` if no child reported one. The cause's ``array`` has the indices of all children
that failed and of all that are missing.

With ``"raise": false`` failures are returned, ``{"failure": {"error": …, "cause": …}}``, for a ``Choice`` and a
``Fail`` state with ``ErrorPath``. Errors of the reading itself are always raised, under this library's error names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from stepout.callbacks.delivery.failure import clean, fit_cause
from stepout.callbacks.stopped_task import cause_document, judge, task_from_detail
from stepout.callbacks.targets.pull_reading import read_array_at, read_at
from stepout.schemas import Problem, TaskOutput, invalid_document, rules
from stepout.schemas.array import checked_count, index_ranges
from stepout.schemas.errors import InvalidDocumentError, StepoutError
from stepout.schemas.pull import AskedRun, Failure
from stepout.schemas.runtime.s3_profile import payer_of, profile_words_from
from stepout.schemas.text.json_text import load_json

__all__ = ["NOTHING_REPORTED", "handler", "named"]

NOTHING_REPORTED: Final = "Stepout.NothingReported"
"""The error's name for a task that ended and reported nothing, if no more is known."""

_WORDS: Final = ("Error", "StatusReason", "ErrorMessage", "cause")
_MOST_TEXT: Final = 1_000
_DEEPEST: Final = 20

_MILLISECONDS: Final = 10**12  # as a time, 2001; in seconds, 33,658 years from now


def handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Return the output document at ``event["url"]``, or raise the task's failure by its name.

    Args:
        event: See the module.
        context: Not used.

    Raises:
        Exception: The task's failure; the exception's class has the failure's name.
        ConfigurationError: The URL is not that of an outcome.
        InvalidDocumentError: The event is invalid, the object at the URL is not an outcome, or it is another run's.
        TaskError: The outcome could not be read.
    """
    try:
        outcome = _outcome(event)
    except StepoutError as error:
        raise named(Failure(error.error_name, str(error))) from None
    if not isinstance(outcome, Failure):
        return outcome
    if event.get("raise") is False:
        return {"failure": {"error": outcome.error, "cause": outcome.cause}}
    raise named(outcome)


def named(failure: Failure) -> Exception:
    """Return an exception whose class has the failure's name and whose message is the failure's cause.

    >>> type(named(Failure("Demo.NothingToSee", "too dark"))).__name__
    'Demo.NothingToSee'
    """
    name = clean(failure.error).replace("\0", "")
    kind = type(name, (Exception,), {"__module__": "stepout", "__doc__": "A task's failure."})
    error: Exception = kind(clean(failure.cause))
    return error


def _outcome(event: Mapping[str, Any]) -> dict[str, Any] | Failure:
    if problems := list(_event_problems(event)):
        raise invalid_document("the event", problems)
    url = event["url"]
    caught = _caught(event)
    reached: dict[str, Any] = {"profile": profile_words_from(os.environ), "request_payer": payer_of(os.environ)}
    run = AskedRun(**_asked(event), since=_began(caught))
    if event.get("count") is not None:
        count = checked_count(event["count"])
        return _of_array(url, read_array_at(url, count, run, **reached), event, caught)
    found = read_at(url, run, **reached)
    if found is None:
        return _silence(url, caught)
    if isinstance(found, Failure):
        return found
    _check(TaskOutput.from_dict(found), event)
    document: dict[str, Any] = found
    return document


def _event_problems(event: object) -> Iterator[Problem]:
    if not isinstance(event, Mapping):
        yield rules.wrong_type("$", "object", event)
        return
    if not isinstance(event.get("url"), str):
        yield Problem("$.url", "missing", "must be the URL that the task was given")
    for name in ("execution", "state"):
        if not isinstance(event.get(name), str | None):
            yield rules.wrong_type(f"$.{name}", "string", event[name])


def _of_array(
    url: str, outcomes: Sequence[Any], event: Mapping[str, Any], caught: Mapping[str, Any]
) -> dict[str, Any] | Failure:
    judged = [_judged(each, event) for each in outcomes]
    failed = {index: each for index, each in enumerate(judged) if isinstance(each, Failure)}
    missing = [index for index, each in enumerate(judged) if each is None]
    if not failed and not missing:
        return {"url": url, "count": len(outcomes), **_asked(event)}
    first = next(iter(failed.values()), None) or _silence(url, caught)
    array = {"count": len(outcomes), "failed": index_ranges(failed), "missing": index_ranges(missing)}
    told = [f"{name}: {array[name]}" for name in ("failed", "missing") if array[name]]
    message = f"of the array job's {len(outcomes):,} children {'; '.join(told)}. {first}"
    return Failure(first.error, fit_cause({**_members(first.cause), "message": message, "array": array}))


def _judged(outcome: Any, event: Mapping[str, Any]) -> Any:
    """Return one child's outcome; a failure if the outcome is not an output of the requested run."""
    if outcome is not None and not isinstance(outcome, Failure):
        try:
            _check(TaskOutput.from_dict(outcome), event)
        except InvalidDocumentError as error:
            return Failure(error.error_name, str(error))
    return outcome


def _members(cause: str) -> dict[str, Any]:
    """Return the members of a cause that is a JSON object, with an empty traceback if the cause has none."""
    try:
        opened = load_json(cause)
    except InvalidDocumentError:
        opened = None
    return {"traceback": "", **(opened if isinstance(opened, dict) else {})}


def _asked(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in ("execution", "state") if event.get(name) is not None}


def _check(output: TaskOutput, event: Mapping[str, Any]) -> None:
    own = output.producer.to_dict() if output.producer is not None else {}
    wrong = [name for name, value in _asked(event).items() if own.get(name) != value]
    if wrong:
        problems = [Problem(f"$.producer.{name}", "value", "is not the one that was asked for") for name in wrong]
        raise invalid_document("the task output", problems, "It is another run's, perhaps an earlier one's.")


def _caught(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the service's description of the task's end: the ``Cause`` of a failed ``.sync`` state, parsed."""
    given = event.get("input")
    caught = event.get("caught") or (given.get("caught") if isinstance(given, Mapping) else None)
    if not isinstance(caught, Mapping):
        return {}
    cause = caught.get("Cause")
    try:
        opened = json.loads(cause) if isinstance(cause, str) else cause
    except (ValueError, RecursionError):
        opened = None
    # A cause that was cut short is not valid JSON. It is not passed on as text: it lists the task's overrides.
    said = {} if isinstance(cause, str) and cause.lstrip()[:1] in ("{", "[") else {"cause": cause}
    known = opened if isinstance(opened, dict) else said
    return {"Error": caught.get("Error"), **known}


def _began(caught: Mapping[str, Any]) -> float | None:
    """Return when the task was created, in seconds since 1970: an older failure belongs to an earlier attempt.

    ECS and Batch say ``CreatedAt``, Glue ``StartedOn``, in milliseconds.
    """
    for name in ("CreatedAt", "StartedOn"):
        value = caught.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > _MILLISECONDS:
            return float(value) / 1_000
    return None


def _silence(url: str, caught: Mapping[str, Any]) -> Failure:
    """Return the failure of a task that ended without a report, from ECS's description if it ran there."""
    detail = _lower_camel(caught)
    if isinstance(detail.get("taskArn"), str) and detail["taskArn"]:
        task = task_from_detail(detail)
        name = next((each for each, variables in task.overrides.items() if "STEPOUT_OUTPUT" in variables), None)
        end = task.end_of(name)
        verdict = judge(task, end)
        document = {"traceback": "", **cause_document(task, end.name if end else name, verdict)}
        return Failure(verdict.error, fit_cause(document))
    told = {name: clean(said[:_MOST_TEXT]) for name in _WORDS if isinstance(said := caught.get(name), str) and said}
    message = f"the task ended and reported nothing at {url}: {'; '.join(told.values()) or 'no reason is known'}"
    return Failure(NOTHING_REPORTED, fit_cause({"message": message, "traceback": "", **told}))


def _lower_camel(value: Any, room: int = _DEEPEST) -> Any:
    """Return ECS's members with a small first letter, as in events; Step Functions writes them with a capital.

    Values nested deeper than ``room`` levels are left out: no member of ECS lies so deep.
    """
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lower_camel(member, room - 1) for name, member in value.items() if room}
    return [_lower_camel(each, room - 1) for each in value if room] if isinstance(value, list) else value
