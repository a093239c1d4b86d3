"""``error`` and ``cause``: what Step Functions gets to see of an exception."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.delivery.exception_groups import leaves_of
from stepout.callbacks.delivery.failure import MAX_CAUSE, cause_of, error_of, fit_cause
from stepout.callbacks.delivery.redaction import MARK, Redactor
from stepout.callbacks.lifecycle.uncaught import exit_code_of
from stepout.schemas.errors import (
    ChecksumMismatchError,
    OutcomeUndeliveredError,
    PermanentError,
    RetryableError,
    StoreUnavailableError,
    TaskClosedError,
    TaskInterrupted,
)

RUN = {"state": "Mask", "attempt": 0}


class Outer:
    """Holds a nested exception."""

    class InnerError(Exception):
        """Has a qualified name."""


class NamedError(Exception):
    """Says its own name."""

    error_name = "Segment.NoMask"


class InheritingError(NamedError):
    """Inherits it."""


class HostileError(Exception):
    """Fails at everything it is asked."""

    @property
    def error_name(self) -> str:
        """No name."""
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


def named(name: str) -> type[Exception]:
    """An exception class with that name."""
    return type("Named", (Exception,), {"error_name": name})


def raised(exception: BaseException) -> BaseException:
    """The exception with a traceback."""
    with pytest.raises(type(exception)) as caught:
        raise exception
    return caught.value


def local_class() -> type[Exception]:
    """A class defined in a function."""

    class LocalError(Exception):
        pass

    return LocalError


@pytest.mark.parametrize(
    ("exception", "error"),
    [
        (KeyError("x"), "KeyError"),
        (Outer.InnerError(), "Outer.InnerError"),
        (InheritingError(), "Segment.NoMask"),
        (local_class()(), "LocalError"),
        (ChecksumMismatchError("x"), "Stepout.ChecksumMismatch"),
        (PermanentError("x"), "Stepout.Permanent"),
        (TaskInterrupted(), "Stepout.Interrupted"),
        (HostileError(), "HostileError"),
        (named("States.Timeout")(), "Job.States.Timeout"),
        (named("states.ALL")(), "Job.states.ALL"),
        (named("E" * 300)(), "E" * 256),
        (named("bad\ud800 \n name")(), "bad? name"),
    ],
)
def test_the_error_is_a_name_that_a_catch_can_match(exception: Exception, error: str) -> None:
    """Inherited ``error_name``, else the qualified name without module; never ``States.*``, at most 256 characters."""
    assert error_of(exception) == error


class BrokenBatchError(PermanentError):
    """A job's own, under the name of its kind."""


class BatchErrors(ExceptionGroup[Exception]):
    """A group that the job has named."""


UNAVAILABLE = StoreUnavailableError("S3 is away")


@pytest.mark.parametrize(
    ("group", "error", "message", "retryable"),
    [
        (ExceptionGroup("g", [UNAVAILABLE]), "Stepout.StoreUnavailable", "S3 is away", True),
        (
            ExceptionGroup("g", [UNAVAILABLE, StoreUnavailableError("2")]),
            "Stepout.StoreUnavailable",
            "S3 is away",
            True,
        ),
        (
            ExceptionGroup("g", [ExceptionGroup("h", [BrokenBatchError("a")]), PermanentError("b")]),
            "Stepout.Permanent",
            "a",
            False,
        ),
        (ExceptionGroup("g", [RetryableError("a"), RetryableError("b")]), "Stepout.Retryable", "a", True),
        (ExceptionGroup("g", [ValueError("a"), ValueError("b")]), "ValueError", "a", None),
        (ExceptionGroup("g", [InheritingError("a"), NamedError("b")]), "Segment.NoMask", "a", None),
        (
            BaseExceptionGroup("g", [asyncio.CancelledError(), UNAVAILABLE]),
            "Stepout.StoreUnavailable",
            "S3 is away",
            True,
        ),
        (BaseExceptionGroup("g", [asyncio.CancelledError()]), "CancelledError", "", None),
        (BaseExceptionGroup("g", [SystemExit(3)]), "SystemExit", "the job exited with code 3", None),
        (BaseExceptionGroup("g", [ValueError("a"), TaskInterrupted("stop")]), "Stepout.Interrupted", "stop", None),
        (
            ExceptionGroup("g", [KeyError("a"), UNAVAILABLE]),
            "ExceptionGroup",
            "g (2 sub-exceptions): KeyError: 'a'; Stepout.StoreUnavailable: S3 is away",
            None,
        ),
        (
            ExceptionGroup("g", [RetryableError("a"), UNAVAILABLE]),
            "ExceptionGroup",
            "g (2 sub-exceptions): Stepout.Retryable: a; Stepout.StoreUnavailable: S3 is away",
            True,
        ),
        (BatchErrors("g", [ValueError("a")]), "BatchErrors", "g (1 sub-exception)", None),
        (ExceptionGroup("g", [HostileError()]), "HostileError", "a HostileError whose message cannot be printed", None),
    ],
)
def test_a_group_whose_members_agree_speaks_as_they_do(
    group: BaseException, error: str, message: str, retryable: bool | None
) -> None:
    """Their name, the first one's message, ``retryable`` if all say it; one that disagrees lists what it holds."""
    cause = json.loads(cause_of(raised(group), run={}, redactor=Redactor()))
    assert (error_of(group), cause["message"], cause.get("retryable")) == (error, message, retryable)
    assert "in raised" in cause["traceback"]


