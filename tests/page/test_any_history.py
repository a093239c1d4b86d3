"""Any history makes a page: events in which nothing fits together, documents that are none, causes that say nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.histories import ARN, RecordedStepFunctions, described
from support.shelf import ALLOW, Shelf

from stepout.page.collect import collect_run

ANYTHING = st.recursive(
    st.none() | st.integers(0, 5) | st.sampled_from(["Mask", "ecs:runTask.sync", "Demo.TooDark"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "stepout"]), inner, max_size=2),
    max_leaves=5,
)
TEXTS = st.sampled_from(
    [
        '{"stepout": "output/1", "artifacts": {}, "producer": {"state": "Mask", "attempt": "x", "mapIndex": 3}}',
        '{"stepout": "output/2"}',
        '{"stepout": "pointer/1", "bucket": 3}',
        '{"ResultWriterDetails": {"Bucket": "results", "Key": "runs/none.json"}, "stepout": ""}',
        '[{"stepout": "output/1"}, {"Error": "Demo.TooDark", "Cause": "{"}]',
        '{"stepout": {"stepout": "output/1"',
        '{"Name": "STEPOUT_OUTPUT", "Value": "s3://results/runs/none.json"}',
        '{"StartedAt": 1e300, "run": {"startedAt": "soon"}, "message": 3}',
    ]
)
KINDS = ["Task", "Map", "Parallel", "Choice"]
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 30),
            "previousEventId": st.integers(0, 30),
            "timestamp": st.integers(0, 10**11),
            "type": st.sampled_from(
                [
                    f"{kind}State{what}"
                    for kind in KINDS
                    for what in ("Entered", "Exited", "Started", "Failed", "Aborted")
                ]
                + [f"{call}{what}" for call in ("Task", "Activity") for what in ("Scheduled", "Started", "Failed")]
                + ["TaskSucceeded", "MapIterationStarted", "MapIterationFailed", "MapRunStarted", "MapRunFailed"]
                + ["ExecutionFailed", "ExecutionRedriven", "ExecutionSucceeded", "EvaluationFailed"]
            ),
            "someEventDetails": st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["Mask", "Score"]),
                    "index": st.integers(0, 3),
                    "resource": st.sampled_from(["ecs:runTask.sync", "glue:startJobRun.sync"]),
                },
                optional=dict.fromkeys(("input", "output", "parameters", "cause"), TEXTS)
                | {"error": st.just("Demo.TooDark"), "mapRunArn": st.just("arn:x"), "length": ANYTHING},
            ),
        }
    ),
    max_size=25,
)


@given(EVENTS, st.sampled_from(["RUNNING", "FAILED", "SUCCEEDED", "ELSE"]))
def test_any_history_makes_a_page(events: list[dict[str, Any]], status: str) -> None:
    """Documents and causes that fit nowhere are put somewhere, and every reference leads to something."""
    client = RecordedStepFunctions(events, described(status))
    page = collect_run([ARN], allow=ALLOW, client=Shelf().store, step_functions=client)
    assert page.execution is not None
    cards_of = {each.output_id for each in page.outputs}
    for visit in page.execution.visits:
        assert visit.output_id is None or visit.output_id in cards_of
        for attempt in visit.attempts:
            assert attempt.working_at is None or attempt.working_at.tzinfo is not None
    names = {each.visit_id for each in page.execution.visits} | {None}
    assert {each.visit_id for each in page.outputs} <= names
