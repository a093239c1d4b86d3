"""The generated pages: a path below ``docs/``, and the function that returns the page's Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from doctor_rules import doctor_rules_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/doctor-rules.md": doctor_rules_page,
}
