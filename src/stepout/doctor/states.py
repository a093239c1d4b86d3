"""The states of a state machine, however deep, with what the doctor's rules ask about each; both query languages."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stepout.doctor.json_lookup import at, items, members, names_within, number, text, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = ("Branches", "ItemProcessor", "Iterator")
"""The members of a state that hold state machines."""
TOKEN_NAMES = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")

_PART = r"(?:[\w-]*|\$\{[^}]*\})"  # ${AWS::Partition} and the like are filled in later
_SERVICE = re.compile(
    rf"arn:{_PART}:states:{_PART}:{_PART}:(?:aws-sdk:)?([\w:-]+?)(?:\.(sync(?::2)?|waitForTaskToken))?"
)
_ACTIVITY = re.compile(rf"arn:{_PART}:states:{_PART}:{_PART}:activity:.+")
_JSONATA = re.compile(r"\s*\{%(.*)%\}\s*", re.DOTALL)
_TOKEN = re.compile(r"\$\$(\.Task(\.Token)?)?|\$states\.context(\.Task(\.Token)?)?")
_WITHIN = re.compile(r"\$\$\.Task\.Token\b|\$states\.context(\.Task\.Token\b|\.Task\s*$|\s*$)")
_NAMED = re.compile(r"(\$\$|\$states\.context)\.Task\.Token\b")

DISTRIBUTED_MOST = 10_000  # child executions at once, where MaxConcurrency is 0 or absent [Distributed Map's guide]
INLINE_MOST = 40  # iterations at once of an inline Map [Map's guide]


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that a state passes on.

    Attributes:
        value: The path, the expression within ``{% %}``, or the literal value.
        dynamic: Whether it is looked up when the state runs.
    """

    value: Any
    dynamic: bool

    @property
    def is_token(self) -> bool:
        """Whether it holds the task token."""
        if not self.dynamic or not isinstance(self.value, str):
            return False
        return bool(_TOKEN.fullmatch(self.value.strip()) or _WITHIN.search(self.value))

    @property
    def names_token(self) -> bool:
        """Whether it names the task token itself, not the whole context object."""
        return self.dynamic and isinstance(self.value, str) and _NAMED.search(self.value) is not None


@dataclass(frozen=True, slots=True)
class Override:
    """One environment variable that a state sets: ECS and Batch overrides, and manifests of EKS."""

    name: str
    where: str
    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state, with what it inherits.

    Attributes:
        name: Its own.
        where: Its path.
        body: Its members.
        jsonata: Whether it is read as JSONata, not as JSONPath.
        language: What it or its state machine says of the query language; empty where neither is seen.
        express: Whether it runs in an Express workflow.
        bounded: Whether its state machine has a TimeoutSeconds.
        copies: How many of it may run at once, by the Maps around it.
        gathered: How many outputs an inline Map around it brings together at least, as far as it says so; 0 where no
            inline Map is around it.
        is_object: Whether it is a JSON object; else ``body`` is empty.
    """

    name: str
    where: str
    body: dict[str, Any]
    jsonata: bool = False
    language: str = ""
    express: bool = False
    bounded: bool = False
    copies: int = 1
    gathered: int = 0
    is_object: bool = True

    @property
    def integration(self) -> str:
        """The service and its action, such as ``ecs:runTask``; empty if the state is no task."""
        found = _SERVICE.fullmatch(self._resource)
        return found.group(1) if found and not self.is_activity else ""

    @property
    def is_sdk_call(self) -> bool:
        """Whether it calls a service as the SDKs do, not by an optimized integration."""
        return ":aws-sdk:" in self._resource

    @property
    def pattern(self) -> str:
        """``waitForTaskToken``, ``sync`` or nothing."""
        found = _SERVICE.fullmatch(self._resource)
        return (found.group(2) or "").partition(":")[0] if found else ""

    @property
    def is_activity(self) -> bool:
        """Whether it waits for a worker of an activity."""
        return _ACTIVITY.fullmatch(self._resource) is not None

    @property
    def waits(self) -> bool:
        """Whether it waits for a report with its token."""
        return self.is_activity or self.pattern == "waitForTaskToken"

    @property
    def heartbeat(self) -> float | None:
        """HeartbeatSeconds, where it is a number."""
        return number(self.body.get("HeartbeatSeconds"))

    @property
    def arguments(self) -> tuple[str, Any]:
        """What it passes to the service, after the path of it; the other language's member where its own is missing."""
        name, other = ("Arguments", "Parameters") if self.jsonata else ("Parameters", "Arguments")
        if name not in self.body and other in self.body:
            name = other
        return at(self.where, name), self.body.get(name)

    @property
    def looked_up(self) -> list[tuple[str, Reference]]:
        """Everything of its own that is looked up, whatever the member; not what the machines within it hold."""
        own = {name: value for name, value in self.body.items() if name not in MACHINES}
        pairs = [
            (at(place, key), read_reference(str(key), each, jsonata=self.jsonata))
            for place, value in walk(own, self.where)
            for key, each in _pairs(value)
        ]
        return [(place, found) for place, found in pairs if found.dynamic]

    @property
    def overrides(self) -> list[Override]:
        """Every environment variable that it sets."""
        where, value = self.arguments
        return [found for place, each in walk(value, where) if (found := self._override(place, each))]

    @property
    def _resource(self) -> str:
        return text(self.body.get("Resource")) if self.body.get("Type") == "Task" else ""

    def _override(self, where: str, value: object) -> Override | None:
        lower = {str(name).lower(): name for name in members(value)}
        name = text(members(value).get(lower.get("name", "")))
        for key in ("value.$", "value"):
            if name and key in lower:
                found = read_reference(lower[key], members(value)[lower[key]], jsonata=self.jsonata)
                return Override(name, at(where, lower[key]), found)
        return None


