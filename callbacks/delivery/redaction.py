"""Takes secrets out of text and JSON before they are shown. Pure.

A task token lets its holder end a state, so it is a credential: it never appears in a message, a log, a cause or a
printed traceback. The same goes for what the caller names, and for AWS credentials in every form in which botocore,
urllib3 and http.client print them: headers, requests, answers of STS, SSO and the metadata endpoints, presigned URLs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from os.path import commonprefix
from typing import Any
from urllib.parse import quote, quote_plus

from stepout.schemas.text.signed_urls import (
    form_secrets,
    holds_signed_url,
    is_signed_form,
    may_name_signed_form,
    without_signed_urls,
)

MARK = "[redacted]"

# Other tools print only the beginning of a long value. This many leading characters already give a secret away.
_TELLING = 24

# How botocore, urllib3 and http.client print a credential: a name, what stands between, a value. The names of headers
# and of query parameters are nothing else in any text, so whatever follows them goes.
_HEADERS = (
    r"x-amz-(?:security-token|s3session-token|signature|credential|sso[_-]bearer[_-]token)",
    r"x-amz-(?:copy-source-)?server-side-encryption-customer-key(?:-md5)?",
    r"x-aws-ec2-metadata-token(?!-ttl)",
)
# Members of JSON, XML and Python's reprs, arguments and variables. Ordinary text uses these names, too, so a value
# without quotes is redacted only if it is as long as a credential.
_MEMBERS = (
    r"(?:aws_?)?(?:access_?key_?id|secret_?access_?key|session_?token)|secret_?key|access_?key",
    r"(?:copy_?source_?)?sse_?customer_?key(?:_?md5)?",
    r"task_?token|aws_container_authorization_token|(?:web_?)?identity_?token|authorization_?token",
    r"saml_?assertion|access_?token|refresh_?token|id_?token|device_?code|client_?secret|code_?verifier",
    r"secret_?(?:string|binary)",
)
_QUOTE = r"(?:\\*[\"']|%22|&quot;)"  # A document in a document has a backslash more, in a form it is quoted once more.
_OPEN = rf"(?:b?{_QUOTE})"
_IS = r"\s*(?:[:=]|%3A|%3D)[\s+]*"
# A name may follow an escape that ends in a letter or a digit: a line feed in a repr, a percent-encoded mark in a form.
_START = r"(?:(?<![a-z0-9])|(?<=\\[nrt])|(?<=%[0-9a-f][0-9a-f]))"
_RUN = r"(?:[^\s\"'<>&,;(){}\[\]\\]|\\+/|\\+u[0-9a-f]{4})"
_QUOTED = r"(?:[^\"'\\\n]|\\.)"
_SCHEME = r"(?:(?:aws|basic|bearer|digest|negotiate|token)[ \t]+)"
_UNMARKED = rf"(?!{re.escape(MARK)})"
_HEADER, _MEMBER = "|".join(_HEADERS), "|".join(_MEMBERS)

_TAILS = (
    rf"([\"']?{_IS}b?[\"']){_UNMARKED}{_QUOTED}+"
    rf"|({_QUOTE}{_IS}{_OPEN}){_UNMARKED}{_RUN}+|({_QUOTE}?+{_IS}{_OPEN}?+){_UNMARKED}{_RUN}{{16,}}"
)

_MEMBER_NAME = re.compile(_MEMBER, re.IGNORECASE)

# Patterns are slow. They are tried only on a text that, in lower case, holds one of these words; most texts do not.
_KEYS = ("key", "token", "secret", "assertion", "code")
_PATTERNS = tuple(
    (needles, re.compile(pattern, re.IGNORECASE if insensitive else 0))
    for needles, pattern, insensitive in (
        (("akia", "asia"), r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", False),
        (("x-amz-", "x-aws-"), rf"((?:{_HEADER}){_QUOTE}?+{_IS}{_OPEN}?+){_UNMARKED}{_RUN}+", True),
        # Basic, Bearer, a container's bare token, signature version 2; version 4 is looked at below.
        (
            ("authorization",),
            rf"(authorization{_QUOTE}?+{_IS}{_OPEN}?+{_SCHEME}?){_UNMARKED}(?!AWS[34]-){_RUN}{{8,}}",
            True,
        ),
        (("credential=",), r"(\bCredential=)[^\s/,&\"'<>\\\[]+", False),
        (("signature=",), r"(\b(?:X-Amz-)?Signature=)[^\s&,\"'<>\\\[]{16,}", True),
        (("signature=", "awsaccesskeyid="), r"([?&](?:Signature|AWSAccessKeyId)=)[^&\s\"'<>\\\[]+", False),
        (("signature:",), r"(\bSignature:\s{1,4})[0-9a-f]{64,}\b", False),
        (
            _KEYS,
            rf"({_START}(?:{_MEMBER}))(?:{_TAILS})",
            True,
        ),
        (_KEYS, rf"(<(?:{_MEMBER})>\s*){_UNMARKED}[^<\s]+", True),
        # "token" also names harmless values (a page's or a lock's token), which are short: a short value stays.
        (("token",), rf"({_START}(?<![_-])token{_QUOTE}?+{_IS}{_OPEN}){_UNMARKED}{_RUN}{{12,}}", True),
        # A form's policy is JSON in base64 and holds the session token; an EKS token is a presigned URL.
        (("policy",), rf"({_START}policy{_QUOTE}?+{_IS}{_OPEN}?+)eyJ[A-Za-z0-9+/=_%-]{{20,}}", True),
        (("k8s-aws-v1.",), r"(\bk8s-aws-v1\.)[A-Za-z0-9_=-]{8,}", False),
        (("://",), rf"(://[^\s/:@\"'<>\\]{{1,200}}:){_UNMARKED}[^\s/@\"'<>\\]+(?=@)", False),
    )
)


def _marked(found: re.Match[str]) -> str:
    """Return the name before the value, and the mark in place of the value."""
    return "".join(filter(None, found.groups())) + MARK


class Secret:
    """A string whose ``repr`` does not show it: tools that print variables and attributes print no secret."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return MARK

    def reveal(self) -> str:
        """Return the string itself, for a request."""
        return self._value


