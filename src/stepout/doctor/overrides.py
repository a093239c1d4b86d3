"""The doctor's look at what a state hands its container: variables, lengths, the task definition's part (SO3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepout.asl.services import OVERRIDES_LIMIT, room_beside
from stepout.doctor.json_lookup import at, inside, items, members, names_within, number, plain, shown, text, walk
from stepout.doctor.lengths import OVERRIDES, overrides_length
from stepout.doctor.rules import find
from stepout.doctor.states import TOKEN_NAMES, Override, State, read_reference
from stepout.doctor.task_definition import all_containers, command_findings, environment_of, secret_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Finding, Severity

_NUMBERS = ("State.RetryCount", "Map.Item.Index", "Execution.RedriveCount")
_PATH = re.compile(r"\$\$\.(Execution|State|StateMachine|Task|Map)\b.*|\$states\.(context|input)\b.*", re.DOTALL)
_ANY_PATH = re.compile(r"\$\.[A-Za-z_].*|States\.(Format|JsonToString|Array)\(.*", re.DOTALL)
_CONTEXT = re.compile(r"(?:\$\$|\$states\.context)\.((?:Execution|State|StateMachine|Task|Map)(?:\.[A-Za-z]+)*)")
_EXPRESSION = re.compile(r"\s*\{%.*%\}\s*", re.DOTALL)
_RUN = ("STEPOUT_EXECUTION", "STEPOUT_STATE", "STEPOUT_ATTEMPT")
_HEARTBEAT = "STEPOUT_HEARTBEAT_SECONDS"
_INPUT, _ALLOW = "STEPOUT_INPUT", "STEPOUT_ALLOW"
_CONTAINERS = ("ecs:runTask", "batch:submitJob", "eks:runJob")
_OUTSIDE = re.compile(r"\$")
_FIXED = re.compile(
    r"(\$\$|\$states\.context)\.(Execution\.(Id|Name|StartTime|RedriveCount)|State|StateMachine|Task|Map\.Item\.Index)\b[\w.]*"
    r"|'[^']*'|\"[^\"]*\"|\$\w+(?=\()"
)
"""What no input changes: names of the run, literals, functions of JSONata."""
_VERSION = re.compile(r":\d+")


def overrides_findings(state: State, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """Look at what a state passes on.

    Args:
        state: Any state.
        tasks: The task definitions that are known.
    """
    variables = state.overrides
    yield from _literal_paths(state)
    yield from _variables(state, variables)
    yield from secret_findings((each.name, each.where, each.reference.value) for each in _literals(variables))
    if state.integration in OVERRIDES:
        yield from _length(state)
    if state.integration in _CONTAINERS:
        yield from _allowed(variables, tasks_of(state, tasks))
    if state.integration == "ecs:runTask":
        mine = tasks_of(state, tasks)
        yield from _containers(state, mine)
        if {each.name for each in variables} & set(TOKEN_NAMES):
            yield from _heartbeat(state, variables, mine)


def tasks_of(state: State, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the task definitions that a state may run: those of the family that it names, all if that is looked up."""
    if state.integration != "ecs:runTask":
        return []
    wanted = inside(state.arguments[1], "", "TaskDefinition")[1]
    if not isinstance(wanted, str) or read_reference("TaskDefinition", wanted, jsonata=state.jsonata).dynamic:
        return tasks
    family = _VERSION.sub("", wanted.rpartition("/")[2])
    return [task for task in tasks if text(task.get("family")) in {family, ""}]


def told_number(state: State, tasks: list[dict[str, Any]], name: str) -> tuple[bool, float | None]:
    """Return whether a variable is passed to a state's job, and the number that it is, where that is known.

    Args:
        state: A state that runs a job.
        tasks: The task definitions that are known.
        name: The variable's.
    """
    passed = [each.reference for each in state.overrides if each.name == name]
    if passed:
        return True, None if passed[0].dynamic else _seconds(passed[0].value)
    if name in {each.removesuffix(".$") for each in names_within(state.arguments[1])}:  # of a message or an input
        return True, None
    found = [environment_of(container) for container in all_containers(tasks_of(state, tasks))]
    told = [variables[name] for variables in found if name in variables]
    return bool(told), _seconds(told[0]) if told else None


