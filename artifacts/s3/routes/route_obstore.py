"""Small requests through obstore, which spends a tenth of the CPU time and lets go of the interpreter lock meanwhile.

It is told what a ``RequestTemplate`` shows, and used for nothing that it could not express. It signs every body and has
the server check its SHA-256. It never tries twice: what does not succeed at once is repeated on the ordinary way, so
that retries and errors are botocore's and ours alone.

Where it is not used, because there it would wait without an end or without listening: in the main thread (its calls
do not let Python's signal handlers run), in a process that was forked off one which loaded it (its threads stay
behind), and where it was loaded before this module needed it: whether, and in which process, somebody else has used it
cannot be known. A process that imports obstore itself and wants this route too lets stepout come first.

It follows redirects, up to ten of them, wherever they lead, and has no switch for that (0.12; botocore follows none but
S3's own to another region). Where TLS was asked for it goes nowhere without; to another host it takes the session token
along, not the signature. So a server that redirects chooses whose answer counts as its own. It could as well have given
that answer itself, and the token and the bytes of a write it has already; what is read is held against the pointer's
checksum. Reads that are not hashed (``verify="pinned"``) do not come this way (``reading.pinned_object``).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

from stepout.artifacts.s3.internals import credentials_of, trusts_the_usual
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.routes.small_requests import NoPlainSuccessError, not_plain, own_answer
from stepout.artifacts.s3.signing import server_clock_of
from stepout.artifacts.store import Arrived, ObjectInfo
from stepout.artifacts.store_writes import Written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.s3.routes.request_template import LearnedRequest, RequestTemplate
    from stepout.artifacts.s3.routes.small_requests import SmallBody
    from stepout.artifacts.s3.server_clock import ServerClock
    from stepout.artifacts.store import Download

_CONNECT: Final = timedelta(seconds=20)
_WHOLE: Final = timedelta(seconds=30)

_SILENT: Final = frozenset({"user-agent", "if-none-match", "accept", "accept-encoding", "connection"})
_ENCRYPTION: Final = {
    "x-amz-server-side-encryption": "server_side_encryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "sse_kms_key_id",
    "x-amz-server-side-encryption-bucket-key-enabled": "sse_bucket_key_enabled",
}
_STATUS: Final = re.compile(r"status code: (\d{3})")
_METADATA: Final = "x-amz-meta-"

# obstore keeps metadata and headers in one namespace: metadata of these names would become the header.
_ATTRIBUTE_NAMES: Final = frozenset(
    {"cachecontrol", "contentdisposition", "contentencoding", "contentlanguage", "contenttype", "storageclass"}
)

# obstore reads these, botocore does not (or reads them otherwise), and a store cannot be told to forget them.
_ITS_OWN_VARIABLES: Final = (
    "AWS_ALLOW_INVALID_CERTIFICATES",
    "AWS_CONDITIONAL_PUT",
    "AWS_DEFAULT_CONTENT_TYPE",
    "AWS_DISABLE_TAGGING",
    "AWS_PROXY_CA_CERTIFICATE",
    "AWS_PROXY_EXCLUDES",
    "AWS_PROXY_URL",
    "AWS_S3_EXPRESS",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_SSE_KMS_KEY_ID",
)


# Filled once, and kept by forks. A dict, because two threads that ask at once must get one answer.
_HOME: Final[dict[str, int]] = {}


def _home() -> int:
    """Return the process in which obstore was first needed here; 0 if somebody else had loaded it by then."""
    others = sys.modules.get("obstore") is not None
    _HOME.setdefault("main thread", threading.main_thread().ident or 0)
    return _HOME.setdefault("home", 0 if others else os.getpid())


def own_obstore() -> Any:
    """Return the module ``obstore`` if nobody else, and no process before a fork, has loaded it; else ``None``."""
    if _home() != os.getpid():
        return None
    try:
        import obstore
    except ImportError:
        return None
    return obstore


def may_wait_here() -> bool:
    """Say whether a call into obstore from this thread would return, and keep no signal waiting."""
    # The main thread of that process stays the same. Every small request asks, so nothing is called that need not be.
    home = _HOME.get("home") or _home()
    return home == os.getpid() and _HOME["main thread"] != threading.get_ident()


class ObstoreRoute:
    """Sends what is like a request that was learned, off the main thread; see ``SmallRequests``.

    Args:
        bucket: The bucket's name.
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._buckets: dict[LearnedRequest, ObstoreBucket | None] = {}
        # Never taken in the main thread, so no signal's handler waits for it, nor by a fork's child.
        self._making = threading.Lock()

    def put(self, known: LearnedRequest, key: str, body: SmallBody, *, media_type: str) -> Written | None:
        """Store a whole object; see ``SmallRequests.put``."""
        target = self._bucket_for(known) if may_wait_here() else None
        if target is None or target.clock.offset:  # it signs with this machine's time
            return None
        # obstore computes the checksum that the server checks by itself: it has to be that of the same bytes. What is
        # not bytes may have been changed since it was hashed; the ordinary way sends the checksum that was computed.
        if not body.unchanged and hashlib.sha256(body.data).hexdigest() != body.sha256:
            return None
        try:
            return target.put(key, body.data, media_type=media_type)
        except Exception as error:
            _tell_slow_down(error)
            raise

    def get(self, known: LearnedRequest, key: str, *, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object; see ``SmallRequests.get``."""
        target = self._bucket_for(known) if may_wait_here() else None
        if target is None or target.clock.offset:
            return None
        try:
            found = target.get(key, version_id=version_id, if_match=if_match, limit=SMALL)
        except Exception as error:
            _tell_slow_down(error)
            raise
        return own_answer(found, version_id=version_id, if_match=if_match)

    def _bucket_for(self, known: LearnedRequest) -> ObstoreBucket | None:
        """Return the bucket as obstore reaches it for requests like one that was learned; made once for each kind.

        That takes as long as a hundred requests. While one thread does it the others have nothing to wait for: they
        get ``None``, as if there were no such route.
        """
        if known in self._buckets:
            return self._buckets[known]
        if not self._making.acquire(blocking=False):
            return None
        try:
            if known not in self._buckets:
                template = known.template()
                made = None if template is None else obstore_bucket(template, known.client, self._bucket)
                self._buckets[known] = made
            return self._buckets[known]
        finally:
            self._making.release()


def _tell_slow_down(error: Exception) -> None:
    """Tell an answer that asks for fewer requests from other errors of obstore's, which says it in words only."""
    if (status := _STATUS.search(text := str(error))) is not None:
        raise not_plain(int(status[1]), text) from error


def obstore_bucket(
    template: RequestTemplate, client: Any, bucket: str, *, environ: Mapping[str, str] | None = None
) -> ObstoreBucket | None:
    """Return a bucket as obstore reaches it, for requests like ``template``.

    Args:
        template: What all requests have in common.
        client: The boto3 client that made it.
        bucket: The bucket's name.
        environ: ``None``: ``os.environ``.

    Returns:
        ``None`` where obstore is missing or not to be used, or cannot do everything that the template does.
    """
    found = os.environ if environ is None else environ
    place = _place(template.base, bucket)
    attributes = _attributes(template.headers)
    credentials = credentials_of(client)
    if place is None or attributes is None or credentials is None or not _goes_straight(client, template):
        return None
    if any(found.get(name) for name in _ITS_OWN_VARIABLES):
        return None
    obstore = own_obstore()
    if obstore is None:
        return None
    clock = server_clock_of(client)
    reached = ObstoreBucket(obstore, template, credentials, clock, bucket, place, attributes)
    return reached if reached.works() else None


def _goes_straight(client: Any, template: RequestTemplate) -> bool:
    """Say whether requests go to S3 itself, over TLS that trusts the usual certificates.

    A client's own certificates are trusted instead of the usual ones; obstore would trust them beside those.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(template.base)
    if parts.scheme == "https" and not trusts_the_usual(client):
        return False
    # obstore follows ALL_PROXY too, which botocore does not.
    proxied = {parts.scheme, "all"} & set(getproxies())
    # botocore asks with the port, and with an IPv6 address in brackets; what stands in NO_PROXY must mean the same.
    return not proxied or all(map(proxy_bypass, (parts.netloc, parts.hostname or "")))


def _place(base: str, bucket: str) -> dict[str, Any] | None:
    """Say where the bucket is in obstore's words: by path, or by host name."""
    parts = urlsplit(base)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.path == f"/{bucket}/":
        return {"endpoint": origin, "aws_endpoint_url_s3": origin, "virtual_hosted_style_request": False}
    if parts.path == "/" and parts.netloc.startswith(f"{bucket}."):
        return {"endpoint": origin, "aws_endpoint_url_s3": origin, "virtual_hosted_style_request": True}
    return None


def _attributes(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """Sort a template's headers into obstore's words; ``None`` if there are none for one of them."""
    config: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    tags: dict[str, str] = {}
    for name, value in headers.items():
        if name in _ENCRYPTION:
            config[_ENCRYPTION[name]] = value == "true" if name.endswith("enabled") else value
        elif name.startswith(_METADATA):
            bare = name.removeprefix(_METADATA)
            if bare.lower().replace("-", "").replace("_", "") in _ATTRIBUTE_NAMES:
                return None
            attributes[bare] = value
        elif name == "x-amz-storage-class":
            attributes["Storage-Class"] = value
        elif name == "x-amz-tagging":
            tags = dict(parse_qsl(value, keep_blank_values=True))
        elif name not in _SILENT:
            return None
    return {"config": config, "attributes": attributes, "tags": tags or None}


class ObstoreBucket:
    """One bucket as obstore reaches it; whatever is not a plain success is an exception.

    Args:
        library: The module ``obstore``.
        template: What all requests have in common.
        credentials: botocore's: asked before each request, and a store is made anew when they have changed.
        clock: What time it is at the server. Requests are signed with this machine's.
        bucket: The bucket's name.
        place: Where it is.
        attributes: What rides along with each write.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place
        self,
        library: Any,
        template: RequestTemplate,
        credentials: Any,
        clock: ServerClock,
        bucket: str,
        place: Any,
        attributes: Any,
    ) -> None:
        self._library, self._template, self._credentials = library, template, credentials
        self._bucket, self._place, self._attributes = bucket, place, attributes
        self.clock = clock
        self._mode = "create" if template.headers.get("if-none-match") == "*" else "overwrite"
        self._made: tuple[Any, Any] | None = None

    def works(self) -> bool:
        """Say whether this version of obstore takes the configuration."""
        try:
            self._store()
        except Exception:  # noqa: BLE001 - whatever another version raises, the ordinary way is there
            return False
        return True

    def put(self, key: str, data: bytes, *, media_type: str) -> Written:
        """Store an object; obstore raises where the answer has no ETag."""
        done = self._library.put(
            self._store(),
            key,
            data,
            attributes={**self._attributes["attributes"], "Content-Type": media_type},
            tags=self._attributes["tags"],
            mode=self._mode,
            use_multipart=False,
        )
        if not done["e_tag"]:
            raise NoPlainSuccessError("no ETag")
        return Written(etag=done["e_tag"], version_id=_version(done["version"]))

    def get(self, key: str, *, version_id: str | None, if_match: str | None, limit: int) -> Arrived:
        """Return an object of at most ``limit`` bytes, whole."""
        options = {} if if_match is None else {"if_match": if_match}
        if version_id is not None:
            options["version"] = version_id
        answer = self._library.get(self._store(), key, options=options or None)
        meta = answer.meta
        if meta["size"] > limit:
            raise NoPlainSuccessError("larger than the limit")
        data = memoryview(answer.bytes())
        attributes = answer.attributes
        info = ObjectInfo(
            size=meta["size"],
            etag=meta["e_tag"],
            version_id=_version(meta["version"]),
            media_type=attributes.get("Content-Type"),
            last_modified=meta["last_modified"].isoformat(),
        )
        if len(data) != info.size:
            raise NoPlainSuccessError("another size than announced")
        return Arrived(info, data)

    def _store(self) -> Any:
        frozen = self._credentials.get_frozen_credentials()
        made = self._made
        if made is None or made[0] != frozen:
            self._made = made = (frozen, self._make(frozen))
        return made[1]

    def _make(self, frozen: Any) -> Any:
        from obstore.store import S3Store

        secret = {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": None,
        }
        return S3Store(
            self._bucket,
            region=self._template.region,
            checksum_algorithm="sha256",
            skip_signature=False,
            unsigned_payload=False,
            request_payer=False,
            client_options={
                "allow_http": self._template.base.startswith("http:"),
                "connect_timeout": _CONNECT,
                "timeout": _WHOLE,
                "user_agent": self._template.headers.get("user-agent", "stepout"),
            },
            retry_config={"max_retries": 0},
            **self._place,
            **self._attributes["config"],
            credential_provider=cast("Any", lambda: secret),  # the variables of the environment are not read then
        )


def _version(version: str | None) -> str | None:
    return None if version == "null" else version
