"""``stepout doctor``'s judgement: which kind of document each is, and everything that is wrong with all of them.

Pure: JSON in, findings out. A task definition is held against the states that run it, a bucket's lifecycle against the
longest timeout, a network against the subnets that a state names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.doctor.bucket import answers_of, bucket_findings
from stepout.doctor.findings import SEVERITIES, Document, Expectations, Finding
from stepout.doctor.json_lookup import members, text
from stepout.doctor.machine import longest_wait, machine_findings, machine_states
from stepout.doctor.network import NETWORK, Needs, merge_networks, network_findings, public_findings
from stepout.doctor.rules import find
from stepout.doctor.task_definition import all_containers, environment_of, task_findings, task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepout.doctor.states import State

KINDS = ("state machine", "task definition", "bucket", "network")
"""What a document may be."""

_STATE_TYPES = frozenset({"Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map"})


def recognise(value: object) -> str | None:
    """Return which of ``KINDS`` a JSON value is, by its content; ``None`` if it is another.

    >>> recognise({"StartAt": "A", "States": {}}), recognise({"Rules": []}), recognise({"a": 1})
    ('state machine', 'bucket', None)
    """
    found = members(value)
    if _is_task(found) or _is_task(members(found.get("taskDefinition"))):
        return "task definition"
    if _is_answer(found) or _is_machine(found) or _is_state(found):
        return "state machine"
    if any(_is_list_of_objects(found.get(name)) for name in NETWORK):
        return "network"
    if answers_of(found):
        return "bucket"
    return "state machine" if found and all(_is_state(members(each)) for each in found.values()) else None


def _is_task(value: dict[str, Any]) -> bool:
    return "containerDefinitions" in value


def _is_answer(value: dict[str, Any]) -> bool:
    """Whether it is DescribeStateMachine's answer, or what CreateStateMachine takes; others have definitions, too."""
    definition = value.get("definition")
    if isinstance(definition, str):
        return "stateMachineArn" in value or value.get("type") in ("STANDARD", "EXPRESS") or '"States"' in definition
    return _is_machine(members(definition))


def _is_machine(value: dict[str, Any]) -> bool:
    if "States" not in value:
        return False
    states = members(value["States"])
    return "StartAt" in value or any(_is_state(members(each)) for each in states.values())


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_state(value: dict[str, Any]) -> bool:
    return isinstance(value.get("Type"), str) and value["Type"] in _STATE_TYPES


def examine(documents: Sequence[Document], expected: Expectations | None = None) -> list[Finding]:
    """Look at documents, each by itself and all together.

    Args:
        documents: State machines, task definitions, buckets' configurations, networks; the kind of each is seen.
        expected: What they do not say themselves.

    Returns:
        Findings, document by document, the worst of each first.
    """
    expected = expected or Expectations()
    kinds = {index: recognise(document.value) for index, document in enumerate(documents)}
    grouped = {kind: [documents[index] for index, is_a in kinds.items() if is_a == kind] for kind in KINDS}
    tasks = [task_of(document.value)[1] for document in grouped["task definition"]]
    machines = [machine_states(document.value) for document in grouped["state machine"]]
    expected = _completed(expected, [state for states in machines for state in states], tasks)
    network = merge_networks([document.value for document in grouped["network"]])
    found: list[Finding] = []
    for index, document in enumerate(documents):
        made = _about(kinds[index], document.value, expected, tasks, network)
        found += [replace(finding, source=document.source) for finding in sorted(made, key=_badness)]
    return [*found, *_about_network(grouped["network"], network, machines, tasks)]


def _badness(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _about(
    kind: str | None, value: object, expected: Expectations, tasks: list[dict[str, Any]], network: dict[str, list[Any]]
) -> Iterator[Finding]:
    if kind == "state machine":
        yield from machine_findings(value, tasks)
        for state in machine_states(value):
            yield from public_findings(state, network)
    elif kind == "task definition":
        yield from task_findings(value, expected)
    elif kind == "bucket":
        yield from bucket_findings(value, expected)
    elif kind is None:
        yield find("SO902", "", f"this JSON is neither a {', a '.join(KINDS[:-1])} nor a {KINDS[-1]}")


def _about_network(
    documents: list[Document], network: dict[str, list[Any]], machines: list[list[State]], tasks: list[dict[str, Any]]
) -> list[Finding]:
    """Look at the network as a whole: its parts may come in several documents."""
    if not documents:
        return []
    states = [state for found in machines for state in found]
    found = sorted(network_findings(network, _needs(states, tasks)), key=_badness)
    source = " + ".join(dict.fromkeys(document.source for document in documents))
    return [replace(finding, source=source) for finding in found]


def _needs(states: list[State], tasks: list[dict[str, Any]]) -> Needs:
    containers = all_containers(tasks)
    targets = [text(environment_of(container).get("STEPOUT_TARGETS")) for container in containers]
    targets += [
        text(each.reference.value) for state in states for each in state.overrides if each.name.endswith("TARGETS")
    ]
    images = [text(container.get("image")) for container in containers]
    drivers = [members(container.get("logConfiguration")).get("logDriver") for container in containers]
    return Needs(
        queue=any("sqs:" in target for target in targets)
        or any(state.integration.startswith("sqs:") for state in states),
        registry=any(".ecr." in image for image in images) or not containers,
        logs="awslogs" in drivers or not containers,
    )


def _completed(expected: Expectations, states: list[State], tasks: list[dict[str, Any]]) -> Expectations:
    """Fill in what was not said from what is seen."""
    variables = [environment_of(container) for container in all_containers(tasks)]
    prefixes = {text(found["STEPOUT_PREFIX"]) for found in variables if "STEPOUT_PREFIX" in found}
    passed = [each for state in states for each in state.overrides if each.name == "STEPOUT_PREFIX"]
    if any(each.reference.dynamic for each in passed):
        passed, prefixes = [], set()  # known when the state runs, so it may be any
    prefixes |= {text(each.reference.value) for each in passed}
    prefix = expected.prefix if expected.prefix is not None or len(prefixes) != 1 else prefixes.pop()
    longest = expected.longest_job if expected.longest_job is not None else longest_wait(states)
    return replace(expected, prefix=prefix, longest_job=longest)
