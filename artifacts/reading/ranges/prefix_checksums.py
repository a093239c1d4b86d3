"""The checksums behind ``Artifact.open()``: of every prefix that was read in order, each of its bytes hashed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.schemas.errors import ChecksumMismatchError

if TYPE_CHECKING:
    from stepout.artifacts.reading.pinned_object import Verifier
    from stepout.schemas.pointer import Pointer


class PrefixChecksums:
    """The checksums of prefixes: bytes that were read in order from an object's start, once or several times.

    A read at 0 begins a prefix. A read that takes in the place where a prefix stops extends it. One that comes to where
    an earlier prefix stops must have the same bytes, and from there both are one: so damage in any of them is found by
    the one that reaches the end, and no read is hashed twice.

    Args:
        pointer: What the bytes should be.
        verifier: It makes the prefixes' checksums, and takes nothing itself.
    """

    def __init__(self, pointer: Pointer, verifier: Verifier) -> None:
        self._pointer = pointer
        self._verifier = verifier
        # In the order of their beginning. Each is shorter than the one before it, with which it would be one otherwise.
        self._prefixes: list[_Prefix] = []
        self.verified_to = 0

    def take(self, start: int, piece: memoryview) -> None:
        """Take bytes that were read.

        Args:
            start: Where they begin in the object.
            piece: At least one byte.

        Raises:
            ChecksumMismatchError: They reach the end, and what the prefix took is not what was written; or they reach
                the end of an earlier prefix, which took other bytes.
        """
        if self._verifier.algorithm is None:
            return
        if start == 0:
            self._prefixes.append(_Prefix(self._verifier.again()))
        # The shortest that these bytes join on to: the longer ones are compared with it when it comes to them.
        index = next((i for i in reversed(range(len(self._prefixes))) if self._prefixes[i].stop >= start), None)
        if index is None or self._prefixes[index].stop >= start + len(piece):
            return
        index = self._extend(index, start, piece)
        self.verified_to = self._prefixes[index].stop
        if self.verified_to == self._pointer.size:
            self._prefixes.pop(index).verifier.finish()

    def _extend(self, index: int, start: int, piece: memoryview) -> int:
        """Take a prefix through ``piece``, and return its index, which becomes less where it meets earlier ones."""
        current, stop = self._prefixes[index], start + len(piece)
        while index and self._prefixes[index - 1].stop <= stop:
            earlier = self._prefixes.pop(index - 1)
            index -= 1
            # Only up to where the earlier one stops: both checksums are of the same length then, and can be compared.
            current.extend(start, piece, earlier.stop)
            if current.verifier.actual() != earlier.verifier.actual():
                msg = (
                    f"{self._pointer.url}: its first {current.stop:,} bytes were read twice and differed, so one of "
                    "the reads gave bytes that are not those written. Open it and read it again; if it persists, the "
                    "stored object is damaged: run the task again"
                )
                raise ChecksumMismatchError(msg)
        current.extend(start, piece, stop)
        return index


class _Prefix:
    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.stop = 0

    def extend(self, start: int, piece: memoryview, stop: int) -> None:
        if stop > self.stop:
            self.verifier.update(piece[self.stop - start : stop - start])
            self.stop = stop
