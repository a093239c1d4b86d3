"""What making one page may cost: bytes, requests and seconds, counted wherever an artifact is read for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from stepout.page.model import Spent
from stepout.schemas.errors import ConfigurationError, ReadBudgetError

if TYPE_CHECKING:
    from collections.abc import Callable

USUAL_BYTES: Final = 64 << 20
USUAL_REQUESTS: Final = 500
USUAL_SECONDS: Final = 60.0

_MORE: Final = ": allow more with --budget-bytes"
_MORE_REQUESTS: Final = ": allow more with --budget-requests"
_MORE_SECONDS: Final = ": allow more with --budget-seconds"
_SHARE: Final = 2
"""One artifact takes no more bytes than the whole divided by this: others are to be seen, too."""


class PageBudgetError(ReadBudgetError):
    """A page may cost no more; what was to be read stays unread, and the page says so.

    - Raised by: ``PageBudget``. No caller of ``write_page`` sees it: the page is made without what stayed unread.
    - What to do: Allow the page more bytes, requests or seconds.
    """

    @property
    def sentence(self) -> str:
        """The message as a sentence."""
        message = str(self)
        return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('.') else '.'}"


class PageBudget:
    """What making one page may cost, and what it has cost so far. Threads may share it.

    It is a ``ReadMeter``: an access that carries it counts here. The seconds begin when it is made.

    Args:
        bytes: The most that may be read of artifacts.
        requests: The most requests that may be sent for them.
        seconds: How long reading may take. What is under way when they are over is given up with its next bytes.
        clock: Seconds that only go forward.

    Raises:
        ConfigurationError: One of them is no number from 0 on.
    """

    def __init__(
        self,
        *,
        bytes: int = USUAL_BYTES,  # noqa: A002 - the name that ``ReadBudget`` has
        requests: int = USUAL_REQUESTS,
        seconds: float = USUAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("bytes", bytes), ("requests", requests), ("seconds", seconds)):
            whole = int | float if name == "seconds" else int
            if isinstance(value, bool) or not isinstance(value, whole) or not value >= 0:
                raise ConfigurationError(f"PageBudget({name}={value!r}): expected a number, 0 or more")
        self.bytes_allowed, self.requests_allowed, self.seconds_allowed = bytes, requests, float(seconds)
        self._clock = clock
        self._start = clock()
        self._bytes = self._requests = 0
        self._ran_out = False
        self._lock = threading.Lock()

    @property
    def bytes_left(self) -> int:
        """How many bytes may still be read."""
        return max(self.bytes_allowed - self._bytes, 0)

    @property
    def requests_left(self) -> int:
        """How many requests may still be sent."""
        return max(self.requests_allowed - self._requests, 0)

    @property
    def seconds_left(self) -> float:
        """How long reading may still take."""
        return max(self.seconds_allowed - (self._clock() - self._start), 0.0)

    @property
    def share(self) -> int:
        """How many bytes an artifact may take of which more or less can be read: half of what is left."""
        return self.bytes_left // _SHARE

    def check(self, size: int, *, requests: int = 1) -> None:
        """Raise before anything is requested if reading so much of one artifact would cost too much.

        Args:
            size: Bytes that will be read.
            requests: How many requests that takes.

        Raises:
            PageBudgetError: It would; the message is a sentence for the page.
        """
        if size > self.bytes_allowed // _SHARE:
            msg = (
                f"not read: it takes {size:,} bytes, and a page of {self.bytes_allowed:,} bytes spends "
                f"{self.bytes_allowed // _SHARE:,} on one artifact at most{_MORE}"
            )
            raise PageBudgetError(msg)
        if size > self.bytes_left:
            raise self._refusal(
                f"not read: it takes {size:,} bytes, and the page may read {self.bytes_left:,} more{_MORE}"
            )
        if self._requests + requests > self.requests_allowed:
            raise self._refusal(
                f"not read: the page may send {self.requests_allowed:,} requests, and did{_MORE_REQUESTS}"
            )
        self._check_time()

    def leave_out(self) -> None:
        """Note that something stays unread because the page has spent so much already, if that is why."""
        if self.bytes_left < self.bytes_allowed // _SHARE or not self.requests_left or not self.seconds_left:
            self._ran_out = True

    def request(self, url: str) -> None:  # noqa: ARG002 - of the protocol; the page names the artifact itself
        """Count a request that is about to be sent.

        Raises:
            PageBudgetError: All requests are sent, all bytes are read, or the time is over.
        """
        self._check_time()
        with self._lock:
            spent = self._requests >= self.requests_allowed
            self._requests += not spent
        if spent:
            raise self._refusal(
                f"not read: the page may send {self.requests_allowed:,} requests, and did{_MORE_REQUESTS}"
            )
        if self._bytes > self.bytes_allowed:
            raise self._refusal(f"not read: the page may read {self.bytes_allowed:,} bytes, and did{_MORE}")

    def received(self, url: str, size: int) -> None:  # noqa: ARG002 - of the protocol
        """Count bytes that have come.

        Raises:
            PageBudgetError: They are more than the page may read, or the time is over.
        """
        with self._lock:
            self._bytes += size
            over = self._bytes > self.bytes_allowed
        if over:
            raise self._refusal(f"not read to its end: the page may read {self.bytes_allowed:,} bytes, and did{_MORE}")
        self._check_time()

    def spent(self) -> Spent:
        """Return what the page has cost so far, and whether something stayed unread because it may cost no more."""
        with self._lock:
            return Spent(
                requests=self._requests,
                bytes_read=self._bytes,
                seconds=self._clock() - self._start,
                requests_allowed=self.requests_allowed,
                bytes_allowed=self.bytes_allowed,
                seconds_allowed=self.seconds_allowed,
                ran_out=self._ran_out,
            )

    def _check_time(self) -> None:
        if not self.seconds_left:
            raise self._refusal(f"not read: the page may take {self.seconds_allowed:g} seconds, and did{_MORE_SECONDS}")

    def _refusal(self, message: str) -> PageBudgetError:
        self._ran_out = True
        return PageBudgetError(message)
