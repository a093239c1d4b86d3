"""``FastS3Store``: one bucket on which small objects cost a fraction.

It has a list of routes, which it asks in order; what none of them takes, or does not end in a plain success there, goes
the ordinary way through ``S3Store``. So errors, retries and redirects are those of ``S3Store``, and
an object written by a request whose answer was lost is recognised as every other one is (``conditional_write``).

- ``ColdRoute``: the first reads of a process, without botocore (``cold_start``);
- ``ObstoreRoute``: off the main thread, where obstore is installed and can do everything that the request asks for;
- ``BotocoreRoute``: botocore's own connections, without its models and requests.

The last two (``SmallRequests``) imitate a request that went the ordinary way (``request_template``), so the first of a
kind always does. This store decides which request is imitated, and hands it to the route.

``ArtifactManager`` and ``resolve`` use it where they build the client. A client that is passed in is used as it is.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.routes.small_requests import ForeignAnswerError, SlowDownAnswerError, SmallBody
from stepout.artifacts.store import SlowDownError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from stepout.artifacts.s3.connections.preconnect import Preconnections
    from stepout.artifacts.s3.routes.request_template import LearnedRequest
    from stepout.artifacts.s3.routes.small_requests import SmallReads, SmallRequests
    from stepout.artifacts.s3.store import S3Store
    from stepout.artifacts.store import Cancellation, Download, ObjectInfo
    from stepout.artifacts.store_writes import ListedObject, PartReceipt, StoreProfile, WriteOptions, Written

Operation = Literal["PutObject", "GetObject"]
T = TypeVar("T")

_log = logger("stepout.artifacts")

_FAILURES: Final = 3
_REST_SECONDS: Final = 30.0

_KINDS: Final = 8
"""Kinds of one operation that are remembered: more different settings than any manager has."""

_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


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
        first: Sequence[SmallReads] = (),
        obstore: bool = True,
        light: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bucket = bucket
        self._make, self._made = make, dict[str, "S3Store"]()
        self._first = first
        self._obstore, self._light = obstore, light
        # Made when there is something to imitate: a store that reads one object needs none.
        self._routes: tuple[SmallRequests, ...] = ()
        self.learned: LearnedRequests | None = None
        self._clock = clock
        self._failures, self._rests_until = 0, float("-inf")
        self._preconnections: Preconnections | None = None

    def __repr__(self) -> str:
        return f"FastS3Store({self.bucket!r})"

    def ordinary(self) -> S3Store:
        """Return the store that everything goes through which no route takes; the same one each time."""
        # Without a lock, as everything here: a signal's handler that writes might wait for it in vain, and so might the
        # child of a fork. Of two that are made at once one is dropped; both would use the same client.
        return self._made.get("ordinary") or self._made.setdefault("ordinary", self._make())

    # Small requests ----------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store a whole object; see ``Store.put``."""
        ordinary, sha256 = self.ordinary(), checksum.get("sha256")
        if sha256 is None or sum(map(len, body)) > SMALL or not is_plain_key(key):
            return ordinary.put(key, body, checksum=checksum, options=options)
        known = self._known("PutObject", options)
        # The first conditional write to a server that is not AWS is sent twice, to see whether it keeps conditions.
        if known is not None and (known.trial is None or known.trial.puts_are_settled):
            small, routes = _joined(body, sha256), self._routes or self._made_routes()
            asks = [partial(route.put, known, key, small, media_type=options.media_type) for route in routes]
            written = self._by_route("PutObject", key, asks)
            if written is not None:
                return written
        act = partial(ordinary.put, key, body, checksum=checksum, options=options)
        done, seen = self._watched("PutObject", key, options, act)
        if seen is not None:
            from stepout.artifacts.s3.correlation import is_md5_of  # a cold read does without

            seen.trial, seen.etags_are_md5 = ordinary.trial_of(options), is_md5_of(done.etag, body)
            self._remember("PutObject", seen)
        return done

    def get_small(self, key: str, *, size: int, version_id: str | None = None, if_match: str | None = None) -> Download:
        """Open a whole object that should have ``size`` bytes; see ``ReadsSmall.get_small``."""
        plain = is_plain_key(key)
        small = plain and size <= SMALL
        known = self._known("GetObject", None) if small else None
        asked = {"version_id": version_id, "if_match": if_match}
        asks: list[Callable[[], Download | None]] = []
        if plain and self._first:  # they say themselves what is too large for them
            asks = [partial(route.get, key, size=size, **asked) for route in self._first]
        if known is not None:
            asks += [partial(route.get, known, key, **asked) for route in self._routes or self._made_routes()]
        try:
            found = self._by_route("GetObject", key, asks)
        except SlowDownError:  # nobody above repeats a read: the ordinary way does
            found = None
        if found is not None:
            return found
        act = partial(self.get, key, version_id=version_id, if_match=if_match)
        if not small:
            return act()
        body, seen = self._watched("GetObject", key, None, act)
        if seen is not None:
            self._remember("GetObject", seen)
        return body

    def _made_routes(self) -> Sequence[SmallRequests]:
        from stepout.artifacts.s3.routes.route_botocore import BotocoreRoute  # a cold read does without
        from stepout.artifacts.s3.routes.route_obstore import ObstoreRoute

        obstore = [ObstoreRoute(self.bucket)] if self._obstore else []
        self._routes = (*obstore, *([BotocoreRoute()] if self._light else []))
        return self._routes

    def _by_route(self, operation: str, key: str, asks: Sequence[Callable[[], T | None]]) -> T | None:
        """Return what the first route that takes a request has achieved; ``None``: it has to go the ordinary way.

        A route that fails is not followed by the next one: a missing object would be asked for once by each. After some
        failures in a row they rest for a while, since each one costs a request.

        Raises:
            SlowDownError: The server asks for fewer requests; whoever repeats it asks the routes again.
        """
        if not asks or (self._failures >= _FAILURES and self._clock() < self._rests_until):
            return None
        # A cold read knows no server, and is a single request.
        pace = self._made["ordinary"].server.pace if self._made else None
        admission = pace.admit() if pace is not None and pace.engaged else None
        try:
            for ask in asks:
                done = ask()
                if done is not None:
                    self._failures = 0
                    if admission is not None and pace is not None:
                        pace.succeeded(admission)
                    return done
        except SlowDownAnswerError as error:
            known = pace or self.ordinary().server.pace
            known.refused(admission)
            message = f"{operation} s3://{self.bucket}/{key}: the server asked for fewer requests ({error}). {known}"
            raise SlowDownError(message) from error
        except Exception as error:  # noqa: BLE001 - of three libraries; the request is repeated by the one we know
            self._failed(f"{operation} s3://{self.bucket}/{key}", error)
            return None
        if admission is not None and pace is not None:
            pace.give_back()
        return None

    def _failed(self, what: str, error: Exception) -> None:
        from stepout.artifacts.s3.connections.cancellation import cancelled_request, current_cancellation
        from stepout.artifacts.s3.job_signals import from_handler

        if (own := from_handler(error)) is not None:
            raise own from None
        cancellation = current_cancellation()
        if cancellation is not None and cancellation.cancelled:
            raise cancelled_request(what) from error
        if isinstance(error, ForeignAnswerError):
            self.ordinary().drop_idle(what, str(error))
        _log.debug("%s failed on a route for small requests (%s); it is repeated", what, type(error).__name__)
        # Threads may count at once, and one failure be lost: then the routes rest one request later.
        self._failures += 1
        self._rests_until = self._clock() + _REST_SECONDS

    # What is learned ---------------------------------------------------------------------------------------------

    def _known(self, operation: Operation, options: WriteOptions | None) -> LearnedRequest | None:
        """Return what is known of requests like this one, if one has been seen leaving through the client of now."""
        learned = self.learned
        # The order matters: before anything was learned there may be no client, and asking would make one. In a forked
        # child ``current`` is another one, or none yet.
        if learned is None or learned.client is not self.ordinary().connection.current:
            return None
        return learned.find(operation, options)

    def _watched(
        self, operation: Operation, key: str, options: WriteOptions | None, act: Callable[[], T]
    ) -> tuple[T, LearnedRequest | None]:
        """Do what sends a request, and return with it how that left; ``None``: one like it is known, or many others."""
        connection = self.ordinary().connection
        client, learned = connection.current or connection.get(), self.learned
        if learned is None or learned.client is not client:
            # Two threads may each make one: what the one that is dropped learns is learned once more.
            learned = self.learned = LearnedRequests(client)
        if learned.find(operation, options) is not None or learned.is_full(operation):
            return act(), None
        done, last = learned.watched(act)
        # A signed client may have taken the place of this one meanwhile, whose requests look otherwise.
        if last is None or connection.current is not client:
            return done, None
        from stepout.artifacts.s3.routes.request_template import LearnedRequest  # a cold read has nothing to learn from

        return done, LearnedRequest(options=options, client=client, url=last.url, headers=dict(last.headers), key=key)

    def _remember(self, operation: Operation, seen: LearnedRequest) -> None:
        if self.learned is not None and self.learned.client is seen.client:
            self.learned.add(operation, seen)

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

    def cancellable(self) -> AbstractContextManager[Cancellation]:
        """Let any thread end the requests that this one sends inside the block; see ``Cancels.cancellable``."""
        from stepout.artifacts.s3.connections.cancellation import cancellable  # a cold read does without

        return cancellable()

    def _connections(self) -> Preconnections:
        from stepout.artifacts.s3.connections.preconnect import Preconnections

        client, found = self.ordinary().client, self._preconnections
        if found is None or found.client is not client:
            # Of two that threads make at once both see every request that leaves, so none waits for the other.
            found = self._preconnections = Preconnections(client, self.bucket, "CreateMultipartUpload")
        return found

    # What goes the ordinary way ----------------------------------------------------------------------------------

    @property
    def profile(self) -> StoreProfile:
        """What the server can do."""
        return self.ordinary().profile

    @property
    def endpoint_url(self) -> str:
        """The server that the client talks to."""
        return self.ordinary().endpoint_url

    @property
    def pooled(self) -> int:
        """How many connections the client keeps open."""
        return self.ordinary().pooled

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

    def remove(self, key: str, *, version_id: str | None = None) -> None:
        """Remove an object, or one version of it; see ``Removes.remove``."""
        self.ordinary().remove(key, version_id=version_id)

    def list_parts(self, key: str, upload: str) -> list[PartReceipt]:
        """Return the parts that the server has; see ``ListsParts.list_parts``."""
        return self.ordinary().list_parts(key, upload)

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

    def iter_objects(self, prefix: str) -> Iterator[ListedObject]:
        """Yield every object whose key begins with ``prefix``; see ``Lists.iter_objects``."""
        return self.ordinary().iter_objects(prefix)

    def presign(self, key: str, *, version_id: str | None = None, seconds: int) -> str:
        """Return a URL that gives anyone the object for ``seconds``; see ``Store.presign``."""
        return self.ordinary().presign(key, version_id=version_id, seconds=seconds)


