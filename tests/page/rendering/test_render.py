"""A page as HTML: what it says, what it permits itself, how large it is."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import pages

from stepout.page.model import (
    ChildCell,
    ChildGrid,
    ColumnSummary,
    ExecutionRun,
    OutputCard,
    PulledOutcome,
    RunPage,
    StateAttempt,
    StateVisit,
    TableInside,
)
from stepout.page.rendering.children import children_of
from stepout.page.rendering.lineage import lineage_of
from stepout.page.rendering.render import render_page
from stepout.page.rendering.summary import failures_of, times_of
from stepout.page.rendering.timeline import CrowdRow, Row, timeline_of

BEGAN = datetime(2026, 11, 29, tzinfo=UTC)
ALL = ("rich", "failed", "running", "documents", "hostile", "huge")


def _page(name: str) -> RunPage:
    page = getattr(pages, f"{name}_page")()
    assert isinstance(page, RunPage)
    return page


def _run(page: RunPage) -> ExecutionRun:
    assert page.execution is not None
    return page.execution


@pytest.mark.parametrize("name", ALL)
def test_a_page_permits_itself_its_own_style_and_pictures_only(name: str) -> None:
    """The policy precedes what it governs, its digest is the style's, and nothing needs more."""
    html = render_page(_page(name))
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    told = policy[1].replace("&#39;", "'")
    assert told.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;")
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert re.search(r"<(script|link|iframe|object|embed|base)\b|\sstyle=|\son\w+=[\"']", html) is None
    assert set(re.findall(r'<img\b[^>]* src="([^:"]+:[^;"]+)', html)) <= {"data:image/png"}


@pytest.mark.parametrize("name", ALL)
def test_links_lead_to_something_in_the_page_that_is_there_once(name: str) -> None:
    """An anchor without a target, or with two, leads a reader astray."""
    html = render_page(_page(name))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="([^"]+)"', html)) <= {f"#{each}" for each in ids}


def test_the_same_values_give_the_same_page() -> None:
    """Nothing in it depends on when or where it is rendered."""
    assert render_page(_page("rich")) == render_page(_page("rich"))


@pytest.mark.parametrize(("name", "most"), [("rich", 80_000), ("hostile", 120_000), ("huge", 200_000)])
def test_a_page_stays_small(name: str, most: int) -> None:
    """A page of 10,000 children and 1,200 visits is no larger than a photograph."""
    assert len(render_page(_page(name)).encode()) < most


def test_10_000_children_of_which_every_other_failed_stay_small() -> None:
    """No two cells beside each other are alike, and each failure has a cause of its own."""
    cells = tuple(
        ChildCell(
            index=n, status="FAILED" if n % 2 else "SUCCEEDED", error="Demo.Odd" if n % 2 else "", cause=f"at {n}" * 40
        )
        for n in range(10_000)
    )
    page = replace(_page("documents"), children=ChildGrid(total=10_000, cells=cells))
    assert len(render_page(page).encode()) < 300_000


def test_the_first_screen_says_what_ended_the_execution_before_what_was_tried_again() -> None:
    """Who opens the page of a failure reads its error and its cause first."""
    html = render_page(_page("failed"))
    first = html[html.index('class="first"') : html.index('id="timeline"')]
    assert first.index("States.HeartbeatTimeout") < first.index("OutOfMemory")
    assert "no heartbeat came for 60 s" in first
    assert "failed 2 times, and was tried again" in first


def test_tries_that_failed_alike_are_told_once() -> None:
    """A state whose every try failed with one error is one failure, which ended the execution."""
    run = _run(_page("failed"))
    (visit,) = [each for each in run.visits if each.attempts]
    alike = replace(visit, attempts=tuple(replace(each, error="OutOfMemory") for each in visit.attempts))
    failures, _ = failures_of(replace(_page("failed"), execution=replace(run, visits=(alike,), error="OutOfMemory")))
    assert [(each.error, each.times, each.led_on) for each in failures] == [("OutOfMemory", 3, "ended the execution")]


def test_a_failure_that_no_state_is_to_blame_for_is_told_as_well() -> None:
    """An execution may time out, be stopped, or exceed a limit between its states."""
    run = replace(
        _run(_page("running")), status="ABORTED", ended_at=BEGAN + timedelta(days=1), error="Stopped", cause="by me"
    )
    failures, more = failures_of(replace(_page("running"), execution=run))
    assert [(each.state, each.error, each.cause) for each in failures] == [("", "Stopped", "by me")]
    assert more == 0


def test_waiting_and_working_are_told_apart() -> None:
    """Tries that wait while others work cost no time; what nobody knows is not invented."""
    times = times_of(_run(_page("failed")), BEGAN)
    assert (times.waited, times.worked, times.between) == (210 + 250 + 290, 120 + 80 + 40, 140)
    running = times_of(_run(_page("running")), pages.BEGAN + timedelta(seconds=700))
    assert (running.took, running.worked, running.undecided, running.known, running.unknown) == (700, 0, 699, 0, 1)


_SPANS = st.lists(st.tuples(*[st.integers(0, 1_000)] * 3), max_size=12)


