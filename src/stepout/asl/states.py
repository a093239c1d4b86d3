"""Task states, and the smallest state machines around them, from a kind and its options. Pure.

What may be retried is decided by the errors themselves (``retryable`` in ``stepout.schemas.errors``), never by a
wildcard: ``States.TaskFailed`` and ``States.ALL`` would try permanent failures again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepout.asl.services import KINDS, OVERRIDES_LIMIT, ServiceKind, activity_arn, overrides_size, room_beside
from stepout.asl.variables import StateOptions, allowed_places, output_url, own_place, render
from stepout.schemas import errors
from stepout.schemas.errors import ConfigurationError, StepoutError, TaskInterrupted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.asl.variables import QueryLanguage

_LONGEST_SECONDS = 99_999_999  # Of TimeoutSeconds and HeartbeatSeconds (Amazon States Language)
_MOST_SECONDS_BETWEEN = 300
_TIMEOUTS = ("States.HeartbeatTimeout", "States.Timeout")
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


_RETRYABLE_ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, StepoutError) and value.retryable is True
]

RETRYABLE = tuple(sorted([*(each.error_name for each in _RETRYABLE_ERRORS), TaskInterrupted.error_name]))
"""Our errors after which trying again may help, as Step Functions sees them."""

_LAMBDA_RETRYABLE = tuple(sorted(each.__name__ for each in _RETRYABLE_ERRORS))
"""The same, as Lambda names what a function raises: by the class."""


def task_state(kind: str, options: StateOptions) -> dict[str, Any]:
    """Return a Task state.

    Args:
        kind: One of ``KINDS``.
        options: What it is made of.

    Returns:
        The state, in Amazon States Language.

    Raises:
        ConfigurationError: The options contradict one another, or the kind cannot do what they ask.
    """
    chosen = KINDS[kind]
    _check_workflow(kind, chosen, options)
    if options.url is not None and chosen.reports != "pull":
        raise ConfigurationError(f"{kind} has no use for --url: it is for pull mode")
    if options.url is not None and options.result_path != "$":
        raise ConfigurationError("--result-path: with --url the input goes on as it is, the URL in it; leave it out")
    heartbeat, timeout = _clocks(chosen, options)
    state: dict[str, Any] = {"Type": "Task", "Resource": chosen.resource or activity_arn(options)}
    if options.language == "jsonata":
        state = {**state, "QueryLanguage": "JSONata"}
    if heartbeat is not None:
        state["HeartbeatSeconds"] = heartbeat
    state["TimeoutSeconds"] = timeout
    where = "Arguments" if options.language == "jsonata" else "Parameters"
    state[where] = render(chosen.parameters(options, heartbeat), options.language)
    state |= _result(chosen, options)
    if options.retries:
        state["Retry"] = _retry(chosen, options)
    if options.catch:
        state["Catch"] = [_catcher(chosen, options, names, target) for names, target in options.catch]
    return {**state, **({"Next": options.next} if options.next else {"End": True})}


def _check_workflow(kind: str, chosen: ServiceKind, options: StateOptions) -> None:
    if options.express and chosen.reports != "answer":
        how = "an activity" if chosen.resource is None else f".{(chosen.resource).rpartition('.')[2]}"
        raise ConfigurationError(
            f"{kind}: an Express workflow cannot wait for {how}: it ends after five minutes at most, and supports "
            "request and response alone. Use a Standard workflow; from an Express one, "
            "'stepout asl consumer' calls a function. Nothing was printed"
        )


def _clocks(chosen: ServiceKind, options: StateOptions) -> tuple[int | None, int]:
    heartbeat = options.heartbeat or chosen.heartbeat
    timeout = options.timeout or max(chosen.timeout, 3 * (heartbeat or 0))
    if chosen.reports != "token":
        if options.heartbeat is not None:
            raise ConfigurationError("--heartbeat: without a task token nobody sends heartbeats; leave it out")
        heartbeat = None
    elif heartbeat is not None and timeout <= heartbeat:
        raise ConfigurationError(f"--timeout ({timeout} s) must be longer than --heartbeat ({heartbeat} s)")
    if not 0 < (heartbeat or 1) <= _LONGEST_SECONDS or not 0 < timeout <= _LONGEST_SECONDS:
        raise ConfigurationError(f"--heartbeat and --timeout are 1 to {_LONGEST_SECONDS:,} s")
    return heartbeat, timeout


def _result(chosen: ServiceKind, options: StateOptions) -> dict[str, Any]:
    """What the state gives on: the output document; where it lies, in pull mode; or the function's own answer."""
    jsonata = options.language == "jsonata"
    where = options.result_path
    beside = {} if where == "$" else {"ResultPath": None if where == "null" else where}
    if chosen.reports == "pull" and options.url is not None:  # the input has the URL already: it goes on
        return {"Output": "{% $states.input %}"} if jsonata else {"ResultPath": None}
    if where == "null":
        return {"Output": "{% $states.input %}"} if jsonata else beside
    if chosen.reports == "pull" and not (jsonata and beside):
        selected = render({"output": output_url(options)}, options.language)
        return {"Output": selected} if jsonata else {"ResultSelector": selected, **beside}
    if jsonata and chosen.reports == "pull":
        return {"Output": _merged(options, f"{{'output': {output_url(options).query}}}")}
    return _own_result(chosen, options, beside)


