"""A look into an image: a thumbnail, and what the image is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepout.artifacts.formats.thumbnails import SECONDS, make_thumbnail
from stepout.artifacts.reading.whole_read import read_whole
from stepout.page.model import CardProblem, ImageInside
from stepout.schemas.errors import ArtifactTooLargeError, UndecodableError

if TYPE_CHECKING:
    from stepout.page.insides.look import Look, ReadForLook


def look_at_image(read: ReadForLook) -> Look:
    """Read an image whole, and make its thumbnail.

    Raises:
        PageBudgetError: It is larger than what the page may read; nothing was read.
        StoreError: It could not be read.
    """
    pinned, budget = read.pinned, read.budget
    budget.check(pinned.size)
    data = read_whole(pinned, pinned.access.verify)
    try:
        found = make_thumbnail(data, seconds=min(budget.seconds_left, SECONDS))
    except (ArtifactTooLargeError, UndecodableError) as error:  # of bytes that are those written
        problem = CardProblem(error=error.error_name, message=str(error))
        return replace(read.whole(None), problem=problem).noting("It could not be decoded, so that nothing is shown.")
    inside = ImageInside(
        width=found.width,
        height=found.height,
        format=found.format,
        frames=found.frames,
        thumbnail=found.data,
        thumbnail_width=found.small_width,
        thumbnail_height=found.small_height,
    )
    return read.whole(inside).noting(
        "Its values are no colours: the thumbnail goes from the least (black) to the greatest (white)."
        if found.stretched
        else "",
        "" if found.all_counted else f"It may have more than {found.frames:,} frames.",
    )