@given(_SPANS)
def test_times_add_up(spans: list[tuple[int, int, int]]) -> None:
    """By the clock, waiting and working together never take longer than the execution."""
    visits = []
    for number, each in enumerate(spans):
        start, begun, end = (BEGAN + timedelta(seconds=second) for second in sorted(each))
        attempt = StateAttempt(
            number=0, resource="", scheduled_at=start, working_at=begun, ended_at=end, outcome="SUCCEEDED"
        )
        visits.append(
            StateVisit(
                visit_id=f"v{number}", name="It", kind="Task", entered_at=start, exited_at=end, status="SUCCEEDED",
                attempts=(attempt,),
            )
        )  # fmt: skip
    run = ExecutionRun(
        arn="", name="", state_machine="", status="SUCCEEDED", started_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=1_000), visits=tuple(visits),
    )  # fmt: skip
    times = times_of(run, BEGAN)
    assert times.waited >= 0
    assert times.worked >= 0
    assert times.waited + times.worked <= times.took
    assert times.undecided == 0
    assert times.summed >= times.waited
    timeline = timeline_of(run, BEGAN)
    bars = [bar for row in timeline.rows for bar in (row.bars if isinstance(row, Row) else ())]
    assert all(0 <= bar.start <= 100 and bar.start + bar.width <= 100.0001 for bar in bars)


def test_many_visits_of_a_state_share_a_row_that_loses_none() -> None:
    """1,200 iterations are one row: how many at once, which failed, and the longest by name."""
    timeline = timeline_of(_run(_page("huge")), pages.BEGAN)
    (crowd,) = [row for row in timeline.rows if isinstance(row, CrowdRow)]
    assert (crowd.visits, crowd.failed, timeline.hidden) == (1_200, 15, 0)
    assert all(row.failures for row in crowd.rows[:15])
    assert len(crowd.rows) + crowd.unlisted == 1_200
    assert 90 <= crowd.most <= 150


@given(st.lists(st.sampled_from(["SUCCEEDED", "FAILED", "TIMED_OUT", "RUNNING", "ABORTED"]), max_size=700))
def test_every_child_has_a_cell_at_its_place(statuses: list[str]) -> None:
    """Runs of cells cover the children in their order, each once, in the tone of its end."""
    from stepout.page.words import tone

    cells = tuple(ChildCell(index=n, status=status) for n, status in enumerate(statuses))
    field = children_of(ChildGrid(total=len(cells), cells=cells)).field
    drawn = {run.row * field.columns + run.column + step: run.tone for run in field.runs for step in range(run.length)}
    assert drawn == {n: tone(status) for n, status in enumerate(statuses)}
    assert sum(run.length for run in field.runs) == len(cells)


def test_lineage_says_who_wrote_and_who_was_given() -> None:
    """Each artifact's rail begins where it was written and ends where it was last given."""
    lineage = lineage_of(_page("rich"))
    assert lineage is not None
    assert [row.visit.name for row in lineage.rows] == ["Compute", "LookAtFile", "ReadFiles", "Publish"]
    flights = [row.marks[1] for row in lineage.rows]
    assert flights == [("wrote", False, True), ("given", True, True), ("given", True, True), ("given", True, False)]
    assert [card.name for card in lineage.unread] == ["settings", "model"]
    assert lineage_of(_page("documents")) is None


def test_what_is_not_seen_is_shown_and_what_is_markup_is_text() -> None:
    """An override that would turn a name around stands there as its escape."""
    html = render_page(_page("hostile"))
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert '<i class="esc">\\u202e</i>' in html
    assert "&lt;script&gt;document.title" in html


@pytest.mark.parametrize("status", ["FAILED", "RUNNING", "NOTHING"])
def test_what_a_task_in_pull_mode_says_is_text(status: Literal["FAILED", "RUNNING", "NOTHING"]) -> None:
    """Its error, its cause and its message may be anything."""
    text = pages.HOSTILE
    outcome = PulledOutcome(
        status=status, error=text, cause=text, details=text, progress=text, told_at=BEGAN + timedelta(days=1), note=text
    )
    producer = {"state": text, "attempt": text, "startedAt": text}
    card = OutputCard(output_id="o1", label=text, producer=producer, outcome=outcome)
    page = replace(_page("documents"), outputs=(card,), made_at=BEGAN)
    html = render_page(page)
    assert re.search(r"<(script|img|iframe)\b", html) is None
    assert "in 1 d" not in html  # its clock may be ahead
    both = render_page(replace(page, outputs=(card, replace(card, output_id="o2"))))
    assert {"FAILED": "Failed: 2 of 2 tasks", "RUNNING": "Still running: 2 of 2 tasks"}.get(status, "2 of 2") in both


def test_a_table_says_beside_the_nulls_what_else_is_no_number() -> None:
    """With words, and the histogram says of how many values it is."""
    page = _page("rich")
    card, name = page.outputs[0], "dep_delay"
    table = next(each for output in page.outputs for each in output.artifacts if isinstance(each.inside, TableInside))
    assert isinstance(table.inside, TableInside)
    column = ColumnSummary(name=name, type="double", nulls=1, nan=50_000, infinite=2, histogram=(3, 4_000))
    inside = replace(table.inside, columns=(column,), head=(), tail=(), histogram_rows=54_006, rows=54_006)

    def rendered(rows: int) -> str:
        cards = (replace(table, inside=replace(inside, rows=rows)),)
        return render_page(replace(page, outputs=(replace(card, artifacts=cards),)))

    html = rendered(54_006)
    assert "and 50,000 NaN (not a number)</span>" in html
    assert "and 2 infinite</span>" in html
    assert "of 4,003 values" in html
    assert "and 2 infinite in the rows read" in rendered(99_999)
