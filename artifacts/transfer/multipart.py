"""One multipart upload: parts leave in parallel, SHA-256 follows in order, nothing is left behind.

Threads, and who does what:

- The caller fills blocks and queues parts. It never talks to the network, so it can always be interrupted.
- Senders (daemons, started as parts wait for one) begin the upload, compute a part's checksum and send it.
- One hasher (a daemon) takes every block in order; one more thread commits.

``abort`` may come from any thread. It ends the upload at once; requests that are still in flight then (the one that
begins the upload, parts, the one that completes) end it again when the last of them returns, so that nothing they
stored stays. Threads are daemons and are never waited for without a limit: a server that stalls cannot hold the
process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepout.artifacts.checksums import combine_all, crc_of
from stepout.artifacts.store import TriesCompletion
from stepout.artifacts.transfer.conditional_write import Content, commit, confirmed, look_first
from stepout.artifacts.transfer.hasher import Hasher
from stepout.artifacts.transfer.plan import NEAR_SECONDS, is_far
from stepout.artifacts.transfer.retries import Retries
from stepout.schemas.errors import StepoutError, StoreError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepout.artifacts.s3.request_bodies import Views
    from stepout.artifacts.store import PartReceipt, Store, WriteOptions, Written
    from stepout.artifacts.transfer.buffer_pool import Buffer

_log = logger("stepout.artifacts")

_POLL_SECONDS = 1.0
_IDLE_SECONDS = 20.0


def idle_seconds() -> float:
    """Return a clock that stands still while the calling thread computes: the difference is what it waited."""
    return time.perf_counter() - time.thread_time()


def aborted_error(url: str) -> StoreError:
    """Return what every write to an aborted upload raises."""
    return StoreError(f"the upload of {url} was aborted; no artifact came of it")


@dataclass(frozen=True)
class PendingPart:
    """The bytes of one part, and the blocks that hold them."""

    number: int
    views: Views
    blocks: Sequence[Buffer] = ()

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.views))

    def release(self) -> None:
        """Let go of the blocks."""
        for block in self.blocks:
            block.release()


class Multipart:
    """One multipart upload, from its first part to its commit or abort.

    Attributes:
        far: Whether the server took long for its first answer; ``None`` until it has come.

    Args:
        store: Where it goes.
        key: Under which key.
        options: What rides along.
        senders: How many parts may be on their way at once, to a server that is far away or is not.
        sent: Called with the size of every part that arrived, from a sender's thread.
        clock: Counts the seconds in which the calling thread did not compute.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        store: Store,
        key: str,
        *,
        options: WriteOptions,
        senders: Callable[[bool], int],
        sent: Callable[[int], None],
        clock: Callable[[], float] = idle_seconds,
    ) -> None:
        self._store, self._key, self._options = store, key, options
        self._url = f"s3://{store.bucket}/{key}"
        self._limit_for, self._limit = senders, senders(False)
        self._sent, self._clock = sent, clock
        self.far: bool | None = None
        self._condition = threading.Condition()
        self._waiting: deque[PendingPart] = deque()
        self._senders = self._idle = self._in_flight = self._queued = 0
        self._receipts: dict[int, PartReceipt] = {}
        self._upload: str | None = None
        self._started_at = 0.0
        self._starting = self._aborted = self._finished = False
        self._removals = 0
        self._failure: BaseException | None = None
        self._written: Written | None = None
        self._hasher = Hasher()
        self._retries = Retries(self._wait)

    # For the caller ----------------------------------------------------------------------------------------------

    def hash(self, view: memoryview, block: Buffer | None = None) -> None:
        """Queue the next bytes for SHA-256, in order; ``block`` is released when they are hashed."""
        self._hasher.add(view, block)

    def add(self, part: PendingPart) -> None:
        """Queue a part.

        Raises:
            StepoutError: An earlier part failed for good, or the upload was aborted.
        """
        with self._condition:
            if self._failure is None and not self._aborted:
                self._waiting.append(part)
                self._queued += 1
                self._condition.notify_all()
                self._staff(1)
                return
        part.release()
        self.check()

    def check(self) -> None:
        """Raise what made going on pointless.

        Raises:
            StepoutError: A part failed for good, or the upload was aborted.
        """
        if self._failure is not None:
            raise self._failure
        if self._aborted:
            raise aborted_error(self._url)

    def finish(self) -> tuple[Content, Written]:
        """Wait for every part, then commit.

        Returns:
            What was sent, and what the commit answered.

        Raises:
            ArtifactExistsError: Other content is there.
            ConflictError: Nothing was stored; send everything anew.
            StepoutError: A part or the commit failed for good.
        """
        self._await(lambda: len(self._receipts) == self._queued)
        receipts = [self._receipts[number] for number in sorted(self._receipts)]
        content = Content(size=sum(part.size for part in receipts), checksum=self._checksums(receipts))
        with self._condition:
            self.check()
            self._in_flight += 1
        threading.Thread(target=self._run_commit, args=(content, receipts), name="stepout-commit", daemon=True).start()
        self._await(lambda: self._written is not None)
        if self._written is None:  # pragma: no cover - _await has just seen it
            raise aborted_error(self._url)
        return content, self._written

    def abort(self, wait: float) -> None:
        """End the upload, from any thread, and wait ``wait`` seconds at most until nothing of it is left.

        Requests that are still in flight then end it again when they return.
        """
        with self._condition:
            if self._finished:
                return
            first, self._aborted = not self._aborted, True
            self._drain()
            self._condition.notify_all()
            remove = first and self._upload is not None
            self._removals += remove
        self._hasher.stop()
        if remove:
            threading.Thread(target=self._run_removal, name="stepout-abort", daemon=True).start()
        with self._condition:
            self._condition.wait_for(lambda: self._in_flight == 0 and not self._removals, timeout=wait)

    # Senders -----------------------------------------------------------------------------------------------------

    def _staff(self, most: int) -> None:
        """Start up to ``most`` senders, as far as parts wait for one; the caller holds the lock."""
        wanted = min(most, self._limit - self._senders, len(self._waiting) - self._idle)
        for _ in range(wanted):
            self._senders += 1
            threading.Thread(target=self._run_sender, name="stepout-send", daemon=True).start()

    def _run_sender(self) -> None:
        while (part := self._next()) is not None:
            try:
                self._deliver(part)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
                self._fail(error)
            finally:
                part.release()

    def _next(self) -> PendingPart | None:
        with self._condition:
            self._idle += 1
            self._condition.wait_for(lambda: self._waiting or self._over, timeout=_IDLE_SECONDS)
            self._idle -= 1
            if self._waiting and not self._over and self._senders <= self._limit:
                return self._waiting.popleft()
            self._senders -= 1
            return None

    @property
    def _over(self) -> bool:
        return self._aborted or self._finished or self._failure is not None

    def _deliver(self, part: PendingPart) -> None:
        upload = self._begun()
        with self._flight():
            checksum = self._part_checksum(part)
            receipt = self._retries.run(
                lambda: self._store.put_part(self._key, upload, part.number, part.views, checksum=checksum)
            )
        with self._condition:
            self._receipts[part.number] = receipt
            self._condition.notify_all()
        self._sent(part.size)

    def _begun(self) -> str:
        """Return the upload's id; the first to ask begins it, the others connect meanwhile."""
        with self._condition:
            self.check()
            if self._upload is not None:
                return self._upload
            if first := not self._starting:
                self._starting, self._started_at = True, time.perf_counter()
        if first:
            return self._start()
        with getattr(self._store, "open_connection", nullcontext)():
            return self._await_start()

    def _start(self) -> str:
        try:
            with self._flight():
                if isinstance(self._store, TriesCompletion):
                    self._store.try_completion(self._key, options=self._options)
                start = self._clock()
                upload = self._retries.run(lambda: self._store.start_upload(self._key, options=self._options))
                far = is_far(self._clock() - start)
                with self._condition:
                    self._upload = upload
                    self.check()
                    self.far = far
                    self._limit = self._limit_for(far)
                    self._staff(self._limit)
                    return upload
        except BaseException as error:
            self._fail(error)  # before another one tries in vain
            raise
        finally:
            with self._condition:
                self._starting = False
                self._condition.notify_all()

    def _await_start(self) -> str:
        """Wait for the one who begins the upload; when that takes long, call in all who will be needed then."""
        with self._condition:
            soon = max(self._started_at + NEAR_SECONDS - time.perf_counter(), 0)
            if not self._condition.wait_for(lambda: not self._starting or self._over, timeout=soon):
                self._limit = max(self._limit, self._limit_for(True))
                self._staff(self._limit)
                self._condition.wait_for(lambda: not self._starting or self._over)
        return self._begun()

    def _part_checksum(self, part: PendingPart) -> str:
        wanted = self._store.profile.multipart_checksum
        return part.views.sha256() if wanted == "parts" else crc_of(wanted, part.views)

    # Commit ------------------------------------------------------------------------------------------------------

    def _checksums(self, receipts: Sequence[PartReceipt]) -> dict[str, str]:
        checksums = {"sha256": self._hasher.result(self.check)}
        wanted = self._store.profile.multipart_checksum
        if wanted != "parts":
            checksums[wanted] = combine_all(wanted, [(part.checksum, part.size) for part in receipts])
        return checksums

    def _run_commit(self, content: Content, receipts: Sequence[PartReceipt]) -> None:
        try:
            written = self._commit(content, receipts)
            with self._condition:
                self._written = written
                self._finished = True
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._fail(error)
        finally:
            self._leave()

    def _commit(self, content: Content, receipts: Sequence[PartReceipt]) -> Written:
        found = look_first(self._store, self._key, content, self._options)
        answered = False

        def complete() -> Written:
            nonlocal answered
            written = self._retries.run(lambda: self._complete(content, receipts))
            answered = True
            return written

        if found is None:
            found = commit(self._store, self._key, content, self._options, complete)
        if answered:
            return confirmed(self._store, self._key, content, self._options, found)
        self._remove()  # the same content was there already: these parts are not needed
        return found

    def _complete(self, content: Content, receipts: Sequence[PartReceipt]) -> Written:
        wanted = self._store.profile.multipart_checksum
        return self._store.complete_upload(
            self._key,
            self._upload or "",
            receipts,
            size=content.size,
            checksum=content.checksum.get(wanted),
            options=self._options,
        )

    # Ends --------------------------------------------------------------------------------------------------------

    def _await(self, done: Callable[[], bool]) -> None:
        with self._condition:
            while not done():
                self.check()
                self._condition.wait(_POLL_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Pause between tries, unless there is no point in another one."""
        with self._condition:
            self._condition.wait_for(lambda: self._over, timeout=seconds)
            self.check()

    def _fail(self, error: BaseException) -> None:
        with self._condition:
            if self._failure is None:
                self._failure = error
            self._drain()
            self._condition.notify_all()

    def _drain(self) -> None:
        while self._waiting:
            self._waiting.popleft().release()

    @contextmanager
    def _flight(self) -> Iterator[None]:
        """Count a request that may leave something behind."""
        with self._condition:
            self.check()
            self._in_flight += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        """Note that a request has returned; after an abort the last one removes what the others may have stored."""
        with self._condition:
            self._in_flight -= 1
            last = self._aborted and not self._in_flight and not self._finished and self._upload is not None
            self._removals += last
            self._condition.notify_all()
        if last:
            self._run_removal()

    def _run_removal(self) -> None:
        try:
            self._remove()
        finally:
            with self._condition:
                self._removals -= 1
                self._condition.notify_all()

    def _remove(self) -> None:
        try:
            self._store.abort_upload(self._key, self._upload or "")
        except StepoutError as error:
            _log.warning(
                "the multipart upload of %s could not be removed, its parts cost money until a lifecycle rule "
                "(AbortIncompleteMultipartUpload) does: %s",
                self._url,
                error,
            )
