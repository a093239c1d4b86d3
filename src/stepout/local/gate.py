"""The gate before the local AWS's engine: the limits and clocks of Step Functions and ECS that ministack leaves out.

It runs in ministack's own process (``stepout.local.server``), because most of them lie between two states, where no
request passes that a proxy could see. It stands before the engine's own functions and calls them; what it refuses has
the name that AWS gives it. ``docs/reference/local-aws.md`` lists what it plays and what it does not, and
``docs/adr/0011-a-gate-inside-the-local-engine.md`` says why it stands there.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import math
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from stepout.asl.services import OVERRIDES_LIMIT
from stepout.local.token_rules import PAYLOAD_MOST, TaskTokens, TokenRefusal, payload_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepout.local.engine import LocalEngine

_T = TypeVar("_T")

_FOREVER = 10**8
"""Seconds, for the engine's own clock: the gate's is the one that decides."""

_LOOK_SECONDS = 0.5
"""How often a clock is looked at: a heartbeat moves it, and so does the worker that takes an activity's task."""

_LATER_SECONDS = 0.005
"""A clock has run out once its time is over, not when it is reached: a look at the very moment would come too soon."""

_UNCATCHABLE = ("States.DataLimitExceeded", "States.Runtime")
_OVERRIDES_TOO_LONG = f"Container Overrides length must be at most {OVERRIDES_LIMIT}"


@dataclass(frozen=True)
class _Attempt:
    """The Task state that this thread is in."""

    state: Mapping[str, Any]
    execution: Mapping[str, Any]

    @property
    def clocks(self) -> dict[str, float | None]:
        """What a token of it is issued with."""
        return {"heartbeat": self.state.get("HeartbeatSeconds"), "timeout": self.state.get("TimeoutSeconds")}


# ministack runs executions, branches and calls with a timeout in threads of their own, and copies the context into
# each. So the gate's functions pass values to each other in context variables, where thread-local ones would be lost.
_attempt: contextvars.ContextVar[_Attempt | None] = contextvars.ContextVar("attempt", default=None)
_waiting: contextvars.ContextVar[str | None] = contextvars.ContextVar("waiting", default=None)
_refused: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("refused", default=None)
_context: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("context", default=None)


@contextlib.contextmanager
def _during(variable: contextvars.ContextVar[_T], value: _T) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)


