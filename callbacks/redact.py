"""Take secrets out of text and JSON before anybody sees them. Pure.

A task token lets its holder end a state, so it is a credential: it never appears in a message, a log, a cause or a
printed traceback. The same goes for what the caller names, for AWS access keys and for presigned URLs' signatures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["MARK", "Redactor"]

MARK = "[redacted]"

# Others cut long values short when they print them: so many leading characters already give a secret away.
_TELLING = 24

_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE if insensitive else 0), replacement)
    for pattern, replacement, insensitive in (
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", MARK, False),
        # Presigned URLs (signature versions 4 and 2) and the Authorization header.
        (r"(\bX-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"'<>\\\[]+", rf"\g<1>{MARK}", True),
        (r"([?&](?:Signature|AWSAccessKeyId)=)[^&\s\"'<>\\\[]+", rf"\g<1>{MARK}", False),
        (r"(\bSignature=)[0-9a-f]{64}\b", rf"\g<1>{MARK}", False),
        (
            r"(\baws_?(?:secret_?access_?key|session_?token)[\"']?\s*[=:]\s*[\"']?)[A-Za-z0-9/+=]{16,}",
            rf"\g<1>{MARK}",
            True,
        ),
        (r"(\btask_?token[\"']?\s*[=:]\s*[\"'])[^\"'\s\[][^\"'\s]*", rf"\g<1>{MARK}", True),
    )
)


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
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def json(self, value: Any) -> Any:
        """Return a copy of a JSON value without secrets, neither in strings nor in names."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.json(member) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.json(member) for member in value]
        return value

    def found(self, value: Any) -> list[str]:
        """Return the JSON paths of the members that hold one of the exact secrets, or a presigned URL's signature."""
        return list(self._find(value, "$"))

    def hits(self, text: str) -> bool:
        """Whether ``text`` holds one of the secrets, whole or cut short."""
        return self._start is not None and self._start.search(text) is not None

    def _find(self, value: Any, path: str) -> Iterator[str]:
        if isinstance(value, str) and self._holds_secret(value):
            yield path
        elif isinstance(value, Mapping):
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
        return re.search(r"[?&]X-Amz-Signature=[0-9a-f]{64}", text) is not None


def _forms(secret: str) -> Iterator[str]:
    """The spellings in which a secret turns up: as it is, in JSON, in a URL, in a repr."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    quotable = secret.encode("utf-8", "replace")
    yield quote(quotable, safe="")
    yield quote_plus(quotable)
    yield repr(secret)[1:-1]


def _cut(text: str, start: re.Pattern[str], forms: list[str]) -> str:
    """Replace each place where a form is, whole or cut short after its telling start."""
    pieces, position = [], 0
    while (hit := start.search(text, position)) is not None:
        pieces += [text[position : hit.start()], MARK]
        position = hit.start() + max(_shared(text, hit.start(), form) for form in forms)
    return "".join([*pieces, text[position:]])


def _shared(text: str, position: int, form: str) -> int:
    """How many characters of ``form`` are in ``text`` from ``position``, if enough to tell."""
    here = text[position : position + len(form)]
    if not here.startswith(form[:_TELLING]):
        return 0
    differing = (index for index, (found, wanted) in enumerate(zip(here, form, strict=False)) if found != wanted)
    return next(differing, len(here))
