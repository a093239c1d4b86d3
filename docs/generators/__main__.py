"""Writes the pages of the reference that come from the code: ``python docs/generators``, as ``make docs`` does.

The pages are kept in the repository, where they are read too; a test holds each against what the code says now.
"""

from __future__ import annotations

from pathlib import Path

from pages import PAGES

ROOT = Path(__file__).resolve().parents[2]

for path, page in PAGES.items():
    (ROOT / "docs" / path).write_text(page(), encoding="utf-8")
