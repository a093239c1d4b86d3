"""The task output: the JSON document that a task returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping  # noqa: TC003 - typing.get_type_hints works on the models
from dataclasses import dataclass, field
from typing import Any, Final

from stepout.schemas import rules
from stepout.schemas.errors import invalid_document
from stepout.schemas.identity import RunIdentity, producer_problems, read_producer
from stepout.schemas.pointer import Pointer, pointer_problems, read_pointer
from stepout.schemas.problems import Problem, member
from stepout.schemas.text.json_text import dump_json
from stepout.schemas.text.json_value import DEPTH_LIMIT, NotPlainError, copy_json, plain_copy, read_strictly

OUTPUT_VERSION = "output/1"


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """Named pointers and a small inline result.

    Attributes:
        artifacts: Name to pointer; ``None`` exactly when ``manifest`` stands in for them.
        result: Inline JSON (always an object), or the pointer to it where it was spilled; ``None`` when absent.
        manifest: The pointer to the whole document where it was spilled.
        producer: Who wrote it.
        traceparent: The trace that it was made in, as W3C's Trace Context writes it; ``None`` outside one.
        extra: Members that a later version wrote; kept and written back.
    """

    artifacts: Mapping[str, Pointer] | None = field(default_factory=dict)
    result: Mapping[str, Any] | Pointer | None = None
    manifest: Pointer | None = None
    producer: RunIdentity | None = None
    traceparent: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form: what is absent left out, members in the schema's order, nothing shared.

        Nothing is checked: ``stepout.schemas.validate`` does that.

        >>> TaskOutput(result={"rows": 3}).to_dict()
        {'stepout': 'output/1', 'artifacts': {}, 'result': {'rows': 3}}
        """
        document: dict[str, Any] = {"stepout": OUTPUT_VERSION}
        if self.artifacts is not None:
            document["artifacts"] = {name: pointer.to_dict() for name, pointer in self.artifacts.items()}
        if self.result is not None:
            result = self.result
            document["result"] = result.to_dict() if isinstance(result, Pointer) else plain_copy(result)
        if self.manifest is not None:
            document["manifest"] = self.manifest.to_dict()
        if self.producer is not None:
            document["producer"] = self.producer.to_dict()
        if self.traceparent is not None:
            document["traceparent"] = self.traceparent
        document.update((name, plain_copy(value)) for name, value in self.extra.items() if name not in OUTPUT_MEMBERS)
        return document

    def to_json(self) -> str:
        """Return the wire form as compact text, non-ASCII characters as themselves.

        Raises:
            InvalidDocumentError: Something in it is not JSON.
        """
        return dump_json(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, document: object, *, manifest_allowed: bool = True) -> TaskOutput:
        """Parse the wire form strictly, with the same verdict as the JSON Schema, and copy it.

        Args:
            document: Parsed JSON: a ``dict``.
            manifest_allowed: ``False`` for what a manifest pointed to: a manifest never leads to another.

        Returns:
            The output, unknown members in ``extra``.

        Raises:
            InvalidDocumentError: With every problem found.
        """
        output = read_strictly(document, "the task output", _read_output, output_problems)
        if output.manifest is not None and not manifest_allowed:
            problem = Problem("$.manifest", "unexpected", "leads to another manifest, which no writer of ours does")
            raise invalid_document("the manifest's content", [problem], "It was not followed.")
        return output


OUTPUT_MEMBERS: Final = frozenset(("stepout", "artifacts", "result", "manifest", "producer", "traceparent"))


def is_pointer(value: object) -> bool:
    """Tell whether a ``result`` stands for a pointer: its member ``stepout`` begins with ``pointer/``."""
    if not isinstance(value, dict):
        return False
    version = value.get("stepout")
    return isinstance(version, str) and version.startswith("pointer/")


def _read_output(document: Any) -> TaskOutput:
    if type(document) is not dict or document.get("stepout") != OUTPUT_VERSION:
        raise NotPlainError
    room = DEPTH_LIMIT - 1
    manifest = read_pointer(document["manifest"], room) if "manifest" in document else None
    if (manifest is None) is not ("artifacts" in document) or (manifest and "result" in document):
        raise NotPlainError
    return TaskOutput(
        artifacts=_read_artifacts(document["artifacts"], room) if manifest is None else None,
        result=_read_result(document["result"], room) if "result" in document else None,
        manifest=manifest,
        producer=read_producer(document["producer"], room) if "producer" in document else None,
        traceparent=_read_traceparent(document["traceparent"]) if "traceparent" in document else None,
        extra=copy_json({name: value for name, value in document.items() if name not in OUTPUT_MEMBERS}),
    )


def _read_artifacts(value: Any, room: int) -> dict[str, Pointer]:
    if type(value) is not dict:
        raise NotPlainError
    matches = rules.NAME.matches
    for name in value:
        if type(name) is not str or not matches(name):
            raise NotPlainError
    return {name: read_pointer(pointer, room - 1) for name, pointer in value.items()}


def _read_traceparent(value: Any) -> str:
    if type(value) is not str or not rules.TRACEPARENT.matches(value):
        raise NotPlainError
    return value


def _read_result(value: Any, room: int) -> Mapping[str, Any] | Pointer:
    if type(value) is not dict:
        raise NotPlainError
    if is_pointer(value):
        return read_pointer(value, room)
    result: dict[str, Any] = copy_json(value, room)
    return result


def output_problems(document: object, location: str = "$") -> Iterator[Problem]:
    """Yield everything that keeps a JSON value from being a task output.

    Args:
        document: JSON, as ``json_problems`` knows it.
        location: What to call the document itself.

    Yields:
        Problems of the same kinds and at the same locations as ``stepout.schemas.validate`` has them.
    """
    if not isinstance(document, dict):
        yield rules.wrong_type(location, "object", document)
        return
    if "stepout" not in document:
        yield rules.missing(member(location, "stepout"))
    elif document["stepout"] != OUTPUT_VERSION:
        yield rules.wrong_version(member(location, "stepout"), OUTPUT_VERSION)
    if "manifest" in document:
        yield from (rules.unexpected(member(location, name)) for name in ("artifacts", "result") if name in document)
        yield from pointer_problems(document["manifest"], member(location, "manifest"))
    elif "artifacts" not in document:
        yield rules.missing(member(location, "artifacts"))
    if "artifacts" in document:
        yield from _artifacts_problems(document["artifacts"], member(location, "artifacts"))
    if "result" in document:
        yield from _result_problems(document["result"], member(location, "result"))
    if "producer" in document:
        yield from producer_problems(document["producer"], member(location, "producer"))
    if "traceparent" in document:
        yield from rules.TRACEPARENT.problems(document["traceparent"], member(location, "traceparent"))


def _artifacts_problems(value: object, location: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield rules.wrong_type(location, "object", value)
        return
    for name, pointer in value.items():
        place = member(location, name)
        if not rules.NAME.matches(name):
            yield rules.wrong_name(place)
        yield from pointer_problems(pointer, place)


def _result_problems(value: object, location: str) -> Iterator[Problem]:
    if is_pointer(value):
        yield from pointer_problems(value, location)
    elif not isinstance(value, dict):
        yield rules.wrong_type(location, "object", value)
