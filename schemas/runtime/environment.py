"""The variables that stepout reads, all of them, and what a misspelt one was meant to be."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.spelling import closest

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logger("stepout.environment")

_PREFIX: Final = "STEPOUT_"

VARIABLES: Final = (
    "STEPOUT_ALLOW",
    "STEPOUT_ATTEMPT",
    "STEPOUT_BUCKET",
    "STEPOUT_COMMIT_RECORD",
    "STEPOUT_EXECUTION",
    "STEPOUT_FAN_IN",
    "STEPOUT_HEARTBEAT_SECONDS",
    "STEPOUT_INPUT",
    "STEPOUT_LOG",
    "STEPOUT_MAP_INDEX",
    "STEPOUT_MAX_CONCURRENCY",
    "STEPOUT_METRICS",
    "STEPOUT_OUTPUT",
    "STEPOUT_OUTPUT_BUDGET",
    "STEPOUT_PARENT_EXECUTION",
    "STEPOUT_PREFIX",
    "STEPOUT_REDRIVE",
    "STEPOUT_REQUEST_PAYER",
    "STEPOUT_PROGRESS",
    "STEPOUT_RESULT",
    "STEPOUT_S3_PROFILE",
    "STEPOUT_STATE",
    "STEPOUT_STOP_TIMEOUT",
    "STEPOUT_TARGETS",
    "STEPOUT_TASK_TOKEN",
    "STEPOUT_TOKEN_TABLE",
    "STEPOUT_WATCH_DELAY_SECONDS",
    "STEPOUT_WATCH_DESCRIBE",
    "STEPOUT_WATCH_GRACE_SECONDS",
    "STEPOUT_WATCH_QUEUE",
    "STEPOUT_WATCH_QUEUES",
)
"""What README and docs list."""

INTERNAL: Final = ("STEPOUT_LOCAL_ID", "STEPOUT_TEST_")
"""What the local AWS and the tests set for themselves: names, or how they begin."""


def meant_for(environ: Mapping[str, str], *names: str) -> str:
    """Return a hint for the error that variables are missing: which ones look like them, or nothing.

    >>> meant_for({"STEPOUT_BUKET": "results"}, "STEPOUT_BUCKET")
    ' (STEPOUT_BUKET is set: did you mean STEPOUT_BUCKET?)'
    """
    found = [(name, meant) for name, meant in _unknown(environ) if meant in names]
    hints = "; ".join(f"{name} is set: did you mean {meant}?" for name, meant in found)
    return f" ({hints})" if hints else ""


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Log a warning for each variable that begins with ``STEPOUT_`` and is not known; each once in a process."""
    for name, meant in _unknown(environ):
        _warn_once(name, meant)


@functools.lru_cache(maxsize=256)
def _warn_once(name: str, meant: str | None) -> None:
    advice = f"did you mean {meant}?" if meant else "give a variable of your own another beginning"
    _log.warning("the environment variable %.80s is set, and stepout knows none of this name: %s", name, advice)


def _unknown(environ: Mapping[str, str]) -> list[tuple[str, str | None]]:
    # In upper case: Windows has no other, and a name in lower case is a mistake of this kind, too.
    named = [name for name in environ if name.upper().startswith(_PREFIX) and name not in VARIABLES]
    return [(name, _closest(name)) for name in named if not name.startswith(INTERNAL)]


def _closest(name: str) -> str | None:
    ours = [each.removeprefix(_PREFIX) for each in VARIABLES]  # what all share would make all alike
    found = closest(name.upper().removeprefix(_PREFIX), ours)
    return f"{_PREFIX}{found[0]}" if found else None