def _literals(variables: list[Override]) -> list[Override]:
    return [each for each in variables if not each.reference.dynamic and isinstance(each.reference.value, str)]


def _literal_paths(state: State) -> Iterator[Finding]:
    where, arguments = state.arguments
    for place, value in walk(arguments, where):
        for key, each in members(value).items():
            if what := _literal(str(key), each, jsonata=state.jsonata):
                yield find(
                    "SO305", at(place, str(key)), what, example=_corrected(str(key), each, jsonata=state.jsonata)
                )


def _literal(key: str, value: object, *, jsonata: bool) -> str:
    """Say what is wrong with a member that looks as if it should be looked up; nothing where it does not."""
    if not isinstance(value, str) or read_reference(key, value, jsonata=jsonata).dynamic:
        return ""
    if jsonata:
        wrong = key.endswith(".$") or _PATH.fullmatch(value.strip())
        return "in JSONata, a path outside {% … %} is text" if wrong else ""
    if _EXPRESSION.fullmatch(value):
        return "in JSONPath, {% … %} is text"
    found = _PATH.fullmatch(value) or (key.lower() == "value" and _ANY_PATH.fullmatch(value))
    return "in JSONPath, the value of a key without .$ is text" if found else ""


def _corrected(key: str, value: str, *, jsonata: bool) -> dict[str, str]:
    """Return the member as it was probably meant; of a path, only what is the context object's is shown."""
    found = _CONTEXT.search(value)
    if jsonata:
        return {key.removesuffix(".$"): f"{{% $states.{f'context.{found[1]}' if found else 'input.…'} %}}"}
    return {f"{key.removesuffix('.$')}.$": f"$$.{found[1]}" if found else "$.…"}


def _variables(state: State, variables: list[Override]) -> Iterator[Finding]:
    for each in variables:
        if _is_number(each):
            path = each.reference.value
            if not each.reference.dynamic:
                fixed = {"Name": each.name, "Value": "<the same within quotation marks>"}
            elif state.jsonata:
                fixed = {"Name": each.name, "Value": f"{{% $string({path}) %}}"}
            else:
                fixed = {"Name": each.name, "Value.$": f"States.Format('{{}}', {path})"}
            yield find("SO303", each.where, f"{shown(each.name)} gets a number", example=fixed)
    tokens = [each for each in variables if each.reference.is_token]
    named = {each.name for each in variables}
    if tokens and not named & set(TOKEN_NAMES):
        yield find("SO308", tokens[0].where, f"the token is in {shown(tokens[0].name)}")
    if tokens and named & set(TOKEN_NAMES) and (missing := [name for name in _RUN if name not in named]):
        yield find("SO309", state.where, f"{', '.join(missing)} not passed", example=_identity(missing, state.jsonata))


def _identity(names: list[str], jsonata: bool) -> list[dict[str, str]]:
    paths = dict(zip(_RUN, ("Execution.Id", "State.Name", "State.RetryCount"), strict=True))
    if jsonata:
        wrapped = {name: f"$states.context.{paths[name]}" for name in names}
        wrapped |= {name: f"$string({path})" for name, path in wrapped.items() if name == "STEPOUT_ATTEMPT"}
        return [{"Name": name, "Value": f"{{% {path} %}}"} for name, path in wrapped.items()]
    plainly = {name: f"$$.{paths[name]}" for name in names}
    plainly |= {name: f"States.Format('{{}}', {path})" for name, path in plainly.items() if name == "STEPOUT_ATTEMPT"}
    return [{"Name": name, "Value.$": path} for name, path in plainly.items()]


def _is_number(each: Override) -> bool:
    value = each.reference.value
    if each.reference.dynamic:
        return value in {f"$$.{path}" for path in _NUMBERS} | {f"$states.context.{path}" for path in _NUMBERS}
    return isinstance(value, (bool, int, float))


# Length ------------------------------------------------------------------------------------------------------------


