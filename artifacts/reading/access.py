"""How a consumer reads: what it may read, through which client, and what it insists on. Passed along every hop."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypedDict

from stepout.artifacts.allow import allowed_from
from stepout.artifacts.allow import from_env as allow_from_env
from stepout.artifacts.reading.bucket_stores import BucketStores
from stepout.artifacts.reading.budget import USUAL_BUDGET, ReadBudget, Spending
from stepout.artifacts.s3.clients import ReaderSettings, checked_payer
from stepout.artifacts.store import is_store
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.events import Events
from stepout.schemas.runtime.listening import events_here, new_events
from stepout.schemas.runtime.s3_profile import payer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from datetime import datetime

    from stepout.artifacts.allow import Allowed, AnyBucket
    from stepout.artifacts.transfer.plan import TransferSettings


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


class KeptBytes(Protocol):
    """Keeps verified bytes by what they are of; see ``ranges.block_cache``. Threads share it."""

    def get(self, key: Hashable) -> bytes | None:
        """Return what was put under ``key``, if it is still kept."""
        ...

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep ``data``, if there is room for it."""
        ...


class ReadMeter(Protocol):
    """Counts what is read, by one for whom several reads together may cost so much and no more. Threads share it."""

    def request(self, url: str) -> None:
        """Count a request that is about to be sent.

        Raises:
            ReadBudgetError: No more may be sent.
        """
        ...

    def received(self, url: str, size: int) -> None:
        """Count bytes that have come.

        Raises:
            ReadBudgetError: No more may come.
        """
        ...


class ReadOptions(TypedDict, total=False):
    """The keywords that every ``resolve…`` function takes; ``resolve_output`` says what each of them means."""

    allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None
    client: Any
    max_size: int | None
    expected_bucket_owner: str | None
    request_payer: str | None
    budget: ReadBudget | None
    allow_expired: bool
    events: Events | None
    settings: TransferSettings | None


KEYWORDS: Final = (*ReadOptions.__annotations__, "verify", "contract", "execution", "state", "count")
"""Those of all ``resolve…`` functions together, for the error about a misspelt one."""


def _now() -> datetime:
    from datetime import UTC, datetime  # only artifacts that expire need it, and every cold start would pay

    return datetime.now(UTC)


def _granted() -> int:
    from stepout.artifacts.read_limit import read_limit  # small reads need it not, and every cold start would pay

    return read_limit()


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a consumer may read and how; nothing in it comes from a document.

    Attributes:
        allowed: The allow-list.
        stores: Where each bucket is read.
        verify: What a whole read is held against.
        max_size: The most that a read into memory may take, in bytes; ``None``: what ``granted`` says.
        granted: Returns where a read into memory stops, in bytes, where nobody said; looked up once, if it is asked.
        budget: What may be fetched on a document's word; ``None``: the usual.
        allow_expired: Whether to ask for what has expired, as its pointer says.
        settings: How much memory and how many connections one read may use; ``None``: what suits the process.
        spending: Counts what the resolve that made this has spent of it.
        events: Who is told of each read; another process has its own.
        traceparent: The trace that the document was made in, as it says.
        meter: Counts every request for a document or an object's bytes, and the bytes; ``None``: nobody wants to know.
        kept: Where verified bytes are kept for further reads; ``None``: with those of the whole process. Whoever has to
            find out how an object is *now* brings an empty one.
        now: The clock, for ``expiresAt``.
        sleep: Waits between tries to take up a broken download.
        jitter: A random number between 0 and 1 for those waits.
    """

    allowed: Allowed
    stores: BucketStores = field(default_factory=BucketStores, compare=False)
    verify: Verify = True
    max_size: int | None = None
    granted: Callable[[], int] = field(default_factory=lambda: cache(_granted), compare=False)
    budget: ReadBudget | None = None
    allow_expired: bool = False
    settings: TransferSettings | None = field(default=None, compare=False)
    spending: Spending = field(default_factory=lambda: Spending(USUAL_BUDGET), compare=False)
    events: Events = field(default_factory=new_events, compare=False)
    traceparent: str | None = field(default=None, compare=False)
    meter: ReadMeter | None = field(default=None, compare=False)
    kept: KeptBytes | None = field(default=None, compare=False)
    now: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = _random

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as settings; what another process is granted, and has spent, is its own."""
        rules = self.allowed, self.stores, self.verify, self.max_size, self.budget, self.allow_expired
        return _travelled, (*rules, self.traceparent, self.settings)

    def reads_like(self, other: Access) -> bool:
        """Say whether both read the same servers, under the same rules."""
        mine = self.allowed, self.verify, self.max_size, self.budget, self.allow_expired
        rules = other.allowed, other.verify, other.max_size, other.budget, other.allow_expired
        return mine == rules and self.stores.reads_like(other.stores)

    @property
    def limit(self) -> int:
        """Where a read into memory stops, in bytes."""
        return self.granted() if self.max_size is None else self.max_size

    def at_once(self, usual: int) -> int:
        """Return how many objects to read at once: as many as the settings allow connections, else ``usual``."""
        connections = None if self.settings is None else self.settings.connections
        return usual if connections is None else connections

    def one_of_many(self) -> Access:
        """Return the same access for one of several objects that are read at once: it has one connection then.

        Without settings that say how many there may be, each has as many as suit it.
        """
        if self.settings is None or self.settings.connections is None:
            return self
        return replace(self, settings=replace(self.settings, connections=1))

    def count_request(self, url: str) -> None:
        """Tell the meter, if there is one, of a request that is about to be sent.

        Raises:
            ReadBudgetError: It allows no more.
        """
        if self.meter is not None:
            self.meter.request(url)

    def told(self, verify: Verify | None, max_size: int | None) -> Access:
        """Return the same access with what one call says otherwise; ``None``: nothing.

        Raises:
            ConfigurationError: One of them is invalid.
        """
        return replace(
            self,
            verify=self.verify if verify is None else checked_verify(verify),
            max_size=self.max_size if max_size is None else checked_limit("max_size", max_size),
        )

    def spending_of_directory(self) -> Spending:
        """Return what counts one read of a directory: a listing may name one object thousands of times."""
        if self.budget is not None:
            return Spending(self.budget)
        if self.max_size is None:
            return Spending(USUAL_BUDGET)
        return Spending(replace(USUAL_BUDGET, bytes=max(1, min(self.max_size, USUAL_BUDGET.bytes))))

    def of_document(self, traceparent: str | None) -> Access:
        """Return the same access for what a document leads to, which was made in that trace."""
        return self if traceparent is None else replace(self, traceparent=traceparent)

    def with_own_spending(self) -> Access:
        """Return the same access for another document, which has a budget of its own."""
        return replace(self, spending=Spending(self.budget or USUAL_BUDGET))


