"""Which objects a document may make us read: the consumer's allow-list. Pure, but for ``from_env``.

A document is untrusted input: whoever wrote it chose the bucket and the key. Every hop (manifest, spilled result,
files of a directory, ResultWriter files, the URL of a pull-mode output) passes ``Allowed.check`` before any request.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from stepout.schemas.errors import ConfigurationError, NotAllowedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ANY_BUCKET", "Allowed", "AnyBucket", "allowed_from", "from_env", "key_fault", "split_url"]

ENVIRONMENT_NAME: Final = "STEPOUT_ALLOW"
MAX_KEY_BYTES: Final = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html

# Access points, Object Lambda access points and those on Outposts: the forms that boto3 takes as ``Bucket``.
_ARN = re.compile(r"arn:[a-z0-9-]+:s3[a-z0-9-]*:[a-z0-9-]*:[0-9]*:(?:outpost[/:][^/:]+[/:])?accesspoint[/:][^/:]+")
# Buckets from before 2018 may have capitals, underscores and up to 255 characters; anything else is no bucket.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@final
class AnyBucket:
    """The type of ``ANY_BUCKET``."""

    def __repr__(self) -> str:
        return "ANY_BUCKET"


ANY_BUCKET: Final = AnyBucket()
"""In place of an allow-list: every bucket is permitted. Access-point ARNs still have to be listed."""


@dataclass(frozen=True)
class _Rule:
    bucket: str
    segments: tuple[str, ...]
    below: bool  # ends in "/": permits what lies below, not the object of that very name

    def permits(self, bucket: str, segments: tuple[str, ...]) -> bool:
        if bucket != self.bucket or segments[: len(self.segments)] != self.segments:
            return False
        return len(segments) > len(self.segments) or not self.below


@dataclass(frozen=True)
class Allowed:
    """An allow-list, parsed.

    Attributes:
        rules: What is permitted, by path segment.
        any_bucket: Whether every bucket is permitted (access-point ARNs are not buckets).
    """

    rules: tuple[_Rule, ...] = ()
    any_bucket: bool = False

    def permits(self, bucket: str, key: str) -> bool:
        """Return whether an object may be read.

        >>> allowed = allowed_from(["s3://results/runs"])
        >>> allowed.permits("results", "runs/x"), allowed.permits("results", "runs2/x")
        (True, False)
        """
        return self.refusal(bucket, key) is None

    def check(self, bucket: str, key: str) -> None:
        """Raise unless an object may be read.

        Raises:
            NotAllowedError: The object is outside the list, or its key could not be one that stepout wrote.
        """
        reason = self.refusal(bucket, key)
        if reason is not None:
            msg = f"refused s3://{_shown(bucket)}/{_shown(key)} before any request: {reason}"
            raise NotAllowedError(msg)

    def refusal(self, bucket: str, key: str) -> str | None:
        """Return why an object may not be read, or ``None``."""
        fault = key_fault(key)
        if fault is not None:
            return f"its key {fault}"
        is_arn = _ARN.fullmatch(bucket) is not None
        if not is_arn and not _BUCKET.fullmatch(bucket):
            return "that is no bucket's name"
        segments = tuple(key.split("/"))
        if (self.any_bucket and not is_arn) or any(rule.permits(bucket, segments) for rule in self.rules):
            return None
        if is_arn:
            return 'an access point must be listed itself, e.g. allow=["s3://arn:…:accesspoint/name/prefix/"]'
        return f"it is outside the allow-list {self}; add its prefix to allow= if you trust it"

    def __str__(self) -> str:
        shown = [f"s3://{rule.bucket}/{'/'.join(rule.segments)}{'/' * rule.below}" for rule in self.rules]
        return "[" + ", ".join(["ANY_BUCKET"] * self.any_bucket + shown) + "]"


def key_fault(key: str) -> str | None:
    """Return what is wrong with a key, or ``None``.

    >>> key_fault("runs/a.json") is None, key_fault("runs/../x")
    (True, "has a segment '..'")
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "is no valid Unicode"
    if size > MAX_KEY_BYTES:
        return f"has {size} bytes; S3 allows {MAX_KEY_BYTES}"
    if _CONTROL.search(key):
        return "has a control character"
    for segment in key.split("/"):
        if segment == "":
            return "is empty" if key == "" else "has an empty segment"
        if segment in {".", ".."}:
            return f"has a segment {segment!r}"
    return None


def split_url(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` (or ``s3://access-point-arn/key``) into its two parts.

    >>> split_url("s3://results/runs/a.json")
    ('results', 'runs/a.json')

    Raises:
        ValueError: The text is no such URL.
    """
    if not url.startswith("s3://"):
        msg = "expected s3://bucket/key"
        raise ValueError(msg)
    rest = url.removeprefix("s3://")
    arn = _ARN.match(rest)
    bucket = arn.group() if arn else rest.partition("/")[0]
    tail = rest[len(bucket) :]
    if not bucket or (tail and not tail.startswith("/")):
        msg = "expected s3://bucket/key"
        raise ValueError(msg)
    return bucket, tail[1:]


def allowed_from(allow: Iterable[str | AnyBucket] | AnyBucket | Allowed) -> Allowed:
    """Parse an allow-list.

    Args:
        allow: URLs ``s3://bucket/prefix/``, compared by path segment; a text may hold several, separated by spaces or
            commas; or ``ANY_BUCKET``, alone or among them.

    Raises:
        ConfigurationError: An entry is no such URL.
    """
    if isinstance(allow, Allowed):
        return allow
    if isinstance(allow, str):
        allow = re.split(r"[\s,]+", allow.strip()) if allow.strip() else []
    entries = [allow] if isinstance(allow, AnyBucket) else list(allow)
    rules = tuple(_rule(entry) for entry in entries if not isinstance(entry, AnyBucket))
    return Allowed(rules, any_bucket=any(isinstance(entry, AnyBucket) for entry in entries))


def from_env(environ: Mapping[str, str] = os.environ) -> Allowed:
    """Read the allow-list from ``STEPOUT_ALLOW``: URLs separated by spaces or commas.

    Raises:
        ConfigurationError: It is not set, or an entry is no URL.
    """
    text = environ.get(ENVIRONMENT_NAME)
    if text is None:
        msg = (
            "which buckets may this document point into? Pass "
            'allow=["s3://bucket/prefix/"] (or stepout.ANY_BUCKET), or set STEPOUT_ALLOW. Nothing was read.'
        )
        raise ConfigurationError(msg)
    return allowed_from(text)


def _rule(entry: object) -> _Rule:
    try:
        bucket, prefix = split_url(entry if isinstance(entry, str) else "")
    except ValueError:
        bucket, prefix = "", ""
    bare = prefix.removesuffix("/")
    named = _ARN.fullmatch(bucket) or _BUCKET.fullmatch(bucket)
    if not named or (bare and key_fault(bare)) or (prefix and not bare):
        msg = f"allow: {_shown(str(entry))!r} is no s3://bucket/prefix/ (without empty, '.' or '..' segments)"
        raise ConfigurationError(msg)
    return _Rule(bucket, tuple(bare.split("/")) if bare else (), below=prefix.endswith("/"))


def _shown(text: str, limit: int = 200) -> str:
    """Make a text from a document fit for one line of a log."""
    clean = _CONTROL.sub("?", text.encode("utf-8", "backslashreplace").decode())
    return clean if len(clean) <= limit else clean[:limit] + "…"
