"""A page of a run: what came out of it, what is inside, where the time went, what failed."""

from __future__ import annotations

from stepout.page.budget import PageBudget
from stepout.page.write import write_page

__all__ = ["PageBudget", "write_page"]
