"""From the values of a page to one HTML file that loads nothing: no script, one style sheet, pictures as data.

The page states its own Content-Security-Policy, which permits that style sheet (by its digest) and those pictures.
Whatever the values say is foreign text: the templates escape it, and ``seen`` shows what would be invisible.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stepout.page import words
from stepout.page.model import ImageInside, TableInside, TextInside, TreeInside
from stepout.page.rendering import charts
from stepout.page.rendering.children import children_of
from stepout.page.rendering.lineage import lineage_of
from stepout.page.rendering.summary import artifacts_of, failures_of, times_of
from stepout.page.rendering.timeline import Row, timeline_of
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.sizes import human_size

if TYPE_CHECKING:
    from stepout.page.model import ArtifactCard, RunPage
    from stepout.page.rendering.lineage import Lineage
    from stepout.page.rendering.timeline import Timeline

_NAME: Final = 120
_ERROR: Final = 256
_SHORT_TEXT: Final = 400
_INSIDES: Final = {ImageInside: "image", TableInside: "table", TextInside: "text", TreeInside: "tree"}
_ESCAPED: Final = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def render_page(page: RunPage) -> str:
    """Return a page as HTML.

    Args:
        page: What it shows.

    Returns:
        A whole document; encode it as UTF-8.
    """
    environment = _environment()
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    run = page.execution
    timeline = timeline_of(run, page.made_at) if run is not None else None
    lineage = lineage_of(page)
    failures, more_failures = failures_of(page)
    return environment.get_template("page.html").render(
        page=page,
        run=run,
        style=Markup(style),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
        timeline=timeline,
        lineage=lineage,
        children=children_of(page.children) if page.children is not None else None,
        failures=failures,
        more_failures=more_failures,
        times=times_of(run, page.made_at) if run is not None else None,
        artifacts=artifacts_of(page),
        problems=[(output, each) for output, each in artifacts_of(page) if each.problem is not None],
        visits={visit.visit_id: visit for visit in run.visits} if run is not None else {},
        anchors=_anchors(timeline, lineage),
        is_wide=_is_wide,
    )


def _anchors(timeline: Timeline | None, lineage: Lineage | None) -> frozenset[str]:
    """Return the visits that a link may lead to: those that have a row."""
    rows = timeline.rows if timeline is not None else ()
    of_rows = [each.visit.visit_id for row in rows for each in ([row] if isinstance(row, Row) else row.rows)]
    return frozenset(of_rows) | frozenset(each.visit.visit_id for each in (lineage.rows if lineage else ()))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("stepout.page.rendering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        seen=_seen,
        name=_name,
        breakable=_breakable,
        error=_error,
        lines=_lines,
        plain=_plain,
        duration=_duration,
        size=human_size,
        moment=words.moment,
        state=words.state,
        tone=words.tone,
        verified=words.verified,
        verified_tone=words.verified_tone,
        data_uri=_data_uri,
    )
    environment.globals.update(charts=charts, count=words.count, age=words.age, words=words)
    environment.tests["of_kind"] = _is_of_kind
    return environment


@cache
def _style() -> str:
    source, _, _ = PackageLoader("stepout.page.rendering").get_source(Environment(autoescape=True), "page.css")
    return source.strip()


def _seen(text: object) -> Markup:
    """Show foreign text on one line: isolated from the text around it, what acts or is not seen as its escape."""
    return Markup("<bdi>{}</bdi>").format(_marked(shown(text, None)))


def _name(text: str) -> Markup:
    """Show a foreign name, or the beginning of a long one."""
    return _seen(words.shortened(text, _NAME))


def _breakable(text: Markup) -> Markup:
    """Let the name of a called service be broken where a reader would."""
    return text.replace(".", Markup("<wbr>.")).replace(":", Markup(":<wbr>"))


def _error(text: str) -> Markup:
    """Show an error's name, which Step Functions permits 256 characters."""
    return _seen(words.shortened(text, _ERROR))


def _lines(text: str) -> Markup:
    """Show foreign text with its lines."""
    return _marked(shown(text, None, lines=True))


def _duration(seconds: float) -> str:
    """Say a duration that no line break takes apart."""
    return words.duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")


def _plain(text: object) -> str:
    """Return foreign text for an attribute or a title, where no element may stand."""
    return shown(text, None)


def _marked(text: str) -> Markup:
    """Escape text, and set off the escapes in it: who reads them should not take them for letters."""
    parts, last = [Markup("")], 0
    for found in _ESCAPED.finditer(text):
        parts += [Markup.escape(text[last : found.start()]), Markup('<i class="esc">{}</i>').format(found[0])]
        last = found.end()
    return Markup("").join([*parts, Markup.escape(text[last:])])


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _is_wide(artifact: ArtifactCard) -> bool:
    """Tell whether a card needs a row of its own."""
    inside = artifact.inside
    return isinstance(inside, TableInside) or (isinstance(inside, TextInside) and len(inside.text) > _SHORT_TEXT)


def _is_of_kind(value: Any, kind: str) -> bool:
    """Tell what an artifact's inside is: ``inside is of_kind "table"``."""
    return _INSIDES.get(type(value)) == kind
