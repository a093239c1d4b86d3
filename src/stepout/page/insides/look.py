"""What one look into an artifact has found, what it has read for that, and how to say what was compared."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stepout.artifacts.reading.pinned_object import PinnedObject, verifier_for
from stepout.artifacts.reading.ranges.block_cache import BlockCache

if TYPE_CHECKING:
    from stepout.artifacts.reading.artifact import Artifact
    from stepout.page.budget import PageBudget
    from stepout.page.model import CardProblem, ImageInside, TableInside, TextInside, TreeInside, Verified


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found inside of one artifact: the members of ``ArtifactCard`` that reading it fills in.

    Attributes:
        inside: What it holds; ``None`` if it was not read, and ``problem`` or ``verified_note`` says why.
        verified: How much of it was read and compared with its pointer.
        verified_note: What that means here, and what stayed unread: sentences.
        problem: Why it could not be read, or what is wrong with what was read; ``inside`` may have some of it.
    """

    inside: ImageInside | TableInside | TextInside | TreeInside | None = None
    verified: Verified = "not"
    verified_note: str = ""
    problem: CardProblem | None = None

    def noting(self, *sentences: str) -> Look:
        """Return the same with more sentences in its note; empty ones are left out."""
        return replace(self, verified_note=" ".join(filter(None, (self.verified_note, *sentences))))


class ReadForLook:
    """One artifact that is being looked into: how it is read, within the page's budget, and how much has come.

    A page says how artifacts are now. What the process has verified before is not made use of: the object may be gone.

    Args:
        artifact: It.
        budget: What the page may read.

    Attributes:
        budget: As the argument.
        pinned: The object; every request for it, and every byte of it, is counted.
        bytes_read: What has come so far.
    """

    def __init__(self, artifact: Artifact, budget: PageBudget) -> None:
        self.budget = budget
        access = replace(artifact.access, meter=self, kept=BlockCache(budget.share))
        self.pinned = PinnedObject(access, artifact.pointer)
        self.bytes_read = 0
        self._lock = threading.Lock()  # a large object comes over several connections

    def request(self, url: str) -> None:
        """Count a request, as a ``ReadMeter`` does; raises ``PageBudgetError``."""
        self.budget.request(url)

    def received(self, url: str, size: int) -> None:
        """Count bytes, as a ``ReadMeter`` does; raises ``PageBudgetError``."""
        with self._lock:
            self.bytes_read += size
        self.budget.received(url, size)

    def failed(self, problem: CardProblem) -> Look:
        """Return what is said of an artifact that has a problem: nothing of it is shown, and why it is not verified."""
        if not self.bytes_read:
            return Look(problem=problem, verified_note=NOTHING_READ)
        read = f"{min(self.bytes_read, self.pinned.size):,} of its {self.pinned.size:,} bytes were read"
        why = "they are not those that were written" if problem.error in _DAMAGE else "it could not be looked into"
        return Look(problem=problem, verified_note=f"{read}, but {why}: nothing of it is shown.")

    def whole(self, inside: ImageInside | TableInside | TextInside | TreeInside | None) -> Look:
        """Return what was found in an artifact that was read whole."""
        algorithm = verifier_for(self.pinned.pointer, self.pinned.access.verify).algorithm
        if algorithm is None:
            return Look(inside=inside, verified_note=f"It was read, and compared with nothing: {self._nothing()}.")
        note = f"All of its bytes were read and compared with the {_SPELLED[algorithm]} in its pointer."
        return Look(inside=inside, verified="whole", verified_note=note)

    def part(
        self, inside: ImageInside | TableInside | TextInside | TreeInside | None, how: str, *, every: bool = False
    ) -> Look:
        """Return what was found in an artifact of which only a part was read.

        Args:
            inside: It.
            how: What the part was compared with, as the end of a sentence.
            every: Whether the parts are all that there is, if as many bytes came as it has.
        """
        size = self.pinned.size
        read = f"{min(self.bytes_read, size):,} of its {size:,} bytes were read"
        if self.pinned.access.verify in (False, "pinned"):
            return Look(inside=inside, verified_note=f"{read}, and compared with nothing: {self._nothing()}.")
        if not self.bytes_read:
            return Look(inside=inside, verified_note=f"{read}.")
        if every and self.bytes_read == size:
            note = (
                f"All of its {size:,} bytes were read and compared, block by block, with the checksums in its footer."
            )
            return Look(inside=inside, verified="whole", verified_note=note)
        return Look(inside=inside, verified="part", verified_note=f"{read} and compared with {how}.")

    def _nothing(self) -> str:
        if self.pinned.access.verify in (False, "pinned"):
            return "the page was asked to verify nothing"
        return "its pointer has no checksum"


_DAMAGE: Final = ("Stepout.ChecksumMismatch", "Stepout.SizeMismatch")
NOTHING_READ: Final = "Nothing of it was read."
_SPELLED = {"sha256": "SHA-256", "crc64nvme": "CRC64NVME", "crc32": "CRC32"}