class LearnedRequests:
    """What the requests of one client look like as they leave it; for any thread.

    Without a lock: of two requests of a kind that are learned at once both are kept, and the first is used.

    Args:
        client: A boto3 S3 client; another one's endpoint and credentials may differ.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._known: dict[Operation, list[LearnedRequest]] = {"PutObject": [], "GetObject": []}
        # Of each thread: several requests may leave through one client at once, and each watcher wants its own.
        self._seen = threading.local()
        for operation in self._known:
            client.meta.events.register(f"before-send.s3.{operation}", self._see)

    def find(self, operation: Operation, options: WriteOptions | None) -> LearnedRequest | None:
        """Return what is known of requests like this one."""
        for known in self._known[operation]:
            if _alike(known.options, options):
                return known
        return None

    def is_full(self, operation: Operation) -> bool:
        """Say whether no more kinds of an operation are remembered."""
        return len(self._known[operation]) >= _KINDS

    def add(self, operation: Operation, found: LearnedRequest) -> None:
        """Remember a request."""
        self._known[operation].append(found)

    def watched(self, act: Callable[[], T]) -> tuple[T, Any]:
        """Do what sends a request; return with it the last that left: botocore may have sent it to two regions."""
        self._seen.last, self._seen.watches = None, True
        try:
            return act(), self._seen.last
        finally:
            self._seen.last, self._seen.watches = None, False

    def _see(self, request: Any, **_: Any) -> None:
        if getattr(self._seen, "watches", False):  # a thread that has watched nothing yet has no such attribute
            self._seen.last = request


def is_plain_key(key: str) -> bool:
    """Say whether a key is the same in a URL, so that no two libraries can disagree on how to write it.

    >>> is_plain_key("runs/7f3c/0-ab12/features.parquet"), is_plain_key("größe"), is_plain_key("a/../b")
    (True, False, False)
    """
    return _PLAIN.fullmatch(key) is not None


def _joined(views: Sequence[memoryview], sha256: str) -> SmallBody:
    """Return a small body in one piece; bytes cannot have changed since they were hashed, as other things may."""
    if len(views) == 1 and type(views[0].obj) is bytes and views[0].nbytes == len(views[0].obj):
        return SmallBody(views[0].obj, sha256, unchanged=True)
    return SmallBody(b"".join(views), sha256, unchanged=False)


def _alike(one: WriteOptions | None, other: WriteOptions | None) -> bool:
    """Say whether two writes differ in nothing but their media types."""
    if one is other or one is None or other is None:
        return one is other
    return (
        one.mode == other.mode
        and one.encryption == other.encryption
        and one.storage_class == other.storage_class
        and one.expected_bucket_owner == other.expected_bucket_owner
        and one.tags == other.tags
        and one.metadata == other.metadata
        and one.extra == other.extra
    )
