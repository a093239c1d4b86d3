"""The interface of an object store for the rest of ``artifacts``: one bucket, few methods, typed errors.

Every store implements ``Store``: ``S3Store`` (boto3) and ``MemoryStore`` (for tests). Abilities that only some stores
have are Protocols of their own; callers ask for them with ``isinstance``. Every method raises only the errors of
``stepout.schemas.errors``, plus the two below that steer a write:

- ``ArtifactExistsError``: HTTP 412, the key is taken (``If-None-Match: *``).
- ``ConflictError``: HTTP 409, a concurrent write; the bytes must be sent anew.
- ``UploadGoneError``: NoSuchUpload, which may mean "already completed".
- ``InvalidPartError``: InvalidPart, the server has another part than the one that was listed.
- ``ArtifactChangedError``: HTTP 412 on a read with ``if_match``.

``RequestCancelledError`` is raised only inside a block of ``Cancels.cancellable``.

What only writes and listings need is in ``store_writes``, which reads do not load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeGuard, runtime_checkable

from stepout.schemas.errors import ArtifactNotFoundError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from stepout.artifacts.store_writes import ListedObject, PartReceipt, StoreProfile, WriteOptions, Written


ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects cannot be read before they are restored, which takes minutes to days:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html"""


class ConflictError(StoreUnavailableError):
    """A concurrent write to the same key (HTTP 409): nothing was stored, send the bytes anew."""


class SlowDownError(StoreUnavailableError):
    """The server asks for fewer requests (503 SlowDown, 429): this one was not carried out, and may be sent again."""


class ConnectionBrokenError(StoreUnavailableError):
    """The connection ended before an answer came: it says nothing against another one, at once."""


class PlaceMissingError(ArtifactNotFoundError):
    """The bucket or the table itself does not exist: nothing will appear in it."""


class UploadGoneError(StoreError):
    """The multipart upload does not exist: aborted, or completed by a try whose answer was lost."""


class InvalidPartError(StoreError):
    """A part that a completion lists is not there, or has another ETag: nothing was completed."""


class RequestCancelledError(StoreError):
    """Another thread has ended the request (``Cancellation.cancel``). What became of it at the server is not known."""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object's description, from HEAD or from the headers of a GET.

    ``checksum`` holds full-object checksums only, lower-case hex by algorithm (``sha256``, ``crc64nvme``, ``crc32``).
    ``size`` is the whole object's, also for a ranged read.
    """

    size: int
    etag: str | None = None
    version_id: str | None = None
    checksum: Mapping[str, str] = field(default_factory=dict)
    media_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    last_modified: str | None = None
    archived: str | None = None
    """The storage class that has to be restored before a byte can be read; ``None`` if it can be read at once."""


class Download(Protocol):
    """A body on its way: iterate it once, in a ``with`` block."""

    @property
    def info(self) -> ObjectInfo:
        """The object's description, from the answer's headers."""
        ...

    def __enter__(self) -> Download: ...  # noqa: PYI034 - a Self here would keep simple classes from following it

    def __exit__(self, *exc: object) -> None: ...

    def blocks(self, size: int = 1 << 20, lend: Callable[[], memoryview] | None = None) -> Iterator[memoryview]:
        """Yield the bytes in order; a view is valid only until the next one is asked for.

        Args:
            size: The largest view to yield, in bytes.
            lend: Called for each view: the buffer to read it into, instead of one of the download's own. The view then
                lies at the buffer's start and stays valid as long as the lender lets it. A store that has the
                bytes in memory need not call it.

        Raises:
            StoreUnavailableError: The connection broke before the announced length had arrived.
        """
        ...


class Arrived:
    """A body that is in memory already, or has no bytes.

    Args:
        info: The object's description, from the answer's headers.
        data: The body.
    """

    def __init__(self, info: ObjectInfo, data: memoryview) -> None:
        self.info = info
        self.data = data

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def blocks(
        self,
        size: int = 1 << 20,
        lend: Callable[[], memoryview] | None = None,  # noqa: ARG002 - for bodies that are yet to arrive
    ) -> Iterator[memoryview]:
        """Yield the bytes in order; see ``Download.blocks``."""
        for start in range(0, len(self.data), size):
            yield self.data[start : start + size]


# Abilities of only some stores. Callers ask with ``isinstance``, so each Protocol lists all that its callers use.


@runtime_checkable
class Located(Protocol):
    """A store that is a server somewhere."""

    @property
    def endpoint_url(self) -> str:
        """The server's URL."""
        ...


@runtime_checkable
class Regional(Protocol):
    """A store whose requests are signed for a region."""

    @property
    def region(self) -> str | None:
        """The region, for pointers; a reader never trusts it."""
        ...


