"""``FastS3Store``: an ``S3Store`` on which small objects cost a fraction.

The first request of a kind goes the ordinary way, through boto3, and is looked at as it leaves. Later ones like it take
a route that costs less: obstore's where it is installed and can do everything that this kind asks for (``native``),
else the light one over botocore's own signature and connections (``light``). Whatever such a route does not answer with
a plain success is repeated on the ordinary way: errors, retries and redirects are those of ``S3Store``, and an object
written by a request whose answer was lost is recognized as every other one is (``commit``).

``ArtifactManager`` and ``resolve`` use it where they build the client. A client that is passed in is used as it is;
``FastS3Store(client, bucket)`` in its place asks for the routes, ``boto3.client("s3")`` is how to do without.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from stepout.artifacts.s3.correlation import foreign_download, foreign_put, is_md5_of
from stepout.artifacts.s3.job_signals import from_handler
from stepout.artifacts.s3.preconnect import Preconnections
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.request_template import is_plain_key, sample_of
from stepout.artifacts.s3.route_botocore import light_route
from stepout.artifacts.s3.route_obstore import may_wait_here, native_route
from stepout.artifacts.s3.store import S3Store, info_of
from stepout.artifacts.store import Arrived, Written
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepout.artifacts.s3.request_template import RequestTemplate
    from stepout.artifacts.s3.route_botocore import BotocoreRoute
    from stepout.artifacts.s3.route_obstore import ObstoreRoute
    from stepout.artifacts.store import Download, ObjectInfo, WriteOptions

_log = logger("stepout.artifacts")

_KINDS: Final = 8
"""More different settings than any manager has."""

_FAILURES: Final = 3
_PAUSE_SECONDS: Final = 30.0


@dataclass
class _Kind:
    """Requests that differ in key, body and media type only; their routes are made when there is a second one."""

    options: WriteOptions | None
    sample: RequestTemplate | None
    client: Any
    bucket: str
    etags_are_md5: bool = False
    """Whether the one that was looked at got the MD5 of its body for an ETag, as without KMS."""

    @cached_property
    def light(self) -> BotocoreRoute | None:
        return None if self.sample is None else light_route(self.client, self.sample)

    @cached_property
    def native(self) -> ObstoreRoute | None:
        return None if self.sample is None else native_route(self.sample, self.client, self.bucket)


@dataclass
class _RouteBackoff:
    """Stops asking routes for a while that failed several times in a row: each failure costs a request."""

    clock: Callable[[], float]
    failures: int = 0
    until: float = field(default=float("-inf"))

    @property
    def spent(self) -> bool:
        return self.failures >= _FAILURES and self.clock() < self.until

    def note(self, *, success: bool) -> None:
        self.failures = 0 if success else self.failures + 1
        if self.failures >= _FAILURES:
            self.until = self.clock() + _PAUSE_SECONDS


class FastS3Store(S3Store):
    """One bucket through a boto3 client, small objects by the cheapest route that is safe.

    Args:
        client: A boto3 S3 client.
        bucket: A bucket's name, or the ARN of an access point.
        obstore: ``False`` leaves obstore out even where it is installed.
        light: ``False`` leaves out the light route over botocore's connections.
        clock: Seconds, monotonic.
        options: As for ``S3Store``.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        *,
        obstore: bool = True,
        light: bool = True,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        super().__init__(client, bucket, **options)
        self._with_obstore, self._with_light = obstore, light
        self._patience = _RouteBackoff(clock)
        self._slot = threading.local()
        self._learning = threading.Lock()
        self._taught_by: Any = None
        self._kinds: dict[str, list[_Kind]] = {"PutObject": [], "GetObject": []}
        self._warm: Preconnections | None = None

    def renew(self) -> None:
        """In a forked child, take new locks; it learns anew, since its client is another one."""
        super().renew()
        self._learning = threading.Lock()

    def __repr__(self) -> str:
        return super().__repr__().replace("S3Store", "QuickStore", 1)

    def put(
        self, key: str, body: Sequence[memoryview], *, checksum: Mapping[str, str], options: WriteOptions
    ) -> Written:
        """Store a whole object; see ``Store.put``."""
        if "sha256" not in checksum or sum(map(len, body)) > SMALL or not is_plain_key(key):
            return super().put(key, body, checksum=checksum, options=options)
        kind = self._kind("PutObject", options)
        if kind is not None and not self._on_trial(options):
            written: Written | None
            written = self._try(lambda: self._put(kind, key, body, checksum["sha256"], options))
            if written is not None:
                return written
        with self._taught("PutObject", kind, key, options):
            ordinary = super().put(key, body, checksum=checksum, options=options)
        if kind is None and (learned := self._kind("PutObject", options)) is not None:
            learned.etags_are_md5 = is_md5_of(ordinary.etag, body)
        return ordinary

    def get_small(self, key: str, *, size: int, version_id: str | None = None, if_match: str | None = None) -> Download:
        """Open a whole object that should have ``size`` bytes, as ``get`` does; small ones have arrived by then."""
        if size > SMALL or not is_plain_key(key):
            return self.get(key, version_id=version_id, if_match=if_match)
        kind = self._kind("GetObject", None)
        if kind is not None:
            found = self._try(lambda: self._get(kind, key, version_id, if_match))
            if found is not None:
                return Arrived(*found)
        with self._taught("GetObject", kind, key, None):
            return self.get(key, version_id=version_id, if_match=if_match)

    def start_upload(self, key: str, *, options: WriteOptions) -> str:
        """Begin a multipart upload; see ``Store.start_upload``."""
        warm = self._warmed()
        try:
            return super().start_upload(key, options=options)
        finally:
            warm.settle()

    @contextmanager
    def open_connection(self) -> Iterator[None]:
        """Hold an open connection while the block runs, for requests that follow ``start_upload``."""
        with self._warmed().connection():
            yield

    def _warmed(self) -> Preconnections:
        with self._learning:
            if self._warm is None or self._warm.client is not self._client:
                self._warm = Preconnections(self._client, self.bucket, "CreateMultipartUpload")
            return self._warm

    # The routes --------------------------------------------------------------------------------------------------

    def _put(
        self, kind: _Kind, key: str, body: Sequence[memoryview], sha256: str, options: WriteOptions
    ) -> Written | None:
        native, light = self._routes(kind)
        fixed = len(body) == 1 and type(body[0].obj) is bytes and body[0].nbytes == len(body[0].obj)
        data: bytes = body[0].obj if fixed else b"".join(body)  # type: ignore[assignment]  # bytes, if fixed
        # obstore computes the checksum that the server checks by itself: it has to be that of the same bytes.
        if native is not None and (fixed or hashlib.sha256(data).hexdigest() == sha256):
            done = native.put(key, data, media_type=options.media_type)
            answer = {"ETag": done["etag"], "VersionId": done["version_id"]}
        elif light is not None:
            headers = light.put(key, data, sha256=sha256, media_type=options.media_type)
            if headers is None:
                return None
            names = {"ETag": "etag", "VersionId": "x-amz-version-id", "ChecksumSHA256": "x-amz-checksum-sha256"}
            answer = {member: headers.get(name) for member, name in names.items()}
        else:
            return None
        why = foreign_put(answer, checksum={"sha256": sha256})
        # obstore repeats nothing; its connections are its own, and no child uses them: no MD5 is paid for there.
        unsure = native is None and kind.etags_are_md5 and not answer.get("ChecksumSHA256")
        if why is None and unsure and not is_md5_of(answer["ETag"], (memoryview(data),)):
            why = "its ETag is not the MD5 of what was sent"
        if why is not None:
            self.drop_idle(f"PutObject s3://{self.bucket}/{key}", why)
            return None
        return Written(etag=answer["ETag"], version_id=_version(answer["VersionId"]))

    def _routes(self, kind: _Kind) -> tuple[ObstoreRoute | None, BotocoreRoute | None]:
        native = kind.native if self._with_obstore and may_wait_here() else None
        return native, kind.light if self._with_light and native is None else None

    def _get(
        self, kind: _Kind, key: str, version_id: str | None, if_match: str | None
    ) -> tuple[ObjectInfo, memoryview] | None:
        native, light = self._routes(kind)
        found: tuple[ObjectInfo, memoryview] | None = None
        if native is not None:
            found = native.get(key, version_id=version_id, if_match=if_match, limit=SMALL)
        elif light is not None:
            answer = light.get(key, version_id=version_id, if_match=if_match, limit=SMALL)
            found = None if answer is None else (_described(*answer), memoryview(answer[1]))
        if found is None:
            return None
        said = {"ETag": found[0].etag, "VersionId": found[0].version_id}
        why = foreign_download(said, start=0, stop=None, version_id=version_id, if_match=if_match)
        if why is not None:
            self.drop_idle(f"GetObject s3://{self.bucket}/{key}", why)
            return None
        return found

    def _try(self, act: Callable[[], Any]) -> Any:
        """Return what a route has achieved, or ``None``: a route's errors say no more than the ordinary way's."""
        if self._patience.spent:
            return None
        try:
            done = act()
        except Exception as error:  # noqa: BLE001 - of three libraries; the request is repeated by the one we know
            if (own := from_handler(error)) is not None:
                raise own from None
            _log.debug("a quick request to s3://%s failed (%s); it is repeated", self.bucket, type(error).__name__)
            done = None
        self._patience.note(success=done is not None)
        return done

    # Learning ----------------------------------------------------------------------------------------------------

    def _kind(self, operation: str, options: WriteOptions | None) -> _Kind | None:
        """Return the kind of a request, if one like it has been seen leaving through the client of now."""
        if self._taught_by is not self._client:
            return None
        return next((kind for kind in self._kinds[operation] if _alike(kind.options, options)), None)

    @contextmanager
    def _taught(self, operation: str, kind: _Kind | None, key: str, options: WriteOptions | None) -> Iterator[None]:
        """Look at the request that leaves in this block, unless its kind is known."""
        if kind is not None or len(self._kinds[operation]) >= _KINDS:
            yield
            return
        client = self._listen()
        seen: list[tuple[str, dict[str, str]]] = []
        self._slot.seen = seen
        try:
            yield
        finally:
            self._slot.seen = None
        if client is self._client and seen:  # else a signed client has taken its place meanwhile
            self._learn(operation, key, options, *seen[-1])

    def _listen(self) -> Any:
        with self._learning:
            client = self._client
            if self._taught_by is not client:
                self._kinds = {operation: [] for operation in self._kinds}
                for operation in self._kinds:
                    client.meta.events.register(f"before-send.s3.{operation}", self._see)
                self._taught_by = client
        return client

    def _see(self, request: Any, **_: Any) -> None:
        seen = getattr(self._slot, "seen", None)
        if seen is not None:
            seen.append((request.url, _texts(request.headers)))

    def _learn(
        self, operation: str, key: str, options: WriteOptions | None, url: str, headers: Mapping[str, str]
    ) -> None:
        kind = _Kind(options, sample_of(url, headers, key), self._client, self.bucket)
        with self._learning:
            if self._taught_by is self._client and not any(_alike(k.options, options) for k in self._kinds[operation]):
                self._kinds[operation].append(kind)


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


def _version(version: str | None) -> str | None:
    return None if version == "null" else version


def _texts(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value.decode() for name, value in headers.items()}


def _described(headers: Mapping[str, str], data: bytes) -> ObjectInfo:
    modified = headers.get("last-modified")
    return info_of(
        {
            "ContentLength": len(data),
            "ETag": headers.get("etag"),
            "VersionId": headers.get("x-amz-version-id"),
            "ContentType": headers.get("content-type"),
            "LastModified": parsedate_to_datetime(modified) if modified else None,
        }
    )
