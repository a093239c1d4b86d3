"""One finding of a validation: where it is, of what kind it is, and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a validation.

    Attributes:
        location: A JSON path such as ``$.artifacts.features.size``.
        kind: A stable word that programs branch on, such as ``"type"``, ``"missing"`` or ``"pattern"``.
        message: A sentence for people. It never quotes the value that was found.
    """

    location: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"
