"""``ForeignArtifact``: what another tool's reference names, as an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.artifacts.reading.artifact import Artifact
from stepout.artifacts.reading.documents.foreign import describe

if TYPE_CHECKING:
    from stepout.artifacts.reading.access import Access
    from stepout.artifacts.reading.documents.foreign import ForeignKind, ForeignReference
    from stepout.schemas.pointer import Pointer


class ForeignArtifact(Artifact):
    """What another tool's reference names: the reference has no checksum of the bytes that were written.

    Reads are held to the size and ETag that the object had when it was resolved, and to S3's own checksum of the whole
    object where it has one (``verifiable``). ``verify()`` raises where it has none.

    Args:
        pointer: What a HEAD said of the object.
        access: How to read it.
        kind: Whose reference it was.
    """

    def __init__(self, pointer: Pointer, access: Access, kind: ForeignKind) -> None:
        super().__init__(pointer, access)
        self.kind = kind
        self._made_of = (pointer, access, kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of


def make_foreign(reference: ForeignReference, access: Access) -> ForeignArtifact:
    """Describe what another tool's reference names, by one HEAD, and return its artifact.

    Raises:
        NotAllowedError: The allow-list does not hold it; nothing was requested.
        ReadBudgetError: The resolve's budget of requests is spent.
        StoreError: Missing, denied, or unreachable.
    """
    return ForeignArtifact(describe(access, reference), access, reference.kind)
