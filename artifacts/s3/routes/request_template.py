"""What is learned from one request that botocore made, so that others like it can be made without its models.

Endpoint, addressing, encryption, owner, tags and every other setting of client and store are in the request as it
leaves: nothing of botocore's configuration has to be understood, or guessed. Pure: ``fast_store`` watches the requests
of its client as they leave.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.artifacts.store_writes import WriteOptions
    from stepout.schemas.runtime.write_once import WriteOnce

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


@dataclass(eq=False, kw_only=True)
class LearnedRequest:
    """Requests that differ in key, body and media type only, and the one of them that was seen.

    Attributes:
        options: Those of a write; ``None`` for a read.
        client: Whose request it was.
        url: Where it went.
        headers: As it bore them.
        key: The object's.
        trial: What the process knows of the server's condition, where the write has one that is not taken on trust.
        etags_are_md5: Whether the one that was seen got the MD5 of its body for an ETag, as without KMS.
    """

    options: WriteOptions | None
    client: Any
    url: str
    headers: Mapping[str, str | bytes]
    key: str
    trial: WriteOnce | None = None
    etags_are_md5: bool = False

    def template(self) -> RequestTemplate | None:
        """Learn from it, when a second one is to be sent; ``None`` where requests like it cannot be made from it."""
        texts = {name: value if isinstance(value, str) else value.decode() for name, value in self.headers.items()}
        return template_of(self.url, texts, self.key)
