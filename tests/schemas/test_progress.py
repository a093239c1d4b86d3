"""What a progress report holds: what a job may tell, and what a reader makes of anything."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stepout
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.identity import RunIdentity
from stepout.schemas.progress import LONGEST_MESSAGE, TaskProgress, progress_of, read_progress_text
from stepout.schemas.pull import holds_no_outcome, read_item
from stepout.schemas.search.locate import find_documents, find_failures

RUN = RunIdentity(execution="arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c", state="Mask", attempt=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["progress", "done", "total", "message", "run", "reportedAt", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(done=st.floats() | st.integers(), total=st.none() | st.floats() | st.integers(), message=st.text(max_size=999))
def test_what_a_job_tells_comes_back_or_is_passed_over(done: float, total: float | None, message: str) -> None:
    """Any number and any text: it is the same after its journey through JSON, or it is no progress at all."""
    told = progress_of(done, total, message)
    understood = all(each is None or 0 <= each <= 2**53 for each in (done, total))
    assert (told is not None) is understood
    if told is not None:
        assert (told.done, told.total) == (done, total)
        assert len(told.message) <= LONGEST_MESSAGE
        assert told.message.isprintable()
        assert read_progress_text(told.to_text()) == told
        assert told.share is None or 0 <= told.share <= 1


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3), np.array(3), Decimal(3), True + 2.0])
def test_numbers_of_others_are_understood(value: Any) -> None:
    """Of numpy and of the standard library; whole ones stay whole."""
    told = progress_of(value, np.uint8(4), "x")
    assert told is not None
    assert json.loads(told.to_text())["progress"] == {"done": 3, "total": 4, "message": "x"}


@pytest.mark.parametrize("value", ["3", b"3", None, True, -1, float("nan"), float("inf"), 10**30, [], np.zeros(2), 1j])
def test_what_is_no_number_is_passed_over(value: Any) -> None:
    """Nothing is guessed, and nothing is raised."""
    assert progress_of(value) is None
    if value is not None:
        assert progress_of(1, value) is None


@given(json_values)
def test_a_reader_takes_a_report_or_says_what_is_wrong(value: Any) -> None:
    """Any JSON at the place of a report is a report, or an invalid document; nothing else is raised."""
    try:
        found = read_progress_text(json.dumps(value))
    except InvalidDocumentError:
        return
    assert 0 <= found.done <= 2**53


def test_a_report_of_an_unknown_run_still_says_how_far_it_is() -> None:
    """Whose it is does not hold it up."""
    found = read_progress_text('{"progress": {"done": 3}, "run": {"attempt": "many"}, "reportedAt": 7}')
    assert found == TaskProgress(done=3)


def test_no_search_takes_a_report_for_a_document() -> None:
    """Neither for an output or a pointer, nor for a failure."""
    report = TaskProgress(done=3, total=10, message="error: cause", run=RUN).to_dict()
    assert find_documents(report) == []
    assert not find_failures({"a": [report]})
    with pytest.raises(InvalidDocumentError, match="no task output and no pointer"):
        stepout.resolve_output(report, allow=[])


def test_an_item_with_a_report_alone_is_no_outcome() -> None:
    """With a status it is what it was; without anything it is no item of ours."""
    report = {"progress": {"S": TaskProgress(done=3, run=RUN).to_text()}}
    assert holds_no_outcome({"id": {"S": "x"}, **report})
    assert read_item({"id": {"S": "x"}, **report}) is None
    failed = {"status": {"S": "FAILED"}, "error": {"S": "Demo.Error"}, "cause": {"S": "{}"}}
    assert read_item({**failed, **report}) == read_item(failed)
    with pytest.raises(InvalidDocumentError):
        read_item({"id": {"S": "x"}})
    with pytest.raises(InvalidDocumentError):
        read_item({"status": {"S": "RUNNING"}, **report})


def test_all_is_said_only_of_all() -> None:
    """A share is rounded down, more than all is all, and nothing of nothing is all."""
    assert [str(progress_of(done, total)) for done, total in ((999, 1000), (5, 3), (0, 0), (1, None))] == [
        "999 of 1,000 (99%)",
        "5 of 3 (100%)",
        "0 of 0 (100%)",
        "1",
    ]
