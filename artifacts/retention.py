"""How long objects are kept: ``keep="30d"`` as a tag that lifecycle rules look at, and as the pointer's ``expiresAt``.

A rule of S3's counts whole days from an object's creation, and acts at the next midnight in UTC or later
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html). So the tag is rounded up to days,
and no object goes before its pointer says so.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from stepout.schemas.errors import ConfigurationError

KEEP_TAG: Final = "stepout-keep"
"""The name of the tag; its value is a number of days such as ``30d``."""

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST: Final = timedelta(days=36_500)
_DAY: Final = timedelta(days=1)


def duration_of(text: str) -> timedelta:
    """Return what a text such as ``30d``, ``12h`` or ``8w`` stands for.

    Raises:
        ConfigurationError: It is no such text, or more than a hundred years.

    >>> duration_of("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    found = _DURATION.fullmatch(text)
    length = None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})
    if length is None or length > _LONGEST:
        raise ConfigurationError(
            f"{text[:40]!r} is no duration: expected a whole number and s, m, h, d or w, such as '30d', of a hundred "
            "years at most"
        )
    return length


def keep_of(keep: str | timedelta | None) -> timedelta | None:
    """Return how long ``keep=`` means; ``None``: for good.

    Raises:
        ConfigurationError: It means nothing, or no time at all. Nothing was sent.
    """
    if keep is None:
        return None
    if not isinstance(keep, str | timedelta):
        raise ConfigurationError(f"keep is of type {type(keep).__name__}: expected '30d', or a timedelta")
    length = duration_of(keep) if isinstance(keep, str) else keep
    if not timedelta(0) < length <= _LONGEST:
        raise ConfigurationError(f"keep is {keep!r}: expected more than no time, and a hundred years at most")
    return length


def keep_days(keep: timedelta) -> int:
    """Return the whole days that a lifecycle rule has to wait.

    >>> keep_days(timedelta(hours=12)), keep_days(timedelta(days=30))
    (1, 30)
    """
    return -(-keep // _DAY)


def keep_tag(keep: timedelta) -> dict[str, str]:
    """Return the tag of an object that is kept so long.

    >>> keep_tag(timedelta(days=30))
    {'stepout-keep': '30d'}
    """
    return {KEEP_TAG: f"{keep_days(keep)}d"}
