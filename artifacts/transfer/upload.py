"""From bytes to a committed artifact: one pass, bounded memory, whole or absent.

Bytes in memory are sent from where they are. All others are read or copied into the buffers of a pool: as long as they
fit in one part they stay there and leave as one PutObject; beyond that, parts go to a ``Multipart`` as they fill up.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.checksums import checksums_of, has_native_crc64nvme
from stepout.artifacts.process.budget import process_budget
from stepout.artifacts.process.servers import idle_seconds
from stepout.artifacts.retries import WRITES, Retries
from stepout.artifacts.s3.request_bodies import SMALL, Views
from stepout.artifacts.store import ConflictError, pooled_connections
from stepout.artifacts.transfer.adaptive_limit import learned_limit, learned_memory, learned_single_limit
from stepout.artifacts.transfer.block_lists import beside_list, digested
from stepout.artifacts.transfer.buffer_pool import Buffer, BufferPool
from stepout.artifacts.transfer.conditional_write import Content, Uploaded, put_once
from stepout.artifacts.transfer.file_objects import StreamSource
from stepout.artifacts.transfer.multipart import Multipart, aborted_error
from stepout.artifacts.transfer.part_requests import PendingPart
from stepout.artifacts.transfer.plan import (
    BLOCK_SIZE,
    MAX_PARTS,
    TransferSettings,
    ceiling,
    memory_for,
    memory_needed,
    most_senders,
    part_size_at,
    part_size_for,
    pool_size,
)
from stepout.artifacts.transfer.pool_growth import PoolGrowth, extend
from stepout.artifacts.transfer.progress import TransferProgress
from stepout.artifacts.transfer.sources import FileSource, byte_view
from stepout.schemas.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.checksums import Crc
    from stepout.artifacts.process.budget import Grant
    from stepout.artifacts.store import Store
    from stepout.artifacts.store_writes import WriteOptions, Written
    from stepout.artifacts.transfer.progress import ProgressReport
    from stepout.artifacts.transfer.sources import ByteSource

_ABORT_SECONDS = 5.0

_CALLERS: Final = 1 << 30
"""Bytes: as if a transfer had so much memory is planned what is sent from the caller's."""

_IN_POINTERS = frozenset({"sha256", "crc64nvme"})


