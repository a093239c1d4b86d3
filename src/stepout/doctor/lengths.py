"""How long a container's overrides may become, counted as ``stepout asl`` counts them (SO301, SO302). Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from stepout.asl.variables import Expression, StateOptions, task_variables
from stepout.doctor.json_lookup import at, inside, members
from stepout.doctor.states import read_reference

if TYPE_CHECKING:
    from stepout.doctor.states import Reference, State

OVERRIDES = {"ecs:runTask": "Overrides", "batch:submitJob": "ContainerOverrides"}
"""The member that is counted, by integration."""

_OUTPUT = "STEPOUT_OUTPUT"
_LONGEST_URL = len("s3://") + 63 + len("/") + 1_024
_LENGTHS = {
    "Execution.Name": 80,
    "StateMachine.Id": 256,
    "StateMachine.Name": 80,
    "State.EnteredTime": 24,
    "Execution.StartTime": 24,
}
_CONTEXT = re.compile(r"(?:\$\$|\$states\.context)\.((?:Execution|State|StateMachine|Task|Map)(?:\.[A-Za-z]+)+)")
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_FUNCTION = re.compile(r"\$\w+(?=\s*\()")
_UUID = re.compile(r"States\.UUID\(\)|\$uuid\(\)")


@dataclass(frozen=True)
class Length:
    """What is known of the length of a state's overrides.

    Attributes:
        where: Their path.
        characters: Of JSON, without what depends on the input.
        unknown: The paths of what depends on it.
    """

    where: str
    characters: int
    unknown: tuple[str, ...]


def overrides_length(state: State) -> Length | None:
    """Return how long a state's overrides may become, or ``None`` where it has none.

    A token counts as 700 characters, an execution's ARN as 256, what comes from the input as none: it is named.

    Args:
        state: A state of one of the integrations of ``OVERRIDES``.
    """
    place, arguments = state.arguments
    where, overrides = inside(arguments, place, OVERRIDES[state.integration])
    if not isinstance(overrides, dict):
        return None
    counted = _Counted(state)
    text = json.dumps(counted.rendered(overrides, where), ensure_ascii=False)
    return Length(where, len(text), tuple(counted.unknown))


class _Counted:
    """Overrides as the service gets them, with letters for what is looked up."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.unknown: list[str] = []

    def rendered(self, value: Any, where: str) -> Any:
        """Return a value with letters in the place of what is looked up."""
        if isinstance(value, list):
            return [self._member("", each, at(where, index)) for index, each in enumerate(value)]
        output = inside(value, "", "Name")[1] == _OUTPUT
        done = {}
        for key, each in members(value).items():
            done[key.removesuffix(".$")] = self._member(key, each, at(where, key), output=output)
        return done

    def _member(self, key: str, value: Any, where: str, *, output: bool = False) -> Any:
        found = read_reference(key, value, jsonata=self._state.jsonata)
        if found.dynamic:
            return "x" * self._longest(found, where, output=output)
        return self.rendered(value, where) if isinstance(value, (dict, list)) else value

    def _longest(self, found: Reference, where: str, *, output: bool) -> int:
        expression = str(found.value)
        paths = _CONTEXT.findall(expression)
        literals = [first or second for first, second in _LITERAL.findall(expression)]
        rest = _FUNCTION.sub("", _LITERAL.sub("", _CONTEXT.sub("", expression)))
        known = sum(_context_lengths(self._state.name).get(path, 0) for path in paths)
        known += sum(len(each.replace("{}", "")) for each in literals)
        from_input = "$" in rest or any(path not in _context_lengths(self._state.name) for path in paths)
        if from_input and output:  # whatever the path is, it leads to a URL
            return _LONGEST_URL
        if from_input:
            self.unknown.append(where)
        return known + 36 * len(_UUID.findall(expression))


@cache
def _context_lengths(name: str) -> dict[str, int]:
    """Return how long each part of the context object may be, in a state of that name, as ``stepout asl`` reckons."""
    try:
        options = StateOptions(name=name, in_map=True)
    except ValueError:  # no name of a state
        options = StateOptions(in_map=True)
    variables = task_variables(options, heartbeat=1)
    told = [each for each in variables.values() if isinstance(each, Expression)]
    return _LENGTHS | {path: each.longest for each in told for path in _CONTEXT.findall(each.path)}
