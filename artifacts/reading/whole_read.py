"""Whole objects: received in order, hashed as they come, and compared at the end before anybody has them."""

from __future__ import annotations

import io
from contextlib import closing
from typing import TYPE_CHECKING, Final

from stepout.artifacts.reading.pinned_object import PinnedObject, Verifier, verifier_for
from stepout.artifacts.reading.read_events import is_read
from stepout.artifacts.transfer.stages import BLOCK, Pipeline, Stage
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.artifacts.reading.access import Verify
    from stepout.artifacts.transfer.stages import RandomAccess

_SMALL: Final = 4 * BLOCK  # below it, a second thread costs more than it saves


@is_read("read_bytes")
def read_whole(pinned: PinnedObject, verify: Verify) -> bytes:
    """Read all of an object into memory, allocated once, and verify it.

    Args:
        pinned: The object.
        verify: What its bytes are held against; see ``verifier_for``.

    Raises:
        ConfigurationError: As for ``verifier_for``.
        ChecksumMismatchError: The bytes are not those that were written.
        StoreError: As for ``PinnedObject.get``.
    """
    verifier = verifier_for(pinned.pointer, verify)
    if _is_small(pinned):
        data = pinned.whole(hashed=verifier.algorithm is not None)
        verifier.update(memoryview(data))
    else:
        data = _read_large(pinned, verifier)
    verifier.finish()
    return data


def _is_small(pinned: PinnedObject) -> bool:
    """Say whether one request in this thread is the fastest; a server far away brings two blocks sooner than one."""
    if pinned.size <= BLOCK:
        return True
    from stepout.artifacts.process.budget import process_budget  # a cold read of something small does without

    # A process that knows no server may have no client either, which asking for this one would make.
    if pinned.size <= _SMALL and not process_budget().knows_servers:
        return True
    from stepout.artifacts.transfer.range_plan import begins_in_ranges  # a cold read of something small does without

    return pinned.size <= _SMALL and not begins_in_ranges(pinned.server)


def _read_large(pinned: PinnedObject, verifier: Verifier) -> bytes:
    """Receive into place while another thread hashes what is there already."""
    from stepout.artifacts.transfer.parallel_get import receive  # a cold read of something small does without

    hashing = Stage(verifier.update)
    memory = _Memory(pinned.size, hashing.add)
    hashing.start()
    try:
        receive(pinned, memory)
    finally:
        # However it ends: the thread holds views of the memory, which cannot be given away while one is left.
        hashing.add(None)
        hashing.join()
    hashing.check()
    return memory.value()


class _Memory:
    """The memory for a whole object, allocated once.

    Args:
        size: Of the object, in bytes.
        then: Is given each stretch once it has its bytes.
    """

    in_place = True

    def __init__(self, size: int, then: Callable[[memoryview], object]) -> None:
        self._size, self._then = size, then
        self._position = 0
        self._file = io.BytesIO()
        self._buffer = memoryview(b"")

    def lend(self) -> memoryview:
        """Return the place of the next bytes."""
        self._allocate()
        return self._buffer[self._position : self._position + BLOCK]

    def add(self, view: memoryview) -> None:
        """Take the next bytes: they are copied to their place unless they were read into it."""
        self._allocate()
        place = self._buffer[self._position : self._position + len(view)]
        if view.obj is not place.obj:
            place[:] = view
        self._position += len(view)
        self._then(place)

    def pass_on(self, view: memoryview, release: Callable[[], None]) -> None:
        """Take the next bytes, and give back at once where they were."""
        self.add(view)
        release()

    def value(self) -> bytes:
        """Return everything; the file gives its very memory away, if no view of it is left, and else a copy."""
        self._buffer.release()
        return self._file.getvalue()[: self._size]

    def _allocate(self) -> None:
        if not self._buffer:  # the first response's head has been compared by now: only then is the memory taken
            self._file.seek(self._size - 1)
            self._file.write(b"\0")
            self._buffer = self._file.getbuffer()


def drain(
    pinned: PinnedObject,
    verifier: Verifier,
    *stages: Callable[[memoryview], object],
    file: RandomAccess | None = None,
) -> None:
    """Receive all of an object, take each block through all stages, and verify it; large ones through a ``Pipeline``.

    Args:
        pinned: The object.
        verifier: What its bytes are held against; it takes each block behind the stages.
        stages: They write or count; an exception of one ends the download.
        file: Where the first stage writes, if that may be done in any order: its views are then partly written.

    Raises:
        ChecksumMismatchError: The bytes are not those that were written.
        StoreError: As for ``PinnedObject.get``.
    """
    takes = (*stages, verifier.update)
    if _is_small(pinned):
        with closing(pinned.blocks(hashed=verifier.algorithm is not None)) as blocks:
            for view in blocks:
                for take in takes:
                    take(view)
    else:
        from stepout.artifacts.transfer.parallel_get import receive  # as in ``_read_large``

        with Pipeline(*takes, file=file) as pipeline:
            receive(pinned, pipeline)
    verifier.finish()


def compare_whole(pinned: PinnedObject, count: Callable[[int], None] | None = None) -> Mapping[str, str]:
    """Read an object whole and compare it, whatever ``resolve`` was told: ``verify()`` is asked for by its name."""
    pointer = pinned.pointer
    verifier = verifier_for(pointer, "sha256" if pinned.access.verify == "sha256" else True)
    if verifier.algorithm is None:
        msg = f"{pointer.url} has no checksum to compare with: it is held to its size and ETag only"
        raise ConfigurationError(msg)
    drain(pinned, verifier, *([] if count is None else [lambda view: count(len(view))]))
    return {verifier.algorithm: verifier.actual()}
