"""The store of each bucket that a consumer reads from: which one it is, made once, shared by threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stepout.artifacts.s3.clients import own_store, reader_client, store_for
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
        client: A boto3 S3 client, a ``Store``, or ``None`` for a client of our own, one for all buckets.
        expected_bucket_owner: The account that must own every bucket, 12 digits.
        request_payer: ``"requester"`` for buckets whose readers pay.
    """

    def __init__(
        self, client: Any = None, *, expected_bucket_owner: str | None = None, request_payer: str | None = None
    ) -> None:
        self.request_payer = request_payer
        # One for all buckets and threads; it makes itself when it is needed, and anew in a forked child.
        self._client = PerProcess(reader_client, name="S3 client") if client is None else client
        self._owner = expected_bucket_owner
        self._stores: dict[str, BucketStore] = {}

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
        if isinstance(self._client, PerProcess):
            store = own_store(self._client, bucket, expected_bucket_owner=self._owner, request_payer=self.request_payer)
        else:
            store = store_for(self._client, bucket, expected_bucket_owner=self._owner, request_payer=self.request_payer)
        return BucketStore(store, store if isinstance(store, ReadsSmall) else None)
