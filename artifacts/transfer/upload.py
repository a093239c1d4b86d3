"""From bytes to a committed artifact: one pass, bounded memory, whole or absent."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.artifacts.checksums import Digest, has_native_crc64nvme
from stepout.artifacts.s3.request_bodies import SMALL, Views
from stepout.artifacts.store import ConflictError
from stepout.artifacts.transfer.buffer_pool import Buffer, BufferPool
from stepout.artifacts.transfer.conditional_write import Content, Uploaded, commit, look_first
from stepout.artifacts.transfer.file_objects import check_not_spent
from stepout.artifacts.transfer.multipart import Multipart, PendingPart, aborted_error
from stepout.artifacts.transfer.plan import (
    BLOCK_SIZE,
    MAX_PARTS,
    TransferSettings,
    ceiling,
    part_size_at,
    part_size_for,
    ring_size,
    sender_count,
    single_put_limit,
)
from stepout.artifacts.transfer.progress_report import TransferProgress
from stepout.artifacts.transfer.retries import Retries
from stepout.artifacts.transfer.sources import (
    Bounded,
    byte_view,
    check_still,
    check_unchanged,
    file_state,
    is_regular,
    read_into,
)
from stepout.schemas.errors import ConfigurationError, StoreError
from stepout.schemas.runtime.process import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepout.artifacts.store import Store, WriteOptions, Written

_ANEW_TRIES = 3
_ABORT_SECONDS = 5.0

_IN_POINTERS = frozenset({"sha256", "crc64nvme"})


class Upload:
    """Writes one artifact: pushed with ``write`` and ``commit``, or pulled by one of the ``send_…`` methods.

    Nothing is visible in the store before the commit, and an upload that is not committed leaves nothing. What fits
    in one part is a single PutObject, without a thread. One thread at a time may write; ``abort`` may come from any.

    Args:
        store: Where it goes.
        key: Under which key.
        options: Media type, mode, encryption, tags and so on.
        settings: How much memory and how many connections it may use.
        progress: Called with the bytes sent so far and the total, ``None`` where that is unknown; from any thread.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        options: WriteOptions,
        settings: TransferSettings | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self._store, self._key, self._options = store, key, options
        self._settings = settings or TransferSettings()
        self._report = TransferProgress(progress)
        self._url = f"s3://{store.bucket}/{key}"
        self._home = Home()
        self._pausing: threading.Condition | None = None
        self._aborted = False
        self._committed = False
        self._multipart: Multipart | None = None
        self._begin(None)

    def __repr__(self) -> str:
        return f"Upload({self._url!r}, {self._size:,} bytes)"

    @property
    def here(self) -> bool:
        """Whether this process began it, and was not forked off the one that did."""
        return self._home.here

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
        view = byte_view(data)
        with self._or_abort():
            rest = view
            while len(rest):
                rest = rest[self._room().fill(rest) :]
        self._size += len(view)
        return len(view)

    def commit(self) -> Uploaded:
        """Make everything written one artifact.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            StoreUnavailableError: The store did not take it; ``retryable``, and nothing is left behind.
        """
        with self._or_abort():
            return self._finish()

    def abort(self) -> None:
        """End the upload from any thread, at any time; a second time, or after the commit, it does nothing.

        Waits a few seconds at most, for requests in flight to return, so that nothing of the upload is left. In a
        process that was forked off the upload's, where it lives on, nothing is ended.
        """
        if self._committed or not self._home.here:
            return
        self._aborted = True
        if self._pausing is not None:
            with self._pausing:
                self._pausing.notify_all()
        if "_ring" in self.__dict__:
            self._ring.wake()
        multipart = self._multipart
        if multipart is not None:
            multipart.abort(_ABORT_SECONDS)

    # Pull --------------------------------------------------------------------------------------------------------

    def send_buffer(self, data: Any) -> Uploaded:
        """Send bytes that stay as they are until this returns; they are not copied.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            StoreUnavailableError: The store did not take it.
        """
        view = byte_view(data)
        if len(view) > single_put_limit(self._settings):
            return self._anew(lambda: self._send_view(view))
        with self._or_abort():
            self._check()
            self._report.begin(len(view))
            return self._put((view,))

    def send_file(self, path: str | os.PathLike[str]) -> Uploaded:
        """Send a file that nobody writes to meanwhile; pipes and devices are read to their end.

        Raises:
            ArtifactChangedError: It changed while it was read; nothing was stored.
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            OSError: It could not be read.
            StoreUnavailableError: The store did not take it.
        """
        return self._anew(lambda: self._send_path(Path(path)))

    def send_stream(self, source: Any) -> Uploaded:
        """Read a binary file object to its end and send it.

        Raises:
            ArtifactExistsError: Other content is there, and ``mode`` is ``"create"``.
            ConfigurationError: It gives nothing, and stands behind bytes that were read or written before.
            StoreUnavailableError: The store did not take it; what was read cannot be read again.
        """
        with self._or_abort():
            if self._drain(source) == 0:
                check_not_spent(source)
            return self._finish()

    # Inside: filling ---------------------------------------------------------------------------------------------

    def _begin(self, total: int | None) -> None:
        """Start from nothing, with the plan for ``total`` bytes (``None``: unknown)."""
        self._total = total
        self._report.begin(total)
        if self._multipart is not None:  # an earlier try, which may still hold blocks
            self._multipart = None
            self.__dict__.pop("_ring", None)
        self._blocks: list[Buffer] = []
        self._parts = self._size = 0
        if total is not None:
            self._part_size()  # refuses now what is too large

    @cached_property
    def _ring(self) -> BufferPool:
        """Blocks to fill; what is in memory already needs none."""
        return BufferPool(ring_size(self._settings))

    def _part_size(self) -> int:
        """Return the size of the next part: a small one until the first answer tells how far the server is."""
        if self._total is None:
            return part_size_at(self._parts + 1, self._settings)
        near = self._multipart is not None and self._multipart.far is False
        # Some of the servers without full-object checksums insist on parts of one size.
        equal = self._store.profile.multipart_checksum == "parts"
        return part_size_for(self._total, self._settings, far=not near and not equal)

    def _senders(self, far: bool) -> int:
        return sender_count(self._part_size(), self._settings, cores=os.cpu_count() or 1, far=far)

    def _check(self) -> None:
        if not self._home.here:
            self._home.check(f"writing to {self._url}", "upload")
        if self._aborted:
            raise aborted_error(self._url)
        if self._multipart is not None:
            self._multipart.check()
        if self._committed:
            raise StoreError(f"the upload of {self._url} is committed; it takes no more bytes")

    def _room(self) -> Buffer:
        """Return a block that has room."""
        self._check()
        if self._blocks:
            if self._blocks[-1].size < BLOCK_SIZE:
                return self._blocks[-1]
            self._seal()
        self._blocks.append(self._ring.take(self._check))
        return self._blocks[-1]

    def _seal(self) -> None:
        """Take note that the last block is filled, and send a part once there is a byte beyond it.

        So what fits in one part never begins a multipart upload, and the last part is never empty.
        """
        per_part = self._part_size() // BLOCK_SIZE
        fresh = self._blocks[-1:]
        if self._multipart is None:
            if len(self._blocks) <= max(per_part, single_put_limit(self._settings) // BLOCK_SIZE):
                return
            self._new_multipart()
            fresh = self._blocks
        for block in fresh:
            self._hash(block)
        if len(self._blocks) > per_part:
            self._flush(per_part)

    def _hash(self, block: Buffer) -> None:
        if self._multipart is not None:
            self._ring.hold(block, 2)
            self._multipart.hash(block.view, block)

    def _flush(self, count: int) -> None:
        """Queue the first ``count`` blocks as the next part."""
        blocks, self._blocks = self._blocks[:count], self._blocks[count:]
        part = PendingPart(self._next_number(), Views(block.view for block in blocks), blocks)
        if self._multipart is not None:
            self._multipart.add(part)

    def _next_number(self) -> int:
        if self._parts == MAX_PARTS:
            raise ConfigurationError(
                f"the stream to {self._url} is longer than {MAX_PARTS:,} parts can carry with this memory setting "
                f"({ceiling(self._settings):,} bytes); nothing was stored. Raise memory"
            )
        self._parts += 1
        return self._parts

    def _new_multipart(self) -> Multipart:
        self._ring.widen()
        self._multipart = multipart = Multipart(
            self._store,
            self._key,
            options=self._options,
            senders=self._senders,
            sent=self._report.sent,
        )
        if self._aborted:  # abort() may have come just before there was anything to tell
            multipart.abort(0)
        return multipart

    def _drain(self, source: Any) -> int:
        """Read ``source`` to its end and return how many bytes it gave."""
        before = self._size
        while True:
            block = self._room()
            count = read_into(source, block.room)
            if count == 0:
                return self._size - before
            block.size += count
            self._size += count

    # Inside: sending ---------------------------------------------------------------------------------------------

    def _finish(self) -> Uploaded:
        self._check()
        if self._blocks and not self._blocks[-1].size:
            self._blocks.pop().release()
        elif self._blocks:
            self._seal()
        if self._multipart is None:
            return self._put([block.view for block in self._blocks])
        if self._blocks:
            self._flush(len(self._blocks))
        return self._complete(self._multipart)

    def _complete(self, multipart: Multipart) -> Uploaded:
        content, written = multipart.finish()
        if content.size != self._size:
            raise StoreError(f"{self._url}: {self._size:,} bytes were read, {content.size:,} sent; a bug of stepout")
        return self._done(content, written)

    def _put(self, views: Sequence[memoryview]) -> Uploaded:
        """Send everything as one PutObject, from this thread; it is in memory, so a conflict is sent anew here."""
        few = sum(map(len, views)) <= SMALL  # a call that lets go of the interpreter lock would cost more than hashing
        digest = Digest("crc64nvme" if not few and has_native_crc64nvme() else None)
        for view in views:
            for piece in Views.cut(view, BLOCK_SIZE) if len(view) > BLOCK_SIZE else (view,):
                digest.update(piece)
        content = Content(size=digest.size, checksum=digest.checksums())
        retries = Retries(self._pause, tries=_ANEW_TRIES, conflicts=True)
        written = retries.run(lambda: self._put_once(views, content))
        self._report.sent(content.size)
        if self._aborted:
            raise aborted_error(self._url)
        return self._done(content, written)

    def _put_once(self, views: Sequence[memoryview], content: Content) -> Written:
        found = look_first(self._store, self._key, content, self._options)
        if found is not None:
            return found
        checksum = {"sha256": content.checksum["sha256"]}
        return commit(
            self._store,
            self._key,
            content,
            self._options,
            lambda: self._store.put(self._key, views, checksum=checksum, options=self._options),
        )

    def _done(self, content: Content, written: Written) -> Uploaded:
        self._committed = True
        known = {name: value for name, value in content.checksum.items() if name in _IN_POINTERS}
        return Uploaded(size=content.size, checksum=known, etag=written.etag, version_id=written.version_id)

    def _send_view(self, view: memoryview) -> Uploaded:
        self._begin(len(view))
        multipart, rest = self._new_multipart(), view
        while len(rest):
            step = self._part_size()
            part, rest = rest[:step], rest[step:]
            views = Views.cut(part, BLOCK_SIZE)
            for piece in views:
                multipart.hash(piece)
            multipart.add(PendingPart(self._next_number(), views))
        self._size = len(view)
        return self._complete(multipart)

    def _send_path(self, path: Path) -> Uploaded:
        with path.open("rb", buffering=0) as source:
            descriptor = source.fileno()
            before = file_state(descriptor)
            if not is_regular(descriptor) or before.size == 0:  # files of /proc have bytes, and say that they have none
                self._begin(None)
                self._drain(source)
                check_still(path, before, descriptor)
                return self._finish()
            self._begin(before.size)
            read = self._drain(Bounded(source, before.size))
            check_unchanged(path, before, descriptor, read)
            return self._finish()

    def _anew(self, send: Callable[[], Uploaded]) -> Uploaded:
        """Run ``send``; after a conflict on completion the parts are of no use, so it runs from the start again."""
        with self._or_abort():
            self._check()
            for _ in range(_ANEW_TRIES - 1):
                try:
                    return send()
                except ConflictError:
                    if self._multipart is None:
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