_LEAVES = st.sampled_from([ValueError("v"), KeyError("k"), RetryableError("r"), asyncio.CancelledError()])
_GROUPS = st.recursive(
    st.lists(_LEAVES, min_size=1, max_size=3).map(lambda found: BaseExceptionGroup("g", found)),
    lambda inner: st.lists(inner | _LEAVES, min_size=1, max_size=3).map(lambda found: BaseExceptionGroup("g", found)),
    max_leaves=8,
)


@given(_GROUPS)
def test_a_group_of_groups_is_named_like_its_leaves(group: BaseExceptionGroup[BaseException]) -> None:
    """However deep: the one name of all leaves but cancellations, else the group's own."""
    leaves = leaves_of(group)
    names = {error_of(each) for each in leaves}
    assert error_of(group) == (names.pop() if len(names) == 1 else type(group).__name__)
    assert all(not isinstance(each, BaseExceptionGroup) for each in leaves)


@pytest.mark.parametrize(("kind", "code"), [(OutcomeUndeliveredError, 3), (TaskClosedError, 4), (ValueError, 1)])
def test_a_group_ends_the_process_with_its_members_code(kind: type[Exception], code: int) -> None:
    """A task that was opened inside a ``TaskGroup`` leaves it in a group."""
    assert exit_code_of(ExceptionGroup("g", [kind("x")])) == code


def test_the_cause_says_what_where_and_which_run() -> None:
    """Message, traceback and run identity, as JSON."""
    cause = json.loads(cause_of(raised(ValueError("bad ärea")), run=RUN, redactor=Redactor()))
    assert cause["message"] == "bad ärea"
    assert cause["run"] == RUN
    assert cause["traceback"].endswith("ValueError: bad ärea")
    assert "in raised" in cause["traceback"]


def test_the_cause_says_whether_trying_again_may_help() -> None:
    """For those errors that know."""
    assert json.loads(cause_of(PermanentError("x"), run={}, redactor=Redactor()))["retryable"] is False


def test_a_secret_at_the_cut_is_redacted_first() -> None:
    """Redaction comes before shortening, so that no half of a token is left at the edge."""
    token = "T0ken" * 100
    for padding in range(3_000, 4_200, 40):
        cause = cause_of(ValueError("x" * padding + token), run=RUN, redactor=Redactor([token]))
        assert "T0ken" not in cause
    assert MARK in cause_of(ValueError(token), run=RUN, redactor=Redactor([token]))


@given(st.text(max_size=3_000), st.text(max_size=3_000), st.integers(120, 5_000))
def test_a_cause_is_valid_json_within_its_budget(message: str, trace: str, budget: int) -> None:
    """Whatever the text: multi-byte, escapes, outside the basic plane."""
    text = fit_cause({"message": message, "traceback": trace, "run": RUN}, budget)
    assert len(text.encode()) <= budget
    json.loads(text)


def test_the_traceback_gives_way_before_the_message() -> None:
    """And of it the end is kept, where it happened."""
    cause: dict[str, Any] = json.loads(fit_cause({"message": "m" * 1_000, "traceback": "t" * 9_000 + "END"}, 4_096))
    assert cause["message"] == "m" * 1_000
    assert cause["traceback"].startswith("[cut] ")
    assert cause["traceback"].endswith("tEND")


def test_a_long_message_is_cut_when_no_traceback_is_left() -> None:
    """Its beginning is kept."""
    cause = json.loads(fit_cause({"message": "é" * 9_000, "traceback": "t" * 9_000, "run": RUN}, 4_096))
    assert cause["traceback"] == ""
    assert cause["message"].startswith("éé")
    assert cause["message"].endswith("[cut]")
    assert cause["run"] == RUN


def test_a_run_that_leaves_no_room_is_left_out() -> None:
    """The message matters more."""
    cause = json.loads(fit_cause({"message": "m", "traceback": "", "run": {"execution": "x" * 9_000}}, 4_096))
    assert cause == {"message": "m", "traceback": ""}


def test_no_budget_exceeds_what_the_service_takes() -> None:
    """32,768 bytes."""
    assert len(fit_cause({"message": "m" * 99_999, "traceback": ""}, 99_999).encode()) <= MAX_CAUSE


def test_a_hostile_exception_is_reported_all_the_same() -> None:
    """Its ``__str__`` fails, lone surrogates are in its message, or its exit code is an object."""
    hostile = json.loads(cause_of(raised(HostileError()), run=RUN, redactor=Redactor()))
    assert hostile["message"] == "a HostileError whose message cannot be printed"
    assert (
        json.loads(cause_of(ValueError("a\ud800b\U0001f600"), run=RUN, redactor=Redactor()))["message"]
        == "a?b\U0001f600"
    )
    assert json.loads(cause_of(SystemExit(3), run=RUN, redactor=Redactor()))["message"] == "the job exited with code 3"


def test_an_exception_that_is_interrupted_while_it_says_its_name_is_reported() -> None:
    """Whatever its ``__str__`` raises."""

    class RudeError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert "RudeError" in json.loads(cause_of(raised(RudeError()), run=RUN, redactor=Redactor()))["message"]


def test_a_cause_drives_no_terminal() -> None:
    """What a job quotes in its message is escaped as JSON escapes it, counts as it is sent, and keeps its value."""
    said = "\x9b\u202e\u2028\x7f\U000e0041"
    text = cause_of(ValueError(said * 200), run={}, redactor=Redactor(), budget=2_000)
    assert not set(text) & set(said)
    assert len(text.encode()) <= 2_000
    assert json.loads(text)["message"].startswith(said)
