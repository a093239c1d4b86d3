"""The decision table for answers of Step Functions, and the waits between tries."""

from __future__ import annotations

from itertools import product

import pytest
from botocore import exceptions as boto
from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.delivery.answers import answer_to, name_of
from stepout.callbacks.delivery.decisions import Answer, Decision, backoff, decide

CASES = [(answer, flags) for answer, flags in product(Answer, product([False, True], repeat=3))]


@pytest.mark.parametrize(("answer", "flags"), CASES)
def test_the_decision_for_every_situation(answer: Answer, flags: tuple[bool, bool, bool]) -> None:
    """The whole table, written as the rules of the design."""
    lost, bare, time = flags
    expected = Decision.GIVE_UP
    if answer is Answer.OK or (answer is Answer.CLOSED and lost):
        expected = Decision.DELIVERED
    elif answer is Answer.CLOSED:
        expected = Decision.CLOSED
    elif answer is Answer.KMS and bare:
        expected = Decision.RETRY_BARE
    elif answer in (Answer.THROTTLED, Answer.UNAVAILABLE, Answer.UNSENT, Answer.LOST) and time:
        expected = Decision.RETRY
    assert decide(answer, lost_before=lost, can_go_bare=bare, time_left=time) is expected


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_stay_bounded(tries: int, random: float) -> None:
    """Between half the exponential delay and ten seconds."""
    assert 0.1 <= backoff(tries, random) <= 10
    assert backoff(tries + 1, random) >= backoff(tries, random)


def client_error(code: str, status: int = 400) -> boto.ClientError:
    """What boto3 raises for an answered error."""
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "SendTaskSuccess",
    )


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (client_error("TaskTimedOut"), Answer.CLOSED),
        (client_error("TaskDoesNotExist"), Answer.CLOSED),
        (client_error("InvalidToken"), Answer.INVALID_TOKEN),
        (client_error("InvalidOutput"), Answer.INVALID_OUTPUT),
        (client_error("KmsAccessDeniedException"), Answer.KMS),
        (client_error("KMS.AccessDeniedException"), Answer.KMS),
        (client_error("KMSOptInRequired", 403), Answer.KMS),
        (client_error("KMS.ThrottlingException"), Answer.THROTTLED),
        (client_error("RequestThrottled", 403), Answer.THROTTLED),
        (client_error("AWS.SimpleQueueService.NonExistentQueue"), Answer.MISSING),
        (client_error("NotFound", 404), Answer.MISSING),
        (client_error("NoSuchBucket", 404), Answer.MISSING),
        (client_error("ThrottlingException"), Answer.THROTTLED),
        (client_error("Unheard", 429), Answer.THROTTLED),
        (client_error("AccessDeniedException"), Answer.DENIED),
        (client_error("Unheard", 403), Answer.DENIED),
        (client_error("ExpiredTokenException", 403), Answer.UNAVAILABLE),
        (client_error("InternalServerError", 500), Answer.UNAVAILABLE),
        (client_error("504", 504), Answer.LOST),
        (client_error("ValidationException"), Answer.REFUSED),
        (boto.EndpointConnectionError(endpoint_url="x"), Answer.UNSENT),
        (boto.ConnectTimeoutError(endpoint_url="x"), Answer.UNSENT),
        (boto.SSLError(endpoint_url="x", error=ValueError()), Answer.UNSENT),
        (boto.CredentialRetrievalError(provider="p", error_msg="e"), Answer.UNSENT),
        (boto.ReadTimeoutError(endpoint_url="x"), Answer.LOST),
        (boto.ConnectionClosedError(endpoint_url="x"), Answer.LOST),
        (boto.NoCredentialsError(), Answer.DENIED),
        (boto.NoRegionError(), Answer.DENIED),
        (ValueError("surprise"), Answer.REFUSED),
    ],
)
def test_what_each_error_of_boto3_stands_for(error: Exception, answer: Answer) -> None:
    """A request that never went out differs from one whose answer was lost."""
    assert answer_to(error) is answer


def test_errors_are_named_for_people() -> None:
    """By code or class, and one line."""
    assert name_of(client_error("TaskTimedOut")) == "TaskTimedOut: m"
    assert name_of(ValueError("one\ntwo")) == "ValueError: one"
    assert name_of(ValueError()) == "ValueError"
    assert name_of(boto.ClientError({"Error": {"Code": "X"}}, "Op")) == "X"
