"""The identity of the run that writes: what is known, completed with what this process adds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.identity import MAP_INDEX

Clock = Callable[[], datetime]
"""Returns the time, with its zone."""

Random = Callable[[int], bytes]
"""Returns so many random bytes, as ``os.urandom`` does."""

_NONCE_BYTES: Final = 6


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """Return a time as documents hold it: UTC, whole seconds, ``Z``.

    >>> rfc3339(datetime(2026, 11, 22, 12, 0, 0, 7, tzinfo=UTC))
    '2026-11-22T12:00:00Z'
    """
    there = time if time.tzinfo is UTC else time.astimezone(UTC)
    return there.isoformat(timespec="seconds")[:-6] + "Z"  # in place of +00:00; strftime takes five times as long


def process_nonce() -> str:
    """Return this process's nonce: the same at every call, another one after a fork."""
    return _nonce_of(os.getpid())


@functools.cache
def _nonce_of(pid: int) -> str:  # noqa: ARG001 - the cache's key: a forked child is another process
    return os.urandom(_NONCE_BYTES).hex()


@functools.cache
def _run_id_of(pid: int) -> str:  # noqa: ARG001 - as above
    return new_run_id(utc_now(), os.urandom)


def new_run_id(time: datetime, random: Random) -> str:
    """Return a name that sorts by time and that no other process draws.

    >>> new_run_id(datetime(2026, 11, 22, 12, 0, 0, 7000, tzinfo=UTC), bytes)
    '20261122T120000007Z-000000000000'
    """
    stamp = time.astimezone(UTC)
    return f"{stamp:%Y%m%dT%H%M%S}{stamp.microsecond // 1000:03d}Z-{random(_NONCE_BYTES).hex()}"


@functools.cache
def version() -> str | None:
    """Return the installed version of stepout; ``None`` where it runs from a bare folder without metadata."""
    from importlib import metadata

    try:
        return metadata.version("stepout")
    except metadata.PackageNotFoundError:
        return None


def resolve_run(run: RunIdentity | None, *, clock: Clock = utc_now, random: Random | None = None) -> RunIdentity:
    """Complete a run's identity.

    Args:
        run: What is known. A run with any member set gets this process's nonce and run id, so that two
            managers with the same run make the same keys; an empty run is a new run each time.
        clock: Where the time in a run id comes from.
        random: Where the nonce comes from; ``None`` means the nonce of this process.

    Returns:
        The identity with nonce and version, and with a run id where there is no execution.
    """
    known = _checked(RunIdentity() if run is None else run)
    nonce = known.nonce or (process_nonce() if random is None else random(_NONCE_BYTES).hex())
    run_id = known.run_id
    if known.execution is None and run_id is None:
        shared = known != RunIdentity() and random is None
        run_id = _run_id_of(os.getpid()) if shared else new_run_id(clock(), random or os.urandom)
    return replace(known, nonce=nonce, run_id=run_id, version=known.version or version())


def _checked(run: RunIdentity) -> RunIdentity:
    if not isinstance(run, RunIdentity):
        msg = f"run is of type {type(run).__name__}: expected RunIdentity(execution=…, state=…, attempt=…)"
        raise ConfigurationError(msg)
    for name in ("execution", "parent_execution", "state", "map_index", "nonce", "run_id", "version", "started_at"):
        value = getattr(run, name)
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigurationError(f"run: {name} is of type {type(value).__name__}, or empty; expected text or None")
    for name in ("attempt", "redrive"):
        value = getattr(run, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ConfigurationError(f"run: {name} is {value!r}: expected a whole number, 0 or more, or None")
    if run.map_index is not None and not MAP_INDEX.fullmatch(run.map_index):
        raise ConfigurationError("run: map_index: expected an index as text, or a path of them such as '3-0'")
    return run
