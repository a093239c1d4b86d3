"""Texts, bytes and JSON values that no parser may stumble over, as strategies of Hypothesis."""

from __future__ import annotations

import json

from hypothesis import settings
from hypothesis import strategies as st

__all__ = ["ANY_BYTES", "ANY_TEXT", "MANY", "POISON", "POISON_BYTES", "VALUES"]

MANY = settings(max_examples=settings().max_examples * 2 // 5)

DIGITS = "9" * 5_000
DEEP = "[" * 100_000
TWICE = '{"a":1,"a":2}'
POISON = [
    f"{TWICE} x",
    f"[{TWICE}, {DIGITS}]",
    f"[{TWICE}, {DEEP}",
    f'[{TWICE}, "\\ud800", NaN]',
    '{"a":' * 3_000 + TWICE + "}" * 3_000,
    '{"STEPOUT_TASK_TOKEN":"AAAA","a":1,"a":2} x',
    f'{{"STEPOUT_TASK_TOKEN":"AAAA","a":{DIGITS}}}',
    f'{{"STEPOUT_TASK_TOKEN":"AAAA","a":{DEEP}',
    '{"STEPOUT_TASK_TOKEN":"\\ud800"}',
    '{"STEPOUT_TASK_TOKEN":"AAAA","STEPOUT_HEARTBEAT_SECONDS":1e308,"STEPOUT_ATTEMPT":-1e308}',
    DEEP,
    '{"a":' * 100_000,
    DIGITS,
    f"-{DIGITS}.{DIGITS}e{DIGITS}",
    "NaN",
    "[Infinity,-Infinity]",
    '"\\ud800"',
    "\ud800",
    "\ufeff{}",
    "\x00",
    '"\x00"',
    '"' + "a" * 2**20 + '"',
    "",
    " ",
    "nul",
    '{"a"',
    "[" + ",".join(["NaN"] * 20_000) + "]",
]
POISON_BYTES = [b"\xff", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), "{}".encode("utf-32"), b"\xed\xa0\x80", b"\x00" * 9]
MEMBERS = [
    *("stepout", "bucket", "key", "size", "checksum", "sha256", "mediaType", "artifacts", "result", "producer"),
    *("manifest", "annotations", "attempt", "execution", "state", "mapIndex", "expiresAt", "error", "cause", "run"),
    *("id", "kind", "taskToken", "output", "STEPOUT_TASK_TOKEN", "STEPOUT_INPUT", "STEPOUT_OUTPUT", "STEPOUT_ATTEMPT"),
    *(
        "status",
        "document",
        "S",
        "N",
        "files",
        "path",
        "offset",
        "@middy-store",
        "ResultWriterDetails",
        "Bucket",
        "Key",
    ),
    *("source", "detail-type", "detail", "lastStatus", "taskArn", "containers", "overrides", "containerOverrides"),
    *("environment", "name", "value", "exitCode", "reason", "stopCode", "stoppedReason", "stoppedAt", "time"),
    *("States", "StartAt", "Type", "Parameters", "Retry", "ErrorEquals", "Resource", "TimeoutSeconds", "Next", "End"),
    *("containerDefinitions", "stopTimeout", "Rules", "Catch", "Arguments", "Cluster", "Overrides", "Environment"),
]
TEXTS = [
    *(
        "pointer/1",
        "output/1",
        "report/1",
        "success",
        "failure",
        "STOPPED",
        "aws.ecs",
        "ECS Task State Change",
        "arn:1",
    ),
    *("s3://bucket/key", "s3://", "\ud800", "\x00", "", "9" * 30, "٣", "2026-01-01T00:00:00Z", "0001-01-01", "0" * 64),
    *(
        "Task",
        "arn:aws:states:::ecs:runTask.waitForTaskToken",
        "TaskFailedToStart",
        "SUCCEEDED",
        "FAILED",
        "AAAA",
        "NaN",
    ),
]


def _lenient(value: object) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # An integer of thousands of digits.
        return DIGITS


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**53, -(2**63), 10**400, float("nan"), float("inf"), 1e308, 0, 3]),
    st.just(5_000).map(lambda digits: 10**digits),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(st.characters(), max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
ANY_TEXT = st.one_of(st.text(st.characters()), st.sampled_from(POISON), VALUES.map(_lenient))
ANY_BYTES = st.one_of(st.binary(), ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
