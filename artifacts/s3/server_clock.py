"""What time it is at a server, where this machine's clock is off: signatures hold for minutes around the server's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TOLERATED: Final = timedelta(minutes=5)
"""What less than this is off is not what a request was refused for. S3 tolerates 15 minutes, other servers less."""

_PLAUSIBLE: Final = range(2020, 2100)
"""Years that a server's time can be in; with others this machine's ``datetime`` could not even go on counting."""

_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_HEADLESS: Final = "403"
"""The code of a refusal to a HEAD, whose answer has no body that would say more."""


class ServerClock:
    """This machine's clock, set to a server's once that has refused a request for its time; for any thread.

    The server is believed, however far it is off: this machine may think it is 1970. Over plain HTTP whoever sits
    between can so have requests signed for a later day. Such a signature holds for that request to that host alone.

    Args:
        local: What time it is here, in UTC.
    """

    def __init__(self, *, local: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._local = local
        self.offset = timedelta()
        """How far the server is ahead."""

    def now(self) -> datetime:
        """Return the time at the server, in UTC."""
        return self._local() + self.offset

    def corrected_by(self, answer: Mapping[str, Any], offset: timedelta) -> bool:
        """Take over the time that a refusal tells, and say whether the request is worth another try.

        Args:
            answer: As botocore has parsed it.
            offset: What the refused request was signed with. Another one may have set the clock since.
        """
        code = str(answer.get("Error", {}).get("Code", ""))
        if code not in _SKEWED and code != _HEADLESS:
            return False
        there = time_of(answer)
        if there is None or there.year not in _PLAUSIBLE or abs(there - self._local() - offset) < _TOLERATED:
            return False
        self.offset = there - self._local()
        return True


def time_of(answer: Mapping[str, Any]) -> datetime | None:
    """Return what an answer says of the time, by its Date header."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        found = parsedate_to_datetime(date)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
