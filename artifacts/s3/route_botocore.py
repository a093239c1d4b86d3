"""Small requests over botocore's own connections, with its own signature, but without its models.

A ``put_object`` costs botocore a millisecond, of which signing and sending are a third: the rest is choosing an
endpoint, serializing, events and parsing. Here a request is made after a ``RequestTemplate``, signed by
``botocore.auth.S3SigV4Auth`` with the client's credentials, frozen anew each time (so that rotation stays botocore's),
and sent by the client's HTTP session (so that TLS, proxies, timeouts and the pool of connections do too).

Private members of a client are needed for that (``internals``). Where a version of botocore has none, or signs
otherwise than the request that was learned from, this route takes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stepout.artifacts.checksums import to_base64
from stepout.artifacts.s3.internals import credentials_of, http_session, signer_at
from stepout.artifacts.s3.request_bodies import SMALL
from stepout.artifacts.s3.request_template import scope_of
from stepout.artifacts.s3.signing import server_clock_of
from stepout.artifacts.s3.small_requests import ForeignAnswerError, NoPlainSuccessError, own_answer
from stepout.artifacts.store import Arrived

if TYPE_CHECKING:
    from stepout.artifacts.s3.request_template import LearnedRequest, RequestTemplate
    from stepout.artifacts.s3.small_requests import SmallBody
    from stepout.artifacts.store import Download, Written

_OK = 200
_TRIAL = "0" * 64

Answer = tuple["dict[str, str]", bytes]
"""The headers of an answer, by lower-case name, and its whole body."""


class BotocoreRoute:
    """Sends what is like a request that was learned; see ``SmallRequests``.

    Modules that a cold read does without are imported where they are used: by then the ordinary way has loaded them.
    """

    in_main_thread = True

    def __init__(self) -> None:
        self._senders: dict[LearnedRequest, TemplatedRequests | None] = {}

    def put(self, known: LearnedRequest, key: str, body: SmallBody, *, media_type: str) -> Written | None:
        """Store a whole object; see ``SmallRequests.put``."""
        from stepout.artifacts.s3.answers import written_of
        from stepout.artifacts.s3.correlation import foreign_put, is_md5_of

        sender = self._sender(known)
        if sender is None:
            return None
        checksum = to_base64(body.sha256)
        headers = sender.put(key, body.data, checksum=checksum, media_type=media_type)
        names = {"ETag": "etag", "VersionId": "x-amz-version-id", "ChecksumSHA256": "x-amz-checksum-sha256"}
        answer = {member: headers.get(name) for member, name in names.items()}
        if answer["ChecksumSHA256"] == checksum:
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
        if sender is None:
            return None
        headers, data = sender.get(key, version_id=version_id, if_match=if_match, limit=SMALL)
        found = Arrived(info_of_headers(headers, len(data)), memoryview(data))
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
        ``None`` unless this botocore has what is needed, and signs here just as the template was signed.
    """
    send = getattr(http_session(client), "send", None)
    credentials = credentials_of(client)
    if not callable(send) or credentials is None:
        return None
    from botocore.auth import S3SigV4Auth

    signer = signer_at(S3SigV4Auth, server_clock_of(client).now)
    found = TemplatedRequests(template, send, credentials, client.meta.config, signer)
    return found if found.signs_alike() else None


class TemplatedRequests:
    """Makes, signs and sends single requests; whatever is not a plain success is an exception.

    Args:
        template: What all requests have in common.
        send: Sends a prepared request of botocore.
        credentials: botocore's.
        config: The client's.
        signer: The class of what signs.
    """

    def __init__(self, template: RequestTemplate, send: Any, credentials: Any, config: Any, signer: Any) -> None:
        self._template, self._send, self._credentials, self._config = template, send, credentials, config
        self._signer = signer

    def put(self, key: str, data: bytes, *, checksum: str, media_type: str) -> dict[str, str]:
        """Store an object, whose SHA-256 is given in base64; return the headers of a plain 200 with an ETag."""
        extra = {"content-type": media_type, "x-amz-checksum-sha256": checksum}
        response = self._send(self._signed("PUT", key, extra, data).prepare())
        headers = _lower(response.headers) if response.status_code == _OK and not response.content else {}
        if not headers.get("etag"):
            raise NoPlainSuccessError(response.status_code)
        return headers

    def get(self, key: str, *, version_id: str | None, if_match: str | None, limit: int) -> Answer:
        """Return an object of at most ``limit`` bytes, whole."""
        extra = {} if if_match is None else {"if-match": if_match}
        query = "" if version_id is None else f"?versionId={quote(version_id, safe='')}"
        response = self._send(self._signed("GET", key + query, extra, None).prepare())
        body = response.raw
        try:
            headers = _lower(response.headers)
            length = headers.get("content-length", "")
            plain = response.status_code == _OK and length.isdigit() and int(length) <= limit
            data = body.read() if plain else b""
        except BaseException:
            body.close()
            raise
        if not plain:
            body.close()  # unread: the connection cannot carry another request
        if not plain or len(data) != int(length):
            raise NoPlainSuccessError(response.status_code)
        return headers, data

    def signs_alike(self) -> bool:
        """Say whether a request made here bears the same kind of signature as the template."""
        template = self._template
        extra = {"x-amz-checksum-sha256": _TRIAL} if "x-amz-checksum-sha256" in template.signed else {}
        extra.update({name: "x" for name in ("content-type", "if-match") if name in template.signed})
        headers = _lower(self._signed("GET" if not extra else "PUT", "trial", extra, b"").headers)
        payload_signed = headers.get("x-amz-content-sha256") != "UNSIGNED-PAYLOAD"
        expected = (template.access_key, template.region, template.service, template.signed)
        return scope_of(headers.get("authorization", "")) == expected and payload_signed == template.payload_signed

    def _signed(self, method: str, rest: str, extra: dict[str, str], data: bytes | None) -> Any:
        from botocore.awsrequest import AWSRequest

        template = self._template
        request = AWSRequest(
            method=method,
            url=template.base + rest,
            headers={**template.headers, **extra},
            data=data,
            stream_output=not data,
        )
        request.context["client_config"] = self._config
        frozen = self._credentials.get_frozen_credentials()
        self._signer(frozen, template.service, template.region).add_auth(request)
        return request


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): value if isinstance(value, str) else value.decode() for name, value in headers.items()}
