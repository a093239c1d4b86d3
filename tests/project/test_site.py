"""The documentation's site: its generated pages are those of the code, and it builds without a fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.site import generated_pages

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)|<link\b[^>]*\bhref=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("path", sorted(generated_pages()))
def test_a_generated_page_is_what_the_code_says_now(path: str) -> None:
    """``make docs`` has been run since the code changed."""
    assert (ROOT / "docs" / path).read_text(encoding="utf-8") == generated_pages()[path](), "run make docs"


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(site: Path) -> None:
    """Links and anchors lead somewhere, and no page's source names a script, style or picture of another host."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    loaded = {a or b for page in pages for a, b in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert loaded
    assert [each for each in loaded if each.startswith(("http:", "https:", "//"))] == []
