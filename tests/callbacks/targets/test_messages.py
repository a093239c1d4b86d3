"""The message between container and relay: what is written is read the same, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepout.callbacks.targets.messages import MAX_MESSAGE, Report, parse_report
from stepout.schemas import RunIdentity
from stepout.schemas.errors import InvalidDocumentError

TOKEN = "AQCkAAAAKgAAAAMAAAAAAAAAAS+of/the+token+that+nobody=sees"
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
)


@example(output={"\ufffe": "\uffff\x1f"}, error="\ufffe", state=None)
@given(output=VALUES, error=st.text(st.characters(codec="utf-8"), min_size=1), state=st.sampled_from([None, "Mask"]))
def test_what_is_written_is_read_the_same(output: Any, error: str, state: str | None) -> None:
    """Whatever JSON the output is, and with only the characters that SQS takes."""
    reports = (
        Report(id="1", kind="success", token=TOKEN, output=output, run=RunIdentity(state=state)),
        Report(id="2", kind="failure", token=TOKEN, error=error, cause=error),
        Report(id="3", kind="heartbeat", token=TOKEN),
    )
    for report in reports:
        text = report.to_json()
        assert parse_report(text) == report
        assert not {character for character in text if character < " " or character in "\ufffe\uffff"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"stepout": "report/2"}, "$.stepout"),
        ({"stepout": None}, "$.stepout"),
        ({"id": ""}, "$.id"),
        ({"id": 7}, "$.id"),
        ({"kind": "triumph"}, "$.kind"),
        ({"kind": ["success"]}, "$.kind"),
        ({"taskToken": ""}, "$.taskToken"),
        ({"taskToken": "with space " + TOKEN}, "$.taskToken"),
        ({"taskToken": "t" * 2_049}, "$.taskToken"),
        ({"taskToken": 7}, "$.taskToken"),
        ({"kind": "success"}, "$.output"),
        ({"kind": "failure"}, "$.error"),
        ({"kind": "failure", "error": 7}, "$.error"),
        ({"kind": "failure", "error": "E", "cause": {}}, "$.cause"),
        ({"run": {"attempt": "x"}}, "$.run.attempt"),
    ],
)
def test_everything_else_is_refused_with_its_place(change: dict[str, Any], where: str) -> None:
    """And neither the token nor a value is in the message."""
    document = {"stepout": "report/1", "id": "1", "kind": "heartbeat", "taskToken": TOKEN, **change}
    with pytest.raises(InvalidDocumentError) as caught:
        parse_report(json.dumps(document))
    assert where in {problem.location for problem in caught.value.problems}
    assert TOKEN[:12] not in str(caught.value)
    assert "triumph" not in str(caught.value)


@pytest.mark.parametrize("name", ["stepout", "id", "kind", "taskToken"])
def test_a_missing_member_is_named(name: str) -> None:
    """Each of those that every report has."""
    document = {"stepout": "report/1", "id": "1", "kind": "heartbeat", "taskToken": TOKEN}
    del document[name]
    with pytest.raises(InvalidDocumentError) as caught:
        parse_report(json.dumps(document))
    assert [problem.location for problem in caught.value.problems] == [f"$.{name}"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": 1, "id": 2}', "hello", "x" * (MAX_MESSAGE + 1)])
def test_what_is_no_object_is_refused(text: str) -> None:
    """Text of somebody else's, damaged text, text beyond what SQS carries."""
    with pytest.raises(InvalidDocumentError):
        parse_report(text)


def test_members_of_a_later_version_do_no_harm() -> None:
    """A container may be newer than the relay."""
    document = {"stepout": "report/1", "id": "1", "kind": "heartbeat", "taskToken": TOKEN, "mood": "good"}
    assert parse_report(json.dumps(document)).kind == "heartbeat"


def test_a_report_shows_neither_token_nor_output() -> None:
    """Whoever prints it."""
    shown = repr(Report(id="1", kind="success", token=TOKEN, output={"secret": 1}))
    assert TOKEN not in shown
    assert "secret" not in shown
