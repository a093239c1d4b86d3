"""The doctor's look at Retry and Catch: names that match nothing, or too much, or too late (SO2)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, items, members, number, shown
from stepout.doctor.rules import find
from stepout.doctor.states import read_reference
from stepout.doctor.waiting import reporter_of
from stepout.schemas import errors
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.doctor.findings import Finding, Severity
    from stepout.doctor.states import State

OTHER_NAMES = (
    "Stepout.ContainerDied",
    "Stepout.NothingReported",
    "Stepout.OutOfMemory",
    "Stepout.TaskFailedToStart",
)
"""What is reported of containers that ended without a word: names for which ``schemas/errors.py`` has no class."""

PERMANENT_NAMES = tuple(
    kind.error_name
    for kind in (
        errors.PermanentError,
        errors.ConfigurationError,
        errors.InvalidDocumentError,
        errors.NotAllowedError,
        errors.AccessDeniedError,
        errors.ArtifactExistsError,
        errors.ArtifactExpiredError,
        errors.ArtifactTooLargeError,
        errors.InvalidTokenError,
        errors.OutputTooLargeError,
        errors.TaskClosedError,
        errors.UndecodableError,
    )
)
RETRYABLE_NAMES = tuple(
    kind.error_name for kind in (errors.RetryableError, errors.StoreUnavailableError, errors.TaskInterrupted)
)

_ALL, _FAILED, _TIMEOUT, _HEARTBEAT = "States.ALL", "States.TaskFailed", "States.Timeout", "States.HeartbeatTimeout"
_STATES = frozenset(
    {
        _ALL,
        _FAILED,
        _TIMEOUT,
        _HEARTBEAT,
        "States.BranchFailed",
        "States.DataLimitExceeded",
        "States.ExceedToleratedFailureThreshold",
        "States.Http.Socket",
        "States.IntrinsicFailure",
        "States.ItemReaderFailed",
        "States.NoChoiceMatched",
        "States.ParameterPathFailure",
        "States.Permissions",
        "States.QueryEvaluationError",
        "States.ResultPathMatchFailure",
        "States.ResultWriterFailed",
        "States.Runtime",
    }
)
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_OPEN_FAMILY = "States.Http."  # HTTP tasks name the status in it
_NEVER_AGAIN = {"ErrorEquals": [errors.PermanentError.error_name], "MaxAttempts": 0}
_AGAIN = {"ErrorEquals": list(RETRYABLE_NAMES), "IntervalSeconds": 30, "BackoffRate": 2, "MaxAttempts": 3}


def known_names() -> dict[str, str]:
    """Return every error name of stepout by the name of its class; names without a class by themselves."""
    kinds = {name: getattr(errors, name) for name in errors.__all__} | {"ManyFailedError": ManyFailedError}
    return {name: kind.error_name for name, kind in kinds.items()} | {name: name for name in OTHER_NAMES}


@dataclass(frozen=True)
class Raised:
    """What the Fail states of a state machine raise.

    Attributes:
        names: Names that are written there, wherever that is.
        elsewhere: The paths of those that take the name from somewhere else.
    """

    names: frozenset[str] = frozenset()
    elsewhere: tuple[str, ...] = ()

    def unknown_within(self, state: State) -> bool:
        """Whether a Fail state within a state may raise any name."""
        return any(where.startswith(f"{state.where}.") for where in self.elsewhere)


def raised_names(states: Sequence[State]) -> Raised:
    """Return the names that a state machine's own Fail states raise: a Map or Parallel state around them catches these.

    Args:
        states: All its states.
    """
    names, elsewhere = set(), []
    for state in states:
        if state.body.get("Type") != "Fail":
            continue
        found = read_reference("Error", state.body.get("Error"), jsonata=state.jsonata)
        if not found.dynamic and isinstance(found.value, str):
            names.add(found.value)
        elif found.dynamic:
            names.update(first or second for first, second in _QUOTED.findall(found.value))
        if found.dynamic or "ErrorPath" in state.body:
            elsewhere.append(state.where)
    return Raised(frozenset(names), tuple(elsewhere))


def retry_findings(state: State, raised: Raised) -> Iterator[Finding]:
    """Look at a state's Retry and Catch.

    Args:
        state: Any state.
        raised: What the state machine's Fail states raise.
    """
    for kind in ("Retry", "Catch"):
        entries = [members(entry) for entry in items(state.body.get(kind))]
        yield from _shape(state, kind, entries)
        for index, entry in enumerate(entries):
            yield from _names(state, at(state.where, kind, index, "ErrorEquals"), entry, raised)
        yield from _timeouts(state, kind, entries)
    yield from _retries(state)
    for index, entry in enumerate(items(state.body.get("Catch"))):
        if not state.jsonata and isinstance(entry, dict) and "ResultPath" not in entry:
            yield find("SO211", at(state.where, "Catch", index), "no ResultPath")


def _by_token(state: State) -> bool:
    """Whether errors come by token alone; a Lambda function's own exceptions are named by their classes."""
    return state.waits and not state.integration.startswith("lambda:")


