"""How a moment is written in documents and logs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime, *, to: str = "seconds") -> str:
    """Return a time as documents hold it: UTC, ``Z``.

    Args:
        moment: The time, with its zone.
        to: How exactly: ``"seconds"`` or ``"milliseconds"``; what is beyond is cut off.

    >>> rfc3339(datetime(2026, 11, 22, 12, 0, 0, 7000, tzinfo=UTC))
    '2026-11-22T12:00:00Z'
    >>> rfc3339(datetime(2026, 11, 22, 12, 0, 0, 7000, tzinfo=UTC), to="milliseconds")
    '2026-11-22T12:00:00.007Z'
    """
    there = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return f"{there.replace(tzinfo=None).isoformat(timespec=to)}Z"  # strftime takes five times as long