class EngineGate:
    """Stands before the functions of ministack's Step Functions and ECS.

    Args:
        engine: Where these functions are.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._tokens = TaskTokens()
        self._issued: dict[str, set[str]] = {}

    def install(self) -> None:
        """Take the place of the engine's functions; each is called by the one that takes its place.

        Raises:
            KeyError: This ministack has no function of such a name: it is not the version that is pinned.
        """
        for name, make in {
            "_apply_parameters": self._before_an_attempt,
            "_apply_jsonata_arguments": self._before_an_attempt,
            "_invoke_resource_with_timeout": self._with_timeout,
            "_invoke_with_callback": self._with_callback,
            "_call_lambda": self._function,
            "_invoke_activity": self._activity,
            "_invoke_resource": self._sized_result,
            "_invoke_ecs_run_task": self._run_task_state,
            "_get_activity_task": self._activity_taken,
            "_send_task_success": self._report("SendTaskSuccess"),
            "_send_task_failure": self._report("SendTaskFailure"),
            "_send_task_heartbeat": self._report("SendTaskHeartbeat"),
            "_execute_pass": self._sized_output,
            "_execute_choice": self._sized_output,
            "_execute_wait": self._sized_output,
            "_execute_parallel": self._sized_output,
            "_execute_map": self._sized_output,
            "_execute_task": self._task,
            "_apply_result_selector": self._selected,
            "_run_sub_machine": self._sub_machine,
            "_error_matches": _matches,
            "_start_execution": self._sized_input,
            "_start_sync_execution": self._sized_input,
            "_stop_execution": self._stopped,
            "_fail_execution": _failed_while_running,
            "_create_state_machine": self._checked_type,
            "_update_state_machine": self._checked_type,
            "_validate_definition_jsonata": _checked_clocks,
        }.items():
            self._engine.stand_before(name, make)
        self._engine.stand_before_run_task(self._run_task)

    # Tokens ---------------------------------------------------------------------------------------------------------

    def _before_an_attempt(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        """A new token for each attempt, made before the parameters that carry it; then the size of the input."""

        def gated(state: Mapping[str, Any], data: Any, ctx: dict[str, Any] | None = None) -> Any:
            attempt = _attempt.get()
            # The engine makes one token for a state and uses it for every retry; on AWS each try has its own.
            if attempt is not None and ctx is not None and ".waitForTaskToken" in state.get("Resource", ""):
                ctx["Task"] = {"Token": self._issue(attempt)}
            effective = apply(state, data, ctx)
            if "Resource" in state:
                self._check_size(effective, ctx)
            return effective

        return gated

    def _issue(self, attempt: _Attempt, *, begun: bool = True) -> str:
        token = self._tokens.issue(begun=begun, **attempt.clocks)
        self._issued.setdefault(str(attempt.execution.get("executionArn")), set()).add(token)
        return token

    def _watch(self, token: str, state: Mapping[str, Any]) -> _Watch:
        clocked = any(name in state for name in ("HeartbeatSeconds", "TimeoutSeconds"))
        return _Watch(self._tokens, token, self._engine, clocked=clocked)

    def _with_callback(self, invoke: Callable[..., Any]) -> Callable[..., Any]:
        """Hold the wait to the token's clocks; the engine's own never runs out."""

        def gated(resource: str, data: Any, token: str, state: Mapping[str, Any]) -> Any:
            with _during(_waiting, token), self._watch(token, state):
                return self._sized(invoke(resource, data, token, {**state, "TimeoutSeconds": _FOREVER}), resource)

        return gated

    def _function(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that was given a token and raises fails its state, unless it had reported before."""

        def gated(function: str, event: Any) -> Any:
            try:
                return call(function, event)
            except self._engine.failure as error:
                token = _waiting.get()
                # The token is closed first: a report that comes from now on must not be answered as accepted.
                if token is not None and token in self._engine.waits and not self._tokens.closed(token):
                    self._tokens.close(token)
                    self._engine.fail_wait(token, error.error, error.cause)
                raise

        return gated

    def _activity(self, invoke: Callable[..., Any]) -> Callable[..., Any]:
        """Offer the task with a token whose clocks begin when a worker takes it."""

        def gated(arn: str, data: Any) -> Any:
            attempt = _attempt.get()
            if attempt is None or arn not in self._engine.activities:
                return invoke(arn, data)
            token = self._issue(attempt, begun=False)
            wait: dict[str, Any] = {"event": threading.Event(), "result": None, "error": None, "heartbeat": None}
            self._engine.waits[token] = wait  # before the task is offered: a worker may report at once
            with self._watch(token, attempt.state):
                self._engine.offered[arn].append({"taskToken": token, "input": json.dumps(data)})
                wait["event"].wait()
            self._engine.waits.pop(token, None)
            if wait["error"]:
                raise self._engine.failure(wait["error"]["Error"], wait["error"]["Cause"])
            return self._sized(json.loads(wait["result"]), arn)

        return gated

    def _activity_taken(self, take: Callable[..., Any]) -> Callable[..., Any]:
        async def gated(data: Mapping[str, Any]) -> Any:
            answer = await take(data)
            token = json.loads(answer[2] or "{}").get("taskToken")
            if token:
                self._tokens.begin(token)
            return answer

        return gated

    def _report(self, action: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Answer by the rules; only what they accept is passed on to the engine."""

        def make(send: Callable[..., Any]) -> Callable[..., Any]:
            def gated(data: Mapping[str, Any]) -> Any:
                token = str(data.get("taskToken", ""))
                try:
                    self._tokens.check(token)
                    if token not in self._engine.waits:  # another account's or region's
                        return self._engine.refusal("TaskDoesNotExist", "Task does not exist")
                    if action == "SendTaskHeartbeat":
                        self._tokens.heartbeat(token)
                    else:
                        self._tokens.report(action, data)
                except TokenRefusal as refusal:
                    return self._engine.refusal(refusal.code, str(refusal))
                return send(data)

            return gated

        return make

    def _stopped(self, stop: Callable[..., Any]) -> Callable[..., Any]:
        """An execution that was stopped waits for no token any more."""

        def gated(data: Mapping[str, Any]) -> Any:
            answer = stop(data)
            if answer[0] < HTTPStatus.BAD_REQUEST:
                for token in self._issued.pop(str(data.get("executionArn")), ()):
                    self._tokens.close(token)
            return answer

        return gated

    # States ---------------------------------------------------------------------------------------------------------

    def _task(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """Know the state and its clocks while it is tried."""
        sized = self._sized_output(execute)

        def gated(state: dict[str, Any], data: Any, execution: Mapping[str, Any], ctx: dict[str, Any]) -> Any:
            if execution["status"] != "RUNNING":  # stopped between two states, which the engine does not look at
                raise self._engine.failure("States.Runtime", "the execution was stopped")
            clocked = {**state, **self._clocks(state, data, ctx)}
            # An execution that a state started runs in that state's context: its token is not this state's.
            with _during(_attempt, _Attempt(clocked, execution)), _during(_waiting, None):
                return sized(clocked, data, execution, ctx)

        return gated

    def _clocks(self, state: Mapping[str, Any], data: Any, ctx: dict[str, Any]) -> dict[str, float]:
        """Return ``TimeoutSeconds`` and ``HeartbeatSeconds`` as numbers, wherever the state has them from."""
        found = {}
        for name in ("TimeoutSeconds", "HeartbeatSeconds"):
            value = self._engine.number(state, name, data, ctx)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise self._engine.failure("States.Runtime", f"{name} must be a positive number of seconds")
            found[name] = value
        if ".waitForTaskToken" not in state.get("Resource", "") and "HeartbeatSeconds" in found:
            # No program can beat for such a state: its heartbeat is a second timeout (see _with_timeout).
            found.setdefault("TimeoutSeconds", _FOREVER)
        return found

    def _with_timeout(self, invoke: Callable[..., Any]) -> Callable[..., Any]:
        """Without a token, no program can beat: such a state ends with its heartbeat's clock if that is first."""

        def gated(resource: str, data: Any, timeout: float) -> Any:
            attempt = _attempt.get()
            heartbeat = attempt.clocks["heartbeat"] if attempt is not None else None
            if heartbeat is None or heartbeat >= timeout:
                return invoke(resource, data, timeout)
            try:
                return invoke(resource, data, heartbeat)
            except self._engine.failure as error:
                if error.error != "States.Timeout":
                    raise
                raise self._engine.failure("States.HeartbeatTimeout", "") from None

        return gated

    def _sub_machine(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Each branch has a context of its own: tokens of two that run at once must not change places."""

        def gated(states: Any, start: str, data: Any, execution: Any, ctx: dict[str, Any]) -> Any:
            self._check_size(data, ctx)
            return run(states, start, data, execution, dict(ctx))

        return gated

    # Sizes ----------------------------------------------------------------------------------------------------------

    def _sized_output(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """What a state gives on, after its result was merged into its input; its context has all that AWS's has."""

        def gated(state: Any, data: Any, *rest: Any) -> Any:
            ctx = rest[-1] if rest else None
            if ctx and "Execution" in ctx:  # AWS has it from the start; nothing is redriven here
                ctx["Execution"].setdefault("RedriveCount", 0)
            with _during(_context, ctx):
                output, following = execute(state, data, *rest)
            self._check_size(output, ctx)
            return output, following

        return gated

    def _selected(self, select: Callable[..., Any]) -> Callable[..., Any]:
        """Paths of a ``ResultSelector`` lead into the context object, too; the engine gives it none."""

        def gated(state: Mapping[str, Any], result: Any) -> Any:
            ctx = _context.get()
            if ctx is None or "ResultSelector" not in state:
                return select(state, result)
            return self._engine.filled(state["ResultSelector"], state, result, result, ctx)

        return gated

    def _sized_result(self, invoke: Callable[..., Any]) -> Callable[..., Any]:
        def gated(resource: str, data: Any) -> Any:
            return self._sized(invoke(resource, data), resource)

        return gated

    def _check_size(self, value: object, ctx: Mapping[str, Any] | None) -> None:
        self._sized(value, ((ctx or {}).get("State") or {}).get("Name", ""))

    def _sized(self, value: Any, whose: str) -> Any:
        if payload_size(value) > PAYLOAD_MOST:
            raise self._engine.failure(
                "States.DataLimitExceeded",
                f"The state/task '{whose}' returned a result with a size exceeding the maximum number of bytes "
                "service limit.",
            )
        return value

    def _sized_input(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def gated(data: Mapping[str, Any]) -> Any:
            text = data.get("input")
            if isinstance(text, str) and len(text.encode("utf-8", "surrogatepass")) > PAYLOAD_MOST:
                message = (
                    "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must have "
                    f"length less than or equal to {PAYLOAD_MOST}"
                )
                return self._engine.refusal("ValidationException", message)
            return start(data)

        return gated

    # ECS ------------------------------------------------------------------------------------------------------------

    def _run_task(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def gated(data: Mapping[str, Any]) -> Any:
            overrides = json.dumps(data.get("overrides") or {}, ensure_ascii=False, separators=(",", ":"))
            if len(overrides) > OVERRIDES_LIMIT:
                answer = self._engine.refusal("InvalidParameterException", _OVERRIDES_TOO_LONG)
            elif (strange := self._engine.strange_container(data)) is not None:
                message = f"Override for container named {strange} is not a container in the TaskDefinition."
                answer = self._engine.refusal("InvalidParameterException", message)
            else:
                answer = run(data)
            refused = _refused.get()  # of the state that calls, if one does: the engine drops the code of the answer
            if refused is not None and answer[0] >= HTTPStatus.BAD_REQUEST:
                refused.update(json.loads(answer[2]))
            return answer

        return gated

    def _run_task_state(self, invoke: Callable[..., Any]) -> Callable[..., Any]:
        """A refusal of ECS has the name that ECS gave it, after "ECS."."""

        def gated(resource: str, data: Any) -> Any:
            refused: dict[str, Any] = {}
            try:
                with _during(_refused, refused):
                    return invoke(resource, data)
            except self._engine.failure as error:
                if error.error != "ECS.RunTaskFailed":
                    raise
                code = str(refused.get("__type", "AmazonECSException")).rpartition("#")[2]
                cause = f"{error.cause} (Service: AmazonECS; Status Code: 400; Error Code: {code})"
                raise self._engine.failure(f"ECS.{code}", cause) from None

        return gated

    def _checked_type(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """An Express workflow can wait for neither a token nor a job."""

        def gated(data: Mapping[str, Any]) -> Any:
            kind = data.get("type") or self._engine.type_of(data.get("stateMachineArn"))
            for place, state in _tasks(_parsed(data.get("definition")), "") if kind == "EXPRESS" else ():
                if state["Resource"].endswith((".waitForTaskToken", ".sync", ".sync:2")):
                    message = (
                        "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: Express state machine does not "
                        f"support '{state['Resource']}' service integration at {place}/Resource'"
                    )
                    return self._engine.refusal("InvalidDefinition", message)
            return save(data)

        return gated


class _Watch:
    """Has the engine fail a state when a clock of its token runs out, and closes the token when the state has ended."""

    def __init__(self, tokens: TaskTokens, token: str, engine: LocalEngine, *, clocked: bool) -> None:
        self._tokens, self._token, self._engine, self._clocked = tokens, token, engine, clocked
        self._done = threading.Event()

    def __enter__(self) -> None:
        if self._clocked:
            follow = contextvars.copy_context().run  # the engine keeps its waits apart by account and region
            threading.Thread(target=follow, args=(self._follow,), name="stepout-local-clock", daemon=True).start()

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._tokens.close(self._token)

    def _follow(self) -> None:
        while not self._done.wait(self._pause()):
            error = self._tokens.expired(self._token)
            # The clock may run out before the engine waits: then the next look finds the wait, and the same error.
            if error is not None and self._engine.fail_wait(self._token, error, ""):
                return

    def _pause(self) -> float:
        left = self._tokens.seconds_left(self._token)
        return _LOOK_SECONDS if left is None else min(_LOOK_SECONDS, left + _LATER_SECONDS)


def _matches(matches: Callable[..., bool]) -> Callable[..., bool]:
    """What a Retry or a Catch means by the reserved names."""

    def gated(names: list[str], error: str) -> bool:
        if error in _UNCATCHABLE:
            return False
        if error == "States.HeartbeatTimeout":
            return not {"States.ALL", "States.Timeout", error}.isdisjoint(names)
        return matches(names, error)

    return gated


def _failed_while_running(fail: Callable[..., None]) -> Callable[..., None]:
    """An execution that was stopped stays so, whatever its states come to afterwards."""

    def gated(execution: Mapping[str, Any], error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":
            fail(execution, error, cause)

    return gated


def _checked_clocks(validate: Callable[..., str | None]) -> Callable[..., str | None]:
    """A heartbeat must be shorter than the timeout beside it."""

    def gated(definition: object) -> str | None:
        found = validate(definition)
        for place, state in () if found else _tasks(_parsed(definition), ""):
            heartbeat, timeout = state.get("HeartbeatSeconds"), state.get("TimeoutSeconds")
            if isinstance(heartbeat, int) and isinstance(timeout, int) and heartbeat >= timeout:
                return (
                    "Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: HeartbeatSeconds must be smaller "
                    f"than TimeoutSeconds at {place}'"
                )
        return found

    return gated


def _parsed(definition: object) -> Any:
    try:
        return json.loads(definition) if isinstance(definition, str) else None
    except (ValueError, RecursionError):
        return None


def _tasks(machine: object, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the Task states of a machine, with those of its branches and iterators."""
    states = machine.get("States") if isinstance(machine, dict) else None
    for name, state in states.items() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        here = f"{place}/States/{name}"
        if state.get("Type") == "Task" and isinstance(state.get("Resource"), str):
            yield here, state
        branches = state.get("Branches")
        for number, branch in enumerate(branches if isinstance(branches, list) else ()):
            yield from _tasks(branch, f"{here}/Branches[{number}]")
        for inner in ("Iterator", "ItemProcessor"):
            yield from _tasks(state.get(inner), f"{here}/{inner}")
