"""Small requests over botocore's own connections, without its models, its requests and urllib3's.

A ``put_object`` costs botocore a millisecond: choosing an endpoint, serializing, events, objects for the request and
its headers, parsing. Here a request is made after a ``RequestTemplate``, signed by ``signature`` with the client's
credentials, frozen anew each time (so that rotation stays botocore's), and exchanged for its answer (``http_exchange``)
on a connection of the client's pool. So TLS, what it trusts, tunnels through proxies, connect timeouts and the pool's
size are botocore's, and a connection that the server has closed meanwhile is opened anew before anything is sent.

A connection on which no whole answer came is closed. Over plain HTTP through a proxy, which is asked in another form,
this route takes nothing.

Private members of a client are needed for that (``internals``). Where a version of botocore has none, or signs
otherwise than the request that was learned from, this route takes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from stepout.artifacts.checksums import to_base64
from stepout.artifacts.s3.internals import PoolFinder, connect, credentials_of, give_back, take_connection
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.routes.http_exchange import request_head
from stepout.artifacts.s3.routes.request_template import scope_of
from stepout.artifacts.s3.routes.signature import EMPTY_SHA256, UNSIGNED_PAYLOAD, RequestSigner
from stepout.artifacts.s3.routes.small_requests import ForeignAnswerError, not_plain, own_answer
from stepout.artifacts.s3.signing import server_clock_of
from stepout.artifacts.store import Arrived

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.s3.routes.http_exchange import HttpAnswer
    from stepout.artifacts.s3.routes.request_template import LearnedRequest, RequestTemplate
    from stepout.artifacts.s3.routes.small_requests import NoPlainSuccessError, SmallBody
    from stepout.artifacts.s3.server_clock import ServerClock
    from stepout.artifacts.store import Download
    from stepout.artifacts.store_writes import Written

_OK: Final = 200

_LONGEST_ERROR: Final = 1 << 16
"""Bytes of an answer to a write that are read: errors have a few hundred."""

_CHANGING: Final[tuple[str, ...]] = ("content-type", "if-match", "x-amz-checksum-sha256")


class BotocoreRoute:
    """Sends what is like a request that was learned; see ``SmallRequests``.

    Modules that a cold read does without are imported where they are used: by then the ordinary way has loaded them.
    """

    def __init__(self) -> None:
        self._senders: dict[LearnedRequest, TemplatedRequests | None] = {}

    def put(self, known: LearnedRequest, key: str, body: SmallBody, *, media_type: str) -> Written | None:
        """Store a whole object; see ``SmallRequests.put``."""
        from stepout.artifacts.s3.answers import written_of
        from stepout.artifacts.s3.correlation import foreign_put, is_md5_of

        sender = self._sender(known)
        headers = None if sender is None else sender.put(key, body, media_type=media_type)
        if headers is None:
            return None
        names = {"ETag": "etag", "VersionId": "x-amz-version-id", "ChecksumSHA256": "x-amz-checksum-sha256"}
        answer = {member: headers.get(name) for member, name in names.items()}
        if answer["ChecksumSHA256"] == to_base64(body.sha256):
            return written_of(answer)
        why = foreign_put(answer, checksum={"sha256": body.sha256})
        # The connections are the client's, on which other requests' answers may arrive. The MD5 is only computed where
        # the server repeats no checksum, which tells the same for nothing.
        unsure = why is None and known.etags_are_md5 and not answer["ChecksumSHA256"]
        if unsure and not is_md5_of(answer["ETag"], (memoryview(body.data),)):
            why = "its ETag is not the MD5 of what was sent"
        if why is not None:
            raise ForeignAnswerError(why)
        return written_of(answer)

    def get(self, known: LearnedRequest, key: str, *, version_id: str | None, if_match: str | None) -> Download | None:
        """Open a whole object; see ``SmallRequests.get``."""
        from stepout.artifacts.s3.answers import info_of_headers

        sender = self._sender(known)
        answer = None if sender is None else sender.get(key, version_id=version_id, if_match=if_match, limit=SMALL)
        if answer is None:
            return None
        found = Arrived(info_of_headers(answer.headers, len(answer.body)), answer.body)
        return own_answer(found, version_id=version_id, if_match=if_match)

    def _sender(self, known: LearnedRequest) -> TemplatedRequests | None:
        """Return what sends requests like one that was learned; made once, as trying its signature takes a while."""
        if known not in self._senders:
            template = known.template()
            self._senders[known] = None if template is None else templated_requests(known.client, template)
        return self._senders[known]


def templated_requests(client: Any, template: RequestTemplate) -> TemplatedRequests | None:
    """Return what sends requests like ``template`` through a client.

    Returns:
        ``None`` unless this botocore has what is needed, and signs just as this module does.
    """
    from stepout.artifacts.s3.connections.pools import is_own

    credentials = credentials_of(client)
    finder = PoolFinder(client, template.base)
    if credentials is None or not is_own(finder.pool()):
        return None
    config = client.meta.config
    patience = float(config.connect_timeout or 0) + float(config.read_timeout or 0)
    found = TemplatedRequests(template, credentials, finder, server_clock_of(client), patience)
    return found if found.signs_alike() else None


class TemplatedRequests:
    """Makes, signs and sends single requests; whatever is not a plain success is an exception.

    Args:
        template: What all requests have in common.
        credentials: botocore's.
        finder: Of the pool whose connections they take.
        clock: What time it is at the server.
        patience: Seconds that a request may take.
    """

    def __init__(
        self, template: RequestTemplate, credentials: Any, finder: PoolFinder, clock: ServerClock, patience: float
    ) -> None:
        self._template, self._credentials, self._finder = template, credentials, finder
        self._clock, self._patience = clock, patience
        parts = urlsplit(template.base)
        self._path = parts.path
        self._constant = {**template.headers, "host": _host_of(parts.scheme, parts.hostname or "", parts.port)}
        self._signer = RequestSigner(template.region, template.service)

    def put(self, key: str, body: SmallBody, *, media_type: str) -> dict[str, str] | None:
        """Store an object; return the headers of a plain 200 with an ETag, or ``None`` if nothing was sent."""
        changing = {"content-type": media_type, "x-amz-checksum-sha256": to_base64(body.sha256)}
        head = self._head("PUT", key, "", changing, body.sha256, len(body.data))
        answer = self._exchanged("PUT", head + body.data, _LONGEST_ERROR)
        if answer is None:
            return None
        if answer.body or not answer.headers.get("etag"):
            raise _not_plain(answer)
        return answer.headers

    def get(self, key: str, *, version_id: str | None, if_match: str | None, limit: int) -> HttpAnswer | None:
        """Return an object of at most ``limit`` bytes, whole; ``None`` if nothing was sent."""
        changing = {} if if_match is None else {"if-match": if_match}
        query = "" if version_id is None else f"versionId={quote(version_id, safe='')}"
        return self._exchanged("GET", self._head("GET", key, query, changing, EMPTY_SHA256, None), limit)

    def signs_alike(self) -> bool:
        """Say whether a request made here bears the same kind of signature as the template."""
        template = self._template
        changing = {name: "x" for name in _CHANGING if name in template.signed}
        headers = self._signed("PUT" if changing else "GET", f"{self._path}trial", "", changing, EMPTY_SHA256)
        expected = (template.access_key, template.region, template.service, template.signed)
        return scope_of(headers["authorization"]) == expected

    def _head(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, method: str, key: str, query: str, changing: Mapping[str, str], sha256: str, size: int | None
    ) -> bytes:
        path = self._path + key
        headers = self._signed(method, path, query, changing, sha256)
        # As http.client says it: compressed, a body would have another checksum.
        headers["accept-encoding"] = "identity"
        if size is not None:
            headers["content-length"] = str(size)
        return request_head(method, f"{path}?{query}" if query else path, headers)

    def _signed(self, method: str, path: str, query: str, changing: Mapping[str, str], sha256: str) -> dict[str, str]:
        return self._signer.sign(
            self._credentials.get_frozen_credentials(),
            method=method,
            path=path,
            query=query,
            headers={**self._constant, **changing},
            payload=sha256 if self._template.payload_signed else UNSIGNED_PAYLOAD,
            moment=self._clock.now().timestamp(),
        )

    def _exchanged(self, method: str, request: bytes, limit: int) -> HttpAnswer | None:
        """Return a 200; ``None`` if nothing was sent."""
        pool = self._finder.pool()
        connection = None if pool is None else take_connection(pool)
        if connection is None:
            return None
        answer: HttpAnswer | None = None
        try:
            connect(pool, connection)
            deadline = time.monotonic() + self._patience
            answer = connection.exchange(method, request, limit=limit, deadline=deadline)
        finally:
            if answer is None or not answer.reusable:  # also after a handler's exception: the answer may still come
                connection.close()
            give_back(pool, connection)
        if answer.status != _OK:
            raise _not_plain(answer)
        return answer


def _not_plain(answer: HttpAnswer) -> NoPlainSuccessError:
    return not_plain(answer.status, bytes(answer.body).decode(errors="replace"))


def _host_of(scheme: str, host: str, port: int | None) -> str:
    """Return the header, as botocore signs it."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port in {None, {"http": 80, "https": 443}.get(scheme)} else f"{shown}:{port}"
