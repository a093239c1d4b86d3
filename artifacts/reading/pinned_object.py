"""Reading one object: pinned to the version that was written, verified while it streams, taken up again when it breaks.

The rules:

- The allow-list and the size cap are asked before any request, and so is whether the object has expired by now.
- The pin is ``versionId``, else ``If-Match`` with the pointer's ETag, else the first response's ETag.
- The head of every response is compared with the pointer before a byte of the body is read.
- A whole read ends with a comparison of checksums. botocore's own check is not relied on: it does not cover reads of an
  exact length, ``readinto`` and composite checksums.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Final

from stepout.artifacts.checksums import crc_function, update_sha256
from stepout.artifacts.reading.access import RECONNECTS, Access, Verify
from stepout.artifacts.reading.read_events import count_request
from stepout.artifacts.store import Arrived, Cancels, SlowDownError, pooled_connections
from stepout.artifacts.transfer.stages import BLOCK
from stepout.schemas.errors import (
    AccessDeniedError,
    ArtifactChangedError,
    ArtifactExpiredError,
    ArtifactNotFoundError,
    ArtifactTooLargeError,
    ChecksumMismatchError,
    ConfigurationError,
    SizeMismatchError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.store import Cancellation, Download, ObjectInfo, Store
    from stepout.artifacts.transfer.plan import TransferSettings
    from stepout.schemas.pointer import Pointer

ALGORITHMS: Final = ("sha256", "crc64nvme", "crc32")
"""What can be verified, best first; ``crc32`` only stands beside objects that stepout did not write."""

_TOTAL_RECONNECTS: Final = 100


# Verification -----------------------------------------------------------------------------------------------------


class Verifier:
    """Hashes bytes in order and compares in the end.

    Args:
        pointer: What the bytes should be.
        algorithm: One of ``ALGORITHMS``, or ``None`` to compare nothing.
    """

    def __init__(self, pointer: Pointer, algorithm: str | None) -> None:
        self._pointer = pointer
        self.algorithm = algorithm
        self._sha256 = hashlib.sha256() if algorithm == "sha256" else None
        self._crc = 0
        self._crc_of = None
        if algorithm in {"crc64nvme", "crc32"}:
            self._crc_of = crc_function("crc32" if algorithm == "crc32" else "crc64nvme")

    def again(self) -> Verifier:
        """Return one that has taken nothing, for the same comparison."""
        return Verifier(self._pointer, self.algorithm)

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        if self._sha256 is not None:
            update_sha256(self._sha256, data)
        elif self._crc_of is not None:
            self._crc = self._crc_of(data, self._crc)

    def finish(self) -> None:
        """Compare what was taken with the pointer.

        Raises:
            ChecksumMismatchError: They differ.
        """
        if self.algorithm is None:
            return
        expected, actual = self._pointer.checksum[self.algorithm], self.actual()
        if actual != expected:
            msg = (
                f"{self._pointer.url}: the bytes read are not the bytes written: expected {self.algorithm} {expected}, "
                f"got {actual}. Nothing was returned. Read again; if it persists, the stored object is damaged or was "
                "forged: run the task again"
            )
            raise ChecksumMismatchError(msg)

    def actual(self) -> str:
        """Return the checksum of what was taken so far, as hex."""
        if self._sha256 is not None:
            return self._sha256.hexdigest()
        return f"{self._crc:0{8 if self.algorithm == 'crc32' else 16}x}"


def verifier_for(pointer: Pointer, verify: Verify) -> Verifier:
    """Return what a read of ``pointer`` is held against.

    Raises:
        ConfigurationError: SHA-256 is required and the pointer has none.
    """
    if verify is False or verify == "pinned":
        return Verifier(pointer, None)
    usable = ["sha256"] if verify == "sha256" else ALGORITHMS
    algorithm = None
    for name in usable:  # no generator: small objects are many
        if name in pointer.checksum:
            algorithm = name
            break
    if algorithm is None and verify == "sha256":
        msg = (
            f'{pointer.url}: verify="sha256" was asked for, but its pointer has only '
            f"{', '.join(sorted(pointer.checksum)) or 'no checksum'}; nothing was read. Write it with stepout, adopt "
            'it with verify="read", or pass verify=True'
        )
        raise ConfigurationError(msg)
    return Verifier(pointer, algorithm)


def digest_of(pointer: Pointer) -> str:
    """Return ``algorithm:hex`` by the best checksum that a pointer has: what changes when the content does.

    A CRC alone names a place too, since different contents may share it; and so does a pointer without a checksum.
    """
    algorithm = next((name for name in ALGORITHMS if name in pointer.checksum), None)
    if algorithm == "sha256":
        return f"sha256:{pointer.checksum['sha256']}"
    told = "etag:" if algorithm is None else f"{algorithm}:{pointer.checksum[algorithm]}"
    return f"{told};{pointer.size};{pointer.url};{pointer.version_id or pointer.etag or ''}"


def check_cap(
    pointer: Pointer, limit: int, *, instead: str = "use download(path) or open(), or pass max_size="
) -> None:
    """Raise before anything is requested if an artifact is larger than the caller takes.

    Raises:
        ArtifactTooLargeError: It is.
    """
    if pointer.size > limit:
        msg = f"{pointer.url} has {pointer.size:,} bytes, the limit here is {limit:,}; nothing was read: {instead}"
        raise ArtifactTooLargeError(msg)


# The pinned object ------------------------------------------------------------------------------------------------


class PinnedObject:
    """One object, held to the version that its pointer names.

    Args:
        access: How to read.
        pointer: What to read.
        name: The artifact's name, for listeners.

    Raises:
        NotAllowedError: The allow-list does not hold the object.
    """

    def __init__(self, access: Access, pointer: Pointer, name: str | None = None) -> None:
        access.allowed.check(pointer.bucket, pointer.key)
        self.access = access
        self.pointer = pointer
        self.name = name
        self._etag = pointer.etag if pointer.version_id is None else None
        self._server: ServerState | None = None

    @property
    def size(self) -> int:
        """Size in bytes, as the pointer says."""
        return self.pointer.size

    @property
    def version_known(self) -> bool:
        """Whether one version is held to: the pointer's, or since the first answer, that answer's."""
        return self.pointer.version_id is not None or self._etag is not None

    @property
    def server(self) -> ServerState:
        """What this process knows of the server that has it."""
        if self._server is None:
            from stepout.artifacts.process.budget import process_budget  # a cold read does without

            self._server = process_budget().server(self._store)
        return self._server

    @property
    def pooled(self) -> int | None:
        """How many connections the client keeps open; ``None`` where it does not say."""
        return pooled_connections(self._store)

    @property
    def settings(self) -> TransferSettings | None:
        """How much one read of it may use; ``None``: what suits the process."""
        return self.access.settings

    @property
    def _store(self) -> Store:
        return self.access.stores.of(self.pointer.bucket)

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Let any thread end the requests of this one, where the store can; see ``Cancels.cancellable``."""
        store = self._store
        return store.cancellable() if isinstance(store, Cancels) else nullcontext(_OnlyMarked())

    def get(self, start: int = 0, stop: int | None = None, *, hashed: bool = False) -> Download:
        """Request a range and compare the response's head with the pointer.

        Args:
            start: The first byte.
            stop: One behind the last; ``None``: the object's end.
            hashed: Whether the bytes are held against a checksum. Only then may they come by a cheaper route, which may
                follow a redirect to wherever it leads.

        Raises:
            StoreError: Missing, expired, denied, changed, or unreachable.
            ReadBudgetError: The meter of whoever reads allows no more requests.
            SizeMismatchError: The object has another size than the pointer says; its body was not read.
        """
        pointer = self.pointer
        if pointer.expires_at is not None and not self.access.allow_expired and self._expired():
            msg = f"{pointer.url} expired at {pointer.expires_at}, as its pointer says; nothing was read. Run the task"
            raise ArtifactExpiredError(f"{msg} again, or pass allow_expired=True to ask for it all the same")
        began, worked = time.perf_counter(), time.thread_time()
        try:
            body = self._requested(start, stop, hashed=hashed)
            # What has arrived whole took time for more than the answer; and to ask a cold store for its server would
            # make the client that it does without. Without the time that this thread worked: a client's first request
            # reads files and prepares a lot.
            if not isinstance(body, Arrived):
                self.server.saw_latency(max(time.perf_counter() - began - (time.thread_time() - worked), 0.0))
        except (ArtifactNotFoundError, AccessDeniedError) as error:
            # Denied, too: S3 answers 403 for what is gone to whoever may not list the bucket.
            if self._expired():
                raise self._expiry(error) from error
            raise
        try:
            # Before a byte is read: what is not the object that was written is not worth receiving.
            self._compare(body.info)
        except BaseException:
            body.__exit__(None, None, None)
            raise
        if self.access.events.listening:
            count_request(self.access, pointer, start, stop)
        if self._etag is None and pointer.version_id is None:
            # The pointer has no pin. What this answer was of is what every later one has to be of.
            self._etag = body.info.etag
        return body

    def _requested(self, start: int, stop: int | None, *, hashed: bool) -> Download:
        pointer, etag = self.pointer, self._etag
        if self.access.meter is not None:
            self.access.count_request(pointer.url)
        store, small = self.access.stores.reached(pointer.bucket)
        if hashed and start == 0 and stop is None and small is not None:
            return small.get_small(pointer.key, size=pointer.size, version_id=pointer.version_id, if_match=etag)
        return store.get(pointer.key, start=start, stop=stop, version_id=pointer.version_id, if_match=etag)

    def whole(self, *, hashed: bool) -> bytes:
        """Return all bytes, by one request if it brings them.

        Args:
            hashed: As for ``get``.

        Raises:
            StoreError: As for ``blocks``, as do the others.
        """
        body = self.get(hashed=hashed)
        if isinstance(body, Arrived) and len(body.data) == self.pointer.size:
            if self.access.meter is not None:
                self.access.meter.received(self.pointer.url, len(body.data))
            return bytes(body.data)
        with closing(self.blocks(hashed=hashed, body=body)) as blocks:
            return b"".join(map(bytes, blocks))

    def blocks(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        lend: Callable[[], memoryview] | None = None,
        hashed: bool = False,
        body: Download | None = None,
    ) -> Generator[memoryview]:
        """Yield bytes ``start`` to ``stop``, taking up a broken download where it ended.

        Args:
            start: The first byte.
            stop: One behind the last; ``None``: the object's end.
            lend: Where to read the next block into; see ``Download.blocks``.
            hashed: As for ``get``.
            body: What ``get`` has returned for the same arguments, if it was asked already.

        Yields:
            Views, in order, each valid until the next is asked for, or as long as the lender lets it.

        Raises:
            StoreUnavailableError: It broke again and again.
            ReadBudgetError: The meter of whoever reads allows no more.
            StoreError: As for ``get``.
        """
        end = self.pointer.size if stop is None else stop
        # Two limits: a link that brings nothing ends soon; one that brings a little each time may go on for long, and
        # one that brings much each time for ever.
        position, idle, total, meter = start, 0, 0, self.access.meter
        asked = time.perf_counter()
        body = body or self.get(start, stop, hashed=hashed)
        while True:
            broken: StoreUnavailableError | None = None
            # What an answer took beyond the usual is the body's time: a busy thread finds half of the body there.
            late = 0.0 if hashed else time.perf_counter() - asked - (self.server.latency or 0.0)
            began, timer = position, _ReadingTime(lend, max(late, 0.0))
            try:
                with body:
                    for view in timer.timed(body.blocks(BLOCK, timer.lend)):
                        position, idle = position + len(view), 0 if len(view) else idle
                        self._check_end(position, end)
                        if meter is not None:
                            meter.received(self.pointer.url, len(view))
                        yield view
            except StoreUnavailableError as error:
                broken = error
            finally:
                if not isinstance(body, Arrived):  # that comes from memory here
                    self.server.saw_download(position - began, timer.seconds)
            # Also after an error: a connection that breaks behind the last byte has brought everything.
            if position == end:
                return
            much = position - began >= BLOCK
            idle, total = idle + 1, total + (not much)
            if idle > RECONNECTS or total > _TOTAL_RECONNECTS:
                message = f"{self.pointer.url}: the download ended after {position:,} of {end:,} bytes"
                raise broken or StoreUnavailableError(message)
            asked = time.perf_counter()
            body, idle = self._take_up(position, stop, idle, at_once=much)

    def _take_up(self, position: int, stop: int | None, idle: int, *, at_once: bool) -> tuple[Download, int]:
        """Ask for the rest, ``at_once`` or after a pause; a store out of reach counts as one more idle try.

        Every answer is compared anew, so that the rest is never another version's.
        """
        while True:
            if not at_once:
                self.access.sleep(reconnect_delay(idle, self.access.jitter()))
            at_once = False
            try:
                return self.get(position, stop), idle
            except SlowDownError:  # it had all of its time
                raise
            except StoreUnavailableError:
                idle += 1
                if idle > RECONNECTS:
                    raise

    def _check_end(self, position: int, end: int) -> None:
        if position > end:
            msg = f"{self.pointer.url}: more bytes arrived than were asked for ({position:,} instead of {end:,})"
            raise SizeMismatchError(msg)

    def _compare(self, info: ObjectInfo) -> None:
        """Compare once more what the request asked for: some servers pass over ``If-Match`` and ``versionId``."""
        pointer, expected = self.pointer, self._etag or self.pointer.etag
        found = info.etag
        if found is not None and expected is not None and found != expected and _bare(found) != _bare(expected):
            msg = f"{pointer.url} has changed since it was written: expected ETag {expected}, got {info.etag}"
            raise ArtifactChangedError(msg)
        if pointer.version_id and info.version_id and info.version_id != pointer.version_id:
            msg = f"{pointer.url}: asked for version {pointer.version_id}, got {info.version_id}"
            raise ArtifactChangedError(msg)
        if info.size != pointer.size:
            msg = (
                f"{pointer.url}: expected {pointer.size:,} bytes, the object has {info.size:,}; its body was not read. "
                "It was replaced or truncated after it was written, or the pointer is wrong"
            )
            raise SizeMismatchError(msg)

    def _expired(self) -> bool:
        expires = _time(self.pointer.expires_at)
        return expires is not None and expires <= self.access.now()

    def _expiry(self, error: ArtifactNotFoundError | AccessDeniedError) -> StoreError:
        """Say that an object that is gone was to be gone by now."""
        pointer = self.pointer
        msg = f"{pointer.url} expired at {pointer.expires_at}, as its pointer says; run the task again ({error})"
        return ArtifactExpiredError(msg) if isinstance(error, ArtifactNotFoundError) else AccessDeniedError(msg)


