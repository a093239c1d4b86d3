"""A real browser, for what only one can show: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

__all__ = ["PHONE", "ColorScheme", "Visit", "start_browser", "visit"]

ColorScheme = Literal["light", "dark"]
"""What the reader has set in the system."""

PHONE = 360
"""Width of a narrow phone, in CSS pixels."""


@dataclass
class Visit:
    """A page in the browser, and what it did: its complaints on the console, and its requests to other hosts."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen from the beginning, and be patient: a busy machine is no fault of the page."""
        self.page.set_default_timeout(300_000)  # milliseconds
        self.page.on("console", lambda message: self._complained(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def is_wider_than_its_window(self) -> bool:
        """Tell whether a reader would have to scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def _complained(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "about:", "blob:")):
            self.requests.append(url)


def visit(browser: Browser, *, width: int = PHONE, color_scheme: ColorScheme = "light") -> Visit:
    """Return an empty page of one width and colour scheme."""
    return Visit(browser.new_page(viewport={"width": width, "height": 800}, color_scheme=color_scheme))


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Start Chromium, or skip the test with what brings it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium, or any Chrome on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in CI's containers, Chromium has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
