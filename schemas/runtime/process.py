"""What belongs to one process: records, and connections.

A process that was forked begins with a copy of everything. What it records in its copy is never seen where it counts;
and a connection that both use carries the answers of one to the other. So a thing that records has a ``Home``, and a
thing with connections is held ``PerProcess``: made anew in a child where we made it, refused where a caller did.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from stepout.schemas.errors import OtherProcessError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

T = TypeVar("T")

_WHAT_TO_DO: Final = (
    "Return the data to that process and record it there; or write it here, through an ArtifactManager that this "
    "process makes, and adopt its URL there"
)


class Home:
    """The process that something belongs to.

    Args:
        claimed: The one that makes this object; ``False``: any, until one claims it.
    """

    def __init__(self, *, claimed: bool = True) -> None:
        self._pid = os.getpid() if claimed else None

    def claim(self) -> None:
        """Belong to this process from now on."""
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is that process, and none that was forked off it."""
        return self._pid is None or os.getpid() == self._pid

    def check(self, action: str, owner: str) -> None:
        """Raise unless this is that process.

        Args:
            action: What was tried, for example ``"put('mask')"``.
            owner: What it was tried with, for example ``"artifact manager"``.

        Raises:
            OtherProcessError: It is another one. Nothing was read or sent.
        """
        if not self.here:
            raise OtherProcessError(
                f"{action} in process {os.getpid()}: the {owner} belongs to process {self._pid}, which would never "
                f"see what is recorded here; nothing was read or sent. {_WHAT_TO_DO}"
            )


def not_picklable(owner: str) -> NoReturn:
    """Refuse to pickle (or copy) something that records in one process.

    Raises:
        OtherProcessError: Always.
    """
    raise OtherProcessError(
        f"this {owner} cannot be pickled or copied, since it records in the process that made it: return the data to "
        "that process and record it there, or write it elsewhere, through an ArtifactManager that is made there, and "
        "adopt its URL here"
    )


# After a fork -------------------------------------------------------------------------------------------------------


class Renewable(Protocol):
    """Something that has to change in a child of a fork before anybody uses it there."""

    def renew(self) -> None:
        """Change, in the child, whose only thread this is; takes no lock, does no work and raises nothing."""
        ...


# By id, since not everything that is renewed can be hashed.
_renewables: Final[weakref.WeakValueDictionary[int, Renewable]] = weakref.WeakValueDictionary()
_registered = threading.Lock()
_kept: Final[list[Any]] = []


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing.renew()`` called in every child that is forked while it lives; elsewhere than on POSIX, nothing."""
    register = getattr(os, "register_at_fork", None)
    if register is None:
        return
    if _registered.acquire(blocking=False):  # Never released: hooks cannot be taken back.
        register(after_in_child=_renew_all)
    _renewables[id(thing)] = thing


def _renew_all() -> None:
    for thing in list(_renewables.values()):
        thing.renew()


class PerProcess(Generic[T]):
    """Something with connections: made when it is needed, and anew in a process that was forked.

    Args:
        make: Makes it.
        given: One that a caller passed in. Nobody here can make another, so a forked process is refused it.
        name: What a message calls it, for example ``"S3 client"``.

    Attributes:
        current: What ``get`` would return without making anything; ``None``: it has yet to be made in this process, or
            is refused it. For paths that every small request takes.
    """

    def __init__(self, make: Callable[[], T] | None, given: T | None = None, *, name: str = "client") -> None:
        self._make, self._name = make, name
        self.current = given
        self._given = given is not None
        self._lock = threading.Lock()
        if given is not None:
            seen = _seen_in(given)
            if seen is None:
                _close_idle(given)
            elif seen != os.getpid():
                self.current = None
        renew_after_fork(self)

    def __reduce__(self) -> NoReturn:
        not_picklable(self._name)

    @property
    def passed_in(self) -> bool:
        """Whether it is a caller's."""
        return self._given

    def get(self) -> T:
        """Return it.

        Raises:
            OtherProcessError: It was passed in, and this process was forked off the one that it is used in.
        """
        current = self.current
        if current is not None:
            return current
        with self._lock:
            if self.current is None:
                if self._given or self._make is None:
                    raise _inherited(self._name)
                self.current = self._make()
            return self.current

    def become(self, make: Callable[[], T], current: T) -> None:
        """Take another one, and another way of making it, from now on."""
        with self._lock:
            self._make, self.current, self._given = make, current, False

    def renew(self) -> None:
        """Let go of the parent's. It is not closed: other threads may have held its locks when the process forked."""
        self._lock = threading.Lock()
        if self.current is not None:
            _kept.append(self.current)
            self.current = None


# Where callers' clients were first seen: one that a parent used brings its connections along into any child.
_seen: Final[weakref.WeakKeyDictionary[Any, int]] = weakref.WeakKeyDictionary()


def _seen_in(given: object) -> int | None:
    """Return the process in which something was first seen; ``None`` if that is here and now."""
    try:
        seen = _seen.get(given)
        if seen is None:
            _seen[given] = os.getpid()
    except TypeError:  # no weak reference, or no hash: nothing is known of it
        return os.getpid()
    return seen


def _close_idle(given: Any) -> None:
    """Have a client of a caller's open its connections anew: its parent process may have used those that are open."""
    close = getattr(given, "close", None)
    if callable(close) and hasattr(given, "meta"):  # a client of botocore's goes on after it; other things may not
        with contextlib.suppress(Exception):
            close()


def _inherited(name: str) -> OtherProcessError:
    return OtherProcessError(
        f"process {os.getpid()} was forked off the one in which this {name} was passed in. Two processes that share "
        "its connections read each other's answers, so nothing was sent. Make a client in this process and pass that "
        "in; or pass none, and each process makes its own"
    )
