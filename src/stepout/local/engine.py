"""What the gate uses of ministack, whose version is pinned: every name that is not public there, in one place."""

from __future__ import annotations

from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class LocalEngine:
    """Step Functions, ECS and S3 of ministack.

    Args:
        states: The module ``ministack.services.stepfunctions``.
        ecs: The module ``ministack.services.ecs``.
        s3: The module ``ministack.services.s3``.

    Attributes:
        failure: The exception that fails a state: ``failure(error, cause)``.
        waits: The tokens that states wait for: ``{token: {"event", "result", "error", "heartbeat"}}``.
        activities: The activities, by their ARN.
        offered: Their tasks that no worker has taken yet.
    """

    def __init__(self, states: Any, ecs: Any, s3: Any) -> None:
        self._states, self._ecs, self._s3 = vars(states), vars(ecs), vars(s3)
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

    def strange_container(self, call: Mapping[str, Any]) -> str | None:
        """Return a container in RunTask's overrides that the task definition does not have: it would get no token."""
        found = self._ecs["_task_defs"].get(self._ecs["_resolve_td_key"](call.get("taskDefinition", "")))
        if found is None:
            return None
        known = {each["name"] for each in found["containerDefinitions"]}
        overrides = (call.get("overrides") or {}).get("containerOverrides") or []
        return next((str(each.get("name")) for each in overrides if each.get("name") not in known), None)

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

    # Distributed Maps -----------------------------------------------------------------------------------------------

    def filled(self, template: Any, state: Mapping[str, Any], data: Any, effective: Any, ctx: Any) -> Any:
        """Return a payload template of a state with its values, in the state's query language.

        Args:
            template: JSON.
            state: The state.
            data: Its input.
            effective: The same after ``InputPath``, which is what paths look into.
            ctx: The context object.
        """
        if self._is_jsonata(state, ctx):
            return self._states["_apply_jsonata_template"](template, data, ctx)
        return self._states["_resolve_params_obj"](template, effective, ctx)

    def _is_jsonata(self, state: Mapping[str, Any], ctx: Any) -> bool:
        return bool(self._states["_state_query_language"](state, ctx) == "JSONata")

    def items_of(self, state: Mapping[str, Any], data: Any, effective: Any, ctx: Any) -> list[Any]:
        """Return the items of a Map state without an ``ItemReader``."""
        if self._is_jsonata(state, ctx) and "Items" in state:
            found = self._states["_jsonata_state_field"](state, "Items", "array", data, ctx)
        else:
            found = self._states["_resolve_path_or_ctx"](state.get("ItemsPath", "$"), effective, ctx)
        return found if isinstance(found, list) else [found]

    def read_items(self, reader: Mapping[str, Any], effective: Any) -> Any:
        """Return what an ``ItemReader`` reads whose parameters have their values."""
        return self._states["_read_map_items"](reader, effective, {})

    def map_run_of(self, children: Sequence[Mapping[str, Any]], execution: Mapping[str, Any]) -> str:
        """Return the ARN of the Map Run of these children; without any, of the execution's newest."""
        if children:
            return str(children[0]["mapRunArn"])
        runs = self._states["_map_runs"].values()
        return str([run["mapRunArn"] for run in runs if run["executionArn"] == execution["executionArn"]][-1])

    def output_of(self, state: Mapping[str, Any], data: Any, result: Any, ctx: Any) -> Any:
        """Return what a state gives on, by ``Output``; or by ``ResultSelector``, ``ResultPath`` and ``OutputPath``."""
        if self._is_jsonata(state, ctx):
            output = self._states["_apply_jsonata_output"](state, data, ctx, result=result, default=result)
            self._states["_apply_state_assign"](state, data, ctx, result=result)
            return output
        selected = self._states["_apply_result_selector"](state, result)
        merged = self._states["_apply_result_path"](state, data, selected)
        return self._states["_apply_output_path"](state, merged, ctx)

    def object_version(self, bucket: str, key: str, version: str) -> str | None:
        """Return the text of one version of an object; ``None`` if there is none."""
        status, _, body = self._s3["_get_object"](bucket, key, {}, {"versionId": version})
        return body.decode() if status == HTTPStatus.OK else None

    def put_object(self, bucket: str, key: str, content: bytes) -> bool:
        """Write an object; return whether there is such a bucket."""
        status = self._s3["_put_object"](bucket, key, content, {"content-type": "application/json"})[0]
        return bool(status == HTTPStatus.OK)
