"""Heartbeats: a daemon thread reports that the task is alive, and cancels the task when nobody waits any more."""

from __future__ import annotations

import math
import random
import threading
from enum import Enum
from typing import TYPE_CHECKING, Final

from stepout.callbacks.delivery.retry_loop import ThrottledError
from stepout.schemas.errors import ConfigurationError, InvalidTokenError, TaskClosedError
from stepout.schemas.runtime.events import Events
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.callbacks.lifecycle.completion import Completion
    from stepout.callbacks.targets.fan_out import FanOut

_log = logger("stepout.callbacks.heart")
_task_log = logger("stepout.callbacks.task")

_DEFAULT_HEARTBEAT: Final = 180.0

BEATS_A_SECOND: Final = 240.0
"""What all containers of an account may send together, at most: 80 % of the quota of SendTaskHeartbeat in most regions.

It is 300 a second there, and 500 in the three largest
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html).
"""

_LONGEST: Final = 0.6
"""Of ``HeartbeatSeconds``: after a beat that is lost there is still time for another."""

_EARLY: Final = 0.2
"""By how much of the interval a beat may come earlier, so half as much on the average."""


def interval_of(heartbeat_seconds: float | None, max_concurrency: int | None = None) -> float:
    """Return the seconds between two beats: a third of ``HeartbeatSeconds`` when known, else 60.

    Args:
        heartbeat_seconds: The state's.
        max_concurrency: How many containers beat at the same time: the interval is as long as so many need for
            ``BEATS_A_SECOND``, but at most 60 % of ``HeartbeatSeconds`` (of 180, if unknown).

    Raises:
        ConfigurationError: ``heartbeat_seconds`` is not above 0, or is over 99,999,999; or ``max_concurrency`` is not
            a whole number above 0.

    >>> interval_of(300), interval_of(60), round(interval_of(60, 7_000), 1), round(interval_of(60, 100_000), 1)
    (100.0, 20.0, 32.4, 36.0)
    """
    seconds = _DEFAULT_HEARTBEAT if heartbeat_seconds is None else heartbeat_seconds
    if not 0 < seconds <= 99_999_999:  # noqa: PLR2004 - the most that HeartbeatSeconds takes, in the States Language
        raise ConfigurationError("the heartbeat must be a number of seconds above 0: the state's HeartbeatSeconds")
    if max_concurrency is None:
        return seconds / 3
    if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
        raise ConfigurationError("max_concurrency (STEPOUT_MAX_CONCURRENCY) must be a whole number of at least 1")
    needed = beats_a_second(max_concurrency, 1.0) / BEATS_A_SECOND
    return min(max(seconds / 3, needed), seconds * _LONGEST)


def beats_a_second(containers: int, interval: float) -> float:
    """Return how many beats so many containers send in a second, on the average."""
    return containers / (interval * (1 - _EARLY / 2))


def fitting_heartbeat(containers: int) -> int:
    """Return the least ``HeartbeatSeconds`` with which the beats of so many containers can be spread far enough."""
    return math.ceil(beats_a_second(containers, _LONGEST) / BEATS_A_SECOND)


class Beat(Enum):
    """How the last beat went."""

    FIRST = "it began the task"
    DELIVERED = "it was delivered"
    LOST = "it was not delivered"
    THROTTLED = "there are too many"


def pause_after(last: Beat, interval: float, draw: float) -> float:
    """Return the seconds until the next beat.

    Containers that start together draw their phases from the whole interval, so that they do not beat together. The
    phase is what is left of a pause at a random moment: then there are as many beats in every second from the start.
    (If it were uniform, the last first beats and the earliest second ones would come together, twice as many.) What was
    lost is sent again soon; what was throttled later, and spread, as too many beats are the reason.

    Args:
        last: How the last beat went.
        interval: From ``interval_of``.
        draw: A number from 0 up to 1, at random.
    """
    if last is Beat.FIRST:
        share, least = draw * (1 - _EARLY / 2), 1 - _EARLY
        if share > least:
            share = least + _EARLY * (1 - math.sqrt(1 - (share - least) / (_EARLY / 2)))
        return interval * share
    if last is Beat.THROTTLED:
        return interval * (1 + draw) / 4
    seconds = interval * (1 - draw * _EARLY)
    return min(seconds, max(1.0, seconds / 4)) if last is Beat.LOST else seconds


class Heartbeat:
    """Beats until it is stopped; never keeps the process alive.

    Args:
        targets: Where the task reports to.
        completion: Cancels the task when a beat is answered "closed"; that beat is the last.
        interval: Seconds between two beats, at most. Each beat comes up to a fifth earlier, at random, and the second
            one at any time within the interval, so that thousands of containers do not beat together.
        jitter: Returns a number from 0 up to 1.
        events: Who is told of each beat.
    """

    def __init__(
        self,
        targets: FanOut,
        completion: Completion,
        interval: float,
        *,
        jitter: Callable[[], float] = random.random,
        events: Events | None = None,
    ) -> None:
        self._events = Events() if events is None else events
        self._targets = targets
        self._completion = completion
        self._interval = interval
        self._jitter = jitter
        self._stopped = threading.Event()
        self._last = Beat.FIRST

    def first(self) -> None:
        """Send the first beat, in the task's own thread and before any work: the state's clock runs already.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            ConfigurationError: A setting is wrong. The outcome could not be reported either, after hours of work.
        """
        try:
            self._beat()
        except (TaskClosedError, InvalidTokenError):
            self._completion.state.cancel()
            raise
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - the work may well be worth doing; the last report has more patience
            _task_log.error("the first heartbeat was not delivered; the task goes on without: %s", error)

    def start(self) -> None:
        """Start the thread that sends the later beats."""
        threading.Thread(target=self._run, name="stepout-heart", daemon=True).start()

    def stop(self) -> None:
        """Let no further beat begin; do not wait for a beat that is under way, which may hang in the network."""
        self._stopped.set()

    def _beat(self) -> None:
        with self._events.operation("heartbeat", "heartbeat"):
            self._targets.heartbeat()

    def _run(self) -> None:
        while not self._stopped.wait(pause_after(self._last, self._interval, self._jitter())):
            try:
                self._beat()
            except TaskClosedError as closed:
                # If the outcome was reported while this beat was under way, the right answer is "closed", too.
                if not self._stopped.is_set():
                    self._completion.cancel(closed)
                return
            except Exception as error:  # noqa: BLE001 - a thread that ends after one bad beat would cost the whole task
                _log.warning("a heartbeat was not delivered; the next one follows sooner: %s", error)
                self._last = Beat.THROTTLED if isinstance(error, ThrottledError) else Beat.LOST
            else:
                if self._last in (Beat.LOST, Beat.THROTTLED):
                    _log.info("heartbeats are delivered again")
                self._last = Beat.DELIVERED
