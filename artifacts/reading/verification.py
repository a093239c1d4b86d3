"""What ``Artifact.open()`` hashes: every pass that reads an object in order from its start, each byte of it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.schemas.errors import ChecksumMismatchError

if TYPE_CHECKING:
    from stepout.artifacts.reading.pinned_object import Verifier
    from stepout.schemas.pointer import Pointer


class Passes:
    """The checksums of bytes that are read in order from an object's start, once or several times.

    A read at 0 begins a pass. A read that takes in the place where a pass stopped carries it on. A pass that comes to
    where an earlier one stopped must have taken the same bytes, and from there both are one: so damage in any of them
    is found by the one that reaches the end, and no read is hashed twice.

    Args:
        pointer: What the bytes should be.
        verifier: It makes the passes' checksums, and takes nothing itself.
    """

    def __init__(self, pointer: Pointer, verifier: Verifier) -> None:
        self._pointer = pointer
        self._verifier = verifier
        # In the order of their beginning. Each is shorter than the one before it, with which it would be one otherwise.
        self._passes: list[_Pass] = []
        self.verified_to = 0

    def take(self, start: int, piece: memoryview) -> None:
        """Take bytes that were read.

        Args:
            start: Where they begin in the object.
            piece: At least one byte.

        Raises:
            ChecksumMismatchError: They reach the end, and what the pass took is not what was written; or they reach the
                end of an earlier pass, which took other bytes.
        """
        if self._verifier.algorithm is None:
            return
        if start == 0:
            self._passes.append(_Pass(self._verifier.again()))
        index = next((i for i in reversed(range(len(self._passes))) if self._passes[i].stop >= start), None)
        if index is None or self._passes[index].stop >= start + len(piece):
            return
        index = self._carry_on(index, start, piece)
        self.verified_to = self._passes[index].stop
        if self.verified_to == self._pointer.size:
            self._passes.pop(index).verifier.finish()

    def _carry_on(self, index: int, start: int, piece: memoryview) -> int:
        """Take a pass through ``piece``, and return its index, which becomes less where it meets earlier passes."""
        current, stop = self._passes[index], start + len(piece)
        while index and self._passes[index - 1].stop <= stop:
            earlier = self._passes.pop(index - 1)
            index -= 1
            current.advance(start, piece, earlier.stop)
            if current.verifier.actual() != earlier.verifier.actual():
                msg = (
                    f"{self._pointer.url}: its first {current.stop:,} bytes were read twice and differed, so one of "
                    "the reads gave bytes that are not those written. Open it and read it again; if it persists, the "
                    "stored object is damaged: run the task again"
                )
                raise ChecksumMismatchError(msg)
        current.advance(start, piece, stop)
        return index


class _Pass:
    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.stop = 0

    def advance(self, start: int, piece: memoryview, stop: int) -> None:
        if stop > self.stop:
            self.verifier.update(piece[self.stop - start : stop - start])
            self.stop = stop
