"""Small requests over botocore's own connections, with its own signature, but without its models.

A ``put_object`` costs botocore a millisecond, of which signing and sending are a third: the rest is choosing an
endpoint, serializing, events and parsing. Here a request is made after a ``RequestTemplate``, signed by
``botocore.auth.S3SigV4Auth`` with the client's credentials, frozen anew each time (so that rotation stays botocore's),
and sent by the client's HTTP session (so that TLS, proxies, timeouts and the pool of connections do too).

Two members of a client that are not public are needed for that. Where a version of botocore has none, or signs
otherwise than the sample, there is no route, and the ordinary way is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stepout.artifacts.checksums import to_base64
from stepout.artifacts.s3.request_template import scope_of

if TYPE_CHECKING:
    from stepout.artifacts.s3.request_template import RequestTemplate

_OK = 200
_TRIAL = "0" * 64

Answer = tuple["dict[str, str]", bytes]
"""The headers of an answer, by lower-case name, and its whole body."""


def credentials_of(client: Any) -> Any:
    """Return what a client signs with, refreshed as botocore does; ``None`` where this botocore keeps it elsewhere."""
    found = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    return found if callable(getattr(found, "get_frozen_credentials", None)) else None


def light_route(client: Any, sample: RequestTemplate) -> BotocoreRoute | None:
    """Return the light route for requests like ``sample``.

    Returns:
        ``None`` unless this botocore has what the route needs, and the route signs just as the sample was signed.
    """
    send = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "send", None)
    credentials = credentials_of(client)
    if not callable(send) or credentials is None:
        return None
    route = BotocoreRoute(sample, send, credentials, client.meta.config)
    return route if route.signs_alike() else None


class BotocoreRoute:
    """Sends single requests; whatever is not a plain success is ``None`` or an exception, and for others to repeat.

    Args:
        sample: What all requests have in common.
        send: Sends a prepared request of botocore.
        credentials: botocore's.
        config: The client's.
    """

    def __init__(self, sample: RequestTemplate, send: Any, credentials: Any, config: Any) -> None:
        self._sample, self._send, self._credentials, self._config = sample, send, credentials, config

    def put(self, key: str, data: bytes, *, sha256: str, media_type: str) -> dict[str, str] | None:
        """Store an object; return the answer's headers, or ``None`` if it is not a plain 200 with an ETag."""
        extra = {"content-type": media_type, "x-amz-checksum-sha256": to_base64(sha256)}
        response = self._send(self._signed("PUT", key, extra, data).prepare())
        headers = _lower(response.headers) if response.status_code == _OK and not response.content else {}
        return headers if headers.get("etag") else None

    def get(self, key: str, *, version_id: str | None, if_match: str | None, limit: int) -> Answer | None:
        """Return an object of at most ``limit`` bytes, whole, or ``None``."""
        extra = {} if if_match is None else {"if-match": if_match}
        query = "" if version_id is None else f"?versionId={quote(version_id, safe='')}"
        response = self._send(self._signed("GET", key + query, extra, None).prepare())
        body = response.raw
        try:
            headers = _lower(response.headers)
            length = headers.get("content-length", "")
            if response.status_code != _OK or not length.isdigit() or int(length) > limit:
                body.close()
                return None
            data = body.read()
        except BaseException:
            body.close()
            raise
        return (headers, data) if len(data) == int(length) else None

    def signs_alike(self) -> bool:
        """Say whether a request made here bears the same kind of signature as the sample."""
        sample = self._sample
        extra = {"x-amz-checksum-sha256": _TRIAL} if "x-amz-checksum-sha256" in sample.signed else {}
        extra.update({name: "x" for name in ("content-type", "if-match") if name in sample.signed})
        headers = _lower(self._signed("GET" if not extra else "PUT", "trial", extra, b"").headers)
        payload_signed = headers.get("x-amz-content-sha256") != "UNSIGNED-PAYLOAD"
        expected = (sample.access_key, sample.region, sample.service, sample.signed)
        return scope_of(headers.get("authorization", "")) == expected and payload_signed == sample.payload_signed

    def _signed(self, method: str, rest: str, extra: dict[str, str], data: bytes | None) -> Any:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        sample = self._sample
        request = AWSRequest(
            method=method,
            url=sample.base + rest,
            headers={**sample.headers, **extra},
            data=data,
            stream_output=not data,
        )
        request.context["client_config"] = self._config
        frozen = self._credentials.get_frozen_credentials()
        S3SigV4Auth(frozen, sample.service, sample.region).add_auth(request)
        return request


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): value if isinstance(value, str) else value.decode() for name, value in headers.items()}