def _own_result(chosen: ServiceKind, options: StateOptions, beside: dict[str, Any]) -> dict[str, Any]:
    """What the state is told by a task or a function itself."""
    if options.language == "jsonata":
        result = "$states.result.Payload" if chosen.reports == "answer" else "$states.result"
        return {"Output": _merged(options, result)}
    if chosen.reports == "answer":  # a selector gives objects alone: beside the input, the answer is a member
        return {"ResultSelector": {"Payload.$": "$.Payload"}, **beside} if beside else {"OutputPath": "$.Payload"}
    return beside


def _merged(options: StateOptions, result: str) -> str:
    """Say in JSONata what ``ResultPath`` says in JSONPath: a result beside the state's input."""
    _, *members = options.result_path.split(".")
    for depth in range(len(members), 0, -1):
        above = ".".join(["$states.input", *members[: depth - 1]])
        result = f"$merge([{above}, {{'{members[depth - 1]}': {result}}}])"
    return f"{{% {result} %}}"


def _retry(chosen: ServiceKind, options: StateOptions) -> list[dict[str, Any]]:
    """Transient failures more often, lost containers once; in pull mode the state is never told our names."""
    ours = RETRYABLE if chosen.reports == "token" else ()
    raised = _LAMBDA_RETRYABLE if "lambda" in (chosen.resource or "") else ()
    names = [*ours, *raised, *chosen.transient]
    interval = options.retry_interval
    often = {
        "ErrorEquals": names,
        "IntervalSeconds": interval,
        "MaxAttempts": options.retries,
        "BackoffRate": 2,
        "MaxDelaySeconds": max(_MOST_SECONDS_BETWEEN, interval + 1),
        "JitterStrategy": "FULL",
    }
    timeouts = _TIMEOUTS if chosen.reports == "token" else _TIMEOUTS[1:]
    once = {"ErrorEquals": list(timeouts), "IntervalSeconds": interval, "MaxAttempts": 1}
    return [often, once] if names else [once]


def _catcher(chosen: ServiceKind, options: StateOptions, names: tuple[str, ...], target: str) -> dict[str, Any]:
    catcher: dict[str, Any] = {"ErrorEquals": list(names)}
    if options.language == "jsonpath":
        return {**catcher, "ResultPath": "$.error", "Next": target}
    members = "'error': $states.errorOutput"
    if chosen.reports == "pull" and options.url is None:
        members += f", 'output': {output_url(options).query}"
    return {**catcher, "Output": f"{{% $merge([$states.input, {{{members}}}]) %}}", "Next": target}


def map_results(options: StateOptions) -> dict[str, Any]:
    """Return the members of a Map state that say where its results go, and where its failure leads.

    Args:
        options: As of a Task state; its query language, its result's place and its catchers count.
    """
    reported = KINDS["lambda"]  # a result that is the state's own, as a task reports it
    caught = [_catcher(reported, options, names, target) for names, target in options.catch]
    return {**_result(reported, options), **({"Catch": caught} if caught else {})}


def state_machine(kind: str, options: StateOptions) -> dict[str, Any]:
    """Return a state machine: the Task state, a state for what follows, and one for each state that catches.

    Args:
        kind: One of ``KINDS``.
        options: What the Task state is made of.

    Raises:
        ConfigurationError: As for ``task_state``, or two states have one name.
    """
    return machine_of([(kind, options)])


def machine_of(tasks: Sequence[tuple[str, StateOptions]]) -> dict[str, Any]:
    """Return a state machine of Task states, in this order; each names the one that follows.

    Args:
        tasks: Kind and options of each, in one query language.

    Raises:
        ConfigurationError: As for ``task_state``, or two states have one name.
    """
    states = [(options.name, task_state(kind, options)) for kind, options in tasks]
    return assembled(states, last=tasks[-1][1].next, language=tasks[0][1].language)


