"""The store of each bucket that a consumer reads from: which one it is, made once, shared by threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepout.artifacts.s3.clients import ReaderSettings, own_store, store_for
from stepout.artifacts.store import ReadsSmall
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from stepout.artifacts.store import Store


class BucketStore(NamedTuple):
    """The store of one bucket.

    Attributes:
        store: It.
        small: It, if it has a cheaper way for small objects: asked once, since asking a Protocol takes microseconds.
    """

    store: Store
    small: ReadsSmall | None


class BucketStores:
    """Makes the store of a bucket when it is first asked for, and keeps it.

    Everything that one ``resolve…`` call leads to shares these stores, and with them a client and its connections.

    Args:
        client: A boto3 S3 client, a ``Store``, or ``None`` for a client of our own, one for all buckets; or the
            settings of that.
        expected_bucket_owner: The account that must own every bucket, 12 digits.
        request_payer: ``"requester"`` for buckets whose readers pay.
    """

    def __init__(
        self, client: Any = None, *, expected_bucket_owner: str | None = None, request_payer: str | None = None
    ) -> None:
        self.request_payer = request_payer
        # One for all buckets and threads; it makes itself when it is needed, and anew in a forked child.
        self._settings = ReaderSettings() if client is None else client if isinstance(client, ReaderSettings) else None
        self._client = client if self._settings is None else PerProcess(self._settings.client, name="S3 client")
        self._owner = expected_bucket_owner
        self._stores: dict[str, BucketStore] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as settings, those of the environment included: the process that gets them makes its own client.

        Raises:
            TypeError: They read through what a caller passed in.
        """
        if self._settings is None:
            raise TypeError(
                f"what reads through its caller's {type(self._client).__name__} cannot be pickled or copied, since no "
                "other process has that: resolve without client=, and each process makes its own. Or: Send the pointer "
                "(artifact.pointer.to_dict()) or the output document, and resolve it there"
            )
        return _travelled, (self._settings.settled(), self._owner, self.request_payer)

    def reads_like(self, other: BucketStores) -> bool:
        """Say whether both read the same servers in the same way."""
        if self._settings is None or other._settings is None:
            return self._client is other._client
        mine = self._settings.settled(), self._owner, self.request_payer
        return mine == (other._settings.settled(), other._owner, other.request_payer)

    def of(self, bucket: str) -> Store:
        """Return the store of a bucket."""
        return self.reached(bucket).store

    def reached(self, bucket: str) -> BucketStore:
        """Return the store of a bucket, and what it can do.

        Without a client, and before botocore is imported, it may read small objects without (``s3.cold_start``).
        """
        # Without a lock: of two stores that threads make at once one is dropped, and both have the same client.
        return self._stores.get(bucket) or self._stores.setdefault(bucket, self._made(bucket))

    def _made(self, bucket: str) -> BucketStore:
        store: Store
        if self._settings is not None:
            store = own_store(
                self._client,
                bucket,
                expected_bucket_owner=self._owner,
                request_payer=self.request_payer,
                settings=self._settings,
            )
        else:
            store = store_for(self._client, bucket, expected_bucket_owner=self._owner, request_payer=self.request_payer)
        return BucketStore(store, store if isinstance(store, ReadsSmall) else None)


def _travelled(settings: ReaderSettings, owner: str | None, payer: str | None) -> BucketStores:
    return BucketStores(settings, expected_bucket_owner=owner, request_payer=payer)
