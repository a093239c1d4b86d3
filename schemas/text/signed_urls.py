"""Presigned URLs, which are credentials: how to know one in a document, however it is written. Pure.

Whoever has one has what it names, until it expires. Known are those of S3 with Signature Version 4
(``X-Amz-Signature``), with Version 2 (``Signature`` beside ``AWSAccessKeyId`` or ``Expires``), the forms of presigned
POSTs, and CloudFront's signed URLs and cookies (``Signature`` beside ``Key-Pair-Id`` or ``Policy``). Names count in any
case, percent-encoded, HTML-escaped or JSON-escaped, several times over.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html,
https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from stepout.schemas.problems import Problem, item, member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_TIMES_ENCODED: Final = 4
_WORTH_LOOKING: Final = re.compile("sig|%|&#|\\\\u00|security-token", re.IGNORECASE)
_ENTITIES: Final[dict[str, str]] = {"amp": "&", "quest": "?", "equals": "="}
_ESCAPES: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    # Only from the first of a run of backslashes on: each of thousands would look at all that follow.
    (re.compile(r"(?<!\\)\\+u00([0-9a-f]{2})", re.IGNORECASE), lambda found: chr(int(found[1], 16))),
    (re.compile(r"&#x0*([0-9a-f]{1,2});", re.IGNORECASE), lambda found: chr(int(found[1], 16))),
    (re.compile(r"&#0*([0-9]{1,3});"), lambda found: chr(int(found[1]))),
    (re.compile(r"&(amp|quest|equals);", re.IGNORECASE), lambda found: _ENTITIES[found[1].lower()]),
)

# What stands before a name in a query (also one that was cut out of its URL), and what a value ends at.
_BEFORE: Final = r"(?:^|[?&;\s\"'<>(=,])"
_VALUE: Final = r"=(?!\[)[^&\s]"  # "[redacted]" is no value
_TOKEN: Final = re.compile(r"[^\s\"'<>]+")
_ALONE: Final = re.compile(
    rf"{_BEFORE}(?:x-amz-signature|x-amz-security-token|cloudfront-signature){_VALUE}", re.IGNORECASE
)
_SIGNATURE: Final = re.compile(rf"{_BEFORE}signature{_VALUE}", re.IGNORECASE)
_BESIDE: Final = re.compile(rf"{_BEFORE}(?:awsaccesskeyid|expires|key-pair-id|policy){_VALUE}", re.IGNORECASE)
_FORM_SECRETS: Final = frozenset(
    {"signature", "x-amz-signature", "x-amz-security-token", "x-amz-credential", "cloudfront-signature"}
    | {"awsaccesskeyid"}
)
_FORM_NAMES: Final = ("awsaccesskeyid", "x-amz-credential", "key-pair-id", "cloudfront-key-pair-id")


def holds_signed_url(text: str) -> bool:
    """Tell whether a text holds a presigned URL, or the query of one.

    >>> holds_signed_url("https://b.s3.amazonaws.com/k?AWSAccessKeyId=AKIA&Expires=1&Signature=a%3D")
    True
    >>> holds_signed_url("https://example.com/?signature=mine")
    False
    """
    return _WORTH_LOOKING.search(text) is not None and any(_is_signed(_plain(each)) for each in _TOKEN.findall(text))


def is_signed_form(members: Mapping[Any, Any]) -> bool:
    """Tell whether an object holds the fields of a presigned POST, or of a signed URL that was taken apart.

    >>> is_signed_form({"key": "k", "policy": "e30=", "X-Amz-Signature": "00"}), is_signed_form({"signature": "mine"})
    (True, False)
    """
    names = {name.casefold() for name, value in members.items() if isinstance(name, str) and isinstance(value, str)}
    if "x-amz-signature" in names or "x-amz-security-token" in names or "cloudfront-signature" in names:
        return True
    return "signature" in names and any(name in names for name in _FORM_NAMES)


def may_name_signed_form(text: str) -> bool:
    """Tell whether a text that holds all names of some objects may hold those of a form that ``is_signed_form`` knows.

    >>> may_name_signed_form("key X-Amz-Signature"), may_name_signed_form("key policy")
    (True, False)
    """
    folded = text.casefold()
    return "signature" in folded or "x-amz-security-token" in folded


def signed_url_problems(value: object, location: str = "$") -> Iterator[Problem]:
    """Yield a problem of the kind ``"secret"`` for each place of a JSON value that holds a presigned URL."""
    if isinstance(value, str):
        if holds_signed_url(value):
            yield _secret(location)
    elif isinstance(value, dict):
        if is_signed_form(value):
            yield _secret(location)
        for name, child in value.items():
            if isinstance(name, str) and holds_signed_url(name):
                yield _secret(f"{location}[a name]")
            else:
                yield from signed_url_problems(child, member(location, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from signed_url_problems(child, item(location, index))


def _secret(location: str) -> Problem:
    message = "holds a presigned URL, which every reader of the document could use; let the reader call presign()"
    return Problem(location, "secret", message)


def form_secrets(members: Mapping[Any, Any]) -> set[Any]:
    """Return the names of the fields of such an object that are the credential."""
    if not is_signed_form(members):
        return set()
    return {name for name in members if isinstance(name, str) and name.casefold() in _FORM_SECRETS}


def without_signed_urls(text: str, mark: str) -> str:
    """Return a text with every presigned URL, or its query, replaced by ``mark``.

    >>> without_signed_urls("see https://b/k?x-amz-SIGNATURE=00ff now", "[cut]")
    'see [cut] now'
    """
    if _WORTH_LOOKING.search(text) is None:
        return text
    return _TOKEN.sub(lambda found: mark if _is_signed(_plain(found[0])) else found[0], text)


def _is_signed(token: str) -> bool:
    if _ALONE.search(token) is not None:
        return True
    return _SIGNATURE.search(token) is not None and _BESIDE.search(token) is not None


def _plain(text: str) -> str:
    """Take escapes off, as often as anybody may have put them on."""
    for _ in range(_TIMES_ENCODED):
        plain = text
        for pattern, replacement in _ESCAPES:
            plain = pattern.sub(replacement, plain)
        plain = unquote(plain)
        if plain == text:
            break
        text = plain
    return text
