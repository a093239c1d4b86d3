"""The generators of the reference's pages, which stand beside the pages and in no package."""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GENERATORS = Path(__file__).resolve().parents[2] / "docs" / "generators"


@functools.cache
def generated_pages() -> Mapping[str, Callable[[], str]]:
    """Return the function of each generated page, by its path below ``docs/``."""
    sys.path.insert(0, str(GENERATORS))
    try:
        pages: Mapping[str, Callable[[], str]] = import_module("pages").PAGES
    finally:
        sys.path.remove(str(GENERATORS))
    return pages
