"""Commit records: which objects say that they belong to a task that keeps one, and what its record is called.

A task that keeps a record writes its output document as ``_output.json`` into its run's folder, before it reports
success. Every object that it writes before says so in its metadata, from the first byte on: so clean-up can tell what a
failed run left behind (there is no record) from what a committed one needs (its record names it), and touches nothing
else. S3 takes ASCII there, 2 KB in all (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html). So
the prefix is told by its length, which the object's own key completes, and by a digest, which no other prefix has.

The record itself says nothing of the kind, nor does any other document that no record names, such as the one of a task
whose success could not be delivered: they are never garbage.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote, unquote

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.spill import OUTPUT_STEM, RESULT_STEM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.schemas import RunIdentity

RECORD_STEM: Final = "_output"
"""What no artifact of a task that keeps a record may be called."""

RECORD_NAME: Final = f"{RECORD_STEM}.json"

KEPT_STEM: Final = "stepout-kept"
"""A document of what a failed task was asked to keep: clean-up reads it as it reads a record."""

CommitRecord = bool | Literal["parent"]
"""Whether a record is kept; ``"parent"``: by another process, which is handed the document and names what it names."""

NAMED_DOCUMENTS: Final = frozenset({RESULT_STEM, OUTPUT_STEM})
"""The documents beside the artifacts that a record names: what was too large for it."""

_SETTINGS: Final[dict[str, CommitRecord]] = {"on": True, "off": False, "parent": "parent"}

_RECORD: Final = "stepout-record"
_PREFIX: Final = "stepout-prefix"
_EXECUTION: Final = "stepout-execution"
_PARENT: Final = "stepout-parent-execution"
_DIGITS: Final = 4  # of a prefix's length, at most


def check_commit_record(setting: object) -> CommitRecord:
    """Return whether a record is kept.

    Raises:
        ConfigurationError: The setting is invalid.
    """
    if isinstance(setting, bool):
        return setting
    if setting == "parent":
        return "parent"
    raise ConfigurationError(f"commit_record is {setting!r}: expected True, False or 'parent'; nothing was sent")


def commit_record_of(
    environ: Mapping[str, str], given: bool | None = None, *, bucket: object = None, prefix: str | None = None
) -> CommitRecord:
    """Return whether a task keeps a record: it does, unless its caller or ``STEPOUT_COMMIT_RECORD`` says otherwise.

    Args:
        environ: ``os.environ``, or a mapping like it.
        given: The caller's wish. One record is kept of a task: where the parent keeps it, ``True`` adds none.
        bucket: Where the task writes, instead of ``STEPOUT_BUCKET``.
        prefix: The same, instead of ``STEPOUT_PREFIX``. Clean-up looks for records in one place: who writes elsewhere
            than the parent keeps one there.

    Raises:
        ConfigurationError: The variable is invalid.

    >>> commit_record_of({}), commit_record_of({"STEPOUT_COMMIT_RECORD": "off"}), commit_record_of({}, given=False)
    (True, False, False)
    """
    said, _, place = (environ.get("STEPOUT_COMMIT_RECORD", "").strip() or "on").partition(" ")
    if said not in _SETTINGS:
        raise ConfigurationError(
            "STEPOUT_COMMIT_RECORD must be on or off (or parent, as stepout run says it to its command)"
        )
    found = _SETTINGS[said]
    if found == "parent" and place:
        own = environ.get("STEPOUT_BUCKET", "") if bucket is None else bucket
        below = environ.get("STEPOUT_PREFIX", "") if prefix is None else prefix
        found = "parent" if place == f"{own} {below}".strip() else True
    return found if given is None or (given and found == "parent") else given


def kept_by_parent(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that tells a command's tasks who keeps their record: this one, if it has a place for it.

    >>> kept_by_parent({"STEPOUT_BUCKET": "results", "STEPOUT_PREFIX": "runs"})
    {'STEPOUT_COMMIT_RECORD': 'parent results runs'}
    """
    bucket = environ.get("STEPOUT_BUCKET")
    if not bucket or environ.get("STEPOUT_COMMIT_RECORD", "").strip() == "off":
        return {}
    return {"STEPOUT_COMMIT_RECORD": f"parent {bucket} {environ.get('STEPOUT_PREFIX', '')}"}


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
        {'stepout-record': 'a/_output.json', 'stepout-prefix': '4-1f64fff08d787e73'}
        """
        found = {
            _RECORD: self.record[len(self.prefix) + 1 :] if self.prefix else self.record,
            _PREFIX: _told(self.prefix),
            _EXECUTION: self.execution,
            _PARENT: self.parent_execution,
        }
        return {name: quote(value, safe="/:") for name, value in found.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], key: str) -> RecordedTask | None:
        """Return what ``to_metadata`` gave; ``None`` for an object of a task without a record, or of somebody else.

        Args:
            metadata: The object's.
            key: The object's: a copy elsewhere keeps the metadata, and belongs to whoever made it.
        """
        known = {name.lower(): unquote(value) for name, value in metadata.items()}
        length = known.get(_PREFIX, "").partition("-")[0]
        if _RECORD not in known or not (length.isascii() and length.isdecimal() and len(length) <= _DIGITS):
            return None
        prefix = key[: int(length)]
        if _told(prefix) != known[_PREFIX]:
            return None
        return cls(
            record=f"{prefix}/{known[_RECORD]}" if prefix else known[_RECORD],
            prefix=prefix,
            execution=known.get(_EXECUTION),
            parent_execution=known.get(_PARENT),
        )


def is_safe_to_name(theirs: RecordedTask | None, ours: RecordedTask | None) -> bool:
    """Tell whether clean-up leaves an object alone until the record of the task that is to name it is there.

    It does if the object is none of a task with a record, or nobody can say whether that runs; and while the one
    execution of both tasks runs, if it looks for records where the later one has its own.

    Args:
        theirs: What the object says of the task that wrote it.
        ours: The task that is to name it; ``None``: it keeps no record.
    """
    if theirs is None or theirs.execution is None:
        return True
    below = f"{theirs.prefix}/" if theirs.prefix else ""
    return ours is not None and ours.execution == theirs.execution and ours.record.startswith(below)


def _told(prefix: str) -> str:
    """Return what metadata says of a prefix: its length in characters, and a digest.

    >>> _told("")
    '0-e3b0c44298fc1c14'
    """
    return f"{len(prefix)}-{hashlib.sha256(prefix.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


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
