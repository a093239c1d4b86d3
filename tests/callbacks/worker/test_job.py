"""The message is the environment: what a message may set, and what becomes of one that cannot be a task."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.environment import parse_input
from stepout.callbacks.worker.job import JOB_VARIABLES, Job, read_job
from stepout.callbacks.worker.settlement import NextStep, after
from stepout.callbacks.worker.sqs import CEILING, extension
from stepout.schemas.errors import InvalidDocumentError, InvalidTokenError

TOKEN = "AAAAKgAAAAIAAAAAAAAAA" * 4
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text('abc{}[]"\\/: é', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"', max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [*JOB_VARIABLES, "PATH", "LD_PRELOAD", "STEPOUT_TARGETS", "STEPOUT_BUCKET", "AWS_ENDPOINT_URL", "rows", "taskToken"]
)


def message(**members: Any) -> str:
    """A message with a token."""
    return json.dumps({"STEPOUT_TASK_TOKEN": TOKEN, **members})


def value_of(job: Job) -> Any:
    """What the task would read as its input."""
    return parse_input(job.variables.get("STEPOUT_INPUT"))


@given(members=st.dictionaries(NAMES, VALUES, max_size=6))
def test_a_sender_sets_nothing_but_the_job_s_own_variables(members: dict[str, Any]) -> None:
    """Whatever a message holds, everything else in the environment is the worker's, and nothing of an earlier job."""
    worker = {
        "PATH": "/bin",
        "STEPOUT_TARGETS": "sfn:",
        "STEPOUT_INPUT": "7",
        "TASK_TOKEN": "old",
        "STEPOUT_STATE": "Old",
    }
    job = read_job(json.dumps({**members, "STEPOUT_TASK_TOKEN": TOKEN}))
    environment = job.environment(worker)
    assert environment["STEPOUT_TASK_TOKEN"] == TOKEN
    assert {name: environment[name] for name in environment if name not in JOB_VARIABLES} == {
        "PATH": "/bin",
        "STEPOUT_TARGETS": "sfn:",
    }
    assert "Old" not in environment.get("STEPOUT_STATE", "")
    assert environment.get("STEPOUT_INPUT") != "7"
    unknown = {name for name in members if name not in JOB_VARIABLES and name != "taskToken"}
    assert set(job.ignored) == {name for name in unknown if "STEPOUT_INPUT" in members or name.startswith("STEPOUT_")}
    assert TOKEN not in repr(job)


@given(value=VALUES.filter(lambda value: not isinstance(value, str)))
def test_any_json_is_an_input(value: Any) -> None:
    """What a state passes as STEPOUT_INPUT is what the task reads."""
    assert value_of(read_job(message(STEPOUT_INPUT=value))) == value


@pytest.mark.parametrize(
    ("given_value", "read"),
    [
        ("hello", "hello"),
        ("5", "5"),
        ("", ""),
        ("{not json", "{not json"),
        ('{"rows":3}', {"rows": 3}),  # as States.JsonToString makes it
        ('"hello"', "hello"),
        ("s3://results/outputs/1.json", "s3://results/outputs/1.json"),
    ],
)
def test_a_text_is_an_input_unless_it_is_json_already(given_value: str, read: Any) -> None:
    """A plain text stays one; the JSON text of an object, an array or a text is taken as that."""
    assert value_of(read_job(message(STEPOUT_INPUT=given_value))) == read


def test_other_members_are_the_input_when_none_is_named() -> None:
    """Messages that were not written for stepout work as they are, and their token is in no input."""
    job = read_job(json.dumps({"taskToken": TOKEN, "rows": 3, "PATH": "/tmp"}))
    assert value_of(job) == {"rows": 3, "PATH": "/tmp"}
    assert job.variables["STEPOUT_TASK_TOKEN"] == TOKEN
    assert value_of(read_job(message(STEPOUT_STATE="Mask"))) is None


def test_numbers_become_the_texts_that_a_task_reads() -> None:
    """RetryCount is a number in a message, JSONata's may be a float, and a Map's index either."""
    job = read_job(message(STEPOUT_ATTEMPT=2.0, STEPOUT_MAP_INDEX=3, STEPOUT_REDRIVE="1", STEPOUT_OUTPUT=None))
    assert job.run.to_dict() == {"attempt": 2, "mapIndex": "3", "redrive": 1}
    assert job.problems == ()


@pytest.mark.parametrize(
    "members",
    [
        {"STEPOUT_ATTEMPT": "soon"},
        {"STEPOUT_STATE": ["Mask"]},
        {"STEPOUT_STATE": True},
        {"STEPOUT_STATE": "Ma\0sk"},
        {"STEPOUT_INPUT": "x" * 131_072},
    ],
)
def test_what_cannot_be_run_but_has_a_token_has_problems(members: dict[str, Any]) -> None:
    """Whoever waits can be told; the messages say what is wrong, and hold no value."""
    job = read_job(message(**members))
    assert job.problems
    assert "Mask" not in str(job.problems)
    assert "xxx" not in str(job.problems)
    assert job.run.attempt is None


