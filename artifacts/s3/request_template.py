"""What is learned from one request that botocore made, so that others like it can be made without its models.

Endpoint, addressing, encryption, owner, tags and every other setting of client and store are in the request as it
leaves: nothing of botocore's configuration has to be understood, or guessed. Pure functions of URL and headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def sample_of(url: str, headers: Mapping[str, str], key: str) -> RequestTemplate | None:
    """Learn from a request as it was sent.

    Args:
        url: Whole.
        headers: All of them, by any case of name.
        key: The object's, plain.

    Returns:
        The sample; ``None`` where requests like it cannot be made from it: signed in another way (S3 Express, several
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
