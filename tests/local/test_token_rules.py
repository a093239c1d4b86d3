"""The rules of task tokens, with time in one's own hands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.local.token_rules import PAYLOAD_MOST, TaskTokens, TokenRefusal, payload_size


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def answer(tokens: TaskTokens, action: str, token: str, **parameters: Any) -> str:
    """What a call is answered with: the error's name, or OK."""
    try:
        if action == "SendTaskHeartbeat":
            tokens.heartbeat(token)
        else:
            tokens.report(action, {"taskToken": token, **parameters})
    except TokenRefusal as refusal:
        return refusal.code
    return "OK"


ACTIONS = ["SendTaskSuccess", "SendTaskFailure", "SendTaskHeartbeat"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*ACTIONS, "close", "pass"]), st.integers(0, 9)), max_size=30))
def test_one_report_at_most_and_nothing_after_the_end(steps: list[tuple[str, int]]) -> None:
    """Whatever comes in which order: the end of a wait is one of five, and every later call is TaskTimedOut."""
    clock = Clock()
    tokens = TaskTokens(clock)
    token = tokens.issue(heartbeat=10, timeout=40)
    beaten, ended = clock.now, False
    for what, seconds in steps:
        clock.now += seconds
        ended = ended or clock.now - beaten > 10 or clock.now - 1_000 > 40
        if what == "close":
            tokens.close(token)
            ended = True
        elif what != "pass":
            assert answer(tokens, what, token, output="{}") == ("TaskTimedOut" if ended else "OK")
            beaten = clock.now
            ended = ended or what != "SendTaskHeartbeat"
        assert tokens.closed(token) is ended


@pytest.mark.parametrize(
    ("heartbeat", "timeout", "error"),
    [
        (5, None, "States.HeartbeatTimeout"),
        (None, 5, "States.Timeout"),
        (9, 5, "States.Timeout"),
        (5, 9, "States.HeartbeatTimeout"),
    ],
)
def test_the_clock_that_runs_out_names_the_error(heartbeat: int | None, timeout: int | None, error: str) -> None:
    """The first clock to run out closes the token, and names the error; activities wait for a worker to begin."""
    clock = Clock()
    tokens = TaskTokens(clock)
    token = tokens.issue(heartbeat=heartbeat, timeout=timeout, begun=False)
    clock.now += 100
    assert (tokens.seconds_left(token), tokens.expired(token)) == (None, None)
    tokens.begin(token)
    assert tokens.seconds_left(token) == 5
    clock.now += 5.1
    assert [tokens.expired(token), tokens.expired(token)] == [error, error]
    assert answer(tokens, "SendTaskSuccess", token, output="1") == "TaskTimedOut"


@pytest.mark.parametrize("token", ["x", "not base64!", "AAAA", "é", "dG9rZW4="])
@pytest.mark.parametrize("action", ACTIONS)
def test_garbage_is_an_invalid_token(token: str, action: str) -> None:
    """What no Step Functions ever issued is InvalidToken, and what has no length that tokens have is refused."""
    tokens = TaskTokens()
    assert answer(tokens, action, token, output="1") == "InvalidToken"
    assert answer(tokens, action, "", output="1") == "ValidationException"
    assert answer(tokens, action, "t" * 2_049, output="1") == "ValidationException"


@pytest.mark.parametrize("action", ACTIONS)
def test_a_token_of_another_is_unknown(action: str) -> None:
    """A token that another Step Functions issued is TaskDoesNotExist."""
    assert answer(TaskTokens(), action, TaskTokens().issue(), output="1") == "TaskDoesNotExist"


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("SendTaskSuccess", {"output": json.dumps("x" * (PAYLOAD_MOST - 2))}, "OK"),
        ("SendTaskSuccess", {"output": json.dumps("x" * (PAYLOAD_MOST - 1))}, "ValidationException"),
        ("SendTaskSuccess", {"output": '"' + "é" * (PAYLOAD_MOST // 2) + '"'}, "ValidationException"),
        ("SendTaskSuccess", {"output": "{"}, "InvalidOutput"),
        ("SendTaskSuccess", {"output": "NaN"}, "InvalidOutput"),
        ("SendTaskSuccess", {"output": "[" * 100_000}, "InvalidOutput"),
        ("SendTaskSuccess", {}, "InvalidOutput"),
        ("SendTaskFailure", {"error": "e" * 256, "cause": "c" * 32_768}, "OK"),
        ("SendTaskFailure", {"error": "e" * 257}, "ValidationException"),
        ("SendTaskFailure", {"cause": "c" * 32_769}, "ValidationException"),
        ("SendTaskFailure", {}, "OK"),
    ],
)
def test_a_report_that_breaks_a_rule_leaves_the_state_waiting(
    action: str, parameters: dict[str, str], code: str
) -> None:
    """The limits of a report are those of the service model; a refused one can be sent again, mended."""
    tokens = TaskTokens()
    token = tokens.issue()
    assert answer(tokens, action, token, **parameters) == code
    assert tokens.closed(token) is (code == "OK")


def test_payloads_are_counted_in_bytes() -> None:
    """As Step Functions counts them: compact JSON in UTF-8."""
    assert [payload_size(value) for value in ("é", {"a": [1, 2]}, "\ud800")] == [4, 11, 5]