@pytest.mark.parametrize(
    "more",
    [
        '"rows": 12345678901234567890',
        f'"rows": {"9" * 5000}',
        '"rows": 1e999',
        '"rows": 1, "rows": 2',
        '"name": "\\ud800"',
        f'"rows": {"[" * 101}{"]" * 101}',
    ],
)
def test_json_that_not_everybody_reads_has_a_token_all_the_same(more: str) -> None:
    """Whoever waits is told of the problem, instead of waiting while the message goes to the dead letters."""
    job = read_job(f'{{"taskToken": "{TOKEN}", {more}}}')
    assert job.problems
    assert dict(job.variables) == {"STEPOUT_TASK_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("output", "may"),
    [
        ("s3://results/outputs/1.json", True),
        ("dynamodb://outputs/1", True),
        ("", True),
        ("file:///etc/passwd", False),
        ("stdout:", False),
        ("sqs:https://sqs.eu-west-1.amazonaws.com/123456789012/other", False),
        ("s3://results/outputs/1.json file:///etc/passwd", False),
        ("s3://results/a\nfolder:/tmp", False),
    ],
)
def test_a_sender_names_no_target_but_one_output(output: str, may: bool) -> None:
    """STEPOUT_OUTPUT is one URL of pull mode: with others, a message could have the worker write files, or report."""
    assert (read_job(message(STEPOUT_OUTPUT=output)).problems == ()) is may


def test_a_member_that_is_null_is_not_there() -> None:
    """So a token may come under any of its names."""
    job = read_job(json.dumps({"STEPOUT_TASK_TOKEN": None, "taskToken": TOKEN}))
    assert job.variables["STEPOUT_TASK_TOKEN"] == TOKEN


@pytest.mark.parametrize("text", ["", "no json", "[]", "7", "{}", '{"STEPOUT_TASK_TOKEN": 7}', '{"a": 1, "a": 2}'])
def test_without_a_token_there_is_no_job(text: str) -> None:
    """Nobody can be told of it."""
    with pytest.raises(InvalidDocumentError):
        read_job(text)


def test_a_damaged_token_is_none() -> None:
    """It is refused without being quoted."""
    with pytest.raises(InvalidTokenError) as refused:
        read_job(json.dumps({"taskToken": "two words"}))
    assert "two" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "read"),
    [("null", None), ("[1,2]", [1, 2]), ('{"rows":3}', {"rows": 3}), ('{"STEPOUT_INPUT":4}', 4), ('"hi"', "hi")],
)
def test_an_activity_brings_its_token_apart(text: str, read: Any) -> None:
    """Its input may be any JSON, and is read as a message would be."""
    job = read_job(text, TOKEN)
    assert value_of(job) == read
    assert job.variables["STEPOUT_TASK_TOKEN"] == TOKEN


def test_an_activity_s_damaged_input_is_a_problem() -> None:
    """There is a token, so whoever waits can be told."""
    assert read_job("{", TOKEN).problems


def test_the_worker_s_heartbeat_holds_where_a_message_has_none() -> None:
    """It is a property of the queue's states as much as of one."""
    worker = {"STEPOUT_HEARTBEAT_SECONDS": "60"}
    assert read_job(message()).environment(worker)["STEPOUT_HEARTBEAT_SECONDS"] == "60"
    own = read_job(message(STEPOUT_HEARTBEAT_SECONDS=30)).environment(worker)
    assert own["STEPOUT_HEARTBEAT_SECONDS"] == "30"


@given(held=st.floats(0, 2 * CEILING), visibility=st.integers(3, CEILING))
def test_no_extension_goes_beyond_twelve_hours(held: float, visibility: int) -> None:
    """SQS would refuse it."""
    seconds = extension(held, visibility)
    assert 0 <= seconds <= visibility
    assert seconds == 0 or held + seconds < CEILING


def test_what_follows_from_an_exit_code() -> None:
    """Said to be reported: asked, or trusted where a relay may hold it; else a failure, but not while stopping."""
    for code in (0, 4):
        assert after(code, stopping=False, relayed=False) is NextStep.ASK
    for code in (1, 2, 3, 7, 143, -9):
        assert after(code, stopping=False, relayed=False) is NextStep.REPORT
    for code in (0, 1, 143, -9):
        assert after(code, stopping=True, relayed=False) is NextStep.ASK_OR_RETURN
    for code in (0, 1, 4, 7, 130, 143):
        assert {after(code, stopping=stopping, relayed=True) for stopping in (True, False)} == {NextStep.TRUST}
    assert {after(code, stopping=False, relayed=True) for code in (3, 137, -9)} == {NextStep.REPORT}
    assert after(-15, stopping=True, relayed=True) is NextStep.RETURN
