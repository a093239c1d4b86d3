"""How a page says times and states: short, in plain words, the same everywhere. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

FIRST_ARTIFACT: Final = "its first artifact"
"""Who says when work began, if nobody else does: it was then, or before."""

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_SHORT_SECONDS: Final = 10

_STATES: Final = {
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "TIMED_OUT": "Timed out",
    "ABORTED": "Aborted",
    "RUNNING": "Still running",
    "CAUGHT": "Failed, and caught",
    "PENDING_REDRIVE": "Waits for a redrive",
    "UNKNOWN": "Not known",
}
_TONES: Final = {
    "SUCCEEDED": "good",
    "FAILED": "bad",
    "TIMED_OUT": "bad",
    "ABORTED": "odd",
    "RUNNING": "busy",
    "CAUGHT": "odd",
    "PENDING_REDRIVE": "odd",
    "UNKNOWN": "odd",
}
_VERIFIED: Final = {"whole": "Verified whole", "part": "Verified in part", "not": "Not verified"}
_VERIFIED_TONES: Final = {"whole": "good", "part": "busy", "not": "odd"}


def duration(seconds: float) -> str:
    """Return a duration with two units at most.

    Examples:
        >>> duration(0.0321), duration(4.26), duration(75.4), duration(3_725), duration(200_000)
        ('32 ms', '4.3 s', '1 min 15 s', '1 h 2 min', '2 d 7 h')
    """
    if seconds < 1:
        return f"{max(seconds, 0) * 1_000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _SHORT_SECONDS else f"{seconds:.0f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Examples:
        >>> count(1, "state"), count(0, "state"), count(12_345, "child", "children")
        ('1 state', '0 states', '12,345 children')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(at: datetime) -> str:
    """Return a moment, to the second.

    Examples:
        >>> from datetime import UTC, datetime
        >>> moment(datetime(2026, 11, 29, 8, 30, 3, 500_000, tzinfo=UTC))
        '2026-11-29 08:30:03 UTC'
    """
    offset = at.tzname() or ""
    return f"{at:%Y-%m-%d %H:%M:%S} {offset}".rstrip()


def age(then: datetime, now: datetime) -> str:
    """Return how long ago something was, or how long it will take.

    Examples:
        >>> from datetime import UTC, datetime
        >>> noon = datetime(2026, 11, 29, 12, tzinfo=UTC)
        >>> age(datetime(2026, 11, 29, 11, tzinfo=UTC), noon), age(datetime(2026, 12, 6, 12, tzinfo=UTC), noon)
        ('1 h ago', 'in 7 d')
    """
    seconds = (now - then).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def state(status: str) -> str:
    """Return a status in words; one that nobody knew when this was written, as it is.

    Examples:
        >>> state("TIMED_OUT"), state("SLEEPING")
        ('Timed out', 'SLEEPING')
    """
    return _STATES.get(status, status)


def tone(status: str) -> str:
    """Return how a status is coloured: ``"good"``, ``"bad"``, ``"odd"`` or ``"busy"``.

    Examples:
        >>> tone("FAILED"), tone("SLEEPING")
        ('bad', 'odd')
    """
    return _TONES.get(status, "odd")


def verified(how: str) -> str:
    """Return how much of an artifact was verified, in words.

    Examples:
        >>> verified("part")
        'Verified in part'
    """
    return _VERIFIED[how]


def verified_tone(how: str) -> str:
    """Return how that is coloured.

    Examples:
        >>> verified_tone("whole")
        'good'
    """
    return _VERIFIED_TONES[how]


def shortened(text: str, longest: int) -> str:
    """Return the beginning of a text.

    Examples:
        >>> shortened("alphabet", 5), shortened("alpha", 5)
        ('alph…', 'alpha')
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
