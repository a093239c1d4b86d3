"""The doctor's look at how a state is written: fields of the other query language, members in camel case (SO1, SO3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, items, members, shown
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.doctor.findings import Finding
    from stepout.doctor.states import State

# https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
_JSONPATH_ONLY = (
    "InputPath",
    "Parameters",
    "ResultSelector",
    "ResultPath",
    "OutputPath",
    "ItemsPath",
    "TimeoutSecondsPath",
    "HeartbeatSecondsPath",
    "SecondsPath",
    "TimestampPath",
    "MaxConcurrencyPath",
    "ErrorPath",
    "CausePath",
)
_JSONATA_ONLY = ("Arguments", "Output")
_INSTEAD = {
    "Parameters": "Arguments",
    "ResultSelector": "Output",
    "ResultPath": "Output or Assign",
    "OutputPath": "Output",
    "InputPath": "$states.input",
    "ItemsPath": "Items",
    "Arguments": "Parameters",
    "Output": "ResultSelector, ResultPath or OutputPath",
}

_DEEP = frozenset({"ecs:runTask", "batch:submitJob"})
_FREE = frozenset({"parameters", "tags", "labels", "annotations", "limits", "requests", "options"})
"""Members whose own members have names that the user chose."""
_SHOWN_MOST = 5


def language_findings(state: State) -> Iterator[Finding]:
    """Find members that Step Functions does not know in the language, or in the case, in which they are written.

    Args:
        state: Any state.
    """
    yield from _fields(state)
    yield from _cases(state)


def _fields(state: State) -> Iterator[Finding]:
    wrong = _JSONPATH_ONLY if state.language == "JSONata" else _JSONATA_ONLY if state.language == "JSONPath" else ()
    found = [name for name in wrong if name in state.body]
    if found:
        instead = [f"{_INSTEAD[name]} for {name}" for name in found if name in _INSTEAD]
        do = f"In {state.language}, write {', '.join(instead)}; or change QueryLanguage." if instead else ""
        what = f"the query language is {state.language}, which has no {', '.join(found)}"
        yield find("SO116", at(state.where, found[0]), what, do=do)
    for index, entry in enumerate(items(state.body.get("Catch")) if state.language == "JSONata" else ()):
        if "ResultPath" in members(entry):
            what = "the query language is JSONata, which has no ResultPath"
            example = {"Output": "{% $merge([$states.input, {'problem': $states.errorOutput}]) %}"}
            yield find("SO116", at(state.where, "Catch", index, "ResultPath"), what, example=example)


def _cases(state: State) -> Iterator[Finding]:
    """Members of a service's parameters begin with a capital, the deep ones, too; a manifest of EKS is Kubernetes's."""
    if not state.integration:
        return
    where, arguments = state.arguments
    found = list(_lower(arguments, where, deep=state.integration in _DEEP))
    if found:
        names = list(dict.fromkeys(name for _, name in found))
        right = {name[:1].upper() + name[1:]: "…" for name in names[:_SHOWN_MOST]}
        more = " and others" if len(names) > _SHOWN_MOST else ""
        what = f"{', '.join(shown(name) for name in names[:_SHOWN_MOST])}{more} begin with a small letter"
        yield find("SO311", found[0][0], what, do=f"Write {', '.join(map(shown, right))}{more}.")


def _lower(value: Any, where: str, *, deep: bool) -> Iterator[tuple[str, str]]:
    waiting = [(where, value)]
    while waiting:
        place, each = waiting.pop(0)
        for name, inner in members(each).items():
            if name[:1].islower():
                yield at(place, name), name.removesuffix(".$")
            if deep and name.lower() not in _FREE:
                waiting.append((at(place, name), inner))
        if deep:
            waiting += [(at(place, index), inner) for index, inner in enumerate(items(each))]