class _ReadingTime:
    """How long a body makes its reader wait, in ``seconds``: without the time in which the reader does other things."""

    def __init__(self, lend: Callable[[], memoryview] | None, seconds: float) -> None:
        self._lend = lend
        self.seconds = seconds
        self.lend = None if lend is None else self._timed_lend

    def timed(self, blocks: Iterator[memoryview]) -> Iterator[memoryview]:
        """Yield the blocks, with the clock running while the next one is waited for."""
        while True:
            self.seconds -= time.perf_counter()
            view = next(blocks, None)
            self.seconds += time.perf_counter()
            if view is None:
                return
            yield view

    def _timed_lend(self) -> memoryview:
        assert self._lend is not None  # noqa: S101 - it is not called otherwise
        self.seconds += time.perf_counter()
        buffer = self._lend()
        self.seconds -= time.perf_counter()
        return buffer


class _OnlyMarked:
    """Of a store whose requests nobody can end."""

    cancelled = False

    def cancel(self) -> None:
        """Take note; the request ends by itself."""
        self.cancelled = True


def reconnect_delay(idle: int, jitter: float) -> float:
    """Return how long to wait before taking a download up again.

    Args:
        idle: How many tries in a row brought nothing, this one included.
        jitter: A random number between 0 and 1.

    Returns:
        Seconds: 0.05 to 0.1 at first, doubling up to 3.2.
    """
    return float(min(0.1 * 2 ** (idle - 1), 3.2) * (0.5 + jitter / 2))


def _bare(etag: str) -> str:
    """Return an ETag without its quotes, and without what compression in between adds; some servers leave them out."""
    return etag.removeprefix("W/").strip('"')


def _time(text: str | None) -> datetime | None:
    """Parse RFC 3339 in UTC; the fraction is cut to microseconds, which is all that Python keeps."""
    if text is None:
        return None
    from datetime import UTC, datetime  # few artifacts expire, and every cold start would pay

    whole, _, _fraction = text.removesuffix("Z").partition(".")
    try:
        return datetime.fromisoformat(whole).replace(tzinfo=UTC)
    except ValueError:
        return None