def _pairs(value: object) -> list[tuple[str | int, Any]]:
    return list(members(value).items()) or list(enumerate(items(value)))


def read_reference(key: str, value: object, *, jsonata: bool) -> Reference:
    """Tell what is looked up from what is literal.

    Args:
        key: The member's name.
        value: Its value.
        jsonata: Whether the state's query language is JSONata.
    """
    expression = _JSONATA.fullmatch(value) if isinstance(value, str) else None
    if jsonata and expression:
        return Reference(expression.group(1).strip(), dynamic=True)
    if not jsonata and key.endswith(".$") and isinstance(value, str):
        return Reference(value.strip(), dynamic=True)
    return Reference(value, dynamic=False)


def states_of(machine: object, where: str = "", *, express: bool = False) -> Iterator[State]:
    """Yield every state of a state machine, branches and Map states' processors included.

    Args:
        machine: A definition in the Amazon States Language.
        where: Its path.
        express: Whether the state machine is an Express one.
    """
    top = members(machine)
    first = State(
        name="",
        where=where,
        body=top,
        jsonata=top.get("QueryLanguage") == "JSONata",
        language=text(top.get("QueryLanguage")) or ("JSONPath" if "StartAt" in top else ""),
        express=express,
        bounded="TimeoutSeconds" in top,
    )
    waiting = list(_inner(first))
    while waiting:
        state = waiting.pop(0)
        yield state
        waiting[:0] = [inner for machine_inside in _machines(state) for inner in _inner(machine_inside)]


def _inner(machine: State) -> Iterator[State]:
    """Yield the states of one machine, which is passed as if it were a state."""
    for name, body in members(machine.body.get("States")).items():
        said = text(members(body).get("QueryLanguage")) or machine.language
        yield replace(
            machine,
            name=str(name),
            where=at(machine.where, "States", str(name)),
            body=members(body),
            jsonata=_is_jsonata(members(body), said == "JSONata" if said else machine.jsonata),
            language=said,
            is_object=isinstance(body, dict),
        )


def _is_jsonata(body: dict[str, Any], announced: bool) -> bool:
    """Whether a state is read as JSONata: it is said of it, or it has members that only one of the languages has.

    Where both are the case and do not agree, it is read by what it looks like, so that nothing else is found wrong.
    """
    if "Arguments" in body:
        return body.get("QueryLanguage") in (None, "JSONata")
    return announced and not any(name.endswith(".$") for name in names_within(body.get("Parameters")))


def _machines(state: State) -> Iterator[State]:
    """Yield the machines within a state."""
    if "QueryLanguage" in state.body:  # it is the state's alone; what it is for states inside is not documented
        state = replace(state, language="")
    for index, branch in enumerate(items(state.body.get("Branches"))):
        yield replace(state, where=at(state.where, "Branches", index), body=members(branch))
    for name in MACHINES[1:]:
        if isinstance(inner := state.body.get(name), dict):
            settings = members(inner.get("ProcessorConfig"))
            distributed = settings.get("Mode") == "DISTRIBUTED"
            yield replace(
                state,
                where=at(state.where, name),
                body=inner,
                express=settings.get("ExecutionType") == "EXPRESS" if distributed else state.express,
                copies=state.copies * _at_once(state.body, distributed=distributed),
                gathered=0 if distributed else _gathered(state),
            )


def _gathered(state: State) -> int:
    """Return how many outputs an inline Map brings together at least: its items if it lists them, else MaxConcurrency.

    Those of a Map within another one end in the outer one's state, too.
    """
    listed, wanted = items(state.body.get("Items")), number(state.body.get("MaxConcurrency"))
    return max(1, state.gathered) * max(1, len(listed) or int(wanted or 0))


def _at_once(body: dict[str, Any], *, distributed: bool) -> int:
    most = DISTRIBUTED_MOST if distributed else INLINE_MOST
    wanted = number(body.get("MaxConcurrency"))
    return most if wanted is None or wanted < 1 else min(int(wanted), most)
