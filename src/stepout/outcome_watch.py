"""Looks at a task in pull mode again and again: how far it is, and how it ended. Behind ``stepout watch``."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.artifacts.reading.access import access_from
from stepout.artifacts.reading.documents.outcome import FailureUnseenError, OutcomeReader
from stepout.artifacts.store import PlaceMissingError
from stepout.schemas import TaskOutput
from stepout.schemas.array import child_url, is_of_array
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactNotFoundError,
    ConfigurationError,
    InvalidDocumentError,
    StoreUnavailableError,
    TaskFailedError,
)
from stepout.schemas.pull import AskedRun
from stepout.schemas.text.json_text import load_json
from stepout.schemas.text.locations import split_s3_url, table_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.schemas import RunIdentity
    from stepout.schemas.progress import TaskProgress

_SLOWER: Final = 1.5
_SLOWEST: Final = 4.0
_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at a task has shown.

    Attributes:
        status: ``"nothing"``: it has said nothing yet. ``"running"``: it has told its progress, and no outcome.
            ``"unreachable"``: the service could not be asked, this time. ``"succeeded"`` and ``"failed"``: its outcome.
        progress: What it told last, if it did.
        run: Of a success: whose it is, as far as the document says so.
        error: Of a failure: its name.
        cause: Of a failure: what it says, as JSON text.
        note: What else there is to know, for people; empty for nothing.
    """

    status: Literal["nothing", "running", "unreachable", "succeeded", "failed"]
    progress: TaskProgress | None = None
    run: RunIdentity | None = None
    error: str | None = None
    cause: str | None = None
    note: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is the outcome."""
        return self.status in {"succeeded", "failed"}


class OutcomeWatch:
    """Looks at one URL until an outcome is there. Nothing is read but what lies at the URL and begins like it.

    Looks come closer while the task tells something new, and further apart while it does not; after an answer that says
    "too many", or none, much further.

    Args:
        url: ``s3://bucket/key`` or ``dynamodb://table/key``, as the task was given it.
        execution: Whose outcome and progress count; ``None``: anybody's.
        every: Seconds between two looks at least; four times as many at most, while nothing changes.
        timeout: Seconds after which it gives up; ``None``: never.
        client: A boto3 S3 client; ``None``: the library's own.
        expected_bucket_owner: The account that must own the bucket.
        request_payer: ``"requester"`` for buckets whose readers pay.
        clock: Seconds, monotonic.
        sleep: Waits so many seconds.

    Raises:
        ConfigurationError: One of them is invalid.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each with its own meaning
        self,
        url: str,
        *,
        execution: str | None = None,
        every: float = 5.0,
        timeout: float | None = None,
        client: Any = None,
        expected_bucket_owner: str | None = None,
        request_payer: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 1 <= every <= _LONGEST_PAUSE:
            raise ConfigurationError(f"every={every:g}: expected 1 to {_LONGEST_PAUSE:.0f} seconds between two looks")
        if timeout is not None and not 0 <= timeout < float("inf"):
            raise ConfigurationError(f"timeout={timeout:g}: expected a number of seconds from 0 on")
        if is_of_array(url):
            raise ConfigurationError(
                f"{url} is the place of an array job: watch one child's, {child_url(url, 0)} and so on"
            )
        self._url, self._every, self._timeout = url, every, timeout
        self._asked = AskedRun(execution=execution)
        self._reader = OutcomeReader(self._asked)
        # The caller names the URL, and no document leads anywhere from there.
        self._access = access_from(
            allow=[_around(url)],
            client=client,
            expected_bucket_owner=expected_bucket_owner,
            request_payer=request_payer,
        )
        self._clock, self._sleep = clock, sleep
        self._seen: TaskProgress | None = None

    def sights(self) -> Iterator[Sight]:
        """Yield what each look shows; the last one is the outcome, unless the time is over before.

        Raises:
            ConfigurationError: The URL is that of an array job, or something in the environment is wrong.
            InvalidDocumentError: It is no such URL, or what lies there is no outcome.
            StoreError: The bucket or the table is missing, or may not be read.
        """
        until = float("inf") if self._timeout is None else self._clock() + self._timeout
        pause, before = self._every, None
        while True:
            sight = self._look()
            yield sight
            left = until - self._clock()
            if sight.ended or left <= 0:
                return
            if sight.status == "unreachable":
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = self._every if sight != before else min(pause * _SLOWER, self._every * _SLOWEST)
            before = sight
            self._sleep(min(pause, left))

    def _look(self) -> Sight:
        access = self._access.with_own_spending()
        try:
            hidden = self._look_at_progress(access)
            try:
                output = TaskOutput.from_dict(self._reader.read(self._url, access))
            except TaskFailedError as failed:
                return self._failed(failed)
            except PlaceMissingError:
                raise
            except ArtifactNotFoundError as missing:
                unseen = isinstance(missing, FailureUnseenError)
                return self._running("; ".join(filter(None, (hidden, str(missing) if unseen else ""))))
            except AccessDeniedError as denied:
                # Without the right to list, S3 says the same of an outcome that is not there yet.
                if self._seen is None:
                    raise
                return self._running(str(denied))
        except StoreUnavailableError as error:
            return Sight(status="unreachable", progress=self._seen, note=str(error))
        if not self._is_asked(output.producer):
            return self._running("the output that lies there is another execution's")
        return Sight(status="succeeded", progress=self._seen, run=output.producer, note=hidden)

    def _look_at_progress(self, access: Any) -> str:
        """Take the newest progress; return why there is none to be seen, where that is no plain absence."""
        try:
            found = self._reader.progress(self._url, access)
        except AccessDeniedError as denied:
            return f"its progress may not be read: {denied}"
        except InvalidDocumentError as error:
            if any(each.location == "$" and each.kind in {"pattern", "missing"} for each in error.problems):
                raise  # the URL itself
            return f"what lies where its progress should is something else: {error}"
        if found is not None and self._is_asked(found.run):
            self._seen = found
        return ""

    def _running(self, note: str) -> Sight:
        if self._seen is None:
            return Sight(status="nothing", note=note)
        return Sight(status="running", progress=self._seen, note=note)

    def _failed(self, failed: TaskFailedError) -> Sight:
        """Return the failure; an earlier attempt's is none while a later attempt tells its progress."""
        if self._seen is not None and is_of_later_attempt(self._seen, failed.cause):
            return self._running(f"an earlier attempt failed: {failed.error}")
        return Sight(status="failed", progress=self._seen, error=failed.error, cause=failed.cause)

    def _is_asked(self, run: RunIdentity | None) -> bool:
        asked = self._asked.execution
        known = None if run is None else run.execution
        return asked is None or run is None or known is None or asked in {known, run.parent_execution}


