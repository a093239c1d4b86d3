"""The documentation's site: its generated pages are those of the code, and it builds without a fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.browser import start_browser, visit
from support.site import generated_pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser
    from support.browser import ColorScheme

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)|<link\b[^>]*\bhref=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    with start_browser() as started:
        yield started


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


def test_search_works_in_a_site_that_is_opened_from_its_folder(site: Path, browser: Browser) -> None:
    """Without a server and without a network, a word leads to the pages that have it."""
    opened = visit(browser)
    opened.page.goto((site / "how-to" / "index.html").as_uri())
    opened.page.locator("label[for=__search]").first.click()
    opened.page.locator("input.md-search__input").press_sequentially("heartbeat")
    results = opened.page.locator(".md-search-result__item a")
    results.first.wait_for()
    assert results.count() > 3
    results.first.click()
    opened.page.wait_for_url(re.compile(r"\?h="))
    assert (opened.requests, opened.complaints) == ([], [])


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_complains_of_nothing(
    site: Path, browser: Browser, color_scheme: ColorScheme
) -> None:
    """At 360 px nobody scrolls sideways; the console stays empty, and no request leaves the folder."""
    opened = visit(browser, color_scheme=color_scheme)
    too_wide = []
    for page in sorted({*site.rglob("*.html")} - {site / "404.html"}):  # a server's page, with a server's paths
        opened.page.goto(page.as_uri())
        if opened.is_wider_than_its_window():
            too_wide.append(str(page.relative_to(site)))
    assert too_wide == []
    assert (opened.requests, opened.complaints) == ([], [])
