"""Heartbeats: a daemon thread reports that the task is alive, and cancels the task when nobody waits any more."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from stepout.schemas.errors import ConfigurationError, InvalidTokenError, TaskClosedError
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.callbacks.lifecycle.completion import Completion
    from stepout.callbacks.targets.fan_out import FanOut

_log = logger("stepout.callbacks.heart")
_task_log = logger("stepout.callbacks.task")

_DEFAULT_INTERVAL = 60.0


def interval_of(heartbeat_seconds: float | None) -> float:
    """Return the seconds between two beats: a third of ``HeartbeatSeconds`` when known, else 60.

    Raises:
        ConfigurationError: ``heartbeat_seconds`` is not above 0, or is over 99,999,999.
    """
    if heartbeat_seconds is None:
        return _DEFAULT_INTERVAL
    if not 0 < heartbeat_seconds <= 99_999_999:  # noqa: PLR2004 - the most that HeartbeatSeconds takes, in the States Language
        raise ConfigurationError("the heartbeat must be a number of seconds above 0: the state's HeartbeatSeconds")
    return heartbeat_seconds / 3


class Heartbeat:
    """Beats until it is stopped; never keeps the process alive.

    Args:
        targets: Where the task reports to.
        completion: Cancels the task when a beat is answered "closed"; that beat is the last.
        interval: Seconds between two beats, at most. Each beat comes up to a fifth earlier, at random, so that
            thousands of containers do not beat together.
        jitter: Returns a number from 0 up to 1.
    """

    def __init__(
        self,
        targets: FanOut,
        completion: Completion,
        interval: float,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._targets = targets
        self._completion = completion
        self._interval = interval
        self._jitter = jitter
        self._stopped = threading.Event()
        self._healthy = True

    def first(self) -> None:
        """Send the first beat, in the task's own thread and before any work: the state's clock runs already.

        Raises:
            TaskClosedError: Nobody waits any more.
            InvalidTokenError: Step Functions does not know the token.
            ConfigurationError: A setting is wrong. The outcome could not be reported either, after hours of work.
        """
        try:
            self._targets.heartbeat()
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

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            try:
                self._targets.heartbeat()
            except TaskClosedError as closed:
                # If the outcome was reported while this beat was under way, the right answer is "closed", too.
                if not self._stopped.is_set():
                    self._completion.cancel(closed)
                return
            except Exception as error:  # noqa: BLE001 - a thread that ends after one bad beat would cost the whole task
                _log.warning("a heartbeat was not delivered; the next one follows sooner: %s", error)
                self._healthy = False
            else:
                if not self._healthy:
                    _log.info("heartbeats are delivered again")
                self._healthy = True

    def _pause(self) -> float:
        seconds = self._interval * (1 - self._jitter() / 5)
        return seconds if self._healthy else min(seconds, max(1.0, seconds / 4))
