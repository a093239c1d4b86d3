"""Distributed Maps in the local AWS: what ministack leaves out of them, the ``ResultWriter`` first of all.

ministack reads the items, runs a child for each, counts failures and keeps Map Runs. What is done here instead:
``ItemReader`` in JSONata and with a ``VersionId``, ``ItemSelector`` in JSONata, ``ItemBatcher``, numbers by path or
expression, the context object of a child, which is an execution of its own, and what becomes of the results.
``docs/adr/0018-distributed-maps-in-the-gate.md`` says why it is done in the gate.
"""

from __future__ import annotations

import contextvars
import json
from typing import TYPE_CHECKING, Any, Final

from stepout.local.result_writer import ResultWriter, manifest
from stepout.local.token_rules import payload_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.local.engine import LocalEngine

_NUMBERS: Final = ("MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage")
_DONE_HERE: Final = frozenset(
    {
        "InputPath",
        "ItemReader",
        "Items",
        "ItemSelector",
        "Parameters",
        "ItemBatcher",
        "ResultWriter",
        "ResultSelector",
        "ResultPath",
        "OutputPath",
        "Output",
        *_NUMBERS,
        *(f"{name}Path" for name in _NUMBERS),
    }
)
"""Members of a Map state that ministack is not shown: it would do them otherwise, or once more."""

# ministack runs each child in a thread of its own, with a copy of the context.
_started: contextvars.ContextVar[list[dict[str, Any]] | None] = contextvars.ContextVar("started", default=None)
_version: contextvars.ContextVar[str | None] = contextvars.ContextVar("version", default=None)


class DistributedMaps:
    """Stands before the functions of ministack that run Distributed Maps.

    Args:
        engine: Where these functions are.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def install(self) -> None:
        """Take the place of the engine's functions; ``EngineGate.install`` says what that raises."""
        self._engine.stand_before("_run_distributed_map", self._map_run)
        self._engine.stand_before("_run_sub_machine", self._child)
        self._engine.stand_before("_s3_object_text", self._object)

    def _map_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Give the children what each is given, and do with their results what the state says."""

        def gated(state: dict[str, Any], data: Any, *rest: Any) -> Any:
            effective, processor, execution, ctx = rest
            values = _Values(self._engine, state, data, effective, ctx)
            inputs = list(values.batches(list(values.inputs())))
            shown = {name: value for name, value in state.items() if name not in _DONE_HERE}
            shown |= values.numbers() | {"ItemsPath": "$"}
            children: list[dict[str, Any]] = []
            token = _started.set(children)
            try:
                _, following = run(shown, data, inputs, processor, execution, ctx)
            except self._engine.failure:
                values.write(children, execution)  # what ended before the tolerance was exceeded is written, too
                raise
            finally:
                _started.reset(token)
            result = values.write(children, execution)
            return self._engine.output_of(state, data, result, ctx), following

        return gated

    def _child(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """A child is an execution of its own: its context is not its parent's, and has no item."""

        def gated(states: Any, start: str, data: Any, execution: dict[str, Any], ctx: dict[str, Any]) -> Any:
            started = _started.get()
            if started is None or "mapRunArn" not in execution or ctx["Execution"]["Id"] == execution["executionArn"]:
                return run(states, start, data, execution, ctx)
            started.append({"index": ctx["Map"]["Item"]["Index"], "child": execution})
            own = {name: value for name, value in ctx.items() if name != "Map"}
            own["Execution"] = {
                **ctx["Execution"],
                "Id": execution["executionArn"],
                "Input": data,
                "Name": execution["name"],
                "StartTime": execution["startDate"],
            }
            return run(states, start, data, execution, own)

        return gated

    def _object(self, read: Callable[..., str]) -> Callable[..., str]:
        """The version that the reader names."""

        def gated(bucket: str, key: str) -> str:
            version = _version.get()
            if version is None:
                return read(bucket, key)
            text = self._engine.object_version(bucket, key, version)
            if text is None:
                cause = f"The specified version does not exist. (Bucket: {bucket}, Key: {key})"
                raise self._engine.failure("States.ItemReaderFailed", cause)
            return text

        return gated


