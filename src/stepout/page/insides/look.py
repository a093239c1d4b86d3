"""What one look into an artifact has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
