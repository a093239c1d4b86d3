"""How a consumer reads: what it may read, through which client, and what it insists on. Passed along every hop."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from stepout.artifacts.read_limit import read_limit
from stepout.artifacts.reading.budget import ReadBudget, Spending
from stepout.artifacts.s3.clients import make_client, profile_from_env, store_for
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.process import PerProcess, renew_after_fork
from stepout.schemas.runtime.s3_profile import profile_words_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.artifacts.allow import Allowed
    from stepout.artifacts.store import Store
    from stepout.schemas.pointer import Pointer


Verify = bool | Literal["sha256", "pinned"]
"""``True``: by the best checksum there is; ``"sha256"``: by SHA-256 or not at all; ``"pinned"`` or ``False``: the
object is held to its size and version, its bytes are not hashed."""

DOCUMENT_LIMIT: Final = 64 << 20
"""The most that is read of a document that stands behind a pointer or a URL, in bytes."""

RECONNECTS: Final = 5
"""How often in a row a broken download is taken up again without a byte of progress."""


def _random() -> float:
    import random  # only broken downloads need it, and every cold start would pay

    return random.random()  # noqa: S311 - a delay


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a consumer may read and how; nothing in it comes from a document.

    Attributes:
        allowed: The allow-list.
        client: A boto3 S3 client, a ``Store``, or ``None`` for a client of our own.
        expected_bucket_owner: The account that must own every bucket, 12 digits.
        request_payer: ``"requester"`` for buckets whose readers pay.
        verify: What a whole read is held against.
        max_size: The most that a read into memory may take, in bytes; ``None``: what ``read_limit`` says.
        budget: What may be fetched on a document's word; ``None``: the usual.
        spending: What the resolve that made this has spent of it.
        now: The clock, for ``expiresAt``.
        sleep: Waits between tries to take up a broken download.
        jitter: A random number between 0 and 1 for those waits.
    """

    allowed: Allowed
    client: Any = None
    expected_bucket_owner: str | None = None
    request_payer: str | None = None
    verify: Verify = True
    max_size: int | None = None
    budget: ReadBudget | None = None
    spending: Spending = field(default_factory=lambda: Spending(ReadBudget()), compare=False)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = _random
    _limits: list[int] = field(default_factory=list, repr=False, compare=False)
    _own: list[PerProcess[Any]] = field(default_factory=list, repr=False, compare=False)
    _stores: dict[str, Store] = field(default_factory=dict, repr=False, compare=False)
    _settled: dict[str, Store] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child, take a new lock; what is connected renews itself."""
        object.__setattr__(self, "_lock", threading.Lock())

    def store(self, bucket: str) -> Store:
        """Return the store for a bucket; each is made once, so that its client and connections are shared.

        Without a client, and before botocore is imported, it may be one that reads small objects without (``cold``).
        """
        with self._lock:  # many threads may read their first artifact at once
            if bucket not in self._stores:
                self._stores[bucket] = self._cold_store(bucket) or self._ordinary_store(bucket)
            return self._stores[bucket]

    def _cold_store(self, bucket: str) -> Store | None:
        # The route cannot say whose bucket is expected, nor who pays.
        told = self.client is not None or self.expected_bucket_owner is not None or self.request_payer is not None
        if told or "botocore" in sys.modules:
            return None
        by_path = profile_words_from(os.environ) != {"aws"}
        from stepout.artifacts.s3.cold_start import ColdStore, cold_route

        route = cold_route(bucket, by_path=by_path)
        return None if route is None else cast("Store", ColdStore(bucket, route, lambda: self._settled_store(bucket)))

    def _settled_store(self, bucket: str) -> Store:
        """Put the ordinary store in a cold one's place."""
        with self._lock:
            if bucket not in self._settled:
                self._settled[bucket] = self._stores[bucket] = self._ordinary_store(bucket)
            return self._settled[bucket]

    def _ordinary_store(self, bucket: str) -> Store:
        profile = profile_from_env()
        if self.client is None and not self._own:
            # Readers send no payload. Said so, no client is built only to learn whether its endpoint has TLS.
            own_client = PerProcess(lambda: make_client(profile=profile, sign_payload=True), name="S3 client")
            own_client.get()
            self._own.append(own_client)
        client = self._own[0] if self._own else self.client
        return store_for(
            client,
            bucket,
            profile=profile,
            expected_bucket_owner=self.expected_bucket_owner,
            request_payer=self.request_payer,
            own=bool(self._own),
        )

    def spending_of_directory(self) -> Spending:
        """Return what counts one read of a directory: a listing may name one object thousands of times."""
        if self.budget is not None:
            return Spending(self.budget)
        usual = ReadBudget()
        if self.max_size is None:
            return Spending(usual)
        return Spending(replace(usual, bytes=max(1, min(self.max_size, usual.bytes))))

    @property
    def limit(self) -> int:
        """Where a read into memory stops, in bytes; the memory granted is looked up once, and only if it is asked."""
        if self.max_size is not None:
            return self.max_size
        if not self._limits:
            self._limits.append(read_limit())
        return self._limits[0]

    def check(self, pointer: Pointer) -> None:
        """Raise ``NotAllowedError`` unless the pointer's object may be read."""
        self.allowed.check(pointer.bucket, pointer.key)


def checked_client(client: Any) -> Any:
    """Return ``client`` if it can be read through.

    Raises:
        ConfigurationError: It is neither a boto3 S3 client nor a store.
    """
    if client is None or hasattr(client, "get_object") or hasattr(client, "start_upload"):
        return client
    msg = (
        f"client= is a {type(client).__module__}.{type(client).__qualname__}: expected a boto3 S3 client "
        '(boto3.client("s3")), a store such as MemoryStore, or None'
    )
    raise ConfigurationError(msg)


def checked_owner(owner: object) -> str | None:
    """Return ``expected_bucket_owner`` if it is an account's id.

    Raises:
        ConfigurationError: It is not; some servers pass over it then instead of refusing.
    """
    if owner is None or (isinstance(owner, str) and re.fullmatch("[0-9]{12}", owner)):
        return owner
    msg = f"expected_bucket_owner={owner!r}: expected an AWS account id, text of 12 digits"
    raise ConfigurationError(msg)


def checked_verify(verify: object) -> Verify:
    """Return ``verify`` if it is one of its values.

    Raises:
        ConfigurationError: It is not.
    """
    if verify is True or verify is False or verify in {"sha256", "pinned"}:
        return verify
    msg = f'verify={verify!r}: expected True, "sha256", "pinned" or False'
    raise ConfigurationError(msg)


def checked_limit(name: str, value: object) -> int:
    """Return a size limit in bytes if it is a whole number from 0 on.

    Raises:
        ConfigurationError: It is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    msg = f"{name}={value!r}: expected a number of bytes, 0 or more"
    raise ConfigurationError(msg)
