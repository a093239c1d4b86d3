"""Goes through a bucket, and lists or removes what is left over. It keeps nothing between runs.

It may be killed at any point, and run twice at once: every deletion stands for itself, and is decided by what S3 and
Step Functions say at that time. Right before the objects of an execution go, its status is asked again, and then its
records: what has ended for good writes no further one, so whatever names the objects is there by then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stepout.artifacts.keys import check_prefix
from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.budget import ReadBudget
from stepout.artifacts.s3.clients import make_client, profile_from_env
from stepout.artifacts.s3.inventory import NO_VERSION, Inventory, StoredUpload, StoredVersion
from stepout.artifacts.transfer.worker_pool import CONNECTIONS, Done, work_through
from stepout.clean_up.decisions import (
    Judgement,
    by_executions,
    execution_folder,
    is_of_execution,
    is_old,
    shared_folder,
    task_of,
)
from stepout.clean_up.executions import Executions
from stepout.clean_up.named import Records
from stepout.schemas.errors import AccessDeniedError, ConfigurationError, StepoutError
from stepout.schemas.runtime.s3_profile import payer_of
from stepout.schemas.text.locations import split_s3_url

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from datetime import timedelta

    from stepout.artifacts.commit_record import RecordedTask

Item = TypeVar("Item")
Result = TypeVar("Result")

_TOGETHER: Final = 1_000
"""Objects that are removed after one look at their executions and records."""

_SMALL: Final = 4 << 10  # what one object under way takes, in bytes
_BESIDE: Final = 10  # objects in a folder that are asked whose the folder is

_UNBOUNDED: Final = ReadBudget(requests=1 << 60, entries=1 << 60, bytes=1 << 60)


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One object, or one open multipart upload, that nothing needs, or that may be one.

    Attributes:
        url: ``s3://bucket/key``.
        version_id: The version; ``None`` where the bucket keeps none, and of an upload.
        upload_id: Of an upload.
        size: In bytes; ``None`` for an upload, whose parts are not counted.
        age: By the server's clock.
        execution: The ARN of the execution that wrote it, if it says so.
        kind: ``"leftover"``: it may go. ``"unknown"``: whether it may is not known, so it stays.
        why: Why, for people.
        removed: Whether it was removed.
        error: Why it could not be.
    """

    url: str
    version_id: str | None = None
    upload_id: str | None = None
    size: int | None = None
    age: timedelta
    execution: str | None = None
    kind: str
    why: str
    removed: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` shows."""
        found = {
            "url": self.url,
            "versionId": self.version_id,
            "uploadId": self.upload_id,
            "size": self.size,
            "ageSeconds": int(self.age.total_seconds()),
            "execution": self.execution,
            "kind": self.kind,
            "why": self.why,
            "removed": self.removed,
            "error": self.error,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass
class Tally:
    """How many of what were seen so far; sizes in bytes.

    Attributes:
        seen: Versions of objects that were listed.
        young: Those that are not old enough, and the records.
        named: Those that a record names.
        foreign: Those that do not say that a task with a record wrote them.
        running: Those whose execution runs, or can be redriven.
        leftovers: Those that may go.
        bytes: What these have together.
        removed: Those that went.
        freed: What these had together.
        uploads: Open uploads that may go.
        aborted: Those that went.
        unknown: Objects and uploads that are only listed.
        hindered: Those of them about which somebody could not be asked.
        failed: Deletions that failed.
    """

    seen: int = 0
    young: int = 0
    named: int = 0
    foreign: int = 0
    running: int = 0
    leftovers: int = 0
    bytes: int = 0
    removed: int = 0
    freed: int = 0
    uploads: int = 0
    aborted: int = 0
    unknown: int = 0
    hindered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    version: StoredVersion
    task: RecordedTask
    why: str = ""


class CleanUp:
    """Goes through what lies below a URL; nothing is asked before ``leftovers`` is.

    Args:
        url: ``s3://bucket/prefix/``.
        older_than: What is younger stays.
        delete: Whether leftovers are removed; else they are listed only.
        allow: Where listings and manifests may lie that records name, besides the bucket itself: ``s3://bucket/prefix/``.
        client: A boto3 S3 client; ``None``: one is built from the environment.
        executions: Who knows how executions stand; ``None``: clients are built from the environment.
        expected_bucket_owner: The account that must own the bucket.
        request_payer: ``"requester"`` where that pays; ``None``: what ``STEPOUT_REQUEST_PAYER`` says.
        progress: Called with the counts after each page of a listing.

    Attributes:
        tally: Counts on the way.

    Raises:
        ConfigurationError: One of them is invalid.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each with its own meaning
        self,
        url: str,
        *,
        older_than: timedelta,
        delete: bool = False,
        allow: Iterable[str] = (),
        client: Any = None,
        executions: Executions | None = None,
        expected_bucket_owner: str | None = None,
        request_payer: str | None = None,
        progress: Callable[[Tally], None] = lambda _tally: None,
    ) -> None:
        try:
            bucket, prefix = split_s3_url(url)
        except ValueError:
            raise ConfigurationError(f"{url!r} is no s3://bucket/prefix/; nothing was looked at") from None
        prefix = check_prefix(prefix)
        if older_than.total_seconds() < 0:
            raise ConfigurationError("older_than is negative: expected how old an object must be. Nothing was done")
        client = client or make_client(profile=profile_from_env(), connections=CONNECTIONS)
        access = access_from(
            allow=[f"s3://{bucket}/", *allow],
            client=client,
            expected_bucket_owner=expected_bucket_owner,
            request_payer=request_payer,
            budget=_UNBOUNDED,
            allow_expired=True,
        )
        payer = request_payer or payer_of(os.environ)
        self.tally = Tally()
        self._progress = progress
        self._prefix = f"{prefix}/" if prefix else ""
        self._older_than, self._delete = older_than, delete
        self._inventory = Inventory(client, bucket, expected_bucket_owner=expected_bucket_owner, request_payer=payer)
        self._records = Records(self._inventory, access)
        self._executions = executions or Executions()
        self._whole: set[str] = set()  # prefixes whose records have been read
        self._ended: set[str] = set()  # folders of executions that will write no further record

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Why records could not be read, by their keys: whatever lies below their prefix is listed only."""
        return self._records.unreadable

    def leftovers(self) -> Iterator[Leftover]:
        """Yield what is left over, and what may be, in about the order of the keys; uploads come first.

        Memory holds a page of a listing, a hash of each object that records name, and the executions that were met.

        Raises:
            StoreError: The bucket cannot be listed, or an object not be looked at.
        """
        yield from self._uploads()  # before their neighbours go, which say whose they are
        self._read_whole(self._prefix)  # what lies here may be adopted or merged by tasks of another prefix
        waiting: list[_Candidate] = []
        for page in self._inventory.versions(self._prefix):
            for found in self._judged(page):
                if isinstance(found, Leftover):
                    yield found
                else:
                    waiting.append(found)
            self._progress(self.tally)
            if len(waiting) >= _TOGETHER:
                yield from self._settled(waiting)
                waiting = []
        yield from self._settled(waiting)

    # Objects ---------------------------------------------------------------------------------------------------------

    def _judged(self, page: list[StoredVersion]) -> Iterator[_Candidate | Leftover]:
        """Yield what of a page is left over as far as is known now, and what can only be listed."""
        tally = self.tally
        tally.seen += len(page)
        old = [version for version in page if is_old(version, self._older_than)]
        tally.young += len(page) - len(old)
        # What is named is not asked for its metadata.
        unnamed = [version for version in old if version not in self._records.names]
        tally.named += len(old) - len(unnamed)
        for done in sorted(_side_by_side(unnamed, self._inventory.look), key=lambda done: done.item.key):
            if isinstance(done.error, AccessDeniedError):
                yield self._only_listed(done.item, None, Judgement("unknown", str(done.error), hindered=True))
                continue
            if (found := _result(done)) is None:
                continue
            version, metadata = found
            task = task_of(version.key, metadata)
            tally.foreign += task is None
            if task is not None and is_old(version, self._older_than):
                yield from self._decided(_Candidate(version, task))

    def _decided(self, candidate: _Candidate) -> Iterator[_Candidate | Leftover]:
        """Yield the object if it may go, with the reason, or as one that can only be listed; nothing if it is kept."""
        version, task = candidate.version, candidate.task
        prefix = f"{task.prefix}/" if task.prefix else ""
        self._read_whole(prefix)
        if version in self._records.names:
            self.tally.named += 1
            return
        decision = by_executions(task, version.age, self._executions.status)
        if (fault := self._records.fault_below(prefix)) is not None:
            decision = Judgement("unknown", f"a record could not be read, and may name it: {fault}", hindered=True)
        if decision.kind == "kept":
            self.tally.running += 1
        elif decision.kind == "unknown":
            yield self._only_listed(version, task, decision)
        else:
            yield replace(candidate, why=f"no record names it; {decision.why}")

    def _read_whole(self, prefix: str) -> None:
        if not any(prefix.startswith(read) for read in self._whole):
            self._whole.add(prefix)
            self._records.read(prefix)

    def _settled(self, candidates: list[_Candidate]) -> Iterator[Leftover]:
        """Look once more, the executions before the records, and remove what is still left over."""
        self._executions.forget(arn for candidate in candidates for arn in _executions(candidate.task))
        over = yield from self._still_left(candidates)
        self._read_again([candidate.task for candidate in over])
        left = {each.version: each for each in (yield from self._still_left(over))}
        self.tally.leftovers += len(left)
        self.tally.bytes += sum(version.size for version in left)
        if not self._delete:
            yield from (self._found(each.version, each.task, "leftover", each.why) for each in left.values())
            return
        for done in _side_by_side(list(left), self._inventory.remove):
            each, removed = left[done.item], done.result is True
            self.tally.removed += removed
            self.tally.freed += done.item.size * removed
            self.tally.failed += done.error is not None
            yield self._found(each.version, each.task, "leftover", each.why, removed=removed, error=done.error)

    def _still_left(self, candidates: Iterable[_Candidate]) -> Generator[Leftover, None, list[_Candidate]]:
        """Decide again; yield what has become uncertain, and return what is left over."""
        left = []
        for candidate in candidates:
            for found in self._decided(candidate):
                if isinstance(found, Leftover):
                    yield found
                else:
                    left.append(found)
        return left

    def _read_again(self, tasks: list[RecordedTask]) -> None:
        """Read the records that were written since; what is over for good is looked through whole, once.

        That is the execution, and the one that started it: others that this one started may run on.
        """
        folders = {folder for task in tasks for folder in (shared_folder(task), execution_folder(task))} - self._ended
        records = {task.record for task in tasks if execution_folder(task) not in folders}
        for done in _side_by_side([*folders, *records], self._records.read):
            _result(done)
        self._ended |= folders

    def _only_listed(self, version: StoredVersion, task: RecordedTask | None, decision: Judgement) -> Leftover:
        self.tally.unknown += 1
        self.tally.hindered += decision.hindered
        return self._found(version, task, decision.kind, decision.why)

    def _found(  # noqa: PLR0913 - what there is to say
        self,
        version: StoredVersion,
        task: RecordedTask | None,
        kind: str,
        why: str,
        *,
        removed: bool = False,
        error: Exception | None = None,
    ) -> Leftover:
        return Leftover(
            url=f"s3://{self._inventory.bucket}/{version.key}",
            version_id=None if version.version_id == NO_VERSION else version.version_id,
            size=version.size,
            age=version.age,
            execution=None if task is None else task.execution,
            kind=kind,
            why=why,
            removed=removed,
            error=None if error is None else str(error),
        )

    # Uploads ---------------------------------------------------------------------------------------------------------

    def _uploads(self) -> Iterator[Leftover]:
        """Yield what open uploads are left over; they have no metadata that can be read, but have neighbours."""
        tasks: dict[str, RecordedTask | None] = {}
        for page in self._inventory.uploads(self._prefix):
            for upload in page:
                if upload.age < self._older_than:
                    continue
                folder = upload.key.rpartition("/")[0]
                if folder not in tasks:
                    tasks[folder] = self._whose(upload.key)
                yield from self._judged_upload(upload, tasks[folder])

    def _judged_upload(self, upload: StoredUpload, task: RecordedTask | None) -> Iterator[Leftover]:
        if task is None:
            decision = Judgement("unknown", "nothing beside it says whose it is")
        else:
            self._executions.forget(_executions(task))
            decision = by_executions(task, upload.age, self._executions.status)
        if decision.kind == "kept":
            return
        aborted, error = False, None
        if decision.kind == "unknown":
            self.tally.unknown += 1
            self.tally.hindered += decision.hindered
        else:
            self.tally.uploads += 1
            if self._delete:
                try:
                    aborted = self._inventory.abort(upload)
                except StepoutError as failed:
                    error = str(failed)
            self.tally.aborted += aborted
            self.tally.failed += error is not None
        yield Leftover(
            url=f"s3://{self._inventory.bucket}/{upload.key}",
            upload_id=upload.upload_id,
            age=upload.age,
            execution=None if task is None else task.execution,
            kind=decision.kind,
            why=f"the upload was never completed; {decision.why}",
            removed=aborted,
            error=error,
        )

    def _whose(self, key: str) -> RecordedTask | None:
        """Return a task of the execution in whose folder a key lies, by the nearest object that says so."""
        folder = key
        while folder := folder.rpartition("/")[0]:
            for version in next(self._inventory.versions(f"{folder}/", most=_BESIDE), []):
                found = self._inventory.look(version)
                task = None if found is None else task_of(version.key, found[1])
                if task is not None:  # what lies further up has this one in it, too
                    return task if is_of_execution(key, task) else None
        return None


def _executions(task: RecordedTask) -> set[str]:
    return {arn for arn in (task.execution, task.parent_execution) if arn is not None}


def _side_by_side(items: list[Item], act: Callable[[Item], Result]) -> Iterator[Done[Item, Result]]:
    return work_through(items, act, threads=CONNECTIONS, weigh=lambda _: _SMALL)


def _result(done: Done[Any, Result]) -> Result | None:
    if done.error is not None:
        raise done.error
    return done.result
