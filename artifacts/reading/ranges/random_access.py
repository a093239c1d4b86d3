"""A raw file over one object, for engines that read it here and there: every read of it is verified, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.artifacts.reading.pinned_object import Verifier, verifier_for
from stepout.artifacts.reading.ranges.blocks import CheckedPages, VerifiedBytes, WholeObject, blocks_for
from stepout.artifacts.reading.ranges.parquet_footer import footer_of
from stepout.artifacts.reading.ranges.reader import BUFFER, WHEN_FOLLOWED, ArtifactReader
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import io

    from stepout.artifacts.reading.access import Verify
    from stepout.artifacts.reading.pinned_object import PinnedObject


def open_random(pinned: PinnedObject, verify: Verify, *, pages: bool = False) -> io.RawIOBase:
    """Return a seekable raw file; nothing is requested before its first read. Several may read one object at once.

    Where the pointer announces a list of blocks, each read fetches and verifies the blocks that it lies in. Any other
    object is read whole at the first read, verified, and kept while the file lives.

    Args:
        pinned: The object.
        verify: What it is held against. ``"sha256"``: by blocks only where those have SHA-256, else whole. ``"pinned"``
            or ``False``: ranges are held to the version, and not verified.
        pages: Whether the reader compares the checksums of Parquet's pages: a file without a list of blocks is then
            read in ranges, once the digest of its footer was compared, as files of older versions are.

    Raises:
        ConfigurationError: It can only be verified as a whole, and is larger than what may be read into memory; or
            ``verify="sha256"``, and its pointer has no SHA-256.
    """
    verified: VerifiedBytes | None = None
    if verify is not False and verify != "pinned":
        verifier_for(pinned.pointer, verify)
        blocks, footer = blocks_for(pinned, verify), footer_of(pinned.pointer) if pages else None
        if blocks is not None and not (verify == "sha256" and blocks.forgeable):
            verified = blocks
        elif blocks is None and footer is not None and verify is True and pinned.size > BUFFER:
            verified = CheckedPages(pinned, footer)
        else:
            verified = _whole(pinned, verify)
    return ArtifactReader(pinned, Verifier(pinned.pointer, None), ahead=WHEN_FOLLOWED, verified=verified)


def _whole(pinned: PinnedObject, verify: Verify) -> WholeObject:
    limit = pinned.access.limit
    if pinned.size > limit:
        what = "a list of blocks" if verify is True else "a list of blocks with SHA-256"
        msg = (
            f"{pinned.pointer.url} has {pinned.size:,} bytes and not {what}: it can only be verified as a whole, and "
            f"the limit of reads into memory is {limit:,}. Nothing was read. Pass max_size= to resolve, download it, "
            'or pass verify="pinned" to read ranges that are not verified'
        )
        raise ConfigurationError(msg)
    return WholeObject(pinned, verify)
