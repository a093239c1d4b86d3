"""``FastS3Store``: one bucket on which small objects cost a fraction.

It has a list of routes (``SmallRequests``), which it asks in order; what none of them takes, or does not end in a plain
success there, goes the ordinary way through ``S3Store``. So errors, retries and redirects are those of ``S3Store``, and
an object written by a request whose answer was lost is recognised as every other one is (``conditional_write``).

- ``ColdRoute``: the first reads of a process, without botocore (``cold_start``);
- ``ObstoreRoute``: off the main thread, where obstore is installed and can do everything that the request asks for;
- ``BotocoreRoute``: botocore's own signature and connections, without its models.

The last two imitate a request that went the ordinary way (``request_template``), so the first of a kind always does.

``ArtifactManager`` and ``resolve`` use it where they build the client. A client that is passed in is used as it is.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.request_template import LearnedRequests, is_plain_key
from stepout.artifacts.s3.route_botocore import BotocoreRoute
from stepout.artifacts.s3.route_obstore import ObstoreRoute
from stepout.artifacts.s3.small_requests import ForeignAnswerError
from stepout.schemas.runtime.process import renew_after_fork
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.s3.preconnect import Preconnections
    from stepout.artifacts.s3.request_template import LearnedRequest
    from stepout.artifacts.s3.small_requests import SmallRequests
    from stepout.artifacts.s3.store import S3Store
    from stepout.artifacts.store import (
        Download,
        ObjectInfo,
        PartReceipt,
        StoreProfile,
        WriteOptions,
        Written,
    )

T = TypeVar("T")

_log = logger("stepout.artifacts")

_FAILURES: Final = 3
_REST_SECONDS: Final = 30.0


class FastS3Store:
    """One bucket through a client of ours, small objects by the first route that takes them.

    Args:
        bucket: A bucket's name, or the ARN of an access point.
        make: Makes the store that everything else goes through. It is made when it is needed: a process that only
            reads small objects may never have a client.
        first: Routes that are asked before those that learn.
        obstore: ``False`` leaves obstore out even where it is installed.
        light: ``False`` leaves out the route over botocore's connections.
        clock: Seconds, monotonic.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with its own meaning
        self,
        bucket: str,
        make: Callable[[], S3Store],
        *,
        first: Sequence[SmallRequests] = (),
        obstore: bool = True,
        light: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bucket = bucket
        self._make, self._made = make, dict[str, "S3Store"]()
        self.learned = LearnedRequests()
        self._first = list(first)
        self._routes = list(first)
        if obstore:
            self._routes.append(ObstoreRoute(bucket))
        if light:
            self._routes.append(BotocoreRoute())
        self._clock = clock
        self._profile: StoreProfile | None = None
        self._failures, self._rests_until = 0, float("-inf")
        self._preconnections: Preconnections | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked child, take new locks; it learns anew, since its client is another one."""
        self._lock = threading.Lock()
        self.learned.renew()

    def __repr__(self) -> str:
        return f"FastS3Store({self.bucket!r})"

    def ordinary(self) -> S3Store:
        """Return the store that everything goes through which no route takes; the same one each time."""
        # Without a lock, which a signal's handler that writes might wait for in vain. Of two that are made at once one
        # is dropped; both would use the same client.
        return self._made.get("ordinary") or self._made.setdefault("ordinary", self._make())

    # Small requests ----------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store a whole object; see ``Store.put``."""
        ordinary, sha256 = self.ordinary(), checksum.get("sha256")
        if sha256 is None or sum(map(len, body)) > SMALL or not is_plain_key(key):
            return ordinary.put(key, body, checksum=checksum, options=options)
        client = ordinary.client
        like = self.learned.find(client, "PutObject", options)
        # The first conditional write to a server that is not AWS is sent twice, to see whether it keeps conditions.
        if like is not None and not ordinary.is_on_trial(options):
            written = self._by_route(
                "PutObject", key, like, lambda route: route.put(key, body, sha256=sha256, options=options, like=like)
            )
            if written is not None:
                return written
        with self.learned.watching(client, "PutObject", key, options) as learned:
            done = ordinary.put(key, body, checksum=checksum, options=options)
        if learned:
            from stepout.artifacts.s3.correlation import is_md5_of  # a cold read does without

            learned[0].etags_are_md5 = is_md5_of(done.etag, body)
        return done

    def get_small(self, key: str, *, size: int, version_id: str | None = None, if_match: str | None = None) -> Download:
        """Open a whole object that should have ``size`` bytes; see ``ReadsSmall.get_small``."""
        if size > SMALL or not is_plain_key(key):
            return self.get(key, version_id=version_id, if_match=if_match)
        # Before the first request that goes the ordinary way there is nothing learned, and perhaps no client.
        like = self.learned.find(self.ordinary().client, "GetObject", None) if self._made else None
        found = self._by_route(
            "GetObject",
            key,
            like,
            lambda route: route.get(key, size=size, version_id=version_id, if_match=if_match, like=like),
        )
        if found is not None:
            return found
        with self.learned.watching(self.ordinary().client, "GetObject", key, None):
            return self.get(key, version_id=version_id, if_match=if_match)

    def _by_route(
        self, operation: str, key: str, like: LearnedRequest | None, ask: Callable[[SmallRequests], T | None]
    ) -> T | None:
        """Return what the first route that takes a request has achieved; ``None``: it has to go the ordinary way.

        A route that fails is not followed by the next one: a missing object would be asked for once by each. After some
        failures in a row they rest for a while, since each one costs a request.
        """
        if self._failures >= _FAILURES and self._clock() < self._rests_until:
            return None
        try:
            for route in self._first if like is None else self._routes:
                done = ask(route)
                if done is not None:
                    self._failures = 0
                    return done
        except Exception as error:  # noqa: BLE001 - of three libraries; the request is repeated by the one we know
            self._failed(f"{operation} s3://{self.bucket}/{key}", error)
        return None

    def _failed(self, what: str, error: Exception) -> None:
        from stepout.artifacts.s3.job_signals import from_handler

        if (own := from_handler(error)) is not None:
            raise own from None
        if isinstance(error, ForeignAnswerError):
            self.ordinary().drop_idle(what, str(error))
        _log.debug("%s failed on a route for small requests (%s); it is repeated", what, type(error).__name__)
        # Threads may count at once, and one failure be lost: then the routes rest one request later.
        self._failures += 1
        self._rests_until = self._clock() + _REST_SECONDS

    # Uploads in parts --------------------------------------------------------------------------------------------

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin a multipart upload; see ``Store.start_upload``."""
        connections = self._connections()
        try:
            return self.ordinary().start_upload(key, options=options)
        finally:
            connections.settle()

    @contextmanager
    def open_connection(self) -> Iterator[None]:
        """Hold an open connection while the block runs; see ``OpensConnections``."""
        with self._connections().connection():
            yield

    def _connections(self) -> Preconnections:
        from stepout.artifacts.s3.preconnect import Preconnections

        with self._lock:
            client, found = self.ordinary().client, self._preconnections
            if found is None or found.client is not client:
                found = self._preconnections = Preconnections(client, self.bucket, "CreateMultipartUpload")
            return found

    # What goes the ordinary way ----------------------------------------------------------------------------------

    @property
    def profile(self) -> StoreProfile:
        """What the server can do."""
        if self._profile is None:
            self._profile = self.ordinary().profile
        return self._profile

    @property
    def endpoint_url(self) -> str:
        """The server that the client talks to."""
        return self.ordinary().endpoint_url

    @property
    def region(self) -> str | None:
        """The client's region, for pointers; a reader never trusts it."""
        return self.ordinary().region

    def put_part(self, key: str, upload: str, number: int, body: Sequence[memoryview], *, checksum: str) -> PartReceipt:
        """Send one part; see ``Store.put_part``."""
        return self.ordinary().put_part(key, upload, number, body, checksum=checksum)

    def complete_upload(  # noqa: PLR0913 - the protocol's signature
        self,
        key: str,
        upload: str,
        parts: Sequence[PartReceipt],
        *,
        size: int,
        checksum: str | None,
        options: WriteOptions,
    ) -> Written:
        """Commit a multipart upload; see ``Store.complete_upload``."""
        return self.ordinary().complete_upload(key, upload, parts, size=size, checksum=checksum, options=options)

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget a multipart upload; see ``Store.abort_upload``."""
        self.ordinary().abort_upload(key, upload)

    def try_completion(self, key: str, *, options: WriteOptions) -> None:
        """See ``TriesCompletion.try_completion``."""
        self.ordinary().try_completion(key, options=options)

    def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """Describe an object; see ``Store.head``."""
        return self.ordinary().head(key, version_id=version_id)

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
    ) -> Download:
        """Open a range of an object; see ``Store.get``."""
        return self.ordinary().get(key, start=start, stop=stop, version_id=version_id, if_match=if_match)

    def listing(self, prefix: str) -> list[tuple[str, str]]:
        """Return the keys that begin with ``prefix`` and when each was written; see ``Store.listing``."""
        return self.ordinary().listing(prefix)

    def presign(self, key: str, *, version_id: str | None = None, seconds: int) -> str:
        """Return a URL that gives anyone the object for ``seconds``; see ``Store.presign``."""
        return self.ordinary().presign(key, version_id=version_id, seconds=seconds)
