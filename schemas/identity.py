"""Which run of which state made an output: the ``producer`` of a document, and the path of an artifact's key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping  # noqa: TC003 - typing.get_type_hints works on the models
from dataclasses import dataclass, field
from typing import Any, Final

from stepout.schemas import rules
from stepout.schemas.array import array_index
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.problems import Problem, member
from stepout.schemas.text.json_value import DEPTH_LIMIT, NotPlainError, copy_json, plain_copy, read_strictly

_COUNT: Final = re.compile(r"[0-9]{1,9}")

# Of a child of a Distributed Map, the label of the Map follows the state machine's name.
_EXECUTION: Final = re.compile(r"(arn:[^:]*:states:[^:]*:[^:]*):(?:execution|express):([^:/]+)(?:/[^:]*)?:.+")

MAP_INDEX: Final = re.compile(r"[0-9]{1,9}(?:-[0-9]{1,9})*")
"""The index of a Map's item, or a path of them from the outside in."""


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """One process's place in one execution of a state machine.

    Attributes:
        execution: ``$$.Execution.Id``, an ARN; ``None`` outside Step Functions.
        parent_execution: In a child of a Distributed Map, or in a nested execution: ``$$.Execution.Id`` of the
            execution that started it, an ARN. All children of one parent write into one folder.
        state: ``$$.State.Name``.
        attempt: ``$$.State.RetryCount``.
        map_index: ``$$.Map.Item.Index``, or a path of them from the outside in (``"3-0"``). The index of an array
            job's child is the innermost.
        redrive: ``$$.Execution.RedriveCount``.
        version: The version of stepout that wrote the document.
        nonce: Drawn once per process, since an attempt number does not name one process; by ``open_task`` once per task
            that keeps a record.
        run_id: A time-ordered name that stands in for ``execution`` where there is none.
        started_at: When the task began, RFC 3339, UTC, ``Z``: before it, its state waited for capacity.
        extra: Members that a later version wrote; kept and written back.
    """

    execution: str | None = None
    parent_execution: str | None = None
    state: str | None = None
    attempt: int | None = None
    map_index: str | None = None
    redrive: int | None = None
    version: str | None = None
    nonce: str | None = None
    run_id: str | None = None
    started_at: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form, the ``producer`` of an output; nothing is checked, nothing shared.

        >>> RunIdentity(state="Mask", attempt=0, map_index="3").to_dict()
        {'state': 'Mask', 'attempt': 0, 'mapIndex': '3'}
        """
        members = {name: getattr(self, attribute) for name, attribute in _ATTRIBUTES.items()}
        document = {name: plain_copy(value) for name, value in members.items() if value is not None}
        document.update((name, plain_copy(value)) for name, value in self.extra.items() if name not in _ATTRIBUTES)
        return document

    @property
    def state_machine(self) -> str | None:
        """The ARN of the state machine that the execution is of; ``None`` where ``execution`` is no such ARN.

        >>> RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:nightly/Rows:7f3c").state_machine
        'arn:aws:states:eu-west-1:123456789012:stateMachine:nightly'
        """
        found = _EXECUTION.fullmatch(self.execution or "")
        return None if found is None else f"{found[1]}:stateMachine:{found[2]}"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> RunIdentity:
        """Read what the environment says of the run.

        The variables are ``STEPOUT_EXECUTION``, ``STEPOUT_PARENT_EXECUTION``, ``STEPOUT_STATE``, ``STEPOUT_ATTEMPT``,
        ``STEPOUT_MAP_INDEX`` and ``STEPOUT_REDRIVE``.

        In a child of an array job, ``AWS_BATCH_JOB_ARRAY_INDEX`` or ``JOB_COMPLETION_INDEX`` follows the Map's index:
        all children of one item are given the same ``STEPOUT_MAP_INDEX``, so neither of both could stand alone. A
        variable that is empty counts as absent.

        Args:
            environ: ``os.environ``, or a mapping like it.

        Returns:
            What the environment says of the run.

        Raises:
            ConfigurationError: A number is invalid.

        >>> RunIdentity.from_env({"STEPOUT_STATE": "Mask", "STEPOUT_ATTEMPT": "2"}).to_dict()
        {'state': 'Mask', 'attempt': 2}
        >>> RunIdentity.from_env({"STEPOUT_MAP_INDEX": "3", "AWS_BATCH_JOB_ARRAY_INDEX": "0"}).map_index
        '3-0'
        """
        attempt = _variable(environ, "STEPOUT_ATTEMPT", _COUNT, "a whole number, 0 or more: $$.State.RetryCount")
        redrive = _variable(environ, "STEPOUT_REDRIVE", _COUNT, "a whole number, 0 or more: $$.Execution.RedriveCount")
        item = _variable(environ, "STEPOUT_MAP_INDEX", MAP_INDEX, "$$.Map.Item.Index, or a path of them such as '3-0'")
        return cls(
            execution=environ.get("STEPOUT_EXECUTION") or None,
            parent_execution=environ.get("STEPOUT_PARENT_EXECUTION") or None,
            state=environ.get("STEPOUT_STATE") or None,
            attempt=None if attempt is None else int(attempt),
            map_index="-".join(filter(None, (item, array_index(environ)))) or None,
            redrive=None if redrive is None else int(redrive),
        )

    @classmethod
    def from_dict(cls, document: object) -> RunIdentity:
        """Parse the wire form strictly and copy it.

        Args:
            document: Parsed JSON: a ``dict``.

        Returns:
            The identity, unknown members in ``extra``.

        Raises:
            InvalidDocumentError: With every problem found.
        """
        return read_strictly(document, "the producer", read_producer, producer_problems)


def run_told_by(environ: Mapping[str, str]) -> RunIdentity:
    """Return what an environment says of the run, for the report of a failure: what is invalid is left out.

    A variable that is invalid may be the very mistake that is reported.

    >>> run_told_by({"STEPOUT_STATE": "Mask", "STEPOUT_ATTEMPT": "two"}).to_dict()
    {'state': 'Mask'}
    """
    try:
        return RunIdentity.from_env(environ)
    except ConfigurationError:
        return RunIdentity(
            execution=environ.get("STEPOUT_EXECUTION") or None, state=environ.get("STEPOUT_STATE") or None
        )


def _variable(environ: Mapping[str, str], name: str, form: re.Pattern[str], expected: str) -> str | None:
    text = environ.get(name, "").strip()
    if text and not form.fullmatch(text):
        raise ConfigurationError(f"{name} is something else than {expected}")
    return text or None


_ATTRIBUTES: Final = {
    "execution": "execution",
    "parentExecution": "parent_execution",
    "state": "state",
    "attempt": "attempt",
    "mapIndex": "map_index",
    "redrive": "redrive",
    "version": "version",
    "nonce": "nonce",
    "runId": "run_id",
    "startedAt": "started_at",
}
_INTEGERS: Final = ("attempt", "redrive")


def read_producer(document: Any, room: int = DEPTH_LIMIT) -> RunIdentity:
    """Parse a producer fast, giving up without a reason at whatever is out of the ordinary.

    Args:
        document: Any value.
        room: How many levels of objects and arrays it may have.

    Returns:
        The identity.

    Raises:
        NotPlainError: It is no producer, or holds something other than the plain types.
    """
    members = copy_json(document, room)
    if next(producer_problems(members), None):
        raise NotPlainError
    found = {attribute: members.pop(name) for name, attribute in _ATTRIBUTES.items() if name in members}
    found.update((name, rules.whole(found[name])) for name in _INTEGERS if name in found)
    return RunIdentity(extra=members, **found)


def producer_problems(document: object, location: str = "$") -> Iterator[Problem]:
    """Yield everything that keeps a JSON value from being a producer.

    Args:
        document: JSON, as ``json_problems`` knows it.
        location: What to call the document itself.

    Yields:
        Problems of the same kinds and at the same locations as ``stepout.schemas.validate`` has them.
    """
    if not isinstance(document, dict):
        yield rules.wrong_type(location, "object", document)
        return
    for name, rule in rules.PRODUCER_TEXTS.items():
        if name in document:
            yield from rule.problems(document[name], member(location, name))
    for name in _INTEGERS:
        if name in document:
            yield from rules.integer_problems(document[name], member(location, name))
