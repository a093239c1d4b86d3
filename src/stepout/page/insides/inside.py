"""One look into one artifact: whatever goes wrong becomes a part of its card, and the page is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.page.insides.look import Look

if TYPE_CHECKING:
    from stepout.artifacts.reading.artifact import Artifact
    from stepout.page.budget import PageBudget


def look_inside(artifact: Artifact, budget: PageBudget) -> Look:
    """Look into an artifact, as far as the budget allows.

    Args:
        artifact: From ``resolve``: the allow-list, the client and ``verify`` are those that it was resolved with.
        budget: What may be read; everything that is read is counted there.

    Returns:
        What was found. No error of reading leaves this function: it becomes the ``problem``.
    """
    del budget
    return Look(verified_note=f"{artifact.media_type}: a page shows nothing of its content")
