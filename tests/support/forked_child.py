"""A fork of the process that runs the tests: whatever happens in it, it ends there and runs no further test."""

from __future__ import annotations

import os
import signal
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 300


def begin_child(act: Callable[[], int]) -> int:
    """Fork; the child acts, ends with what ``act`` returns (99 if that raises), and is killed after five minutes.

    Returns:
        The child's process id.
    """
    if child := os.fork():
        return child
    code = 99
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        code = act()
    except BaseException:  # noqa: BLE001 - nothing may leave
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    """Wait for a child, and return how it ended, as ``os.waitstatus_to_exitcode`` does."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
