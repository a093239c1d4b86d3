"""The doctor's look at a state machine: waiting, tokens, logging, and how often a Map beats (SO1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.callbacks.lifecycle.heartbeat import beats_a_second, fitting_heartbeat, interval_of
from stepout.doctor.json_lookup import at, members, number, plain, shown, text
from stepout.doctor.language import language_findings
from stepout.doctor.overrides import overrides_findings, told_number
from stepout.doctor.retry import raised_names, retry_findings
from stepout.doctor.rules import find
from stepout.doctor.states import State, states_of
from stepout.doctor.waiting import pattern_findings, reporter_of, unsupported, unwaited_token_findings
from stepout.doctor.writers import passed_texts, writers_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Finding, Severity

_START_SECONDS = 120
_QUOTA_SMALL, _QUOTA_LARGE = 300, 500
_FAN_IN, _CONCURRENCY = "STEPOUT_FAN_IN", "STEPOUT_MAX_CONCURRENCY"
_IF_IT_BEATS = (
    "Set HeartbeatSeconds if a program of yours reports and beats. A person or a foreign service never beats: leave it "
    "out."
)
_LONGEST_ANSWER = (
    "Set TimeoutSeconds above the longest answer you would wait for. A person never beats: leave HeartbeatSeconds out."
)
_ANSWERED = {"TimeoutSeconds": 604_800}
_LONG = {"HeartbeatSeconds": 300, "TimeoutSeconds": 21600}
_TOKEN_JSONPATH = {"Name": "STEPOUT_TASK_TOKEN", "Value.$": "$$.Task.Token"}
_TOKEN_JSONATA = {"Name": "STEPOUT_TASK_TOKEN", "Value": "{% $states.context.Task.Token %}"}

# A payload template is an object in the language; Arguments may be a JSONata expression instead.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "Resource": (str, "text"),
    "Parameters": (dict, "JSON object"),
    "Arguments": ((dict, str), "JSON object or JSONata expression"),
    "Retry": (list, "list"),
    "Catch": (list, "list"),
}


def definition_of(document: object) -> Any:
    """Return the definition in the Amazon States Language, of DescribeStateMachine's answer or of what it is itself.

    Returns:
        The definition; ``None`` where the answer's text is no JSON. A lone Task state, and an object of states, are
        taken for a state machine of these.
    """
    from stepout.schemas.errors import InvalidDocumentError
    from stepout.schemas.text.json_text import load_json

    value = members(document)
    definition = value.get("definition")
    if isinstance(definition, str):
        try:
            return load_json(definition)
        except InvalidDocumentError:
            return None
    if isinstance(definition, dict):
        return definition
    if "States" in value:
        return value
    return {"States": {"State": value} if "Type" in value else value}


def machine_states(document: object) -> list[State]:
    """Return every state of a document that is a state machine; it knows whether the workflow is an Express one."""
    return list(states_of(definition_of(document), express=members(document).get("type") == "EXPRESS"))


def longest_wait(states: list[State]) -> float | None:
    """Return the longest TimeoutSeconds of the states that run a job, if any has one."""
    found = [number(state.body.get("TimeoutSeconds")) for state in states if state.waits or state.pattern == "sync"]
    return max((seconds for seconds in found if seconds is not None), default=None)


def machine_findings(document: object, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """Look at a state machine.

    Args:
        document: A definition, or DescribeStateMachine's answer.
        tasks: Task definitions that its states may run.
    """
    if (definition := definition_of(document)) is None or not isinstance(members(definition).get("States"), dict):
        yield find("SO900", "definition", "the definition is no JSON of the Amazon States Language")
        return
    states = machine_states(document)
    for state in states:
        yield from _not_understood(state)
    yield from _logging(document, states)
    raised, passed = raised_names(states), passed_texts(states)
    for state in states:
        yield from language_findings(state)
        yield from _waiting(state)
        yield from _places(state, tasks)
        yield from writers_findings(state, passed)
        yield from retry_findings(state, raised)
        yield from overrides_findings(state, tasks)


def _not_understood(state: State) -> Iterator[Finding]:
    """A state that is no object, and members of another type than the language has for them."""
    if not state.is_object:
        yield find("SO900", state.where, "this state is no JSON object, so nothing in it was looked at")
    for name, (types, expected) in _TYPES.items():
        value = state.body.get(name)
        if name in state.body and not isinstance(value, types) and not _filled_in_later(value):
            yield find(
                "SO900",
                at(state.where, name),
                f"{name} is not of the type that it must have ({expected}), so it was not looked at",
            )


def _filled_in_later(value: object) -> bool:
    """Tell whether a deployment replaces a value: ``${…}``, or a function of CloudFormation."""
    if isinstance(value, dict):
        return len(value) == 1 and all(name == "Ref" or str(name).startswith("Fn::") for name in value)
    return isinstance(value, str) and "${" in value


def _logging(document: object, states: list[State]) -> Iterator[Finding]:
    settings = members(members(document).get("loggingConfiguration"))
    level = text(settings.get("level"))
    if settings.get("includeExecutionData") is not True or level not in {"ALL", "ERROR"}:
        return
    if tokens := [state for state in states if state.pattern == "waitForTaskToken"]:
        what = f"includeExecutionData is on at level {level}, and {shown(tokens[0].name)} passes a task token"
        fixed = {"loggingConfiguration": {"level": level, "includeExecutionData": False}}
        # The events that level ERROR writes hold causes, not parameters; a cause may still quote them.
        milder: Severity | None = "note" if level == "ERROR" else None
        yield find("SO109", "loggingConfiguration.includeExecutionData", what, example=fixed, severity=milder)


def _waiting(state: State) -> Iterator[Finding]:
    if state.express and (state.waits or state.pattern):
        how = "an activity" if state.is_activity else f".{state.pattern}"
        yield find("SO107", at(state.where, "Resource"), f"an Express workflow cannot run {how}")
    yield from pattern_findings(state)
    yield from unwaited_token_findings(state)
    if unsupported(state):
        return
    if state.waits:
        yield from _timing(state)
    elif state.pattern == "sync" and not _has(state, "TimeoutSeconds") and not state.bounded:
        yield find("SO103", state.where, "no TimeoutSeconds")
    if state.pattern == "waitForTaskToken":
        yield from _token(state)


def _timing(state: State) -> Iterator[Finding]:
    heartbeat, timeout = state.heartbeat, number(state.body.get("TimeoutSeconds"))
    reporter = reporter_of(state)
    if not _has(state, "HeartbeatSeconds"):
        if reporter == "program":
            yield find("SO101", state.where, "no HeartbeatSeconds", example=_LONG)
        elif reporter == "unknown":
            what = "no HeartbeatSeconds, which is right if no program beats"
            yield find("SO101", state.where, what, do=_IF_IT_BEATS, severity="note")
    if not _has(state, "TimeoutSeconds") and not state.bounded:
        do, example = ("", _LONG) if reporter == "program" else (_LONGEST_ANSWER, _ANSWERED)
        yield find("SO102", state.where, "no TimeoutSeconds", do=do, example=example)
    if heartbeat is not None and timeout is not None and heartbeat >= timeout:
        what = f"HeartbeatSeconds is {plain(heartbeat)}, TimeoutSeconds {plain(timeout)}"
        yield find("SO104", at(state.where, "HeartbeatSeconds"), what)
    if heartbeat is not None and heartbeat < _START_SECONDS and state.integration == "ecs:runTask":
        what = f"HeartbeatSeconds is {plain(heartbeat)}, and a container must have started and beaten by then"
        yield find("SO105", at(state.where, "HeartbeatSeconds"), what)


def _has(state: State, name: str) -> bool:
    return state.body.get(name) is not None or state.body.get(f"{name}Path") is not None


def _token(state: State) -> Iterator[Finding]:
    where, _ = state.arguments
    if not any(found.is_token for place, found in state.looked_up if place.startswith(where)):
        path = "$states.context.Task.Token" if state.jsonata else "$$.Task.Token"
        example = _TOKEN_JSONATA if state.jsonata else _TOKEN_JSONPATH
        yield find("SO106", where, f"nothing here refers to {path}", example=example)


def _places(state: State, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """What becomes of the output, and how often all copies of the state beat."""
    if not state.waits or unsupported(state) or reporter_of(state) != "program":
        return
    if not state.jsonata and "ResultPath" in state.body and state.body["ResultPath"] is None:
        yield find("SO110", at(state.where, "ResultPath"), "ResultPath is null")
    elif state.gathered:
        yield from _fan_in(state, tasks)
    if state.copies > 1:
        yield from _beats(state, tasks)


def _fan_in(state: State, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """Whether the outputs that an inline Map brings together are sure to fit one state."""
    passed, told = told_number(state, tasks, _FAN_IN)
    example = {"Name": _FAN_IN, "Value": f"{state.gathered}" if state.gathered > 1 else "<the most items of the Map>"}
    if not passed:
        what = f"{_FAN_IN} is not passed, and an inline Map brings the outputs together"
        yield find("SO118", state.where, what, example=example)
    elif told is not None and told < state.gathered:
        what = f"{_FAN_IN} is {plain(told)}, and at least {state.gathered:,} outputs come together"
        yield find("SO118", state.where, what, example=example)


def _beats(state: State, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """How often all copies beat: a third of HeartbeatSeconds apart, or what they are told to spread them to."""
    heartbeat = state.heartbeat if state.heartbeat is not None and state.heartbeat > 0 else None
    passed, told = told_number(state, tasks, _CONCURRENCY)
    number_told = state.copies if passed and told is None else int(told or 0) or None
    every = interval_of(heartbeat, number_told)
    rate = beats_a_second(state.copies, every)
    if rate <= _QUOTA_SMALL:
        return
    limit = _QUOTA_LARGE if rate > _QUOTA_LARGE else _QUOTA_SMALL
    what = f"up to {state.copies:,} at once beat every {every:.0f} s: {rate:,.0f} a second, over {limit}"
    if beats_a_second(state.copies, interval_of(heartbeat, state.copies)) <= _QUOTA_SMALL:
        spread = {"Name": _CONCURRENCY, "Value": f"{state.copies}"}
        yield find("SO111", state.where, what, do=f"Pass {_CONCURRENCY}: the beats are spread then.", example=spread)
        return
    yield find("SO111", state.where, what, example={"HeartbeatSeconds": fitting_heartbeat(state.copies)})