@runtime_checkable
class ReadsSmall(Protocol):
    """A store that has a cheaper way for whole small objects of a known size, which may follow redirects."""

    def get_small(self, key: str, *, size: int, version_id: str | None = None, if_match: str | None = None) -> Download:
        """Open a whole object that should have ``size`` bytes, as ``Store.get`` does; small ones have arrived by then.

        Only for reads that are verified by a checksum: the bytes may be another server's (``s3.routes.route_obstore``).
        """
        ...


@runtime_checkable
class OpensConnections(Protocol):
    """A store that can open connections for the parts of an upload while ``start_upload`` waits for its answer."""

    def open_connection(self) -> AbstractContextManager[None]:
        """Hold an open connection while the block runs; where none can be opened, the block runs all the same."""
        ...


class Cancellation(Protocol):
    """Ends the requests of one thread; what ``Cancels.cancellable`` gives."""

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        ...

    def cancel(self) -> None:
        """End the request that is under way, and refuse all further ones of the block; for any thread, at any time.

        After the request or the block has ended this changes nothing.
        """
        ...


@runtime_checkable
class Cancels(Protocol):
    """A store whose requests another thread can end."""

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Let any thread end the requests that this thread sends inside the block, bodies that it reads included.

        A request that is ended raises ``RequestCancelledError``, is not repeated, and its connection is not used again.
        Where a caller passed in the client, and on routes for small objects over obstore, ``cancel`` only marks: the
        request under way ends by itself, and further ones of the block are refused.
        """
        ...


@runtime_checkable
class ListsParts(Protocol):
    """A store that can say which parts of a multipart upload it has."""

    def list_parts(self, key: str, upload: str) -> list[PartReceipt]:
        """Return all parts, by number; ``checksum`` is empty where the server lists none."""
        ...


@runtime_checkable
class PoolsConnections(Protocol):
    """A store whose client keeps so many connections open; each request beside them opens one, and closes it."""

    @property
    def pooled(self) -> int:
        """How many connections stay open."""
        ...


def pooled_connections(store: object) -> int | None:
    """Return how many connections a store keeps open; ``None`` where it does not say."""
    return store.pooled if isinstance(store, PoolsConnections) else None


@runtime_checkable
class Removes(Protocol):
    """A store that can remove an object again."""

    def remove(self, key: str, *, version_id: str | None = None) -> None:
        """Remove an object, or one version of it; one that is not there is no error."""
        ...


@runtime_checkable
class Lists(Protocol):
    """A store that can list more objects than one answer holds."""

    def iter_objects(self, prefix: str) -> Iterator[ListedObject]:
        """Yield every object whose key begins with ``prefix``, in the server's order, which need not be the keys'."""
        ...


@runtime_checkable
class TriesCompletion(Protocol):
    """A store whose server may ignore the condition of CompleteMultipartUpload, and that can test this beforehand."""

    def try_completion(self, key: str, *, options: WriteOptions) -> None:
        """Raise ``ConfigurationError`` if a write-once upload of ``key`` would replace what another one wrote."""
        ...


def is_store(client: object) -> TypeGuard[Store]:
    """Say whether what was passed as ``client=`` is a store; anything else should be a boto3 S3 client.

    It looks for one method that no boto3 client has, as a user's own store may lack methods that nobody calls.
    """
    return hasattr(client, "start_upload")


@runtime_checkable
class Store(Protocol):
    """One bucket."""

    @property
    def bucket(self) -> str:
        """A bucket's name, or the ARN of an access point."""
        ...

    @property
    def profile(self) -> StoreProfile:
        """What the server can do."""
        ...

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store ``body`` (its views, in order) whole or not at all; the server verifies every checksum it knows."""
        ...

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin a multipart upload and return its id."""
        ...

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Send one part; the server verifies ``checksum`` (hex, the profile's algorithm; sha256 for ``"parts"``)."""
        ...

    def complete_upload(  # noqa: PLR0913 - what one request carries
        self,
        key: str,
        upload: str,
        parts: Sequence[PartReceipt],
        *,
        size: int,
        checksum: str | None,
        options: WriteOptions,
    ) -> Written:
        """Commit; ``checksum`` is the full object's in the profile's algorithm (``None`` for ``"parts"``)."""
        ...

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget the parts; an upload that is gone already is no error."""
        ...

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Describe an object without its bytes."""
        ...

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
    ) -> Download:
        """Open bytes ``start`` (inclusive) to ``stop`` (exclusive; ``None``: the end)."""
        ...

    def listing(self, prefix: str) -> list[tuple[str, str]]:
        """Return the keys that begin with ``prefix``, and when each was written (ISO 8601), a thousand at most."""
        ...

    def presign(self, key: str, *, version_id: str | None = None, seconds: int) -> str:
        """Return a URL that gives anyone the object for ``seconds``."""
        ...
