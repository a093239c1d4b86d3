"""The children of a Map on a page: by a ResultWriter's results, an inline Map's list, a Map Run that still runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.histories import ARN, BEGAN, RecordedHistory, RecordedStepFunctions, described
from support.map_results import MapResults, task_output
from support.shelf import ALLOW, Shelf

from stepout.page.budget import PageBudget
from stepout.page.collect import collect_run

if TYPE_CHECKING:
    from stepout.page.model import RunPage


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


def page_of(shelf: Shelf, source: str, history: RecordedHistory | None = None, **client: Any) -> RunPage:
    """Collect a page."""
    recorded = RecordedStepFunctions(history.events if history else (), **client)
    return collect_run([source], allow=ALLOW, client=shelf.store, step_functions=recorded)


@pytest.mark.parametrize("given", ["returned", "url", "file", "execution"])
def test_the_results_of_a_distributed_map_are_a_grid(shelf: Shelf, given: str) -> None:
    """By what the Map returned, by the manifest's URL or the manifest itself, or found in an execution's history."""
    results = MapResults(shelf)
    for index in range(30):
        results.succeeded(index, task_output(shelf, index))
    results.failed(30, "Demo.TooDark", json.dumps({"message": "too dark", "run": {}}))
    results.pending(31)
    returned = results.write()
    history = RecordedHistory()
    history.enter("All", "Map")
    history.add("MapStateStarted")
    history.add("MapRunStarted", mapRunArn=returned["MapRunArn"])
    history.add("MapRunSucceeded")
    history.add("MapStateSucceeded")
    history.leave("All", "Map", output=returned)
    manifest = shelf.store.get("runs/map/manifest.json")
    with manifest:
        text = b"".join(bytes(view) for view in manifest.blocks(1 << 16)).decode()
    url = "s3://results/runs/map/manifest.json"
    source = {"returned": json.dumps(returned), "url": url, "file": text, "execution": ARN}[given]
    page = page_of(shelf, source, history)
    assert page.children is not None
    assert (page.children.total, page.children.cut) == (32, False)
    assert [each.status for each in page.children.cells] == ["SUCCEEDED"] * 30 + ["FAILED", "PENDING"]
    assert (page.children.cells[30].error, page.children.cells[30].cause) == ("Demo.TooDark", "too dark")
    assert page.children.cells[0].artifacts == 1
    assert len(page.outputs) == 20
    assert all(each.problem is None for each in page.outputs)


def test_ten_thousand_children_are_cells_and_few_cards(shelf: Shelf) -> None:
    """The grid has all of them; inside of the first ones is looked."""
    results = MapResults(shelf, lines=True, per_file=4_000)
    document = task_output(shelf, 0)
    for index in range(10_050):
        results.succeeded(index, document)
    page = page_of(shelf, json.dumps(results.write()))
    assert page.children is not None
    assert (len(page.children.cells), page.children.cut) == (10_000, True)
    assert len(page.outputs) == 1


def test_children_cost_no_more_than_half_of_what_may_be_read(shelf: Shelf) -> None:
    """The rest is for what is inside of artifacts; the grid says that there are more."""
    results = MapResults(shelf, per_file=10)
    for index in range(200):
        results.succeeded(index, {"padding": "x" * 1_000})
    page = collect_run([json.dumps(results.write())], allow=ALLOW, client=shelf.store, budget=PageBudget(bytes=100_000))
    assert page.children is not None
    assert page.children.cut
    assert 20 < len(page.children.cells) < 200


def test_the_list_that_an_inline_map_returned_is_a_grid(shelf: Shelf) -> None:
    """Failures that were caught are cells of their own."""
    items = [task_output(shelf, 0), {"error": {"Error": "Demo.TooDark", "Cause": "dark"}}, task_output(shelf, 1), 5]
    page = page_of(shelf, json.dumps(items))
    assert page.children is not None
    assert [each.status for each in page.children.cells] == ["SUCCEEDED", "CAUGHT", "SUCCEEDED", "SUCCEEDED"]
    assert [each.label for each in page.outputs] == ["the document [0]", "the document [2]"]


def test_a_map_run_that_still_runs_is_asked_for_its_children(shelf: Shelf) -> None:
    """There are no results yet; without the right to list them there is a note."""
    history = RecordedHistory()
    history.enter("All", "Map")
    history.add("MapStateStarted")
    history.add("MapRunStarted", mapRunArn=ARN.replace(":execution:", ":mapRun:"))
    children = [{"name": str(number), "status": "RUNNING", "startDate": BEGAN} for number in range(3)]
    running: dict[str, Any] = {"description": described("RUNNING"), "children": children}
    page = page_of(shelf, ARN, history, **running)
    assert page.children is not None
    assert [each.status for each in page.children.cells] == ["RUNNING"] * 3
    page = page_of(shelf, ARN, history, **running, refuses={"list_executions": "AccessDeniedException"})
    assert page.children is None
    assert any("states:ListExecutions" in note for note in page.notes)
