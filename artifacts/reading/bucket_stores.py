"""The store of each bucket that a consumer reads from: which one it is, made once, shared by threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stepout.artifacts.s3.clients import own_client, store_for
from stepout.schemas.runtime.process import PerProcess, renew_after_fork

if TYPE_CHECKING:
    from stepout.artifacts.store import Store


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
        self._client = client
        self._owner = expected_bucket_owner
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child, take a new lock; what is connected renews itself."""
        self._lock = threading.Lock()

    def of(self, bucket: str) -> Store:
        """Return the store of a bucket.

        Without a client, and before botocore is imported, it may read small objects without (``s3.cold_start``).
        """
        # Under the lock: threads that read their first artifacts at once would each build a client, which is slow, and
        # open connections of their own.
        with self._lock:
            if bucket not in self._stores:
                if self._client is None:
                    self._client = own_client(sign_payload=True)
                self._stores[bucket] = store_for(
                    self._client,
                    bucket,
                    expected_bucket_owner=self._owner,
                    request_payer=self.request_payer,
                    own=isinstance(self._client, PerProcess),
                )
            return self._stores[bucket]
