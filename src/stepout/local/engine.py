"""What the gate uses of ministack, whose version is pinned: every name that is not public there, in one place."""

from __future__ import annotations

from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class LocalEngine:
    """Step Functions and ECS of ministack.

    Args:
        states: The module ``ministack.services.stepfunctions``.
        ecs: The module ``ministack.services.ecs``.

    Attributes:
        failure: The exception that fails a state: ``failure(error, cause)``.
        waits: The tokens that states wait for: ``{token: {"event", "result", "error", "heartbeat"}}``.
        activities: The activities, by their ARN.
        offered: Their tasks that no worker has taken yet.
    """

    def __init__(self, states: Any, ecs: Any) -> None:
        self._states, self._ecs = vars(states), vars(ecs)
        self.failure: Any = self._states["_ExecutionError"]
        self.waits: Any = self._states["_task_tokens"]
        self.activities: Any = self._states["_activities"]
        self.offered: Any = self._states["_activity_tasks"]

    def stand_before(self, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put a function in the place of one of Step Functions'.

        Args:
            name: Of the engine's function.
            make: Takes that function, and returns what is called instead of it.

        Raises:
            KeyError: This ministack has no such function: it is not the version that is pinned.
        """
        original = self._states[name]
        self._states[name] = wraps(original)(make(original))
        # Actions and integrations are called through a table that was filled at import: the name alone is not enough.
        for place, used in self._states["_SERVICE_DISPATCH"].items():
            if used is original:
                self._states["_SERVICE_DISPATCH"][place] = self._states[name]

    def stand_before_run_task(self, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put a function in the place of ECS's RunTask, for its API and for states."""
        original = self._ecs["_run_task"]  # states call it by its name, the API through the table
        self._ecs["_run_task"] = self._ecs["_ACTION_MAP"]["RunTask"] = wraps(original)(make(original))

    def refusal(self, code: str, message: str) -> Any:
        """Return the answer of an API to a call that it refuses."""
        return self._states["error_response_json"](code, message, HTTPStatus.BAD_REQUEST.value)

    def fail_wait(self, token: str, error: str, cause: str) -> bool:
        """Let the state that waits for a token fail; return whether there was one."""
        # One look-up: the state may end, and its wait be removed, between two.
        if (wait := self.waits.get(token)) is None:
            return False
        wait["error"] = {"Error": error, "Cause": cause}  # before the event: the state reads it once it is awake
        wait["event"].set()
        return True

    def type_of(self, machine: object) -> str | None:
        """Return ``STANDARD`` or ``EXPRESS``; ``None`` for a machine that does not exist."""
        found = self._states["_state_machines"].get(machine)
        return None if found is None else str(found["type"])

    def number(self, state: Mapping[str, Any], name: str, data: Any, ctx: Any) -> Any:
        """Return a number of a state: written there, by an expression, or at a path; ``None`` if it has none."""
        value = state.get(name)
        if isinstance(value, str):
            return self._states["_jsonata_state_field"](state, name, "number", data, ctx)
        if f"{name}Path" in state:
            effective = self._states["_apply_input_path"](state, data, ctx)
            return self._states["_resolve_path_or_ctx"](state[f"{name}Path"], effective, ctx)
        return value
