"""The store of each bucket that a consumer reads from: which one it is, made once, shared by threads."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from stepout.artifacts.s3.clients import make_client, profile_from_env, store_for
from stepout.schemas.runtime.process import PerProcess, renew_after_fork
from stepout.schemas.runtime.s3_profile import profile_words_from

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

        Without a client, and before botocore is imported, it may be one that reads small objects without
        (``cold_start``).
        """
        # Under the lock: threads that read their first artifacts at once would each build a client, which is slow, and
        # open connections of their own.
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._cold(bucket) or self._ordinary(bucket)
            return self._stores[bucket]

    def _cold(self, bucket: str) -> Store | None:
        # The route cannot say whose bucket is expected, nor who pays.
        told = self._client is not None or self._owner is not None or self.request_payer is not None
        if told or "botocore" in sys.modules:
            return None
        by_path = profile_words_from(os.environ) != {"aws"}
        from stepout.artifacts.s3.cold_start import ColdStore, cold_route

        route = cold_route(bucket, by_path=by_path)
        if route is None:
            return None
        made: list[Store] = []

        def ordinary() -> Store:
            """Put the ordinary store in the cold one's place; the cold one asks for it again at each later read."""
            with self._lock:
                if not made:
                    made.append(self._ordinary(bucket))
                    self._stores[bucket] = made[0]
                return made[0]

        return cast("Store", ColdStore(bucket, route, ordinary))

    def _ordinary(self, bucket: str) -> Store:
        profile = profile_from_env()
        client = self._client
        if client is None:
            # Readers send no payload. Said so, no client is built only to learn whether its endpoint has TLS.
            client = PerProcess(partial(make_client, profile=profile, sign_payload=True), name="S3 client")
        store = store_for(
            client,
            bucket,
            profile=profile,
            expected_bucket_owner=self._owner,
            request_payer=self.request_payer,
            own=isinstance(client, PerProcess),
        )
        self._client = client  # only now: a client that could not be built is tried anew, with its profile
        return store
