"""The URL of a task in pull mode: its document, or why it failed, or how far it is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.shelf import ALLOW, Shelf

from stepout.artifacts.memory import MemoryStore
from stepout.page.budget import PageBudget
from stepout.page.collect import collect_run
from stepout.page.rendering.render import render_page

if TYPE_CHECKING:
    from stepout.page.model import RunPage

URL = "s3://results/runs/outcome.json"
NOW = datetime(2026, 11, 29, 9, 0, 10, tzinfo=UTC)
RUN = {"state": "Mask", "attempt": 1, "startedAt": "2026-11-29T08:59:00Z"}


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


def tell(shelf: Shelf, name: str, value: dict[str, Any]) -> None:
    """Write JSON beside the outcome."""
    shelf.put(json.dumps(value).encode(), f"outcome.json{name}")


def fail(shelf: Shelf, attempt: int = 1) -> None:
    """Write the failure of an attempt."""
    cause = {
        "message": "column <b>price</b> is empty",
        "traceback": "Traceback: line 3",
        "run": {**RUN, "attempt": attempt},
    }
    tell(shelf, f".{attempt}-abc.failure.json", {"error": "Demo.TooDark", "cause": json.dumps(cause)})


def progress(shelf: Shelf, attempt: int = 1) -> None:
    """Write how far an attempt is."""
    told = {"done": 9, "total": 60, "message": "tile 9"}
    run = {**RUN, "attempt": attempt}
    tell(shelf, ".progress.json", {"progress": told, "reportedAt": "2026-11-29T09:00:07Z", "run": run})


def seen(shelf: Shelf) -> tuple[RunPage, str, str]:
    """Return the page, its headline, and all its text."""
    page = collect_run([URL], allow=ALLOW, client=shelf.store, now=lambda: NOW)
    html = render_page(page)
    headline = re.search(r'<p class="status (\w+)">(.*?)</p>', html, re.DOTALL)
    assert headline is not None
    return page, f"{headline[1]}: {text(headline[2])}", text(html)


def text(html: str) -> str:
    """Return what is to be read."""
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_a_failed_task_says_why_it_failed(shelf: Shelf) -> None:
    """The error's name, what it says, whose it is and since when, and the traceback to unfold."""
    fail(shelf)
    page, headline, told = seen(shelf)
    assert headline == "bad: Failed"
    assert "Demo.TooDark column &lt;b&gt;price&lt;/b&gt; is empty" in told
    assert "State Mask, attempt 1, started at 2026-11-29T08:59:00Z" in told
    assert "Details, such as the traceback Traceback: line 3" in told or "tracebackTraceback: line 3" in told
    assert "could not be read" not in told
    assert page.outputs[0].problem is None


def test_a_task_that_runs_says_how_far_it_is(shelf: Shelf) -> None:
    """In a colour that is no failure's."""
    progress(shelf)
    _, headline, told = seen(shelf)
    assert headline == "busy: Still running, 9 of 60 (15%): tile 9, told 3.0 s ago"
    assert "could not be read" not in told


def test_a_task_that_has_told_nothing_is_no_broken_document(shelf: Shelf) -> None:
    """It may not have begun; what else it may be is said."""
    _, headline, told = seen(shelf)
    assert headline == "busy: Nothing is there yet"
    assert "the task has not reported yet" in told
    assert "could not be read" not in told


def test_a_failure_of_an_earlier_attempt_is_told_beside_what_the_later_one_tells(shelf: Shelf) -> None:
    """A task that is tried again runs; after a failure of the same attempt, progress is what it had told."""
    fail(shelf, 0)
    progress(shelf, 1)
    _, headline, told = seen(shelf)
    assert headline.startswith("busy: Still running, 9 of 60")
    assert "an earlier attempt failed: Demo.TooDark" in told
    fail(shelf, 1)
    _, headline, told = seen(shelf)
    assert headline == "bad: Failed"
    assert "It had told 9 of 60 (15%): tile 9, 3.0 s ago" in told


def test_a_progress_that_cannot_be_understood_does_not_hide_the_rest(shelf: Shelf) -> None:
    """What lies there is foreign text."""
    shelf.put(b"{", "outcome.json.progress.json")
    fail(shelf)
    assert seen(shelf)[1] == "bad: Failed"


def test_a_bucket_that_is_not_there_is_a_problem() -> None:
    """Waiting for it would not help."""
    page = collect_run(["s3://elsewhere/runs/x.json"], allow=["s3://results/"], client=Shelf().store)
    assert page.outputs[0].problem is not None
    assert page.outputs[0].outcome is None


class CountingStore(MemoryStore):
    """Counts what it is asked for."""

    asked = 0

    def head(self, *args: Any, **keywords: Any) -> Any:
        """Count, and answer."""
        self.asked += 1
        return super().head(*args, **keywords)

    def get(self, *args: Any, **keywords: Any) -> Any:
        """Count, and answer."""
        self.asked += 1
        return super().get(*args, **keywords)

    def listing(self, prefix: str) -> list[tuple[str, str]]:
        """Count, and answer."""
        self.asked += 1
        return super().listing(prefix)


@pytest.mark.parametrize("state", ["nothing", "running", "failed", "succeeded"])
def test_each_request_for_a_source_counts(state: str) -> None:
    """HEAD, GET and lists; the page says what it has cost, and may cost no more than it may."""
    shelf = Shelf(store := CountingStore("results"))
    if state == "running":
        progress(shelf)
    if state == "failed":
        fail(shelf)
    if state == "succeeded":
        tell(shelf, "", {"stepout": "output/1", "artifacts": {"a": shelf.put(b"text", "a.txt").to_dict()}})
    store.asked = 0
    page = seen(shelf)[0]
    assert page.spent.requests == store.asked > 0
    store.asked = 0
    page = collect_run([URL], allow=ALLOW, client=store, budget=PageBudget(requests=1))
    assert (store.asked, page.spent.requests, page.spent.ran_out) == (1, 1, True)
    assert page.outputs[0].problem is not None
    assert "the page may send 1 requests, and did" in page.outputs[0].problem.message
