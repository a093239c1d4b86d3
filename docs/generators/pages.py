"""The generated pages: a path below ``docs/``, and the function that returns the page's Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli import cli_page
from doctor_rules import doctor_rules_page
from documents import documents_page
from errors import errors_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/cli.md": cli_page,
    "reference/doctor-rules.md": doctor_rules_page,
    "reference/documents.md": documents_page,
    "reference/errors.md": errors_page,
}
