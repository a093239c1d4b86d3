"""What a real browser makes of a page: nothing runs, nothing is requested, and it can be read by everybody."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from support import pages
from support.browser import PHONE, start_browser, visit

import stepout
from stepout.artifacts.memory import MemoryStore
from stepout.page.rendering.render import render_page
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser
    from support.browser import ColorScheme, Visit

ALL = ("rich", "failed", "running", "documents", "hostile", "huge")
SCHEMES: tuple[ColorScheme, ...] = ("light", "dark")
DESKTOP = 1200

_CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 10.31475 ? v / 3294.6 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.slice(0, 3).map(linear);
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (!element.checkVisibility() || element.closest('title, desc')) continue;
    const style = getComputedStyle(element);
    const ink = light(rgb(element.closest('svg') ? style.fill : style.color)), paper = light(ground(element));
    const ratio = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    if (ratio < 4.5) found.push([walker.currentNode.textContent.trim().slice(0, 40), element.className, ratio]);
  }
  return found;
}"""

_OUTLINE = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  return {
    headings: all('h1,h2,h3,h4,h5,h6').map(h => Number(h.tagName[1])),
    landmarks: ['header', 'nav', 'main', 'footer'].map(name => all(`body > ${name}, header > ${name}`).length),
    uncaptioned: all('table').filter(t => !t.caption || !t.caption.textContent.trim()).length,
    untitled: all('svg[role]').filter(s => !s.querySelector(':scope > title')).length,
    unhidden: all('svg:not([role])').filter(s => !s.closest('[aria-hidden], svg[role]')).length,
    nameless: all('img:not([alt]), [role=region]:not([aria-label]), input:not([id])').length,
    unreachable: all('.scroll, pre').filter(e => e.tabIndex !== 0).length,
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    with start_browser() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page, in files, as somebody gets them by mail."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ALL:
        (folder / f"{name}.html").write_text(render_page(getattr(pages, f"{name}_page")()), "utf-8", newline="\n")
    return folder


def _opened(browser: Browser, folder: Path, name: str, width: int = DESKTOP, scheme: ColorScheme = "light") -> Visit:
    opened = visit(browser, width=width, color_scheme=scheme)
    opened.page.goto((folder / f"{name}.html").as_uri())
    return opened


@pytest.mark.parametrize("name", ALL)
def test_a_page_fits_every_window_and_does_nothing(browser: Browser, folder: Path, name: str) -> None:
    """At a phone's width and a desk's, in both schemes, nobody scrolls sideways; no complaint, no request."""
    for scheme in SCHEMES:
        opened = _opened(browser, folder, name, PHONE, scheme)
        assert not opened.is_wider_than_its_window()
        opened.page.set_viewport_size({"width": DESKTOP, "height": 800})
        assert not opened.is_wider_than_its_window()
        assert opened.page.evaluate(_CONTRASTS) == []
        assert (opened.requests, opened.complaints) == ([], [])
        opened.page.close()


def test_the_schemes_differ(browser: Browser, folder: Path) -> None:
    """The reader's own setting decides, and the style is applied, so its digest in the policy is right."""
    grounds = [
        _opened(browser, folder, "rich", scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in SCHEMES
    ]
    assert len({*grounds, "rgba(0, 0, 0, 0)"}) == 3


def test_hostile_text_stays_text(browser: Browser, folder: Path) -> None:
    """Nothing of it ran or became an element; what it says can be read."""
    opened = _opened(browser, folder, "hostile")
    page = opened.page
    assert page.title() != "ran"
    tags = set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
    assert tags & {"script", "iframe", "object", "embed", "link", "base", "form", "foreignobject", "animate"} == set()
    handlers = (
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => /^on|^style$/.test(n))"
    )
    assert page.evaluate(handlers) == []
    assert page.locator("img:not([src^='data:image/png;base64,'])").count() == 0
    assert "<script>document.title='ran'</script>" in page.locator("h1").inner_text()
    assert "{{ 7*7 }}" in page.locator("#artifacts").text_content()  # type: ignore[operator]
    assert "\\u202e" in page.locator(".notes").inner_text()
    assert page.locator("main > section").count() == 5
    assert (opened.requests, opened.complaints) == ([], [])


def test_a_hostile_document_with_a_hostile_table_stays_text(browser: Browser, tmp_path: Path) -> None:
    """From the artifacts on: a table, JSON, text, a program as SVG, a picture that is none, a result."""
    import pyarrow as pa

    text = pages.HOSTILE.replace("\x00", "")
    store = MemoryStore("results")
    with stepout.open_task(
        targets=(target := RecordingTarget()), artifacts=stepout.ArtifactManager(store, prefix="runs")
    ) as task:
        task.artifacts.put_table("table", pa.table({text: [text, None], "n": [1.5, 2.5]}))
        task.artifacts.put_json("json", {text: [text]})
        task.artifacts.put_text("text", text * 50)
        svg = (
            b'<svg xmlns="http://www.w3.org/2000/svg" onload="document.title=1"><script>document.title=2</script></svg>'
        )
        task.artifacts.put_bytes("svg", svg, media_type="image/svg+xml")
        task.artifacts.put_bytes("picture", text.encode(), media_type="image/png")
        task.result[text] = text
    path = stepout.write_page(target.successes[0], tmp_path / "run.html", allow=["s3://results/runs/"], client=store)
    opened = visit(browser)
    opened.page.goto(path.as_uri())
    tags = set(opened.page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
    assert tags & {"script", "iframe", "object", "embed", "link", "base", "form", "image"} == set()
    assert "<script>document.title='ran'" in opened.page.locator("table.schema").inner_text()
    assert opened.page.locator(".card").count() == 5
    assert opened.page.locator("img").count() == 0
    assert opened.page.title() not in {"ran", "1", "2"}
    assert not opened.is_wider_than_its_window()
    assert (opened.requests, opened.complaints) == ([], [])


def test_the_policy_stops_what_escaping_would_have_let_through(browser: Browser, folder: Path) -> None:
    """A script, a style and a picture from elsewhere, put into the page, do nothing."""
    opened = _opened(browser, folder, "rich")
    opened.page.evaluate(
        """() => { for (const html of ['<b style="position:fixed" id=styled>x</b>', '<img src="http://127.0.0.1:9/x.png">'])
             document.body.insertAdjacentHTML('beforeend', html);
           const script = document.createElement('script'); script.textContent = 'window.ran = true';
           document.body.append(script); }"""
    )
    assert opened.page.evaluate("window.ran") is None
    assert opened.page.evaluate("getComputedStyle(document.getElementById('styled')).position") == "static"
    assert len([each for each in opened.complaints if "Content Security Policy" in each]) == 3


@pytest.mark.parametrize("name", ALL)
def test_a_screen_reader_finds_its_way(browser: Browser, folder: Path, name: str) -> None:
    """Landmarks, headings without gaps, captions, titles of charts, names of regions."""
    found: dict[str, Any] = _opened(browser, folder, name).page.evaluate(_OUTLINE)
    headings = found.pop("headings")
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert found.pop("landmarks") == [1, 1, 1, 1]
    assert set(found.values()) == {0}, found


def test_the_keyboard_reaches_everything(browser: Browser, folder: Path) -> None:
    """The first key leads past the head; focus is seen; what is folded opens; thousands of cells are no stops."""
    page = _opened(browser, folder, "huge").page
    page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.className") == "skip"
    assert page.evaluate(f"{focused}.getBoundingClientRect().left >= 0")
    assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.id") == "main"
    stops = "[...document.querySelectorAll('a[href], summary, input, [tabindex]')].filter(e => e.tabIndex === 0).length"
    assert page.evaluate(stops) < 60
    group = page.locator("#children details").first
    group.locator("summary").focus()
    page.keyboard.press("Enter")
    assert group.evaluate("e => e.open")


def test_the_field_of_children_is_filtered_without_a_script(browser: Browser, folder: Path) -> None:
    """Those that failed stay, the others fade; a failed cell leads to its row, and unfolds it."""
    page = _opened(browser, folder, "huge", PHONE).page
    fill = "e => getComputedStyle(e).fill"
    good, bad = page.locator(".field .cell-good").first, page.locator(".field .cell-bad").first
    before = good.evaluate(fill), bad.evaluate(fill)
    page.get_by_label("failed", exact=True).check()
    assert good.evaluate(fill) != before[0]
    assert bad.evaluate(fill) == before[1]
    row = page.locator("#c3")
    assert not row.is_visible()
    page.locator(".field a[href='#c3']").click()
    row.wait_for(state="visible")


def test_a_printed_page_has_what_is_folded(browser: Browser, folder: Path) -> None:
    """On paper nobody can unfold; the way around the page is left out."""
    page = _opened(browser, folder, "rich").page
    place = page.locator("#a2 .where dl")
    assert not place.is_visible()
    page.emulate_media(media="print")
    assert place.evaluate(
        "e => e.checkVisibility({contentVisibilityAuto: true}) && e.getBoundingClientRect().height > 0"
    )
    assert not page.locator("nav").is_visible()
    assert page.pdf().startswith(b"%PDF")
