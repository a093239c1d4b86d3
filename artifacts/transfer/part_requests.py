"""The requests for the parts of one upload: which are on their way, which was first, which are late.

A part that takes far longer than its siblings is asked for a second time (``tails``). The first answer wins, and the
other request is cancelled. It may arrive all the same: both carry the same bytes and checksum, so it makes no other
object (``conditional_write.completed``). A part's buffers are in use until the last request for it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from stepout.artifacts.blocks import part_digests, whole_crc
from stepout.artifacts.checksums import crc_of
from stepout.artifacts.transfer.tails import Tails, least_late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.artifacts.blocks import WantedBlocks
    from stepout.artifacts.process.servers import ServerState
    from stepout.artifacts.s3.request_bodies import Views
    from stepout.artifacts.store import Cancellation
    from stepout.artifacts.store_writes import PartReceipt
    from stepout.artifacts.transfer.buffer_pool import Buffer
    from stepout.artifacts.transfer.tails import Asked


@dataclass(eq=False)
class PendingPart:
    """The bytes of one part, and the buffers that hold them until it is both sent and hashed."""

    number: int
    views: Views
    buffers: Sequence[Buffer] = ()
    holders: int = 2
    """The hasher, and everybody who sends it or will; the last one to finish gives the buffers back."""

    claims: int = 1
    """Of those who will see to it that it arrives: the one with its tries, at work or in the queue, and each second
    request. It is lost once the last of them has failed."""

    tries: int = 1
    """Of the first request, whichever thread sends it."""

    since: float | None = None
    """When that one left first, on the clock of ``Retries``."""

    digests: bytes = b""
    """Of its blocks, once ``checked`` was called and where they are wanted."""

    _checksum: str | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.views))

    def checked(self, wanted: Literal["crc64nvme", "crc32", "parts"], blocks: WantedBlocks | None) -> str:
        """Return the checksum that goes with the part, computed once.

        Args:
            wanted: The algorithm of the store's profile, or ``"parts"``: SHA-256.
            blocks: Which digests of its blocks to take; ``None`` for none.
        """
        if self._checksum is None:
            if blocks is not None:
                self.digests = part_digests(blocks.algorithm, self.views)
            if wanted == "parts":
                self._checksum = self.views.sha256()
            elif blocks is not None and wanted == blocks.algorithm:
                self._checksum = whole_crc(wanted, self.digests, self.size)
            else:
                self._checksum = crc_of(wanted, self.views)
        return self._checksum


@dataclass(eq=False)
class PartRequest:
    """One request on its way; made by ``PartRequests.begin``."""

    part: PendingPart
    asked: Asked[int]
    cancellation: Cancellation | None


class LatePart(NamedTuple):
    """A part that is to be asked for again, and when; the time may have passed."""

    part: PendingPart
    at: float


@dataclass
class PartRequests:
    """What is on its way, guarded by the lock of whoever uses it.

    Attributes:
        receipts: Of the parts that have arrived, by number.
        digests: Of the blocks of the parts that have left, by number.

    Args:
        server: What is known of the server, and learns from every answer.
        total: Bytes of the object; ``None``: not known.
    """

    server: ServerState
    total: int | None
    receipts: dict[int, PartReceipt] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tails: Tails[int] = Tails(self.total)
        self.learn()
        self._open: dict[int, list[PartRequest]] = {}

    def learn(self) -> None:
        """Take over what is known of the server by now."""
        latency = self.server.latency
        self._tails.latency, self._tails.least = latency or 0.0, least_late(latency)

    @property
    def extra(self) -> int:
        """Bytes that were asked for a second time."""
        return self._tails.extra

    @property
    def cancellations(self) -> list[Cancellation]:
        """What ends each request that is on its way."""
        requests = (each for part in self._open.values() for each in part)
        return [each.cancellation for each in requests if each.cancellation is not None]

    @property
    def unanswered(self) -> int:
        """How many parts are on their way and have not arrived."""
        return sum(number not in self.receipts for number in self._open)

    def begin(self, part: PendingPart, cancellation: Cancellation | None, now: float) -> PartRequest | None:
        """Take note that a request leaves; ``None``: the part has arrived meanwhile, and need not be sent."""
        if part.number in self.receipts:
            return None
        self.digests[part.number] = part.digests
        request = PartRequest(part, self._tails.began(part.number, part.size, now), cancellation)
        self._open.setdefault(part.number, []).append(request)
        return request

    def answered(self, request: PartRequest, receipt: PartReceipt, now: float) -> list[Cancellation] | None:
        """Take note of an answer.

        Returns:
            What ends the other requests for this part, which are of no more use; ``None`` if another one was first.
        """
        self._tails.ended(request.asked, now)
        others = self._without(request)
        if receipt.number in self.receipts:
            return None
        self.receipts[receipt.number] = receipt
        return [each.cancellation for each in others if each.cancellation is not None]

    def failed(self, request: PartRequest) -> bool:
        """Take note that a request was not answered, or was refused; say whether another one has brought the part."""
        self._tails.gave_up(request.asked)
        self._without(request)
        return request.part.number in self.receipts

    def late(self, now: float, *, last: bool) -> LatePart | None:
        """Return which part is to be asked for again, and when; as ``Tails.due`` does.

        Args:
            now: The time.
            last: Whether nothing else is left to be sent.
        """
        due = self._tails.due(now, needed=lambda _: last, slowed=self.server.slowed)
        return None if due is None else LatePart(self._open[due.key][0].part, due.at)

    def repeat(self, part: PendingPart) -> None:
        """Take note that one more thread sends a part."""
        self._tails.repeats(part.number)
        part.claims, part.holders = part.claims + 1, part.holders + 1

    def _without(self, request: PartRequest) -> list[PartRequest]:
        """Forget a request, and return the others for its part."""
        number = request.part.number
        others = [each for each in self._open.get(number, ()) if each is not request]
        if others:
            self._open[number] = others
        else:
            self._open.pop(number, None)
        return others
