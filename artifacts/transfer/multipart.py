"""One multipart upload: parts leave in parallel, SHA-256 follows in order, nothing is left behind.

Threads, and who does what:

- The caller fills buffers and queues parts. It never talks to the network, so it can always be interrupted.
- Senders (daemons, started as parts wait for one) begin the upload, compute a part's checksum and send it. One that
  has nothing to do asks a second time for a part that is late (``part_requests``).
- One hasher (a daemon, ``running_digest``) takes all bytes in order.
- One more thread commits; before it, one stores the list of blocks if that is too long for a pointer. Where a server
  may ignore the condition of the commit, one tries that out, once a process, while parts are sent.

``abort`` may come from any thread. It ends the upload at once; requests that are still in flight then (the one that
begins the upload, parts, the one that completes) end it again when the last of them returns (``server_upload``).
Threads are daemons and are never waited for without a limit: a server that stalls cannot hold the process.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from stepout.artifacts.checksums import combine_all
from stepout.artifacts.process.pace import waiting
from stepout.artifacts.process.servers import idle_seconds
from stepout.artifacts.retries import WRITES, Retries
from stepout.artifacts.store import Cancels, OpensConnections, RequestCancelledError, TriesCompletion
from stepout.artifacts.transfer.adaptive_limit import AdaptiveLimit
from stepout.artifacts.transfer.block_lists import list_of, put_list
from stepout.artifacts.transfer.conditional_write import Content, completed, confirmed, look_first, settled
from stepout.artifacts.transfer.part_requests import PartRequests, PendingPart
from stepout.artifacts.transfer.running_digest import RunningDigest
from stepout.artifacts.transfer.server_upload import ServerUpload
from stepout.schemas.errors import StepoutError, StoreError, StoreUnavailableError
from stepout.schemas.runtime.events import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import PartReceipt, WriteOptions, Written
    from stepout.artifacts.transfer.block_lists import ListObject
    from stepout.artifacts.transfer.buffer_pool import BufferPool
    from stepout.artifacts.transfer.progress import TransferProgress

_POLL_SECONDS = 1.0
_IDLE_SECONDS = 20.0
_HANGS_SECONDS = 5.0


def aborted_error(url: str) -> StoreError:
    """Return what every write to an aborted upload raises."""
    return StoreError(f"the upload of {url} was aborted; no artifact came of it")


class Multipart:
    """One multipart upload, from its first part to its commit or abort.

    Attributes:
        failure: What made going on pointless: a part that failed for good, or an abort. The writer looks at it at every
            buffer, so it is an attribute and not a call.

    Args:
        store: Where it goes.
        key: Under which key.
        options: What rides along.
        plan: Says from what is known of the server how many parts may be on their way at once.
        server: What the process knows of the server, and learns here.
        total: Bytes in all; ``None``: not known.
        pool: Where the buffers of parts go back to; ``None`` where parts have none.
        progress: Told of every part that arrived, from a sender's thread.
        blocks: Which digests of its blocks to take; ``None`` for none.
        clock: Counts the seconds in which the calling thread did not compute.
        now: Seconds, the same for all threads.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        store: Store,
        key: str,
        *,
        options: WriteOptions,
        plan: Callable[[ServerState], int],
        server: ServerState,
        total: int | None = None,
        pool: BufferPool | None = None,
        progress: TransferProgress | None = None,
        blocks: WantedBlocks | None = None,
        clock: Callable[[], float] = idle_seconds,
        now: Callable[[], float] = lambda: time.monotonic(),  # noqa: PLW0108 - looked up when it is asked
    ) -> None:
        self._store, self._key, self._options = store, key, options
        self._url = f"s3://{store.bucket}/{key}"
        self._pool, self._progress, self._blocks, self._clock, self._now = pool, progress, blocks, clock, now
        self._server, self._requests, self._limit = server, PartRequests(server, total), AdaptiveLimit(plan, server)
        self.failure: BaseException | None = None
        self._condition = threading.Condition()
        self._waiting: deque[PendingPart] = deque()
        self._senders = self._idle = self._queued = 0
        self._size = 0
        self._ending = False  # all parts are queued
        self._listing = False  # a list is on its way
        self._upload = ServerUpload(store, key, self._condition)
        self._starting = False
        self._written: Written | None = None
        self._digest = RunningDigest(self._pass, lambda: self.failure is None)
        self._hashed = 0

    # For the caller ----------------------------------------------------------------------------------------------

    @property
    def senders(self) -> int:
        """How many parts may be on their way at once, as far as is known now."""
        return self._limit.now

    def hash(self, view: memoryview) -> None:
        """Queue the next bytes to be hashed, in order, before the part that they belong to.

        As soon as a buffer is full, and not with its part: then it is still in the processor's cache.
        """
        self._digest.add(view)

    def add(self, part: PendingPart) -> None:
        """Queue the next part to be sent, once all of its bytes were given to ``hash``.

        Raises:
            StepoutError: An earlier part failed for good, or the upload was aborted.
        """
        with self._condition:
            self._check()
            self._queued += 1
            self._size += part.size
            self._waiting.append(part)
            self._digest.add(part)
            self._condition.notify_all()
            self._staff(1)

    def finish(self) -> tuple[Content, Written]:
        """Wait for every part, then commit.

        Returns:
            What was sent, and what the commit answered.

        Raises:
            ArtifactExistsError: Other content is there.
            ConflictError: Nothing was stored; send everything anew.
            StepoutError: A part or the commit failed for good.
        """
        with self._condition:
            self._ending = True
            self._condition.notify_all()  # what is late matters more from now on
        blocks = None
        if self._blocks is not None:
            # Beside the last parts: behind them it would cost a round trip.
            requests = self._requests
            self._await(lambda: len(requests.digests) == self._queued and requests.unanswered < self._limit.now)
            blocks = self._list(self._blocks)
        # S3 refuses to complete an upload whose parts are not all there, and the pointer needs the whole digest.
        arrived = self._requests.receipts
        self._await(lambda: len(arrived) == self._hashed == self._queued and not self._listing)
        receipts = [arrived[number] for number in sorted(arrived)]
        size = sum(part.size for part in receipts)
        content = Content(size=size, checksum=self._checksums(receipts), blocks=blocks)
        with self._condition:
            self._check()
            self._upload.enter()  # before the thread starts: an abort in between has to wait for its answer
        self._digest.end()
        commit = carried(self._run_commit)
        threading.Thread(target=commit, args=(content, receipts), name="stepout-commit", daemon=True).start()
        self._await(lambda: self._written is not None)
        assert self._written is not None  # noqa: S101 - _await has just seen it
        if self._upload.leave_list is not None:
            self._upload.leave_list(True)
        return content, self._written

    def abort(self, wait: float) -> None:
        """End the upload, from any thread, and wait ``wait`` seconds at most until nothing of it is left.

        Parts on their way are cancelled; a request that is in flight even then ends it again when it returns.
        """
        with self._condition:
            if self._upload.finished:  # the object is there; AbortMultipartUpload would answer NoSuchUpload
                return
            self._end(aborted_error(self._url))
            self._upload.abort()
            on_their_way = self._requests.cancellations
        for each in on_their_way:
            each.cancel()
        self._digest.end()
        with self._condition:
            self._condition.wait_for(lambda: self._upload.quiet, timeout=wait)

    # Senders -----------------------------------------------------------------------------------------------------

    def _staff(self, most: int) -> None:
        """Start up to ``most`` senders, as far as parts wait for one; the caller holds the lock."""
        wanted = min(most, self._limit.now - self._senders, len(self._waiting) - self._idle)
        for _ in range(wanted):
            self._senders += 1
            threading.Thread(target=carried(self._run_sender), name="stepout-send", daemon=True).start()
        if most > 1 and self._pool is not None:
            self._pool.wake()  # a writer that waits for a buffer asks for the memory that more senders need

    def _run_sender(self) -> None:
        while (found := self._next()) is not None:
            part, beside = found
            error: BaseException | None = None
            try:
                self._deliver(part, beside=beside)
            except BaseException as raised:  # noqa: BLE001 - handed to the caller's thread, which raises it
                error = raised
            self._leave_part(part, error)

    def _next(self) -> tuple[PendingPart, bool] | None:
        """Wait for a part to send, and say whether that is beside its first request."""
        with self._condition:
            # Idle threads end, and are started again later: a job that computes for hours holds no threads.
            idle_until = self._now() + _IDLE_SECONDS
            while not self._over and self._senders <= self._limit.now:
                now = self._now()
                late = self._requests.late(now, last=self._ending and not self._waiting)
                if late is not None and late.at <= now:
                    self._requests.repeat(late.part)
                    return late.part, True
                if self._waiting:
                    return self._waiting.popleft(), False
                until = idle_until if late is None else late.at
                if until <= now:
                    break
                self._idle += 1
                self._condition.wait(until - now)
                self._idle -= 1
            self._senders -= 1  # nothing to do, or the limit fell
            return None

    @property
    def _over(self) -> bool:
        return self._upload.finished or self.failure is not None

    def _deliver(self, part: PendingPart, *, beside: bool) -> None:
        upload = self._begun()
        with self._upload.request(self._check):
            send = partial(self._ask, upload, part, part.checked(self._store.profile.multipart_checksum, self._blocks))
            if beside:  # the first request has its tries
                send()
            else:
                self._try(part, send)

    def _try(self, part: PendingPart, send: Callable[[], None]) -> None:
        """Send until the part has arrived, or others who get theirs through take it over."""
        retries, arrived = Retries(partial(self._wait, part=part)), len(self._requests.receipts)
        began = retries.clock()
        part.since = part.since or began
        for failures in itertools.count(1):
            try:
                send()
            except StepoutError as error:
                try:
                    part.tries = retries.next_attempt(error, part.tries, part.since)
                except StoreUnavailableError:  # once, if others got theirs through meanwhile, they may this one, too
                    if part.tries > WRITES.tries or len(self._requests.receipts) == arrived:
                        raise
                    part.tries += 1
                if (failures > 1 or retries.clock() - began > _HANGS_SECONDS) and self._hands_over(part, arrived):
                    return
            else:
                return

    def _hands_over(self, part: PendingPart, arrived: int) -> bool:
        """Leave a part to the other senders, if more have arrived than then; there is one sender less from now on."""
        with self._condition:
            # Others work on what they will bring, and not only on this part.
            works = self._idle > 0 or (part.claims == 1 and len(self._requests.receipts) - arrived > 1)
            if self._senders == 1 or not works or part.number in self._requests.receipts:
                return False
            self._limit.refused(self._senders)
            part.claims, part.holders = part.claims + 1, part.holders + 1  # this sender lets go of it
            self._waiting.appendleft(part)
            self._condition.notify_all()
            return True

    def _ask(self, upload: str, part: PendingPart, checksum: str) -> None:
        """Send one request for a part, unless it has arrived; the first answer ends the others."""
        with self._store.cancellable() if isinstance(self._store, Cancels) else nullcontext() as cancellation:
            with self._condition:
                self._check()  # an abort cancels what has begun
                request = self._requests.begin(part, cancellation, self._now())
            if request is None:
                return
            start = self._clock()
            try:
                with waiting.by(partial(self._turn, part), (part.since or 0.0) + WRITES.seconds):
                    receipt = self._store.put_part(self._key, upload, part.number, part.views, checksum=checksum)
            except BaseException as error:
                with self._condition:
                    arrived = self._requests.failed(request)
                if arrived and isinstance(error, StepoutError):
                    return
                raise
            waited = self._clock() - start
        with self._condition:
            others = self._requests.answered(request, receipt, self._now())
            if others is not None:
                self._server.saw_upload(part.size, waited)
                self._limit.part_arrived()
                self._staff(self._limit.now)
            self._condition.notify_all()
        if others is None:
            return
        for each in others:
            each.cancel()
        if self._progress is not None:
            self._progress.sent(part.size)

    def _leave_part(self, part: PendingPart, error: BaseException | None) -> None:
        """Let go of a part that was sent, or could not be: then it is lost, unless others still send it."""
        with self._condition:
            part.claims -= 1
            left_to_others = part.claims > 0 and isinstance(error, StepoutError)
            if error is not None and not left_to_others:
                self._end(error)
        self._release(part)

    def _release(self, part: PendingPart) -> None:
        """Let go of a part; the last of its holders gives its buffers back."""
        with self._condition:
            part.holders -= 1
            last = part.holders == 0
        if last and self._pool is not None:
            self._pool.give_back(part.buffers)

    def _pass(self, part: PendingPart) -> None:
        """Take note that a part was hashed."""
        self._release(part)
        with self._condition:
            self._hashed += 1
            self._condition.notify_all()

    def _begun(self) -> str:
        """Return the upload's id; the first to ask begins it, the others connect meanwhile."""
        with self._condition:
            self._check()
            if self._upload.id is not None:
                return self._upload.id
            if first := not self._starting:
                self._starting = True
        if first:
            return self._start()
        # Meanwhile a connection is opened, so that the first parts do not wait for it after the answer.
        with self._store.open_connection() if isinstance(self._store, OpensConnections) else nullcontext():
            return self._await_start()

    def _start(self) -> str:
        try:
            with self._upload.request(self._check):
                if isinstance(self._store, TriesCompletion):
                    trial = partial(self._store.try_completion, self._key, options=self._options)
                    if self._limit.now > 1:
                        self._beside(trial, "trial")
                    else:
                        trial()
                start = self._clock()
                upload = Retries(self._wait).run(partial(self._store.start_upload, self._key, options=self._options))
                waited = self._clock() - start
                with self._condition:
                    self._upload.id = upload  # before the check: an abort that came meanwhile has this to remove
                    self._check()
                    self._server.saw_latency(waited)
                    self._requests.learn()
                    self._limit.began()
                    self._staff(self._limit.now)
                    return upload
        except BaseException as error:
            self._end(error)  # before another one tries in vain
            raise
        finally:
            with self._condition:
                self._starting = False
                self._condition.notify_all()

    def _beside(self, act: Callable[[], None], name: str) -> None:
        """Do what sends requests beside the parts, in a thread of its own; if that fails, the upload does."""

        def run() -> None:
            try:
                with self._upload.request(self._check):
                    act()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
                self._end(error)

        threading.Thread(target=carried(run), name=f"stepout-{name}", daemon=True).start()

    def _await_start(self) -> str:
        """Wait for the thread that begins the upload."""
        with self._condition:
            self._condition.wait_for(lambda: not self._starting or self._over)
        return self._begun()

    # The list of blocks ------------------------------------------------------------------------------------------

    def _list(self, wanted: WantedBlocks) -> Mapping[str, Any] | None:
        """Begin to store the list, once all parts are on their way, and return what the pointer says of the blocks."""
        known = self._requests.digests
        digests = b"".join(known[number] for number in sorted(known))
        member, stored = list_of(wanted, digests, self._size)
        if stored is not None:
            self._listing = True
            self._beside(partial(self._put_list, stored), "list")
        return member

    def _put_list(self, stored: ListObject) -> None:
        leave = put_list(self._store, stored, self._options, Retries(self._wait, conflicts=True))
        with self._condition:
            self._upload.leave_list, self._listing = leave, False
            self._condition.notify_all()

    # Commit ------------------------------------------------------------------------------------------------------

    def _checksums(self, receipts: Sequence[PartReceipt]) -> dict[str, str]:
        checksums = {"sha256": self._digest.hexdigest()}
        wanted = self._store.profile.multipart_checksum
        if wanted != "parts":
            checksums[wanted] = combine_all(wanted, [(part.checksum, part.size) for part in receipts])
        return checksums

    def _run_commit(self, content: Content, receipts: Sequence[PartReceipt]) -> None:
        try:
            written = self._commit(content, receipts)
            with self._condition:
                self._written = written
                self._upload.finished = True
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._end(error)
        finally:
            self._upload.leave()

    def _commit(self, content: Content, receipts: Sequence[PartReceipt]) -> Written:
        found = look_first(self._store, self._key, content, self._options)
        if found is None:
            try:
                written = completed(
                    self._store,
                    self._key,
                    self._upload.id or "",
                    receipts=receipts,
                    sent=content,
                    options=self._options,
                    retries=Retries(self._wait),
                )
            except StoreError as error:
                found = settled(self._store, self._key, content, self._options, error)
            else:
                return confirmed(self._store, self._key, content, self._options, written)
        self._upload.remove()  # the same content was there already: these parts are not needed
        return found

    # Ends --------------------------------------------------------------------------------------------------------

    def _await(self, done: Callable[[], bool]) -> None:
        with self._condition:
            while not done():
                self._check()
                # In pieces, so that Ctrl-C is seen where a lock cannot be interrupted (Windows).
                self._condition.wait(_POLL_SECONDS)

    def _wait(self, seconds: float, part: PendingPart | None = None) -> None:
        """Pause between tries, unless there is no point in another one, or the part has arrived meanwhile."""
        arrived = self._requests.receipts
        with self._condition:
            self._condition.wait_for(lambda: self._over or (part and part.number in arrived), timeout=seconds)
            self._check()

    def _turn(self, part: PendingPart, seconds: float) -> None:
        """Wait for a part's turn, where the server asks for fewer requests, as long as it has to be sent."""
        self._wait(seconds, part)
        if part.number in self._requests.receipts:
            raise RequestCancelledError(f"{self._url}: part {part.number} has arrived by another request")

    def _end(self, error: BaseException) -> None:
        """Give up, for the first reason that is given."""
        with self._condition:
            self.failure = self.failure or error
            while self._waiting:
                self._release(self._waiting.popleft())
            self._condition.notify_all()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
