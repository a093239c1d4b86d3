"""Heartbeats: a daemon thread that says the task is alive, and finds out when nobody waits any more."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from stepout.schemas.errors import ConfigurationError, TaskClosedError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logger("stepout.callbacks.heart")

_DEFAULT_INTERVAL = 60.0


def interval_of(heartbeat_seconds: float | None) -> float:
    """Return the seconds between two beats: a third of ``HeartbeatSeconds`` when known, else 60.

    Raises:
        ConfigurationError: It is not a positive number.
    """
    if heartbeat_seconds is None:
        return _DEFAULT_INTERVAL
    if not 0 < heartbeat_seconds <= 99_999_999:  # noqa: PLR2004 - the most that HeartbeatSeconds takes, in the States Language
        raise ConfigurationError("the heartbeat must be a number of seconds above 0: the state's HeartbeatSeconds")
    return heartbeat_seconds / 3


class Heartbeat:
    """Beats until it is stopped; never keeps the process alive.

    Args:
        beat: Sends one heartbeat.
        interval: Seconds between two beats, at most; they come up to a fifth earlier, so that thousands of containers
            do not beat together.
        on_closed: Called once, from the thread, when a beat was answered "closed"; no beat follows.
        jitter: Returns a number from 0 up to 1.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        interval: float,
        on_closed: Callable[[TaskClosedError], None],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._beat = beat
        self._interval = interval
        self._on_closed = on_closed
        self._jitter = jitter
        self._stopped = threading.Event()
        self._healthy = True

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="stepout-heart", daemon=True).start()

    def stop(self) -> None:
        """Let no further beat begin; does not wait for one that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            try:
                self._once()
            except TaskClosedError as closed:
                if not self._stopped.is_set():
                    self._on_closed(closed)
                return

    def _pause(self) -> float:
        seconds = self._interval * (1 - self._jitter() / 5)
        return seconds if self._healthy else min(seconds, max(1.0, seconds / 4))

    def _once(self) -> None:
        try:
            self._beat()
        except TaskClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - a heart that dies of one bad beat would cost the whole task
            _log.warning("a heartbeat was not delivered; the next one follows sooner: %s", error)
            self._healthy = False
        else:
            if not self._healthy:
                _log.info("heartbeats are delivered again")
            self._healthy = True