def _length(state: State) -> Iterator[Finding]:
    found = overrides_length(state)
    if found is None:
        return
    if found.characters > OVERRIDES_LIMIT:
        what = f"they may take {found.characters:,} characters with a token of 700, over {OVERRIDES_LIMIT:,}"
        yield find("SO301", found.where, what)
    elif found.unknown:
        room = f"{room_beside(found.characters):,} characters of JSON are sure to fit"
        yield find("SO302", found.unknown[0], f"its length is the input's; {room}")


# The input ---------------------------------------------------------------------------------------------------------


def _allowed(variables: list[Override], tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    """A task whose input is a document does not start without STEPOUT_ALLOW; code may say it as well."""
    inputs = [each for each in variables if each.name == _INPUT and _may_be_document(each)]
    if not inputs or any(each.name == _ALLOW for each in variables):
        return
    containers = all_containers(tasks)
    if any(_ALLOW in _names(container) for container in containers):
        return
    certain = containers and not any(container.get("environmentFiles") for container in containers)
    what = "neither the state nor the task definition sets it" if certain else "the state does not set it"
    more = "" if certain else "; it may be set where the job is defined"
    found = [text(each.reference.value) for each in _literals(variables) if each.name == "STEPOUT_BUCKET"]
    example = {"Name": _ALLOW, "Value": f"s3://{shown(found[0]) if found else 'results-bucket'}/"}
    severity: Severity | None = None if certain else "note"
    yield find("SO310", inputs[0].where, what + more, example=example, severity=severity)


def _may_be_document(variable: Override) -> bool:
    told = variable.reference.value
    if not isinstance(told, str):
        return False
    if variable.reference.dynamic:
        return _OUTSIDE.search(_FIXED.sub("", told)) is not None
    return told.strip().startswith(("s3://", "dynamodb://")) or '"stepout"' in told


def _names(container: dict[str, Any]) -> set[str]:
    pairs = [*items(container.get("environment")), *items(container.get("secrets"))]
    return {text(members(pair).get("name")) for pair in pairs}


# The task definition's part ----------------------------------------------------------------------------------------


def _containers(state: State, tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    where, arguments = state.arguments
    known = {text(container.get("name")) for container in all_containers(tasks)}
    where, overrides = inside(arguments, where, "Overrides", "ContainerOverrides")
    for index, each in enumerate(items(overrides)):
        place, name = inside(each, at(where, index), "Name")
        yield from command_findings(at(where, index), inside(each, "", "Command")[1], name="Command")
        if not isinstance(name, str) or read_reference("Name", name, jsonata=state.jsonata).dynamic:
            continue
        if known and name not in known:
            has = ", ".join(sorted(shown(each) for each in known))
            yield find("SO304", place, f"{shown(name)} is not one of its containers: {has}")


def _heartbeat(state: State, variables: list[Override], tasks: list[dict[str, Any]]) -> Iterator[Finding]:
    if (wanted := state.heartbeat) is None:
        return
    fixed = {"Name": _HEARTBEAT, "Value": plain(wanted)}
    passed = [each for each in variables if each.name == _HEARTBEAT]
    given = [each.reference.value for each in passed if not each.reference.dynamic] or (
        [] if passed else _from_tasks(tasks)
    )
    for value in given:
        if _seconds(value) != wanted:
            where = passed[0].where if passed else state.where
            told = "another number" if _seconds(value) is not None else "no number"
            yield find("SO306", where, f"HeartbeatSeconds is {plain(wanted)}, the variable {told}", example=fixed)
            return
    if not passed and not given:
        what = "neither the state nor the task definition sets it" if tasks else "the state does not set it"
        more = "" if tasks else "; give the task definition as well, it may be set there"
        yield find("SO307", state.where, what + more, example=fixed, severity=None if tasks else "note")


def _from_tasks(tasks: list[dict[str, Any]]) -> list[Any]:
    found = [environment_of(container) for container in all_containers(tasks)]
    return [variables[_HEARTBEAT] for variables in found if _HEARTBEAT in variables]


def _seconds(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str) else number(value)
    except ValueError:
        return None