def assembled(
    states: Sequence[tuple[str, dict[str, Any]]], *, last: str | None, language: QueryLanguage
) -> dict[str, Any]:
    """Return a state machine of states, with a Succeed state at its end and a Fail state for each that catches.

    Args:
        states: Name and state, in order.
        last: The name of the Succeed state; ``None`` for none.
        language: Of all states.

    Raises:
        ConfigurationError: Two states have one name.
    """
    targets = dict.fromkeys(catcher["Next"] for _, state in states for catcher in state.get("Catch", ()))
    every = [*(name for name, _ in states), *targets, *([last] if last else [])]
    if twice := [name for name in every if every.count(name) > 1]:
        raise ConfigurationError(
            f"two states are called {twice[0]!r}: give one of them another name (--state, --name, --next, --catch)"
        )
    jsonata = language == "jsonata"
    failing = {"ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"}
    if jsonata:
        failing = {"Error": "{% $states.input.error.Error %}", "Cause": "{% $states.input.error.Cause %}"}
    for _, state in states:
        state.pop("QueryLanguage", None)
    return {
        **({"QueryLanguage": "JSONata"} if jsonata else {}),
        "StartAt": every[0],
        "States": {
            **dict(states),
            **({last: {"Type": "Succeed"}} if last else {}),
            **{target: {"Type": "Fail", **failing} for target in targets},
        },
    }


def unfilled(value: Any) -> list[str]:
    """Return the placeholders that are left in a state, in order.

    Examples:
        >>> unfilled({"Cluster": "${Cluster}", "Names": ["${Subnet}", "a"]})
        ['Cluster', 'Subnet']
    """
    if isinstance(value, str):
        return _PLACEHOLDER.findall(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(name for part in parts for name in unfilled(part)))


def state_warnings(kind: str, options: StateOptions) -> list[str]:
    """Return what may go wrong with a state that is valid.

    Args:
        kind: One of ``KINDS``.
        options: What the state is made of.
    """
    found = _size_warnings(kind, options)
    alone = kind in ("sqs", "activity", "consumer")  # a worker has its own bucket, a consumer writes nothing
    named = options.bucket or options.environment.get("STEPOUT_BUCKET")
    if alone and (options.bucket or options.prefix):
        allowed = " ".join(own_place(options))
        what = "worker", "STEPOUT_BUCKET and STEPOUT_PREFIX, and STEPOUT_ALLOW if its input is a document"
        whose, names = ("function", f'STEPOUT_ALLOW="{allowed}"') if kind == "consumer" else what
        found.append(f"a state cannot set a {whose}'s variables: give the {whose} {names}")
    if not alone and not named:
        found.append("no --bucket: STEPOUT_BUCKET must be set where the job is defined, or a task with artifacts fails")
    if not alone and _is_unbounded(options):
        found.append(
            "neither --allow nor --bucket: an input that is a pointer or a task output is refused, unless "
            "STEPOUT_ALLOW is set where the job is defined"
        )
    return found


def _is_unbounded(options: StateOptions) -> bool:
    """Tell whether the input may be a document, and nothing in the state says what it may point to."""
    anywhere = replace(options, allow=("s3://anywhere/",))
    return bool(allowed_places(anywhere)) and not allowed_places(options) and "STEPOUT_ALLOW" not in options.environment


def _size_warnings(kind: str, options: StateOptions) -> list[str]:
    size = overrides_size(kind, options)
    if size is None:
        return []
    known = options.input_path is None or options.input_size is not None
    if size > OVERRIDES_LIMIT:
        what = (
            f"the overrides may take {size:,} characters, and ECS allows {OVERRIDES_LIMIT:,}, JSON included: RunTask "
        )
        todo = (
            "would fail. Put the input into S3 and pass a pointer as STEPOUT_INPUT ('stepout put' makes one; --input "
        )
        which = "names where it stands, or a smaller part of the input such as $.artifacts"
        return [f"{what}{todo}{which}), or leave it out with --no-input"]
    if known:
        return []
    room, rest = f"{room_beside(size):,}", f"{size:,}"
    what = f"STEPOUT_INPUT may have {room} characters of JSON: ECS allows {OVERRIDES_LIMIT:,} characters of overrides, "
    todo = f"and the rest takes up to {rest}. Say --input-size N if the input is never larger, or pass a pointer"
    return [what + todo]
