"""The doctor's look at states that start several containers: one token, or one output, for all of them (SO1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, inside, members, number, plain, walk
from stepout.doctor.rules import find
from stepout.doctor.states import MACHINES, TOKEN_NAMES, read_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.doctor.findings import Finding, Severity
    from stepout.doctor.states import Override, State

Passed = list[tuple[str, str, dict[str, Any]]]
"""Texts, each after its path and before the object that holds it."""

_SIZES = {"ecs:runTask": ("Count",), "batch:submitJob": ("ArrayProperties", "Size")}
_INDEX = re.compile(r"\{index\\*\}")
_RUNS_CONTAINERS = (*_SIZES, "eks:runJob")
_PLACES = ("s3://", "dynamodb://")


@dataclass(frozen=True)
class _Containers:
    """How many containers a state starts: ``None`` for what is looked up; whether each has an index of its own."""

    where: str
    number: float | None
    indexed: bool


def passed_texts(states: Sequence[State]) -> Passed:
    """Return every text that the states of a state machine hold, looked up or not."""
    found = []
    for state in states:
        own = {name: value for name, value in state.body.items() if name not in MACHINES}
        for place, value in walk(own, state.where):
            for key, each in members(value).items():
                told = read_reference(key, each, jsonata=state.jsonata).value
                if isinstance(told, str):
                    found.append((at(place, key), told, members(value)))
    return found


def writers_findings(state: State, passed: Passed) -> Iterator[Finding]:
    """Find what several containers share and only one can use, and who reads their outputs as if they were one.

    Args:
        state: Any state.
        passed: Every text that the state machine's states hold.
    """
    variables = state.overrides
    outputs = [each for each in variables if _is_output(each)]
    started = _started(state)
    if started is None or (started.number is not None and started.number <= 1):
        if outputs and state.integration in _RUNS_CONTAINERS and _INDEX.search(str(outputs[0].reference.value)):
            yield find("SO117", outputs[0].where, f"{outputs[0].name} has {{index}}, and this is no array job")
        return
    many = "as many containers as are looked up" if started.number is None else f"{plain(started.number)} containers"
    milder: Severity | None = "note" if started.number is None else None
    token = state.pattern == "waitForTaskToken" and any(found.is_token for _, found in state.looked_up)
    if token or any(each.name in TOKEN_NAMES for each in variables):
        do = "" if state.integration == "ecs:runTask" else "Leave the token out, and use pull mode (STEPOUT_OUTPUT)."
        yield find("SO113", started.where, f"{many} get one task token", do=do, severity=milder)
    if outputs and not started.indexed:
        yield find("SO113", started.where, f"{many} write to one {outputs[0].name}", severity=milder)
    elif outputs:
        yield from _read(outputs[0], started, many, passed)


def _read(output: Override, started: _Containers, many: str, passed: Passed) -> Iterator[Finding]:
    """Look at each reader of the URL of an array job: without the count, the URL leads to no output."""
    size = None if started.number is None else int(started.number)
    readers = list(_given(passed, output))
    if not readers:
        what = f"{many} write to places of their own at {output.name}, and no state here reads them"
        yield find("SO115", output.where, what, severity="note")
    example = {"url": "…", "count": size} if size is not None else None
    for where, told, count in readers:
        if not told:
            yield find("SO115", where, f"the URL of {many} is passed on without their count", example=example)
        elif size is not None and count is not None and count != size:
            yield find("SO115", where, f"count is {plain(count)}, and the array has {size}", example=example)


def _given(passed: Passed, output: Override) -> Iterator[tuple[str, bool, float | None]]:
    """Yield where a state passes an output's URL on, whether a count stands beside it, and which if it is a number."""
    url = str(output.reference.value)
    for place, told, beside in passed:
        if url not in told or place == output.where:
            continue
        counts = [each for name, each in beside.items() if name.removesuffix(".$").lower() == "count"]
        yield place, bool(counts) or (url != told and "count" in told), number(counts[0]) if counts else None


def _is_output(variable: Override) -> bool:
    if variable.name == "STEPOUT_OUTPUT":
        return True
    told = variable.reference.value
    return variable.name == "STEPOUT_TARGETS" and isinstance(told, str) and any(each in told for each in _PLACES)


def _started(state: State) -> _Containers | None:
    where, arguments = state.arguments
    if state.integration in _SIZES:
        path = _SIZES[state.integration]
        return _sized(state, arguments, where, path, indexed=state.integration == "batch:submitJob")
    if state.integration != "eks:runJob":
        return None
    where, spec = inside(arguments, where, "Job", "spec")
    indexed = inside(spec, where, "completionMode")[1] == "Indexed"
    found = [_sized(state, spec, where, (name,), indexed=indexed) for name in ("completions", "parallelism")]
    told = [each for each in found if each is not None]
    return max(told, key=lambda each: each.number or 0, default=None)


def _sized(state: State, value: object, where: str, path: tuple[str, ...], *, indexed: bool) -> _Containers | None:
    for last in (path[-1], f"{path[-1]}.$"):
        place, told = inside(value, where, *path[:-1], last)
        if told is not None:
            found = read_reference(last, told, jsonata=state.jsonata)
            return _Containers(place, _constant(found.value), indexed)
    return None


def _constant(value: Any) -> float | None:
    """Return a number, also where it is written as text; ``None`` for what only the run knows."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*\d{1,9}\s*", value) else None
    found = number(value)
    return 1 if found is None else found