class Redactor:
    """Replaces secrets by ``[redacted]``.

    Args:
        secrets: Exact strings; empty ones are left out. Each is also found JSON-escaped and URL-quoted, and a secret of
            more than 24 characters by its first 24.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secret for secret in secrets if secret)
        self._spellings = sorted({form for secret in self._secrets for form in _forms(secret)})
        starts = {re.escape(form[:_TELLING]) for form in self._spellings}
        self._start = re.compile("|".join(sorted(starts))) if starts else None

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"

    def __or__(self, other: Redactor) -> Redactor:
        """A redactor that knows the secrets of both."""
        return Redactor(self._secrets | other._secrets)

    def text(self, text: str) -> str:
        """Return ``text`` without secrets."""
        if self._start is not None:
            text = _cut(text, self._start, self._spellings)
        lower = text.lower()
        for needles, pattern in _PATTERNS:
            if any(needle in lower for needle in needles):
                text = pattern.sub(_marked, text)
        return without_signed_urls(text, MARK)  # also in spellings that the patterns do not know

    def exact(self, text: str) -> str:
        """Return ``text`` without the exact secrets; what else may be one stays."""
        return text if self._start is None else _cut(text, self._start, self._spellings)

    def json(self, value: Any) -> Any:
        """Return a copy of a JSON value without secrets, neither in strings nor in names."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            signed = form_secrets(value)
            return {
                self.text(str(name)): MARK if name in signed else self._member(str(name), member)
                for name, member in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.json(member) for member in value]
        return value

    def _member(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value and _MEMBER_NAME.fullmatch(name):
            return MARK
        return self.json(value)

    def found(self, value: Any) -> list[str]:
        """Return the JSON paths of the members that hold one of the exact secrets, or a presigned URL."""
        # Nearly every document holds no secret. One search over all its names and strings, a line each, shows that: no
        # secret or URL contains a line end, so joining by lines hides none.
        text = "\n".join(_texts_of(value))
        if not self._holds_secret(text) and not may_name_signed_form(text):
            return []
        return list(self._find(value, "$"))

    def hits(self, text: str) -> bool:
        """Whether ``text`` holds one of the secrets, whole or cut short."""
        return self._start is not None and self._start.search(text) is not None

    def _find(self, value: Any, path: str) -> Iterator[str]:
        if isinstance(value, str) and self._holds_secret(value):
            yield path
        elif isinstance(value, Mapping):
            if is_signed_form(value):
                yield path
            for name, member in value.items():
                if self._holds_secret(str(name)):
                    yield f"{path}.{MARK}"
                yield from self._find(member, f"{path}.{self.text(str(name))}")
        elif isinstance(value, (list, tuple)):
            for index, member in enumerate(value):
                yield from self._find(member, f"{path}[{index}]")

    def _holds_secret(self, text: str) -> bool:
        if self.hits(text) and any(form in text for form in self._spellings):
            return True
        return holds_signed_url(text)


def _texts_of(value: Any) -> Iterator[str]:
    """Every name and every string in a JSON value."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            yield from map(str, each)
            waiting.extend(each.values())
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)


def _forms(secret: str) -> Iterator[str]:
    """Yield the spellings of a secret: unchanged, in JSON, in a URL, in a repr."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    quotable = secret.encode("utf-8", "replace")
    yield quote(quotable, safe="")
    yield quote_plus(quotable)
    yield repr(secret)[1:-1]


def _cut(text: str, start: re.Pattern[str], forms: list[str]) -> str:
    """Replace each occurrence of a form, whole or cut short after its first ``_TELLING`` characters."""
    pieces, position, longest = [], 0, max(map(len, forms))
    while (hit := start.search(text, position)) is not None:
        pieces += [text[position : hit.start()], MARK]
        position = hit.start() + max(_shared(text[hit.start() : hit.start() + longest], forms), len(hit[0]))
    return "".join([*pieces, text[position:]])


def _shared(here: str, forms: list[str]) -> int:
    """Return how many characters a text has in common with the beginning of a form, at most; the forms are in order.

    Of strings in order, one beside the place where the text belongs begins most like it: the tokens of one history are
    thousands, and all begin alike.
    """
    place = bisect(forms, here)
    beside = forms[max(place - 1, 0) : place + 1]
    return max(len(commonprefix([here, form])) for form in beside)  # noqa: RUF071 - by character, as no path is