def _travelled(  # noqa: PLR0913, PLR0917 - what ``__reduce__`` lists
    allowed: Allowed,
    stores: BucketStores,
    verify: Verify,
    max_size: int | None,
    budget: ReadBudget | None,
    allow_expired: bool,
    traceparent: str | None,
    settings: TransferSettings | None = None,
) -> Access:
    return Access(
        allowed=allowed,
        stores=stores,
        verify=verify,
        max_size=max_size,
        budget=budget,
        allow_expired=allow_expired,
        settings=settings,
        spending=Spending(budget or USUAL_BUDGET),
        traceparent=traceparent,
    )


def access_from(  # noqa: PLR0913 - the keywords of ``ReadOptions``, each with its own meaning
    *,
    allow: Iterable[str | AnyBucket] | AnyBucket | Allowed | None = None,
    client: Any = None,
    verify: Verify = True,
    max_size: int | None = None,
    expected_bucket_owner: str | None = None,
    request_payer: str | None = None,
    budget: ReadBudget | None = None,
    allow_expired: bool = False,
    events: Events | None = None,
    settings: TransferSettings | None = None,
    **unknown: object,
) -> Access:
    """Return what the keywords of a ``resolve…`` function mean; ``resolve_output`` describes them.

    Raises:
        ConfigurationError: One of them is invalid, or no allow-list was given.
        TypeError: There is no such keyword. Python would name this function, which the caller never called.
    """
    if unknown:
        raise TypeError(
            f"unexpected keyword argument {next(iter(unknown))!r}: the resolve functions take {', '.join(KEYWORDS)}"
        )
    if not isinstance(budget, ReadBudget | None):
        raise ConfigurationError(f"budget= is a {type(budget).__name__}: expected a ReadBudget, or None")
    if not isinstance(events, Events | None):
        raise ConfigurationError(f"events= is a {type(events).__name__}: expected task.events, Events([listener])")
    allowed = allow_from_env() if allow is None else allowed_from(allow)
    client, verify = _checked_client(client), checked_verify(verify)
    return Access(
        allowed=allowed,
        verify=verify,
        max_size=None if max_size is None else checked_limit("max_size", max_size),
        stores=BucketStores(
            client,
            expected_bucket_owner=_checked_owner(expected_bucket_owner),
            request_payer=payer_of(os.environ) if request_payer is None else checked_payer(request_payer),
        ),
        budget=budget,
        allow_expired=checked_flag("allow_expired", allow_expired),
        settings=None if settings is None else _checked_settings(settings),
        spending=Spending(budget or USUAL_BUDGET),
        events=events_here() if events is None else events,
    )


def checked_flag(name: str, value: object) -> bool:
    """Return ``value`` if it is ``True`` or ``False``.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r}: expected True or False")
    return value


def _checked_client(client: Any) -> Any:
    """Return ``client`` if it can be read through.

    Raises:
        ConfigurationError: It is neither a boto3 S3 client nor a store.
    """
    if client is None or isinstance(client, ReaderSettings) or is_store(client) or hasattr(client, "get_object"):
        return client
    msg = (
        f"client= is a {type(client).__module__}.{type(client).__qualname__}: expected a boto3 S3 client "
        '(boto3.client("s3")), a store such as MemoryStore, or None'
    )
    raise ConfigurationError(msg)


def _checked_settings(settings: object) -> TransferSettings:
    """Return ``settings`` if they are a transfer's.

    Raises:
        ConfigurationError: They are something else.
    """
    from stepout.artifacts.transfer.plan import TransferSettings  # a cold read does without

    if isinstance(settings, TransferSettings):
        return settings
    raise ConfigurationError(f"settings= is a {type(settings).__name__}: expected TransferSettings(…), or None")


def _checked_owner(owner: object) -> str | None:
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