class Upload:
    """Writes one artifact: pushed with ``write`` and ``commit``, or pulled by one of the ``send_…`` methods.

    Nothing is visible in the store before the commit, and an upload that is not committed leaves nothing, or a list of
    blocks that nothing names (``block_lists``). What fits in one part is a single PutObject, without a thread. One
    thread at a time may write; ``abort`` may come from any.

    Args:
        store: Where it goes.
        key: Under which key.
        options: Media type, mode, encryption, tags and so on.
        settings: How much memory and how many connections it may use at most; what it gets is granted by the process's
            budget, and given back when it ends.
        progress: Called with the bytes sent so far and the total, ``None`` where that is unknown; from any thread.
        blocks: Which digests of its blocks to take; ``None`` for none.
        pool: Buffers for what is written, shared with other uploads; ``None``: it has its own. All that share one must
            fit: each holds a part and a block while it waits for more. Whoever shares it out has been granted it.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        store: Store,
        key: str,
        *,
        options: WriteOptions,
        settings: TransferSettings | None = None,
        progress: ProgressReport | None = None,
        blocks: WantedBlocks | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        self._store, self._key, self._options, self._blocks = store, key, options, blocks
        self._settings = settings or TransferSettings()
        self._progress = None if progress is None else TransferProgress(progress)
        self._process = os.getpid()
        self._pausing: threading.Condition | None = None
        self._aborted = False
        self._committed = False
        self._pool = pool
        self._grant: Grant | None = None
        self._multipart: Multipart | None = None
        self._begin(None)

    def __repr__(self) -> str:
        return f"Upload({self._url!r}, {self._size:,} bytes)"

    @property
    def _url(self) -> str:
        return f"s3://{self._store.bucket}/{self._key}"

    @property
    def here(self) -> bool:
        """Whether this process began it, and was not forked off the one that did."""
        return os.getpid() == self._process

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._size

    # Push --------------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> int:
        """Take the next bytes: copied, so the caller may reuse its buffer; sent as parts fill up.

        Args:
            data: ``bytes`` or anything else with a contiguous buffer.

        Returns:
            How many bytes were taken: all of them.

        Raises:
            StoreError: An earlier part failed for good, or the upload was aborted or committed.
        """
        view = rest = byte_view(data)
        with self._or_abort():
            while len(rest):
                rest = rest[self._room().fill(rest) :]
        self._size += len(view)
        return len(view)

    def commit(self, blocks: Mapping[str, Any] | None = None) -> Uploaded:
        """Make everything written one artifact.

        Args:
            blocks: What the pointer says of its blocks' digests, where the bytes themselves hold them.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            StoreUnavailableError: The store did not take it; ``retryable``, and nothing is left behind.
        """
        with self._or_abort():
            uploaded = self._finish()
            return uploaded if blocks is None else uploaded._replace(blocks=blocks)

    def abort(self) -> None:
        """End the upload from any thread, at any time; a second time, or after the commit, it does nothing.

        Waits a few seconds at most, for requests in flight to return, so that nothing of the upload is left. In a
        process that was forked off the upload's, where it lives on, nothing is ended.
        """
        if self._committed or not self.here:
            return
        # The mark comes first: a thread that does not wait yet sees it before its next wait; waiting threads are woken.
        self._aborted = True
        if self._pausing is not None:
            with self._pausing:
                self._pausing.notify_all()
        # Another thread may replace either of them meanwhile, so each is looked at once.
        if (pool := self._pool) is not None:
            pool.wake()
        if (multipart := self._multipart) is not None:
            multipart.abort(_ABORT_SECONDS)
        self._give_back_grant()

    # Pull --------------------------------------------------------------------------------------------------------

    def send_buffer(self, data: Any) -> Uploaded:
        """Send bytes, which must not change during the call; they are not copied.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            StoreUnavailableError: The store did not take it.
        """
        view = byte_view(data)
        if len(view) > self._single_for(len(view)):
            return self._anew(lambda: self._send_view(view))
        with self._or_abort():
            self._check()
            if self._progress is not None:
                self._progress.begin(len(view))
            return self._put((view,))

    def send_file(self, path: str | os.PathLike[str]) -> Uploaded:
        """Send a file, which must not change during the call; pipes and devices are read to their end.

        Raises:
            ArtifactChangedError: It changed while it was read; nothing was stored.
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            OSError: It could not be read.
            StoreUnavailableError: The store did not take it.
        """
        source = FileSource(path)
        return self._anew(lambda: self._send_source(source))

    def send_stream(self, source: Any) -> Uploaded:
        """Read a binary file object to its end and send it.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            ConfigurationError: It gives nothing, and stands behind bytes that were read or written before.
            StoreUnavailableError: The store did not take it; what was read cannot be read again.
        """
        with self._or_abort():
            return self._send_source(StreamSource(source))

    # Inside: filling ---------------------------------------------------------------------------------------------

    def _begin(self, total: int | None) -> None:
        """Start from nothing, with the plan for ``total`` bytes (``None``: unknown)."""
        self._total = total
        if self._progress is not None:
            self._progress.begin(total)
        if self._multipart is not None:  # an earlier try, whose threads may still hold buffers
            self._multipart = self._pool = None
            self._give_back_grant()
        self._plan, self._growth = self._settings, PoolGrowth(total)
        # A body that is known to be longer begins in parts with its first block.
        single = self._single_for(total)
        self._single = single if total is None or total <= single else 0
        self._buffers: list[Buffer] = []
        self._parts = self._size = self._part = 0

    def _single_for(self, total: int | None) -> int:
        """Return up to which size a body goes out as one PutObject.

        That is what fits in the first part of a stream, and more where the size is known, and so is the server.
        """
        first = self._settings.ladder[0]
        if total is None or total <= first:
            return first
        most = most_senders(self._settings, pooled_connections(self._store))
        return learned_single_limit(self._settings, most, process_budget().server(self._store))

    def _check(self) -> None:
        """Raise if there is no point in going on; asked for every buffer, so nothing is called on the way."""
        if self._aborted:
            raise aborted_error(self._url)
        if self._multipart is not None and self._multipart.failure is not None:
            raise self._multipart.failure
        if self._committed:
            raise StoreError(f"the upload of {self._url} is committed; it takes no more bytes")

    def _room(self) -> Buffer:
        """Return a buffer that has room."""
        self._check()
        if self._buffers:
            if self._buffers[-1].size < BLOCK_SIZE:
                return self._buffers[-1]
            self._seal()
        if self._pool is None:
            # Enough for a body of one request, which most are; the rest is asked for once it is longer.
            memory = memory_for(self._single if self._total is None else min(self._single, self._total))
            self._grant = process_budget().grant(memory, 1, least=memory)
            self._pool = BufferPool(pool_size(memory))
        # Buffers come back as parts are sent and hashed; a part that failed, or an abort, ends the wait.
        self._grow()
        while (buffer := self._pool.take()) is None:
            self._check()
            self._grow()
        self._buffers.append(buffer)
        return buffer

    def _seal(self) -> None:
        """Take note that the last buffer is filled, and send parts once there is a byte beyond them.

        So what fits in one part never begins a multipart upload, and the last part is never empty.
        """
        multipart, fresh = self._multipart, self._buffers[-1:]
        if multipart is None:
            if len(self._buffers) * BLOCK_SIZE <= self._single:
                return
            multipart, fresh = self._new_multipart(self._pool), self._buffers
        for buffer in fresh:
            multipart.hash(buffer.memory[: buffer.size])
        # Several at once where the first part of a stream is larger than the parts for many connections.
        while len(self._buffers) * BLOCK_SIZE > self._part:
            self._flush(self._part // BLOCK_SIZE)

    def _flush(self, count: int) -> None:
        """Queue the first ``count`` buffers as the next part."""
        buffers, self._buffers = self._buffers[:count], self._buffers[count:]
        self._add(Views(buffer.memory[: buffer.size] for buffer in buffers), buffers)

    def _add(self, views: Views, buffers: Sequence[Buffer] = ()) -> None:
        """Queue the next part, and settle the size of the one after it."""
        if self._parts == MAX_PARTS:
            raise ConfigurationError(
                f"the stream to {self._url} is longer than {MAX_PARTS:,} parts can carry with this memory setting "
                f"({ceiling(self._settings):,} bytes); nothing was stored. Raise memory"
            )
        self._parts += 1
        if self._multipart is not None:
            self._multipart.add(PendingPart(self._parts, views, buffers))
            before, self._part = self._part, self._part_size(self._multipart)
            if self._part > before and self._grant is not None and self._pool is not None:
                extend(self._pool, self._grant, memory_for(self._part))

    def _part_size(self, multipart: Multipart) -> int:
        """Return the size of the next part."""
        if self._total is None:
            return part_size_at(self._parts + 1, self._plan)
        if self._equal_parts:
            return part_size_for(self._total, self._plan)
        return part_size_for(self._total, self._plan, senders=multipart.senders)

    @property
    def _equal_parts(self) -> bool:
        """Whether parts have one size: some of the servers without full-object checksums take nothing else."""
        return self._store.profile.multipart_checksum == "parts"

    def _granted(self, pool: BufferPool | None) -> int:
        """Ask for what many parts on their way take, as far as it is free, and return how many they may be."""
        connections = most_senders(self._settings, pooled_connections(self._store))
        if pool is None:  # the parts are the caller's memory
            self._grant = process_budget().grant(0, connections)
        elif self._grant is None:  # the pool is another's, who was granted all of it
            pool.widen()
            return connections
        else:
            # If it turns out that more connections are needed, ``_grow`` asks for more.
            server = process_budget().server(self._store)
            wanted = learned_memory(self._total, self._settings, connections, self._equal_parts, server)
            self._grant.raise_to(wanted, connections, least=memory_needed(self._total, self._settings))
            extend(pool, self._grant)
            # A stream keeps its plan, which says how long it may become: it asks again when its parts grow.
            if self._total is not None and self._grant.memory < wanted:
                self._plan = replace(self._settings, memory=self._grant.memory)
        return self._grant.connections

    def _grow(self) -> None:
        """Take the memory that further connections need, once the upload wants them."""
        if self._multipart is not None and self._pool is not None and self._grant is not None:
            self._growth.follow(self._pool, self._grant, self._plan, self._multipart.senders, self._part)

    def _give_back_grant(self) -> None:
        if (grant := self._grant) is not None:  # looked at once: an abort comes from any thread
            grant.release()

    def _new_multipart(self, pool: BufferPool | None) -> Multipart:
        most, server = self._granted(pool), process_budget().server(self._store)
        # What is the caller's memory need not fit in ours.
        plan = self._plan if pool is not None else replace(self._plan, memory=max(self._plan.memory, _CALLERS))
        multipart = Multipart(
            self._store,
            self._key,
            options=self._options,
            plan=partial(learned_limit, self._total, plan, most, self._equal_parts),
            server=server,
            total=self._total,
            pool=pool,
            progress=self._progress,
            blocks=self._blocks,
        )
        self._multipart, self._part = multipart, self._part_size(multipart)
        if self._aborted:  # abort() may have come just before there was anything to tell
            multipart.abort(0)
        return multipart

    def _drain(self, source: ByteSource) -> int:
        """Read ``source`` to its end and return how many bytes it gave."""
        before = self._size
        while True:
            buffer = self._room()
            count = source.readinto(buffer.memory[buffer.size :])
            if count == 0:
                return self._size - before
            buffer.size += count
            self._size += count

    # Inside: sending ---------------------------------------------------------------------------------------------

    def _finish(self) -> Uploaded:
        self._check()
        if self._pool is not None and self._buffers and not self._buffers[-1].size:
            self._pool.give_back([self._buffers.pop()])  # taken for bytes that did not come
        elif self._buffers:
            self._seal()
        if self._multipart is None:
            return self._put([buffer.memory[: buffer.size] for buffer in self._buffers])
        if self._buffers:
            self._flush(len(self._buffers))
        return self._complete(self._multipart)

    def _complete(self, multipart: Multipart) -> Uploaded:
        content, written = multipart.finish()
        if content.size != self._size:
            raise StoreError(f"{self._url}: {self._size:,} bytes were read, {content.size:,} sent; a bug of stepout")
        return self._done(content, written)

    def _put(self, views: Sequence[memoryview]) -> Uploaded:
        """Send everything as one PutObject, from this thread; it is in memory, so a conflict is sent anew here."""
        size, blocks = sum(map(len, views)), self._blocks
        retries = Retries(self._pause, conflicts=True)
        # CRC64NVME comes along where it costs next to nothing; for a small body even the look for it is too much.
        crc: Crc | None = "crc64nvme" if size > SMALL and has_native_crc64nvme() else None
        if blocks is None or size <= blocks.size:
            content, stored = Content(size=size, checksum=checksums_of(views, crc)), None
        else:
            content, stored = digested(views, crc, blocks)
        # In this thread: starting another would cost more than a small request does.
        with nullcontext() if stored is None else beside_list(self._store, stored, self._options, retries):
            self._check()  # an abort meanwhile
            written = retries.run(partial(self._put_once, views, content))
            if self._progress is not None:
                self._progress.sent(size)
            if self._aborted:  # the request could not be taken back: the object may be there, but gets no pointer
                raise aborted_error(self._url)
        return self._done(content, written)

    def _put_once(self, views: Sequence[memoryview], content: Content) -> Written:
        start = 0.0 if content.size <= SMALL else idle_seconds()
        written = put_once(self._store, self._key, views, content, self._options)
        if content.size > SMALL:  # to look up what is known of the server costs as much as a tenth of a small request
            process_budget().server(self._store).saw_upload(content.size, idle_seconds() - start)
        return written

    def _done(self, content: Content, written: Written) -> Uploaded:
        self._committed = True
        # All of it is sent: the buffers go back, and nobody who keeps the upload keeps them.
        pool, buffers = self._pool, self._buffers
        self._pool = self._multipart = None
        self._buffers = []
        if pool is not None:
            pool.give_back(buffers)
        self._give_back_grant()
        known = {name: value for name, value in content.checksum.items() if name in _IN_POINTERS}
        return Uploaded(
            size=content.size,
            checksum=known,
            etag=written.etag,
            version_id=written.version_id,
            blocks=content.blocks,
        )

    def _send_view(self, view: memoryview) -> Uploaded:
        self._begin(len(view))
        multipart, rest = self._new_multipart(None), view
        while len(rest):
            part, rest = rest[: self._part], rest[self._part :]
            views = Views.cut(part, BLOCK_SIZE)
            for piece in views:
                multipart.hash(piece)
            self._add(views)
        self._size = len(view)
        return self._complete(multipart)

    def _send_source(self, source: ByteSource) -> Uploaded:
        with source:
            self._begin(source.size)
            if source.size is not None:
                part_size_for(source.size, self._settings)  # refuses now what is too large
                if source.size < BLOCK_SIZE:  # a small file takes its own size, and one byte to see that it grows
                    self._buffers = [Buffer(memoryview(bytearray(source.size + 1)))]
            # Before the commit: what changed while it was read never becomes visible.
            source.check(self._drain(source))
            return self._finish()

    def _anew(self, send: Callable[[], Uploaded]) -> Uploaded:
        """Run ``send``; after a conflict on completion the parts are of no use, so it runs from the start again."""
        with self._or_abort():
            self._check()
            for _ in range(WRITES.conflict_tries - 1):
                try:
                    return send()
                except ConflictError:
                    if self._multipart is None:  # a single request has had its tries
                        raise
                    self._multipart.abort(_ABORT_SECONDS)
            return send()

    def _pause(self, seconds: float) -> None:
        # Not an Event: its lock is not reentrant, and a signal handler may abort in the middle of anything.
        self._pausing = pausing = threading.Condition()
        with pausing:  # an abort that came too early to see it has left its mark by now
            pausing.wait_for(lambda: self._aborted, timeout=seconds)
        self._check()

    @contextmanager
    def _or_abort(self) -> Iterator[None]:
        """Whatever leaves the block, KeyboardInterrupt and TaskInterrupted too, ends the upload."""
        try:
            yield
        except BaseException:
            self.abort()
            raise
