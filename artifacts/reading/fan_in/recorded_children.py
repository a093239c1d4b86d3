"""Children by their commit records: every ``_output.json`` below a prefix is the output of one task.

The folder above that of an attempt is one task's, or one child's. Several records in it are of several attempts that
all succeeded, as happens when a success was not delivered, or a container was started twice.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.commit_record import RECORD_NAME, RecordedTask
from stepout.artifacts.reading.access import DOCUMENT_LIMIT
from stepout.artifacts.reading.documents.outcome import CONNECTIONS, opened, read_unpinned
from stepout.artifacts.reading.fan_in.children import Child, failed_child, made_child
from stepout.artifacts.reading.output import Output
from stepout.artifacts.store import Lists
from stepout.artifacts.transfer.worker_pool import work_through
from stepout.schemas.errors import (
    ConfigurationError,
    ReadBudgetError,
    StepoutError,
    StoreError,
    invalid_document,
)
from stepout.schemas.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal

    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.store_writes import ListedObject

    Prefer = Literal["latest"]

_TOGETHER: Final = 256
"""Records that are read before the first of them is yielded."""

_PAGE: Final = 1_000
_WEIGHT: Final = 64 << 10  # bytes: an output document's usual budget
_ATTEMPT: Final = re.compile(r"([0-9]{1,9})(?:-|\Z)")
"""How the folder of an attempt begins; ``keys.run_folder`` makes it."""

_IN_AN_ARTIFACT: Final = re.compile(r"(?:\A|/)[0-9]{1,3}(?:-[^/-]+)?/[A-Za-z_][A-Za-z0-9_]*/")
"""What may be an attempt and, in it, an artifact that is a directory. Its files may have the record's name, too."""


def children_of_records(  # noqa: PLR0913, PLR0917 - what ``gather`` was told
    access: Access, bucket: str, prefix: str, execution: str | None, prefer: Prefer | None, resume: str | None
) -> Iterator[Child]:
    """Yield the children whose records lie below a prefix, in the order of keys; see ``gather``."""
    after = _resumed(resume)
    access.allowed.check(bucket, prefix + RECORD_NAME)
    groups = enumerate(_groups(_listed(access, bucket, prefix)))
    left = ((index, group) for index, group in groups if after is None or group[0].key.encode() > after)

    def read(item: tuple[int, list[ListedObject]]) -> list[Child]:
        (index, group), own = item, access.with_own_spending()
        records = [each for each in group if not _is_of_a_directory(own, bucket, each.key, prefix)]
        position = f"record {group[0].key}"
        return [_read(own, bucket, records, execution, prefer, index=index, position=position)] if records else []

    while stretch := list(islice(left, _TOGETHER)):
        found = work_through(stretch, read, threads=access.at_once(CONNECTIONS), weigh=lambda _item: _WEIGHT)
        for done in sorted(found, key=lambda each: each.item[0]):
            if done.result is None:
                raise done.error or AssertionError
            yield from done.result


def _is_of_a_directory(access: Access, bucket: str, key: str, prefix: str) -> bool:
    """Tell whether what is called as a record is a file of a directory artifact: it says which its task's record is."""
    if not _IN_AN_ARTIFACT.search(key, len(prefix) - 1):
        return False
    try:
        access.spending.take(f"s3://{bucket}/{key}", requests=1)
        task = RecordedTask.from_metadata(access.stores.of(bucket).head(key).metadata, key)
    except StoreError:
        return False  # reading it says what is wrong
    return task is not None and task.record != key


def _listed(access: Access, bucket: str, prefix: str) -> Iterator[ListedObject]:
    """Yield the records; a request for each thousand keys, and each record, is counted."""
    store, url = access.stores.of(bucket), f"s3://{bucket}/{prefix}"
    if not isinstance(store, Lists):
        raise ConfigurationError(f"the store of {url} cannot list more than a thousand objects: it has no iter_objects")
    for number, each in enumerate(store.iter_objects(prefix)):
        if number % _PAGE == 0:
            access.spending.take(url, requests=1)
        folder, _, name = each.key.rpartition("/")
        if name == RECORD_NAME and _ATTEMPT.match(folder.rpartition("/")[2]):
            access.spending.take(url, entries=1)
            yield each


def _groups(records: Iterable[ListedObject]) -> Iterator[list[ListedObject]]:
    """Yield the records of each child, by the folder above the attempt's, in the order of their first keys."""
    waiting: dict[str, list[ListedObject]] = {}
    for record in records:
        folder = record.key.rpartition("/")[0].rpartition("/")[0]
        # Between the attempts of one task, in the order of keys, may be those of tasks whose folders lie in its own.
        while waiting and not f"{folder}/".startswith(f"{(first := next(iter(waiting)))}/"):
            yield waiting.pop(first)
        waiting.setdefault(folder, []).append(record)
    yield from waiting.values()


def _read(  # noqa: PLR0913 - what ``gather`` was told
    access: Access,
    bucket: str,
    records: list[ListedObject],
    execution: str | None,
    prefer: Prefer | None,
    *,
    index: int,
    position: str,
) -> Child:
    record = records[0] if len(records) == 1 else max(records, key=_age)
    told: dict[str, Any] = {"index": index, "file": f"s3://{bucket}/{record.key}", "position": position}
    if len(records) > 1 and prefer is None:
        problems = [Problem("$", "several", f"is one record of {len(records)}: {each.key}") for each in records]
        advice = 'Several attempts succeeded. prefer="latest" takes the one that was written last.'
        return failed_child(invalid_document("the child's commit record", problems, advice), **told)
    try:
        value = opened(read_unpinned(access, bucket, record.key, DOCUMENT_LIMIT), told["file"])
    except ReadBudgetError:
        raise
    except StepoutError as error:
        return failed_child(error, **told)
    child = made_child(value, access, execution, **told)
    if child.error is None and not isinstance(child.output, Output):
        problem = Problem("$", "type", "must be a task output")
        return failed_child(invalid_document("the commit record", [problem]), **told)
    return child


def _age(record: ListedObject) -> tuple[str, int, str]:
    """Return what puts records in order: S3's clock, one for all of them; within its second, the attempt's number."""
    attempt = _ATTEMPT.match(record.key.rpartition("/")[0].rpartition("/")[2])
    return record.last_modified or "", int(attempt[1]) if attempt else -1, record.key


def _resumed(resume: str | None) -> bytes | None:
    if resume is None:
        return None
    if not resume.startswith("record "):
        raise ConfigurationError("resume= is no position of a child with a commit record. Nothing was read")
    return resume.removeprefix("record ").encode(errors="surrogatepass")
