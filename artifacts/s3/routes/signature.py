"""Signature Version 4 of requests to S3, in the header, from values alone.

botocore's signer needs botocore, whose import takes most of a cold start, and objects of its own for every request.
Here a signature takes a few hashes: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. A
test holds it against ``botocore.auth.S3SigV4Auth``.

Not for S3 Express, several regions (SigV4a), bodies in chunks or presigned URLs.
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""Stands for the body's SHA-256 where TLS and a checksum protect the body already."""

EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The SHA-256 of no bytes."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
# What a proxy may change on the way, as in botocore.
_UNSIGNED: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)


class SigningCredentials(Protocol):
    """Credentials at one moment; those that botocore freezes are such."""

    @property
    def access_key(self) -> str:
        """The public part."""
        ...

    @property
    def secret_key(self) -> str:
        """The secret part."""
        ...

    @property
    def token(self) -> str | None:
        """The session's token; ``None`` for keys that do not expire."""
        ...


class _DayKey(NamedTuple):
    secret: str
    day: str
    key: bytes

    def __repr__(self) -> str:
        return f"_DayKey({self.day})"


class RequestSigner:
    """Signs requests to one service in one region; for any thread.

    Its key of the day is kept for as long as the secret is the same: deriving one takes four hashes more.

    Args:
        region: Of the signature, e.g. ``"eu-west-1"``.
        service: ``"s3"`` for buckets.
    """

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region, self._service = region, service
        # One value, replaced whole: threads that derive at once store the same, so no lock is needed.
        self._kept: _DayKey | None = None

    def sign(  # noqa: PLR0913 - keyword-only, each a part of the request
        self,
        credentials: SigningCredentials,
        *,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str],
        payload: str,
        moment: float,
    ) -> dict[str, str]:
        """Return the headers of a request with its signature.

        Args:
            credentials: Whose signature it is.
            method: E.g. ``"GET"``.
            path: As it stands in the request, so percent-encoded; S3 normalizes nothing.
            query: As it stands in the request, without the question mark.
            headers: By lower-case name, ``host`` among them. All are signed but those that proxies may change.
            payload: The body's SHA-256 (hex), or ``UNSIGNED_PAYLOAD``.
            moment: Seconds since 1970.

        Returns:
            ``headers`` and ``x-amz-date``, ``x-amz-content-sha256``, ``x-amz-security-token``, ``authorization``.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        found = {**headers, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        if credentials.token:
            found["x-amz-security-token"] = credentials.token
        signed = sorted(name for name in found if name not in _UNSIGNED)
        names = ";".join(signed)
        lines = "".join([f"{name}:{' '.join(found[name].split())}\n" for name in signed])
        canonical = f"{method}\n{path}\n{_canonical_query(query)}\n{lines}\n{names}\n{payload}"
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = self._key(credentials.secret_key, stamp[:8])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        found["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return found

    def _key(self, secret: str, day: str) -> bytes:
        kept = self._kept
        if kept is not None and kept.secret == secret and kept.day == day:
            return kept.key
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._kept = _DayKey(secret, day, key)
        return key


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join([f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs)])
