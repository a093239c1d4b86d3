"""What the tests of looking into artifacts share: a bucket in memory, what to put there, and a look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.resolve import resolve_artifact
from stepout.page.budget import PageBudget
from stepout.page.insides import look_inside
from support.shelf import ALLOW, Shelf

if TYPE_CHECKING:
    from stepout.page.insides import Look
    from stepout.schemas import Pointer


@dataclass
class Bench:
    """A bucket in memory, a manager that writes there, and looks at what was written.

    Attributes:
        budget: What the last look could spend, and has spent.
    """

    shelf: Shelf = field(default_factory=Shelf)
    budget: PageBudget = field(default_factory=PageBudget)

    @property
    def artifacts(self) -> ArtifactManager:
        """A manager; anew each time, so that names may be used again."""
        return ArtifactManager(self.shelf.store, "runs")

    def look(self, pointer: Pointer, budget: PageBudget | None = None, **how: Any) -> Look:
        """Look into what a pointer names; ``how`` goes to ``resolve_artifact``."""
        self.budget = budget or PageBudget()
        options = {"allow": ALLOW, "client": self.shelf.store, **how}
        return look_inside(resolve_artifact(pointer, **options), self.budget)