def _around(url: str) -> str:
    """Return the bucket or the table of a URL, as an allow-list names it.

    Raises:
        ConfigurationError: It is no such URL.
    """
    try:
        if not url.startswith("dynamodb://"):
            return f"s3://{split_s3_url(url)[0]}/"
        place = table_place(url)
    except ValueError as error:
        raise ConfigurationError(f"the URL is wrong: {error}") from None
    return f"dynamodb://{place.table}:{place.attribute}/"


def is_of_later_attempt(progress: TaskProgress, cause: str) -> bool:
    """Tell whether a progress is a later attempt's than a failure, as far as both say which attempt they are of.

    Args:
        progress: What the task told last.
        cause: The failure's cause, JSON text.
    """
    later, own = _place_in_time(progress.run), _place_in_time_of(cause)
    return later is not None and own is not None and own < later


def same_news(one: Sight, other: Sight | None) -> bool:
    """Tell whether two sights say the same to people: a progress that was only repeated is no news."""
    if other is None:
        return False
    return _without_time(one) == _without_time(other)


def _without_time(sight: Sight) -> Sight:
    progress = None if sight.progress is None else replace(sight.progress, reported_at=None)
    return replace(sight, progress=progress)


def _place_in_time(run: RunIdentity) -> tuple[int, int] | None:
    return None if run.attempt is None else (run.redrive or 0, run.attempt)


def _place_in_time_of(cause: str) -> tuple[int, int] | None:
    """Return which redrive and which attempt a failure says it is of."""
    with contextlib.suppress(InvalidDocumentError):
        value = load_json(cause)
        run = value.get("run") if isinstance(value, dict) else None
        if isinstance(run, dict) and isinstance(run.get("attempt"), int):
            redrive = run.get("redrive")
            return (redrive if isinstance(redrive, int) else 0, run["attempt"])
    return None
