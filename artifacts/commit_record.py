"""Commit records: which objects say that they belong to a task that keeps one, and what its record is called.

A task that keeps a record writes its output document as ``_output.json`` into its run's folder, before it reports
success. Every object that it writes before says so in its metadata, from the first byte on: so clean-up can tell what a
failed run left behind (there is no record) from what a committed one needs (its record names it), and touches nothing
else. All keys in metadata are percent-encoded: S3 takes ASCII there, 2 KB in all
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas import RunIdentity

RECORD_STEM: Final = "_output"
"""What no artifact of a task that keeps a record may be called."""

RECORD_NAME: Final = f"{RECORD_STEM}.json"

_RECORD: Final = "stepout-record"
_PREFIX: Final = "stepout-prefix"
_EXECUTION: Final = "stepout-execution"
_PARENT: Final = "stepout-parent-execution"


def record_key(folder: str) -> str:
    """Return the key of the record of the run that writes into ``folder``.

    >>> record_key("runs/Segment/7f3c/Mask/0-ab12")
    'runs/Segment/7f3c/Mask/0-ab12/_output.json'
    """
    return f"{folder}/{RECORD_NAME}"


@dataclass(frozen=True, kw_only=True)
class RecordedTask:
    """What an object's metadata says of the task that wrote it.

    Attributes:
        record: The key of the task's record, in the object's own bucket.
        prefix: Below which all records are that may name the object; ``""``: the whole bucket.
        execution: The ARN of the task's execution, if it had one.
        parent_execution: The ARN of the execution that started that one.
    """

    record: str
    prefix: str
    execution: str | None = None
    parent_execution: str | None = None

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of each object that the task writes.

        >>> RecordedTask(record="runs/a/_output.json", prefix="runs").to_metadata()
        {'stepout-record': 'runs/a/_output.json', 'stepout-prefix': 'runs'}
        """
        found = {_RECORD: self.record, _PREFIX: self.prefix, _EXECUTION: self.execution, _PARENT: self.parent_execution}
        return {name: quote(value, safe="/:") for name, value in found.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> RecordedTask | None:
        """Return what ``to_metadata`` gave; ``None`` for an object of a task without a record, or of somebody else."""
        known = {name.lower(): unquote(value) for name, value in metadata.items()}
        if _RECORD not in known or _PREFIX not in known:
            return None
        return cls(
            record=known[_RECORD],
            prefix=known[_PREFIX],
            execution=known.get(_EXECUTION),
            parent_execution=known.get(_PARENT),
        )


def recorded_task(folder: str, prefix: str, run: RunIdentity) -> RecordedTask:
    """Return what a manager says of the task whose run it writes for.

    Args:
        folder: The run's folder of keys.
        prefix: The manager's own; all runs that share it may name each other's objects.
        run: The resolved identity.
    """
    return RecordedTask(
        record=record_key(folder),
        prefix=prefix,
        execution=run.execution,
        parent_execution=run.parent_execution,
    )
