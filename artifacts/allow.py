"""Which objects a document may make us read: the consumer's allow-list. Pure, but for ``from_env``.

A document is untrusted input: its writer chose the bucket and the key. Every hop (manifest, spilled result,
files of a directory, ResultWriter files, the URL of a pull-mode output) passes ``Allowed.check`` before any request.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, final

from stepout.schemas.errors import ConfigurationError, NotAllowedError
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.locations import S3_ARN, TablePlace, key_fault, split_s3_url, table_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENVIRONMENT_NAME: Final = "STEPOUT_ALLOW"

# Buckets from before 2018 may have capitals, underscores and up to 255 characters; anything else is no bucket.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")


@final
class AnyBucket:
    """The type of ``ANY_BUCKET``."""

    def __repr__(self) -> str:
        return "ANY_BUCKET"


ANY_BUCKET: Final = AnyBucket()
"""In place of an allow-list: every bucket is permitted. Access-point ARNs still have to be listed."""


class _AllowedPrefix(NamedTuple):
    bucket: str
    segments: tuple[str, ...]
    below: bool  # ends in "/": permits keys below it, not the object of that name

    def permits(self, bucket: str, segments: tuple[str, ...]) -> bool:
        if bucket != self.bucket or segments[: len(self.segments)] != self.segments:
            return False
        return len(segments) > len(self.segments) or not self.below


class _TableRule(NamedTuple):
    place: TablePlace

    def permits(self, place: TablePlace) -> bool:
        prefix = self.place.key
        if place.table != self.place.table or place.key is None:
            return False
        return prefix is None or place.key == prefix or place.key.startswith(f"{prefix.removesuffix('/')}/")


@dataclass(frozen=True)
class Allowed:
    """An allow-list, parsed.

    Attributes:
        rules: What is permitted, by path segment.
        any_bucket: Whether every bucket is permitted (access-point ARNs are not buckets).
        tables: The tables whose items may be read (pull mode); a table must always be listed.
    """

    rules: tuple[_AllowedPrefix, ...] = ()
    any_bucket: bool = False
    tables: tuple[_TableRule, ...] = ()

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
            NotAllowedError: The object is outside the list, or its key is one that stepout never writes.
        """
        reason = self.refusal(bucket, key)
        if reason is not None:
            msg = f"refused s3://{shown(bucket)}/{shown(key)} before any request: {reason}"
            raise NotAllowedError(msg)

    def check_item(self, place: TablePlace) -> None:
        """Raise unless an item of a DynamoDB table may be read.

        Raises:
            NotAllowedError: The item is outside the list.
        """
        if not any(rule.permits(place) for rule in self.tables):
            msg = f"refused {shown(place.url)} before any request: it is outside the allow-list {self}"
            raise NotAllowedError(f"{msg}; add dynamodb://{place.table}/ to allow= if you trust it")

    def refusal(self, bucket: str, key: str) -> str | None:
        """Return why an object may not be read, or ``None``."""
        fault = key_fault(key)
        if fault is not None:
            return f"its key {fault}"
        is_arn = S3_ARN.fullmatch(bucket) is not None
        if not is_arn and not _BUCKET.fullmatch(bucket):
            return "that is no bucket's name"
        # By segment, never by text: "runs" must not permit "runs2/x".
        segments = tuple(key.split("/"))
        if (self.any_bucket and not is_arn) or any(rule.permits(bucket, segments) for rule in self.rules):
            return None
        if is_arn:
            return 'an access point must be listed itself, e.g. allow=["s3://arn:…:accesspoint/name/prefix/"]'
        return f"it is outside the allow-list {self}; add its prefix to allow= if you trust it"

    def __str__(self) -> str:
        shown = [f"s3://{rule.bucket}/{'/'.join(rule.segments)}{'/' * rule.below}" for rule in self.rules]
        tables = [rule.place.url for rule in self.tables]
        return "[" + ", ".join(["ANY_BUCKET"] * self.any_bucket + shown + tables) + "]"


def allowed_from(allow: Iterable[str | AnyBucket] | AnyBucket | Allowed) -> Allowed:
    """Parse an allow-list.

    Args:
        allow: URLs ``s3://bucket/prefix/``, compared by path segment; a text may hold several, separated by spaces or
            commas; or ``ANY_BUCKET``, alone or among them. ``dynamodb://table/`` (or ``dynamodb://table/prefix/``)
            permits a table's items, for outcomes that lie there.

    Raises:
        ConfigurationError: An entry is invalid.
    """
    if isinstance(allow, Allowed):
        return allow
    if isinstance(allow, str):
        allow = re.split(r"[\s,]+", allow.strip()) if allow.strip() else []
    rules, tables, any_bucket = [], [], False
    for entry in [allow] if isinstance(allow, AnyBucket) else allow:
        if isinstance(entry, AnyBucket):
            any_bucket = True
        elif isinstance(entry, str) and entry.startswith("dynamodb://"):
            tables.append(_table_rule(entry))
        elif isinstance(entry, str):
            rules.append(_rule(entry))
        else:
            raise _no_prefix(entry)
    return Allowed(tuple(rules), any_bucket=any_bucket, tables=tuple(tables))


def from_env(environ: Mapping[str, str] = os.environ) -> Allowed:
    """Read the allow-list from ``STEPOUT_ALLOW``: URLs separated by spaces or commas.

    Raises:
        ConfigurationError: The variable is not set, or an entry is invalid.
    """
    from stepout.schemas.runtime.environment import meant_for, warn_of_unknown  # whoever passes a list does without

    warn_of_unknown(environ)
    text = environ.get(ENVIRONMENT_NAME)
    if text is None:
        msg = (
            'which buckets may this document point into? Pass allow=["s3://bucket/prefix/"] (or stepout.ANY_BUCKET), '
            f"or set STEPOUT_ALLOW{meant_for(environ, ENVIRONMENT_NAME)}. Nothing was read."
        )
        raise ConfigurationError(msg)
    return allowed_from(text)


@functools.lru_cache(maxsize=256)  # one program resolves again and again with the same few entries
def _rule(entry: str) -> _AllowedPrefix:
    try:
        bucket, prefix = split_s3_url(entry)
    except ValueError:
        bucket, prefix = "", ""
    bare = prefix.removesuffix("/")
    named = S3_ARN.fullmatch(bucket) or _BUCKET.fullmatch(bucket)
    if not named or (bare and key_fault(bare)) or (prefix and not bare):
        raise _no_prefix(entry)
    return _AllowedPrefix(bucket, tuple(bare.split("/")) if bare else (), below=prefix.endswith("/"))


def _no_prefix(entry: object) -> ConfigurationError:
    message = f"allow: {shown(repr(entry))} is no s3://bucket/prefix/ (without empty, '.' or '..' segments)"
    return ConfigurationError(message)


def _table_rule(entry: str) -> _TableRule:
    try:
        return _TableRule(table_place(entry))
    except ValueError as error:
        raise ConfigurationError(f"allow: {shown(repr(entry))} is no dynamodb://table/ ({error})") from None
