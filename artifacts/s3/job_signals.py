"""Exceptions of the job's own signal handlers, which may come up in the middle of any request.

An alarm that bounds a step is no answer of the store: it leaves the put or the read as the job raised it. What became
of the request is not known; the same put again finds out.
"""

from __future__ import annotations

import functools
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType


def from_handler(error: BaseException) -> BaseException | None:
    """Return the exception that a signal's handler raised, if it is this one or is what this one came of.

    Args:
        error: What a client raised; libraries wrap what passes through them.
    """
    if threading.current_thread() is not threading.main_thread():
        return None  # No handler runs here.
    codes: set[CodeType] | None = None
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        codes = _codes() if codes is None else codes
        if not codes:
            return None
        if any(code in codes for code in _frames(each)):
            return each
        each = each.__cause__ or each.__context__
    return None


def raise_own(error: Exception) -> None:
    """Raise what a signal's handler raised, where everything else that goes wrong is passed over.

    Args:
        error: What was caught.
    """
    own = from_handler(error)
    if own is not None:
        raise own


def _frames(error: BaseException) -> Iterator[CodeType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next


def _codes() -> set[CodeType]:
    """The code of every handler that is written in Python."""
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        # A function, a method, an object that can be called.
        for one in (handler, getattr(handler, "__func__", None), vars(type(handler)).get("__call__")):
            if (code := getattr(one, "__code__", None)) is not None:
                found.add(code)
    return found
