"""What the server has of a multipart upload: its id, the requests that may leave something there, and its removal."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepout.schemas.errors import StepoutError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.store import Store

_log = logger("stepout.artifacts")


class ServerUpload:
    """An upload at the server, from before it has begun until nothing of it is left but the object, or nothing at all.

    S3 says that a part which is under way while an upload is aborted may still be stored. So an upload is removed when
    it is aborted, for what has arrived already, and once more when the last request that was in flight then returns.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html

    Attributes:
        id: The server's name for it; ``None`` until it has begun.
        finished: Whether it became the object; whoever sets it holds the lock.
        leave_list: Lets go of the list of its blocks, once that is stored (``block_lists.put_list``).

    Args:
        store: Where it is.
        key: Under which key.
        condition: Guards it, and is told of changes.
    """

    def __init__(self, store: Store, key: str, condition: threading.Condition) -> None:
        self._store, self._key, self._condition = store, key, condition
        self.leave_list: Callable[[bool], None] | None = None
        self.id: str | None = None
        self.finished = False
        self._aborted = False
        self._in_flight = self._removals = 0

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and nothing is being removed."""
        return not self._in_flight and not self._removals

    @contextmanager
    def request(self, check: Callable[[], None]) -> Iterator[None]:
        """Count a request that may leave something behind, unless ``check`` raises."""
        with self._condition:  # check and count in one: an abort sees this request, or this request sees the abort
            check()
            self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Count a request; the caller holds the lock, and calls ``leave`` later."""
        self._in_flight += 1

    def leave(self) -> None:
        """Note that a request has returned; after an abort the last one removes what the others may have stored."""
        with self._condition:
            self._in_flight -= 1
            last = self._aborted and not self._in_flight and not self.finished and self.id is not None
            self._removals += last
            self._condition.notify_all()
        if last:
            self._run_removal()

    def abort(self) -> None:
        """End it, and begin to remove it; the caller holds the lock. A second time it does nothing."""
        first, self._aborted = not self._aborted, True
        if first and self.id is not None:
            self._removals += 1
            threading.Thread(target=self._run_removal, name="stepout-abort", daemon=True).start()

    def remove(self) -> None:
        """Ask the server to forget it; where that fails, the log says what to do."""
        try:
            self._store.abort_upload(self._key, self.id or "")
        except StepoutError as error:
            _log.warning(
                "the multipart upload of s3://%s/%s could not be removed, its parts cost money until a lifecycle rule "
                "(AbortIncompleteMultipartUpload) does: %s",
                self._store.bucket,
                self._key,
                error,
            )

    def _run_removal(self) -> None:
        try:
            self.remove()
            with self._condition:
                # While anything is in flight it may still become the object: whoever returns last comes here again.
                leave = None if self.finished or self._in_flight else self.leave_list
                self.leave_list = self.leave_list if leave is None else None
            if leave is not None:
                leave(False)
        finally:
            with self._condition:
                self._removals -= 1
                self._condition.notify_all()
