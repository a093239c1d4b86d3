"""Tries out on a server what its word is not taken for: small objects of our own, which are removed again."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from stepout.artifacts.checksums import crc_of, sha256_of
from stepout.artifacts.retries import READ_RETRIES
from stepout.artifacts.store import ConflictError, Removes, Store
from stepout.schemas.errors import ArtifactExistsError, StepoutError
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.locations import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.artifacts.store_writes import WriteOptions, Written

_log = logger("stepout.artifacts")

TRIAL: Final = memoryview(b"written by stepout to see what this server does; it can be removed")


class TrialStore(Store, Removes, Protocol):
    """A store that can be tried out: what the trial writes is removed again."""


def trial_key(key: str) -> str:
    """Return a key that nobody else has, in the same folder as ``key`` or above it.

    >>> trial_key("runs/7f3c/features.parquet")[:24]
    'runs/7f3c/stepout-trial-'
    """
    name, folder = f"stepout-trial-{os.urandom(8).hex()}", key
    while folder := folder.rpartition("/")[0]:
        if len(f"{folder}/{name}".encode()) <= MAX_KEY_BYTES:
            return f"{folder}/{name}"
    return name


def honours_completion(store: TrialStore, key: str, options: WriteOptions) -> bool | None:
    """Complete a small upload where an object is.

    Args:
        store: The server's; a write-once completion through it sends its condition.
        key: What is to be written there; the trial goes beside it.
        options: Those of the write; encryption, tags and owner ride along, as a policy may demand them.

    Returns:
        Whether the server refused it; ``None`` where it could not be tried, for want of a right or an answer.
    """
    place, plain = trial_key(key), replace(options, mode="overwrite", media_type="text/plain", extra={})
    try:
        # The object comes last: a process that is killed in the middle should seldom leave it behind.
        with trial_upload(store, place, plain) as complete, trial_object(store, place, plain):
            complete(replace(plain, mode="create"))
    except (ArtifactExistsError, ConflictError):
        return True
    except StepoutError as error:
        where = f"s3://{store.bucket}/{key}"
        _log.warning("whether the server of %s completes uploads once only could not be tried: %s", where, error)
        return None
    return False


@contextlib.contextmanager
def trial_object(store: TrialStore, key: str, options: WriteOptions) -> Iterator[Written]:
    """Put a small object, and remove it when the block ends."""
    checksum = {"sha256": sha256_of([TRIAL])}
    written = READ_RETRIES.run(lambda: store.put(key, [TRIAL], checksum=checksum, options=options))
    try:
        yield written
    finally:
        try:
            store.remove(key, version_id=written.version_id)
        except StepoutError as error:
            _log.warning("s3://%s/%s, a trial of the server, could not be removed: %s", store.bucket, key, error)


@contextlib.contextmanager
def trial_upload(store: Store, key: str, options: WriteOptions) -> Iterator[Callable[[WriteOptions], Written]]:
    """Upload the same in one part, and lend what completes it; an upload that is not completed is removed."""
    wanted = store.profile.multipart_checksum
    checksum = sha256_of([TRIAL]) if wanted == "parts" else crc_of(wanted, [TRIAL])
    whole = None if wanted == "parts" else checksum
    upload = READ_RETRIES.run(lambda: store.start_upload(key, options=options))
    try:
        part = READ_RETRIES.run(lambda: store.put_part(key, upload, 1, [TRIAL], checksum=checksum))
        # Completed once only: a second try after a lost answer would be refused, and look as if the condition held.
        yield lambda how: store.complete_upload(key, upload, [part], size=len(TRIAL), checksum=whole, options=how)
    finally:
        with contextlib.suppress(StepoutError):  # one that was completed is gone
            store.abort_upload(key, upload)