def _listed(entry: dict[str, Any]) -> list[str]:
    return [name for name in items(entry.get("ErrorEquals")) if isinstance(name, str)]


def _shape(state: State, kind: str, entries: list[dict[str, Any]]) -> Iterator[Finding]:
    """What the order and the make-up of the list do."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        names, where = _listed(entry), at(state.where, kind, index)
        if not names:
            yield find("SO213", where, "ErrorEquals is missing or empty")
        if _ALL in names and len(names) > 1:
            yield find("SO203", at(where, "ErrorEquals"), f"it stands beside {len(names) - 1} other names")
        if _ALL in seen:
            yield find("SO204", where, "an entry before it has States.ALL")
        else:
            yield from _shadowed(where, names, seen)
        seen.update(names)


def _shadowed(where: str, names: list[str], seen: set[str]) -> Iterator[Finding]:
    for name in names:
        if name in seen:
            yield find("SO207", where, f"an entry before it has {shown(name)} already")
        elif _FAILED in seen and name not in {_ALL, _TIMEOUT}:
            yield find("SO207", where, f"an entry before it has States.TaskFailed, which matches {shown(name)}, too")


def _names(state: State, where: str, entry: dict[str, Any], raised: Raised) -> Iterator[Finding]:
    """Names that match nothing: neither Step Functions nor stepout nor a Fail state of this state machine has them."""
    milder: Severity | None = "note" if raised.unknown_within(state) else None
    for name in _listed(entry):
        if name == "States.Runtime":
            yield find("SO212", where, "States.Runtime is named")
        elif name in raised.names:
            continue
        elif name.startswith("States."):
            if name not in _STATES and not name.startswith(_OPEN_FAMILY):
                yield _misspelt("SO202", where, name, sorted(_STATES), milder)
        elif (ours := _meant(name, by_token=_by_token(state))) is not None:
            yield _misspelt("SO201", where, name, ours, milder)


def _meant(name: str, *, by_token: bool) -> list[str] | None:
    """Return what a name may have been meant to be; ``None`` where it is not one of ours, or is right.

    A class's own name is wrong only where a token is reported with: of a Lambda function, Step Functions sees it.
    """
    known = known_names()
    if name in known.values():
        return None
    last = name.rpartition(".")[2]
    if last in known and ((by_token and name == last) or name.startswith("stepout.")):
        return [known[last]]
    return sorted(known.values()) if name.lower().startswith(("stepout.", "stepout:")) else None


def _misspelt(rule: str, where: str, name: str, candidates: list[str], severity: Severity | None) -> Finding:
    spelling = {each.lower(): each for each in candidates}
    near = difflib.get_close_matches(name.lower().removesuffix("error"), spelling, n=1, cutoff=0.5)
    meant = candidates[0] if len(candidates) == 1 else spelling[near[0]] if near else None
    if (native := f"States.{name.rpartition('.')[2]}") in _STATES:
        meant = native
    hint = f"; {meant} was probably meant" if meant else ""
    example = {"ErrorEquals": [meant]} if meant else None
    return find(rule, where, f"{shown(name)} is no error name{hint}", example=example, severity=severity)


def _timeouts(state: State, kind: str, entries: list[dict[str, Any]]) -> Iterator[Finding]:
    """What a container that died without a word is matched by."""
    listed = {name for entry in entries for name in _listed(entry)}
    if not state.waits or _ALL in listed:
        return
    named = listed & {_TIMEOUT, _HEARTBEAT}
    if kind == "Catch" and _FAILED in listed and _TIMEOUT not in listed:
        yield find("SO205", at(state.where, kind), "it has States.TaskFailed and not States.Timeout")
    elif len(named) == 1 and not (_TIMEOUT in named and (_FAILED in listed or not _beats(state))):
        yield find("SO206", at(state.where, kind), f"it has {named.pop()} alone")


def _beats(state: State) -> bool:
    """Whether a heartbeat can be missed."""
    return any(name in state.body for name in ("HeartbeatSeconds", "HeartbeatSecondsPath"))


def _retries(state: State) -> Iterator[Finding]:
    """What is tried again in vain, and what is not tried again."""
    handled: set[str] = set()
    ours = state.waits and reporter_of(state) == "program"
    for index, entry in enumerate(items(state.body.get("Retry"))):
        names, where = set(_listed(members(entry))), at(state.where, "Retry", index)
        if number(members(entry).get("MaxAttempts")) != 0:
            for name in sorted(names & set(PERMANENT_NAMES)):
                what = f"{name} is retried; it is reported where another try ends alike"
                yield find("SO208", at(where, "ErrorEquals"), what, example=_NEVER_AGAIN)
            if ours and names & {_ALL, _FAILED} and errors.PermanentError.error_name not in handled:
                yield find("SO209", where, "nothing before it excepts Stepout.Permanent", example=_NEVER_AGAIN)
        handled |= names
    if ours and not handled & {_ALL, _FAILED, *RETRYABLE_NAMES}:
        yield find("SO210", state.where, "no Retry names them", example={"Retry": [_AGAIN]})
