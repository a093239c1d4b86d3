"""A command of ``stepout run`` that opens tasks itself: their reports become part of the one report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.schemas import Pointer, TaskOutput, load_json
from stepout.schemas.errors import CommandFailedError, ConfigurationError, InvalidDocumentError, invalid_document
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stepout.artifacts.manager import ArtifactManager
    from stepout.schemas import RunIdentity


class NestedTaskError(CommandFailedError):
    """The command opened a task itself, and that failed: its error and cause are passed on.

    Args:
        error: The name that it reported.
        cause: What it reported, parsed.
        code: The command's exit code.
    """

    def __init__(self, error: str, cause: Any, *, code: int) -> None:
        members = dict(cause) if isinstance(cause, dict) else {}
        told = members.get("message", cause if isinstance(cause, str) else "")
        super().__init__(str(told) or f"the command's own task failed: {error}", code=code, members=members)
        self._error = error

    @property
    def error_name(self) -> str:  # type: ignore[override] # the reported one, where the others are their class's
        """The name that the command's own task reported."""
        return self._error

    @property
    def retryable(self) -> bool | None:  # type: ignore[override] # as reported, if it was
        """Whether the command's own task said that trying again may help."""
        told = self.cause_members.get("retryable")
        return told if isinstance(told, bool) else None


class MergedArtifacts:
    """The artifacts of a task and those that its command wrote; as a task wants its artifact manager to be.

    Args:
        own: The artifact manager; ``None`` where there is no bucket.
        run: Which run this is, where there is no manager to say so.
    """

    def __init__(self, own: ArtifactManager | None, run: RunIdentity) -> None:
        self._own = own
        self._run = run
        self._adopted: dict[str, Pointer] = {}

    @property
    def run(self) -> RunIdentity:
        """Which run of which state writes."""
        return self._run if self._own is None else self._own.run

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        """Every artifact, the command's own ones first."""
        return {**self._adopted, **(self._own.pointers if self._own is not None else {})}

    @property
    def unfinished(self) -> Sequence[str]:
        """What is being written just now."""
        return self._own.unfinished if self._own is not None else []

    @property
    def writer(self) -> ArtifactManager:
        """The artifact manager.

        Raises:
            ConfigurationError: There is no bucket.
        """
        if self._own is None:
            raise ConfigurationError(
                "outputs become artifacts in a bucket, and this task has none: set STEPOUT_BUCKET (and STEPOUT_PREFIX)"
            )
        return self._own

    def adopt(self, pointers: Mapping[str, Pointer]) -> None:
        """Take over what the command wrote."""
        self._adopted.update(pointers)

    def put_document(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Write JSON beside the artifacts.

        Raises:
            ConfigurationError: There is no bucket.
        """
        if self._own is None:
            raise ConfigurationError(
                f"what is too large for the output document goes into a bucket (as {stem}), and this task has none: "
                "set STEPOUT_BUCKET (and STEPOUT_PREFIX), or report less"
            )
        return self._own.put_document(stem, document)

    @property
    def keeps_record(self) -> bool:
        """Whether one record is kept, of the command's artifacts and the task's own."""
        return self._own is not None and self._own.keeps_record

    def put_record(self, document: Mapping[str, Any]) -> Pointer:
        """Keep the merged document.

        Raises:
            ConfigurationError: There is no bucket.
        """
        return self.writer.put_record(document)

    def abort(self) -> None:
        """Abort every open upload."""
        if self._own is not None:
            self._own.abort()


def read_reports(folder: Path, *, code: int) -> TaskOutput | NestedTaskError | None:
    """Read what the tasks that the command opened reported.

    Args:
        folder: The folder target that the command was given.
        code: The command's exit code.

    Returns:
        The last one's failure; else the output of all that succeeded, with everything that was spilled read back;
        ``None`` if no task was opened.

    Raises:
        InvalidDocumentError: A report is invalid, or two reports use the same name.
        StoreError: A spilled result cannot be read.
    """
    read = [_read(path, code) for path in sorted(folder.glob("*.json"))]
    if not read:
        return None
    if isinstance(read[-1], NestedTaskError):
        return read[-1]
    # A failure before a later task is ignored: the command may have tried again.
    merged = TaskOutput(artifacts={}, result={})
    for output in read:
        if isinstance(output, TaskOutput):
            merged = _joined(merged, _unspilled(output))
    return merged


def _read(path: Path, code: int) -> TaskOutput | NestedTaskError:
    document = load_json(path.read_bytes())
    if isinstance(document, dict) and isinstance(document.get("error"), str) and "stepout" not in document:
        return NestedTaskError(document["error"], document.get("cause"), code=code or 1)
    try:
        return TaskOutput.from_dict(document)
    except InvalidDocumentError as error:
        raise invalid_document("the report of the command's own task", error.problems, "It was not merged.") from None


def _joined(one: TaskOutput, other: TaskOutput) -> TaskOutput:
    artifacts, more = one.artifacts or {}, other.artifacts or {}
    result, further = _inline(one.result), _inline(other.result)
    places = [f"$.artifacts.{name}" for name in sorted(set(artifacts) & set(more))]
    places += [f"$.result.{name}" for name in sorted(set(result) & set(further))]
    if places:
        problems = [Problem(place, "clash", "is reported by two tasks that the command opened") for place in places]
        raise invalid_document("the command's report", problems, "Give each a name of its own.")
    return TaskOutput(
        artifacts={**artifacts, **more},
        result={**result, **further},
        traceparent=one.traceparent or other.traceparent,
    )


def _inline(result: Mapping[str, Any] | Pointer | None) -> Mapping[str, Any]:
    return {} if result is None or isinstance(result, Pointer) else result


def _unspilled(output: TaskOutput) -> TaskOutput:
    if output.manifest is None and not isinstance(output.result, Pointer):
        return output
    from stepout.artifacts.allow import ANY_BUCKET
    from stepout.artifacts.resolve import resolve_output

    # The command has the credentials that this reads with: an allow-list would protect nothing from it.
    resolved = resolve_output(output.to_dict(), allow=ANY_BUCKET)
    whole = resolved.document
    return TaskOutput(
        artifacts=dict(whole.artifacts or {}),
        result=dict(resolved.result),
        producer=whole.producer,
        traceparent=whole.traceparent,
    )


def merged_result(nested: TaskOutput | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of the command's own task and of its result file, merged.

    Raises:
        InvalidDocumentError: A member is in both.
    """
    known = _inline(nested.result if nested is not None else None)
    if both := sorted(set(known) & set(own)):
        problems = [
            Problem(f"$.result.{name}", "clash", "is reported by its task and in STEPOUT_RESULT") for name in both
        ]
        raise invalid_document("the command's result", problems, "Report each member once.")
    return {**known, **own}
