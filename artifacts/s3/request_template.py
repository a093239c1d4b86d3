"""What is learned from one request that botocore made, so that others like it can be made without its models.

Endpoint, addressing, encryption, owner, tags and every other setting of client and store are in the request as it
leaves: nothing of botocore's configuration has to be understood, or guessed. ``template_of`` is a pure function of URL
and headers; ``LearnedRequests`` watches the requests of a client as they leave.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepout.artifacts.store import WriteOptions

Operation = Literal["PutObject", "GetObject"]

_KINDS: Final = 8
"""Kinds of one operation that are remembered: more different settings than any manager has."""

_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/[0-9]{8}/([^/,]+)/(s3)/aws4_request, SignedHeaders=([^,]+), Signature=\w+"
)
_OF_ONE_REQUEST: Final = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "content-type",
        "expect",
        "host",
        "if-match",
        "x-amz-checksum-sha256",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-trace-id",
    }
)
# What depends on the body in a way that is not ours, or frames it.
_FOREIGN: Final = ("content-md5", "content-encoding", "transfer-encoding", "x-amz-trailer", "x-amz-checksum-")


def is_plain_key(key: str) -> bool:
    """Say whether a key is the same in a URL, so that no two libraries can disagree on how to write it.

    >>> is_plain_key("runs/7f3c/0-ab12/features.parquet"), is_plain_key("größe"), is_plain_key("a/../b")
    (True, False, False)
    """
    return _PLAIN.fullmatch(key) is not None


@dataclass(frozen=True, kw_only=True)
class RequestTemplate:
    """What requests of one kind have in common.

    Attributes:
        base: The URL up to the key, which follows it at once.
        headers: Those that are the same in every request, by lower-case name.
        access_key: Whose signature it bore.
        region: The signature's region.
        service: The signature's service.
        signed: The names of the headers that were signed.
        payload_signed: Whether the signature covered the body.
    """

    base: str
    headers: Mapping[str, str]
    access_key: str
    region: str
    service: str
    signed: frozenset[str]
    payload_signed: bool


def scope_of(authorization: str) -> tuple[str, str, str, frozenset[str]] | None:
    """Read access key, region, service and signed headers of a Signature Version 4; ``None`` for any other."""
    match = _AUTHORIZATION.fullmatch(authorization)
    return (match[1], match[2], match[3], frozenset(match[4].split(";"))) if match else None


def template_of(url: str, headers: Mapping[str, str], key: str) -> RequestTemplate | None:
    """Learn from a request as it was sent.

    Args:
        url: Whole.
        headers: All of them, by any case of name.
        key: The object's, plain.

    Returns:
        The template; ``None`` where requests like it cannot be made from it: signed in another way (S3 Express, several
        regions, not at all), or a body in another frame.
    """
    found = {name.lower(): value for name, value in headers.items()}
    scope = scope_of(found.get("authorization", ""))
    path = url.partition("?")[0]
    constant = {name: value for name, value in found.items() if name not in _OF_ONE_REQUEST}
    if scope is None or not path.endswith(f"/{key}") or any(name.startswith(_FOREIGN) for name in constant):
        return None
    return RequestTemplate(
        base=path[: -len(key)],
        headers=constant,
        access_key=scope[0],
        region=scope[1],
        service=scope[2],
        signed=scope[3],
        payload_signed=found.get("x-amz-content-sha256") != "UNSIGNED-PAYLOAD",
    )


@dataclass(eq=False)
class LearnedRequest:
    """Requests that differ in key, body and media type only.

    Attributes:
        options: Those of a write; ``None`` for a read.
        template: ``None`` where requests like the one that was seen cannot be made from it.
        client: Whose request it was.
        etags_are_md5: Whether the one that was seen got the MD5 of its body for an ETag, as without KMS.
    """

    options: WriteOptions | None
    template: RequestTemplate | None
    client: Any
    etags_are_md5: bool = False


class LearnedRequests:
    """What the requests of one store look like as they leave its client; for any thread.

    The client may be another one later: signed, or a forked child's own. What was learned from the one before is
    forgotten then, since endpoint and credentials may differ.
    """

    def __init__(self) -> None:
        self._taught_by: Any = None
        self._known: dict[Operation, list[LearnedRequest]] = {"PutObject": [], "GetObject": []}
        self._lock = threading.Lock()
        # Of each thread: several requests may leave through one client at once, and each watcher wants its own.
        self._seen = threading.local()

    def renew(self) -> None:
        """In a forked child, take a new lock; what is known is the parent's client's, and is forgotten by itself."""
        self._lock = threading.Lock()

    def find(self, client: Any, operation: Operation, options: WriteOptions | None) -> LearnedRequest | None:
        """Return what is known of requests like this one, if one has been seen leaving through the client of now."""
        if self._taught_by is not client:
            return None
        return next((known for known in self._known[operation] if _alike(known.options, options)), None)

    @contextmanager
    def watching(
        self, client: Any, operation: Operation, key: str, options: WriteOptions | None
    ) -> Iterator[list[LearnedRequest]]:
        """Learn from the request that leaves in this block, unless one like it is known, or many others are.

        Yields:
            A list that holds what was learned, if anything was, once the block has ended.
        """
        learned: list[LearnedRequest] = []
        self._listen(client)
        if self.find(client, operation, options) is not None or len(self._known[operation]) >= _KINDS:
            yield learned
            return
        seen: list[tuple[str, dict[str, str]]] = []
        self._seen.requests = seen
        try:
            yield learned
        finally:
            self._seen.requests = None
        # The last: botocore may have sent it again, to another region.
        if seen:
            url, headers = seen[-1]
            learned.append(LearnedRequest(options, template_of(url, headers, key), client))
            self._remember(operation, learned[0])

    def _listen(self, client: Any) -> None:
        if self._taught_by is client:
            return
        with self._lock:
            if self._taught_by is not client:
                self._known = {operation: [] for operation in self._known}
                for operation in self._known:
                    client.meta.events.register(f"before-send.s3.{operation}", self._see)
                self._taught_by = client

    def _see(self, request: Any, **_: Any) -> None:
        seen = getattr(self._seen, "requests", None)  # a thread that watches nothing has no such attribute
        if seen is not None:
            seen.append((request.url, _texts(request.headers)))

    def _remember(self, operation: Operation, found: LearnedRequest) -> None:
        with self._lock:
            known = self._known[operation]
            if self._taught_by is found.client and not any(_alike(each.options, found.options) for each in known):
                known.append(found)


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


def _texts(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value.decode() for name, value in headers.items()}