class _Values:
    """What the members of one Distributed Map come to, in its query language."""

    def __init__(self, engine: LocalEngine, state: Mapping[str, Any], data: Any, effective: Any, ctx: Any) -> None:
        self._engine, self._state, self._ctx = engine, state, ctx
        self._data, self._effective = data, effective

    def inputs(self) -> Iterator[Any]:
        """Yield what each item becomes by the ``ItemSelector``."""
        selector = self._state.get("ItemSelector") or self._state.get("Parameters")
        for index, value in enumerate(self._items()):
            ctx = {**self._ctx, "Map": {"Item": {"Index": index, "Value": value}}}
            yield self._filled(selector, ctx) if selector else value

    def _items(self) -> list[Any]:
        reader = self._state.get("ItemReader")
        if reader is None:
            return self._engine.items_of(self._state, self._data, self._effective, self._ctx)
        place = self._filled(reader.get("Arguments") or reader.get("Parameters") or {}, self._ctx)
        if missing := [name for name, value in place.items() if value is None]:
            cause = f"The ItemReader's {', '.join(missing)} leads to nothing in the state's input"
            raise self._engine.failure("States.Runtime", cause)
        token = _version.set(place.get("VersionId"))
        try:
            found = self._engine.read_items({**reader, "Arguments": place, "Parameters": None}, self._effective)
        finally:
            _version.reset(token)
        return found if isinstance(found, list) else [found]

    def batches(self, inputs: Sequence[Any]) -> Iterator[Any]:
        """Yield what each child is given."""
        batcher = self._state.get("ItemBatcher")
        if batcher is None:
            yield from inputs
            return
        most = self._number(batcher, "MaxItemsPerBatch") or len(inputs)
        room = self._number(batcher, "MaxInputBytesPerBatch") or 0
        shared = {"BatchInput": self._filled(batcher["BatchInput"], self._ctx)} if "BatchInput" in batcher else {}
        held: list[Any] = []
        for value in inputs:
            if held and (len(held) == most or (room and payload_size({**shared, "Items": [*held, value]}) > room)):
                yield {**shared, "Items": held}
                held = []
            held.append(value)
        if held:
            yield {**shared, "Items": held}

    def numbers(self) -> dict[str, Any]:
        """Return the numbers of the state, wherever it has them from."""
        found = {name: self._number(self._state, name) for name in _NUMBERS}
        return {name: value for name, value in found.items() if value is not None}

    def _number(self, where: Mapping[str, Any], name: str) -> Any:
        return self._engine.number(where, name, self._data, self._ctx)

    def _filled(self, template: Any, ctx: Any) -> Any:
        return self._engine.filled(template, self._state, self._data, self._effective, ctx)

    def write(self, started: Sequence[dict[str, Any]], execution: Mapping[str, Any]) -> Any:
        """Write the results if the state says so, and return its result."""
        children = [each["child"] for each in sorted(started, key=lambda each: each["index"])]
        writer = self._state.get("ResultWriter") or {}
        config = writer.get("WriterConfig") or {}
        chosen = config.get("Transformation", "NONE" if "Resource" in writer else "COMPACT")
        form = ResultWriter(chosen, config.get("OutputType", "JSON"))
        if "Resource" not in writer:
            return list(form.rows(children))
        place = self._filled(writer.get("Arguments") or writer.get("Parameters") or {}, self._ctx)
        bucket, map_run = str(place.get("Bucket")), self._engine.map_run_of(children, execution)
        folder = "/".join(filter(None, (str(place.get("Prefix") or "").strip("/"), map_run.rpartition(":")[2])))
        files = []
        for status, name, content in form.files(children):
            self._put(bucket, f"{folder}/{name}", content)
            files.append((status, f"{folder}/{name}", len(content)))
        key = f"{folder}/manifest.json"
        self._put(bucket, key, json.dumps(manifest(bucket, map_run, files)).encode())
        return {"MapRunArn": map_run, "ResultWriterDetails": {"Bucket": bucket, "Key": key}}

    def _put(self, bucket: str, key: str, content: bytes) -> None:
        if not self._engine.put_object(bucket, key, content):
            cause = f"Failed to write to S3. (Bucket: {bucket}, Key: {key})"
            raise self._engine.failure("States.ResultWriterFailed", cause)
