"""The end of a process whose Arrow threads may still read through Python.

A scan that is left halfway goes on for a while: Arrow reads ahead, in threads that Python knows nothing of. One of
them that asks for Python's lock while the interpreter is being taken down ends the process with a signal, or never lets
it end (measured: Python 3.11, pyarrow 26). So the interpreter waits for these threads before it goes down. No file is
opened meanwhile, so that it does not wait for what nobody wants any more.

How Arrow is asked for that, ``ThreadPool::WaitForIdle``, is no part of pyarrow: it is called by its name in the
library. Where it is not found, the process waits for a moment.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_POOLS: Final = ("_ZN5arrow2io8internal15GetIOThreadPoolEv", "_ZN5arrow8internal16GetCpuThreadPoolEv")
_WAIT: Final = "_ZN5arrow8internal10ThreadPool11WaitForIdleEv"
_MOMENT: Final = 0.5
"""Seconds, where Arrow cannot be asked."""

_ending = threading.Event()


def check_running() -> None:
    """Raise if the process is ending, so that Arrow's threads do not read on.

    Raises:
        OSError: It is.
    """
    if _ending.is_set():
        raise OSError("the process is ending: nothing more is read")


def wait_at_exit() -> None:
    """Have the interpreter wait for Arrow's threads before it goes down; once for each process, a fork's child too."""
    _registered(os.getpid())


@cache
def _registered(process: int) -> None:
    atexit.register(_end, process, _waits())


def _end(process: int, waits: tuple[Callable[[], None], ...]) -> None:
    if os.getpid() != process:  # a fork has none of the threads
        return
    _ending.set()
    if not waits:
        time.sleep(_MOMENT)
    for wait in waits * 3:  # each pool may give the other a last task
        wait()


def _waits() -> tuple[Callable[[], None], ...]:
    """Return what waits for each of Arrow's pools; nothing where this build of Arrow does not have it."""
    library = _library()
    if library is None:
        return ()
    try:
        wait = library[_WAIT]
        finders = [library[name] for name in _POOLS]
    except AttributeError:
        return ()
    wait.argtypes, wait.restype = [ctypes.c_void_p], None
    for finder in finders:
        finder.argtypes, finder.restype = [], ctypes.c_void_p
    return tuple(partial(wait, finder()) for finder in finders)


def _library() -> ctypes.CDLL | None:
    """Return Arrow's library, which pyarrow has loaded."""
    import pyarrow as pa

    folder = Path(pa.__file__).parent
    for path in (*folder.glob("libarrow.so*"), *folder.glob("libarrow.*.dylib")):
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None
