"""A job as it comes through a queue or an activity: the message is the environment. Pure.

A message is a JSON object. Its ``STEPOUT_*`` members, those of ``JOB_VARIABLES`` and no others, become variables of the
process that does the job, so a sender can set neither ``PATH`` nor ``STEPOUT_TARGETS``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepout.callbacks.environment import parse_input
from stepout.callbacks.targets.sfn import check_token
from stepout.schemas import Problem, RunIdentity, invalid_document, load_json
from stepout.schemas.array import INDEX_VARIABLES
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.identity import run_told_by

_INPUT = "STEPOUT_INPUT"
_HEARTBEAT = "STEPOUT_HEARTBEAT_SECONDS"
_OF_THE_MAP = ("STEPOUT_MAX_CONCURRENCY", "STEPOUT_FAN_IN")

JOB_VARIABLES = (
    "STEPOUT_TASK_TOKEN",
    "STEPOUT_EXECUTION",
    "STEPOUT_PARENT_EXECUTION",
    "STEPOUT_STATE",
    "STEPOUT_ATTEMPT",
    "STEPOUT_MAP_INDEX",
    "STEPOUT_REDRIVE",
    _HEARTBEAT,
    *_OF_THE_MAP,
    _INPUT,
    "STEPOUT_OUTPUT",
)
"""What a message may set in the environment of its job."""

_TOKENS = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN", "taskToken", "TaskToken")
_PULLED = re.compile(r"\s*((s3|dynamodb)://\S+)?\s*")
"""The output URLs that a message may name. Any other URL would let a sender make the worker write anywhere."""

_OTHERS = tuple(name for name in JOB_VARIABLES if name not in ("STEPOUT_TASK_TOKEN", _INPUT))

_MOST_BYTES = 131_071
"""Of one variable with its name, where Linux runs the job (``MAX_ARG_STRLEN``, less the closing zero)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a message asks for.

    Attributes:
        token: The task token.
        variables: The job's own variables, the token among them.
        problems: Why the job cannot be run. Its token is valid, so the worker can report the failure.
        ignored: Members that are neither variables that a message may set nor part of the input.
    """

    token: str = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def run(self) -> RunIdentity:
        """The identity of the run, as far as the message gives it."""
        return run_told_by(self.variables)

    def environment(self, worker: Mapping[str, str], *, stop_timeout: float | None = None) -> dict[str, str]:
        """Return the whole environment of the job's process.

        Args:
            worker: The worker's own. What it says of a job of its own is left out, an array job's index included; its
                ``STEPOUT_HEARTBEAT_SECONDS``, ``_MAX_CONCURRENCY`` and ``_FAN_IN`` hold for messages that have none.
            stop_timeout: Seconds from SIGTERM to SIGKILL that the process has, instead of what the worker has.
        """
        of_a_job = {*JOB_VARIABLES, "TASK_TOKEN", *INDEX_VARIABLES} - {_HEARTBEAT, *_OF_THE_MAP}
        own = {name: value for name, value in worker.items() if name not in of_a_job}
        grace = {} if stop_timeout is None else {"STEPOUT_STOP_TIMEOUT": f"{stop_timeout:g}"}
        return {**own, **self.variables, **grace}


def read_job(text: Any, token: str | None = None) -> Job:
    """Read a message.

    Args:
        text: JSON: the body of a queue's message, or the input of an activity; anything but text is refused.
        token: The task token, where it does not come in the message.

    Returns:
        The job. ``STEPOUT_INPUT`` may be any JSON and is kept as JSON text; where it is missing, the members that are
        no variables are the input. A text that is itself a JSON object, array or string, as ``States.JsonToString``
        makes it, is taken as that JSON; one that is the URL of a document, as that document.

    Raises:
        InvalidDocumentError: The text is not a JSON object, or has no task token; nothing can be reported. (A message
            that breaks only our own rules of JSON, e.g. an integer beyond 2**53, is a job with problems.)
        InvalidTokenError: The token is empty, too long or damaged.

    Example:
        >>> job = read_job('{"STEPOUT_TASK_TOKEN": "AAAA", "STEPOUT_STATE": "Mask", "PATH": "/tmp", "rows": 3}')
        >>> {name: value for name, value in job.variables.items() if name != "STEPOUT_TASK_TOKEN"}
        {'STEPOUT_STATE': 'Mask', 'STEPOUT_INPUT': '{"PATH":"/tmp","rows":3}'}
    """
    if token is not None:
        return _given(text, check_token(token))
    try:
        members = load_json(text)
    except InvalidDocumentError as error:
        return _broken(_token_of(_leniently(text)), error)
    if not isinstance(members, Mapping):
        raise _refused([Problem("$", "type", f"must be an object, not {_kind(members)}")])
    found = _token_of(members)
    if found is None:
        raise _refused([Problem("$.STEPOUT_TASK_TOKEN", "missing", "must be the task token ($$.Task.Token)")])
    return _job(members, check_token(found))


def _token_of(members: Any) -> str | None:
    named = (members.get(name) for name in _TOKENS) if isinstance(members, Mapping) else ()
    found = next((value for value in named if value is not None), None)
    return found if isinstance(found, str) else None


def _leniently(text: str) -> Any:
    try:
        return json.loads(text, parse_int=str)  # Of an integer of any length.
    except (ValueError, TypeError, RecursionError):
        return None


def _broken(token: str | None, error: InvalidDocumentError) -> Job:
    if token is None:
        raise error
    token = check_token(token)
    return Job(token=token, variables={"STEPOUT_TASK_TOKEN": token}, problems=error.problems)


def _given(text: str, token: str) -> Job:
    try:
        value = load_json(text)
    except InvalidDocumentError as error:
        return _broken(token, error)
    return _job(value if isinstance(value, Mapping) else {_INPUT: value}, token)


def _refused(problems: list[Problem]) -> InvalidDocumentError:
    return invalid_document("the message", problems, "Nobody can be told, as there is no task token.")


def _job(members: Mapping[str, Any], token: str) -> Job:
    variables, problems = {"STEPOUT_TASK_TOKEN": token}, []
    for name in _OTHERS:
        value = members.get(name)
        if value is None:
            continue
        text = _scalar(value)
        if text is None:
            problems.append(Problem(f"$.{name}", "type", f"must be a text or a number, not {_kind(value)}"))
        else:
            variables[name] = text
    variables.update(_input_of(members))
    problems += _misfits(variables)
    return Job(token=token, variables=variables, problems=tuple(problems), ignored=_ignored(members))


def _ignored(members: Mapping[str, Any]) -> tuple[str, ...]:
    unknown = [name for name in members if name not in JOB_VARIABLES and name not in _TOKENS]
    return tuple(name for name in unknown if _INPUT in members or name.startswith("STEPOUT_"))


def _input_of(members: Mapping[str, Any]) -> dict[str, str]:
    if _INPUT in members:
        value = members[_INPUT]
        return {_INPUT: value if isinstance(value, str) and _is_input_already(value) else _dump(value)}
    others = {name: value for name, value in members.items() if name not in _TOKENS and not name.startswith("STEPOUT_")}
    return {_INPUT: _dump(others)} if others else {}


def _is_input_already(text: str) -> bool:
    """Whether a text is already an input: a JSON object, array or string, or a document's URL."""
    try:
        return isinstance(parse_input(text), (dict, list, str))
    except ConfigurationError:
        return False


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _scalar(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def _misfits(variables: Mapping[str, str]) -> list[Problem]:
    """Return the variables that no process could start with, or that its task would refuse."""
    problems = []
    for name, value in variables.items():
        size = len(f"{name}={value}".encode("utf-8", "replace"))
        if "\0" in value:
            problems.append(Problem(f"$.{name}", "value", "holds a zero character, which no variable can"))
        if size > _MOST_BYTES:
            why = f"takes {size:,} bytes, and a variable holds {_MOST_BYTES:,}: pass a pointer to it instead"
            problems.append(Problem(f"$.{name}", "size", why))
    if not _PULLED.fullmatch(variables.get("STEPOUT_OUTPUT", "")):
        problems.append(Problem("$.STEPOUT_OUTPUT", "value", "must be one s3:// or dynamodb:// URL, and nothing else"))
    try:
        RunIdentity.from_env(variables)
    except ConfigurationError as error:
        problems.append(Problem("$", "value", str(error)))
    return problems


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
