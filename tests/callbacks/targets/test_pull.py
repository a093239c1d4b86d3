"""Pull mode's target against a real object store, and through a wire that loses, refuses and delays."""

from __future__ import annotations

import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from support.ministack import unique
from support.other_s3 import other_s3
from support.seaweed import ADMIN, READER, Seaweed
from support.shelf import Shelf
from support.wire import Fault, Wire

import stepout
from stepout.callbacks import named_failure
from stepout.callbacks.delivery.retry_loop import RetryLoop
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.pull import PullTarget, target_from_url
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, TaskClosedError, TaskError

if TYPE_CHECKING:
    from stepout.local import LocalAws

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
RACERS = 16


def run_of(attempt: int = 0) -> RunIdentity:
    """The run that every test here is."""
    return RunIdentity(execution=EXECUTION, state="Mask", attempt=attempt)


def document(attempt: int = 0, **result: Any) -> dict[str, Any]:
    """An output document of that run."""
    return stepout.TaskOutput(result=result, producer=run_of(attempt)).to_dict()


def impatient(remedy: str = "Allow it.") -> RetryLoop:
    """Tries often, waits never, and gives up at the fifth try at the latest."""
    ticks = iter(range(1_000))
    return RetryLoop(remedy, patience=25.0, clock=lambda: next(ticks) * 5.0, sleep=lambda _seconds: None)


def plain_client(seaweed: Seaweed, endpoint: str | None = None, identity: Any = ADMIN) -> Any:
    """A client as the target builds it, without retries of its own."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint or seaweed.endpoint,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=RACERS),
    )


@pytest.fixture(scope="module")
def client(seaweed: Seaweed) -> Any:
    """One client for all tests that need no wire."""
    return plain_client(seaweed)


@pytest.fixture
def shelf() -> Shelf:
    """A bucket in memory."""
    return Shelf()


@pytest.fixture
def url(bucket: str) -> str:
    """Where the outcome goes."""
    return f"s3://{bucket}/outputs/7f3c/Mask.json"


def _target(url: str, client: Any, attempt: int = 0, **options: Any) -> PullTarget:
    return PullTarget(url, run_of(attempt), client, delivery=impatient(), **options)


def _keys(client: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_a_success_is_read_back_by_its_url(url: str, bucket: str, client: Any, seaweed_client: Any) -> None:
    """The consumer gets the document, and only if it is the right run's and within the allow-list."""
    _target(url, client).success(document(rows=3))
    allow = [f"s3://{bucket}/outputs/"]
    found = stepout.resolve_output(url, allow=allow, client=seaweed_client, execution=EXECUTION, state="Mask")
    assert (found.result, found.producer) == ({"rows": 3}, run_of())
    head = client.head_object(Bucket=bucket, Key="outputs/7f3c/Mask.json", ChecksumMode="ENABLED")
    assert (head["ContentType"], bool(head.get("ChecksumSHA256"))) == ("application/json", True)
    for resolve in (stepout.resolve, stepout.resolve_output):
        with pytest.raises(stepout.InvalidDocumentError, match="another run"):
            resolve(url, allow=allow, client=seaweed_client, execution=f"{EXECUTION}2")
        with pytest.raises(stepout.NotAllowedError):
            resolve(url, allow=[f"s3://{bucket}/runs/"], client=seaweed_client)


def test_the_same_document_again_is_a_success_and_another_one_is_not(url: str, bucket: str, client: Any) -> None:
    """The first success counts; one that comes later says whose was first, and changes nothing."""
    _target(url, client).success(document(rows=3))
    _target(url, client).success(document(rows=3))
    with pytest.raises(TaskClosedError, match="output of attempt 0: the first success counts") as caught:
        _target(url, client, attempt=1).success(document(1, rows=4))
    assert "artifacts were written" in str(caught.value)
    client.put_object(Bucket=bucket, Key="outputs/7f3c/Mask.json", Body=b"no json")
    with pytest.raises(TaskClosedError, match="no output document"):
        _target(url, client).success(document(rows=3))
    assert _keys(client, bucket) == ["outputs/7f3c/Mask.json"]


def test_failures_go_beside_and_the_consumer_names_the_newest(
    url: str, bucket: str, client: Any, seaweed_client: Any
) -> None:
    """No failure touches the place of the output; a later success is what counts."""
    _target(url, client, nonce="aaaa").failure("Demo.First", '{"message": "too dark"}')
    allow = [f"s3://{bucket}/outputs/"]
    with pytest.raises(stepout.TaskFailedError, match=r"failed: Demo.First: too dark$") as caught:
        stepout.resolve_output(url, allow=allow, client=seaweed_client)
    assert (caught.value.error, caught.value.cause) == ("Demo.First", '{"message":"too dark"}')
    _target(url, client, 1, nonce="bbbb").failure("Demo.Second", "no json")
    with pytest.raises(stepout.TaskFailedError, match=r"Demo.Second: no json \(the newest of 2 failures\)"):
        stepout.resolve(url, allow=allow, client=seaweed_client)
    assert _keys(client, bucket) == [
        "outputs/7f3c/Mask.json.0-aaaa.failure.json",
        "outputs/7f3c/Mask.json.1-bbbb.failure.json",
    ]
    _target(url, client, 2).success(document(2, rows=3))
    assert stepout.resolve_output(url, allow=allow, client=seaweed_client).result == {"rows": 3}


def test_a_url_with_nothing_at_it_says_so(url: str, bucket: str, seaweed_client: Any) -> None:
    """Neither success nor failure: the task has not reported, or died."""
    with pytest.raises(stepout.ArtifactNotFoundError, match=r"no failure beside it.* has not reported yet, or died"):
        stepout.resolve(url, allow=[f"s3://{bucket}/"], client=seaweed_client)


def test_failures_obey_the_allow_list_and_are_untrusted(shelf: Shelf) -> None:
    """One that lies outside the list is not read, one that is no failure says so, and other objects are none."""
    shelf.put(b'{"error": "Demo.Error", "cause": {"message": "m"}}', "o.json.0-aaaa.failure.json")
    shelf.put(b'{"error": "Demo.Other"}', "o.json.bak")
    url = "s3://results/runs/o.json"
    with pytest.raises(stepout.TaskFailedError, match=r"Demo\.Error: m"):
        stepout.resolve(url, allow=["s3://results/runs/"], client=shelf.store)
    with pytest.raises(stepout.ArtifactNotFoundError, match=r"could not be seen.*outside the allow-list"):
        stepout.resolve(url, allow=[url], client=shelf.store)
    shelf.put(b"no json", "o.json.0-aaaa.failure.json")
    with pytest.raises(stepout.ArtifactNotFoundError, match=r"could not be seen.*JSON"):
        stepout.resolve(url, allow=["s3://results/runs/"], client=shelf.store)


def test_a_failure_that_cannot_be_read_hides_no_other(shelf: Shelf) -> None:
    """The newest document is rubbish: the one beside it says how the task failed."""
    shelf.put(b'{"error": "Demo.Error", "cause": {"message": "m"}}', "o.json.0-aaaa.failure.json")
    shelf.put(b'{"a":1,"a":2} x', "o.json.1-bbbb.failure.json")
    with pytest.raises(stepout.TaskFailedError, match=r"Demo\.Error: m"):
        stepout.resolve("s3://results/runs/o.json", allow=["s3://results/runs/"], client=shelf.store)


def test_a_failure_of_another_run_says_nothing_of_this_one(shelf: Shelf) -> None:
    """The URL was used before, and yesterday's failure lies there: this task has not reported. Its own does count."""
    for number, run in enumerate(({"execution": "arn:today", "state": "Mask"}, {"execution": "arn:yesterday"})):
        body = {"error": f"Demo.Error{number}", "cause": {"message": "m", "run": run}}
        shelf.put(json.dumps(body).encode(), f"o.json.{number}-aaaa.failure.json")
    url, allow = "s3://results/runs/o.json", ["s3://results/runs/"]
    asked: Any
    for asked, error in (
        ({}, "Demo.Error1"),
        ({"execution": "arn:yesterday", "state": "Mask"}, "Demo.Error1"),
        ({"execution": "arn:today", "state": "Mask"}, "Demo.Error0"),
    ):
        for resolve in (stepout.resolve, stepout.resolve_output):
            with pytest.raises(stepout.TaskFailedError) as caught:
                resolve(url, allow=allow, client=shelf.store, **asked)
            assert caught.value.error == error
    for asked in ({"execution": "arn:tomorrow"}, {"execution": "arn:today", "state": "Other"}):
        with pytest.raises(stepout.ArtifactNotFoundError, match="no failure of this run beside it"):
            stepout.resolve(url, allow=allow, client=shelf.store, **asked)


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff", b'"s3://elsewhere/x"', b"null"])
def test_what_is_no_output_is_named_by_its_url(shelf: Shelf, body: bytes) -> None:
    """A document is untrusted: what cannot be one is refused, and the message says which object that is."""
    shelf.put(body, "o.json")
    with pytest.raises(stepout.InvalidDocumentError, match=r"at s3://results/runs/o\.json is not valid"):
        stepout.resolve("s3://results/runs/o.json", allow=["s3://results/runs/"], client=shelf.store)


def test_whatever_lies_at_the_url_is_not_read_whole(url: str, bucket: str, client: Any) -> None:
    """What stands in the way of a success may be of any size: it is no output, and the memory stays."""
    client.put_object(Bucket=bucket, Key="outputs/7f3c/Mask.json", Body=bytes(24 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TaskClosedError, match="no output document"):
            _target(url, client).success(document(rows=3))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def _race(make: Any) -> list[int]:
    """Let many attempts report success at once; return which of them were told that they won."""
    barrier = threading.Barrier(RACERS)

    def attempt(number: int) -> int | None:
        target = make(number)
        barrier.wait()
        try:
            target.success(document(number, winner=number))
        except TaskClosedError:
            return None
        return number

    with ThreadPoolExecutor(RACERS) as pool:
        return [number for number in pool.map(attempt, range(RACERS)) if number is not None]


def test_of_many_racers_one_wins_on_a_real_object_store(
    url: str, bucket: str, client: Any, seaweed_client: Any
) -> None:
    """Sixteen successes at once: one is accepted, and its document is the one that is there."""
    winners = _race(lambda number: PullTarget(url, run_of(number), client))
    assert len(winners) == 1
    found = stepout.resolve_output(url, allow=[f"s3://{bucket}/"], client=seaweed_client)
    assert found.result == {"winner": winners[0]}


def test_of_many_racers_one_wins_on_the_local_aws(local_aws: LocalAws) -> None:
    """The same where the demo and the end-to-end tests run."""
    client, bucket = local_aws.client("s3"), unique("race")
    client.create_bucket(Bucket=bucket)
    url = f"s3://{bucket}/outputs/1.json"
    winners = _race(lambda number: PullTarget(url, run_of(number), client))
    assert len(winners) == 1
    found = stepout.resolve_output(url, allow=[f"s3://{bucket}/"], client=client)
    assert found.result == {"winner": winners[0]}


# The wire -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "lost"},
        {"kind": "lost", "times": 2},
        {"kind": "reset"},
        {"kind": "status", "status": 503, "code": "SlowDown"},
        {"kind": "status", "status": 409, "code": "ConditionalRequestConflict"},
        {"kind": "status", "status": 500, "code": "InternalError"},
    ],
    ids=str,
)
def test_a_report_survives_the_wire(url: str, bucket: str, seaweed: Seaweed, fault: dict[str, Any]) -> None:
    """A lost answer, a reset, throttling, a conflict: the report is made once, and it is a success."""
    with Wire(seaweed.endpoint) as wire:
        armed = wire.when("PutObject", **fault)
        _target(url, plain_client(seaweed, wire.endpoint)).success(document(rows=3))
        assert armed.hits == fault.get("times", 1)
    found = stepout.resolve_output(url, allow=[f"s3://{bucket}/"], client=seaweed.client())
    assert found.result == {"rows": 3}


def test_a_lost_answer_is_no_success_of_somebody_else(url: str, seaweed: Seaweed, client: Any) -> None:
    """When the answer is lost because another attempt won, the comparison tells."""
    _target(url, client).success(document(0, rows=3))
    with Wire(seaweed.endpoint) as wire:
        wire.when("PutObject", "lost")
        with pytest.raises(TaskClosedError, match="attempt 0"):
            _target(url, plain_client(seaweed, wire.endpoint), 1).success(document(1, rows=4))


def test_without_the_right_to_compare_nothing_is_guessed(url: str, seaweed: Seaweed, client: Any) -> None:
    """Something is there and may not be read: another's success, or, once an answer was lost, not known."""
    _target(url, client).success(document(0, rows=3))
    with Wire(seaweed.endpoint) as wire:
        target = _target(url, plain_client(seaweed, wire.endpoint), 1)
        wire.when("GetObject", "status", status=403, code="AccessDenied", times=2)
        with pytest.raises(TaskClosedError, match="may not read"):
            target.success(document(1, rows=4))
        wire.when("PutObject", "lost")
        with pytest.raises(TaskError, match=r"AccessDenied.*Allow it") as caught:
            target.success(document(1, rows=4))
    assert not isinstance(caught.value, TaskClosedError)


def test_a_store_that_stays_away_is_an_error_that_says_what_to_do(url: str, seaweed: Seaweed, bucket: str) -> None:
    """A denied write names the permissions; a limit from a signal ends the tries."""
    target = PullTarget(url, run_of(), plain_client(seaweed, identity=READER))
    with pytest.raises(TaskError, match=r"Allow s3:PutObject and s3:GetObject on s3://"):
        target.success(document())
    with Wire(seaweed.endpoint) as wire:
        wire.when("PutObject", "status", times=100)
        target = PullTarget(url, run_of(), plain_client(seaweed, wire.endpoint))
        target.limit(0.0)
        with pytest.raises(TaskError, match="after 1 tries"):
            target.failure("Demo.Error", "{}")
    assert _keys(seaweed.client(), bucket) == []


def test_a_consumer_that_may_not_list_is_told_so(url: str, bucket: str, seaweed: Seaweed) -> None:
    """Whether the task failed cannot be seen then; whether it succeeded can."""
    with Wire(seaweed.endpoint) as wire:
        wire.arm(Fault(lambda line: "list-type=2" in line, "status", 1, 403, "AccessDenied"))
        with pytest.raises(stepout.ArtifactNotFoundError, match=r"could not be seen.*s3:ListBucket"):
            stepout.resolve(url, allow=[f"s3://{bucket}/"], client=seaweed.client(endpoint=wire.endpoint))
        wire.when("HeadObject", "status", status=403, code="AccessDenied")
        with pytest.raises(stepout.AccessDeniedError, match="has not succeeded yet looks like this"):
            stepout.resolve(url, allow=[f"s3://{bucket}/"], client=seaweed.client(endpoint=wire.endpoint))


# Before any work ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "key is missing"),
        ("s3://bucket", "key is empty"),
        ("s3://bucket/", "key is empty"),
        ("s3://bucket/a//b", "empty segment"),
        ("s3://bucket/../b", r"segment '\.\.'"),
        (f"s3://bucket/{'k' * 1000}", "no room for the failures"),
        ("https://bucket/key", "key is missing"),
    ],
)
def test_a_wrong_url_is_an_error_before_any_work(url: str, says: str) -> None:
    """The URL is looked at when the target is made."""
    with pytest.raises(ConfigurationError, match=says):
        PullTarget(url, run_of())


def test_an_output_that_nobody_could_check_is_refused_before_any_work() -> None:
    """Without an execution the consumer could not tell an earlier run's output from this one's."""
    with pytest.raises(ConfigurationError, match=r"STEPOUT_EXECUTION is not set.*the job's id"):
        target_from_url("s3://bucket/key", TargetContext())
    with pytest.raises(ConfigurationError, match="STEPOUT_S3_PROFILE"):
        target_from_url("s3://bucket/key", TargetContext(run=run_of(), environ={"STEPOUT_S3_PROFILE": "other"}))


def test_buckets_are_addressed_by_path_where_the_profile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers beside AWS have no host name for each bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for profile, style in (("compatible", "path"), ("aws", None)):
        context = TargetContext(run=run_of(), environ={"STEPOUT_S3_PROFILE": profile})
        config: Any = target_from_url("s3://bucket/key", context).connect().meta.config
        assert (config.s3 or {}).get("addressing_style") == style


def test_the_target_shows_where_it_reports() -> None:
    """And a heartbeat is nothing."""
    target = PullTarget("s3://bucket/key", RunIdentity(), nonce="aaaa")
    target.heartbeat()
    assert repr(target) == "PullTarget('s3://bucket/key')"
    assert target.failure_url == "s3://bucket/key.x-aaaa.failure.json"


# Servers that are not AWS's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [frozenset({"aws"}), frozenset({"no-checksums"})])
def test_a_server_that_ignores_the_condition_is_named(words: frozenset[str]) -> None:
    """The first success is written twice, to see that the second one is refused; where it is not, that is an error."""
    with other_s3(ignores_put_condition=True) as server:
        target = _target("s3://bucket/outputs/a.json", server.client(), profile=words)
        with pytest.raises(ConfigurationError, match="STEPOUT_S3_PROFILE=unconditional"):
            target.success(document(rows=3))
        assert server.operations() == ["PUT", "PUT"]


def test_unconditional_looks_before_it_writes() -> None:
    """The same document is a success, another attempt's is not replaced, and no condition is sent."""
    with other_s3(ignores_put_condition=True) as server:
        url, words = "s3://bucket/outputs/a.json", frozenset({"unconditional"})
        for _ in range(2):
            _target(url, server.client(), profile=words).success(document(rows=3))
        with pytest.raises(TaskClosedError, match="output of attempt 0: the first success counts"):
            _target(url, server.client(), attempt=1, profile=words).success(document(1, rows=4))
        assert server.operations() == ["GET", "PUT", "GET", "GET", "GET", "GET"]
        assert not any("if-none-match" in headers for _, _, headers in server.requests)


def test_an_honest_server_gets_one_request_more_a_process(seaweed: Seaweed, bucket: str) -> None:
    """Whoever wrote first, a target or a manager."""
    with Wire(seaweed.endpoint) as wire:
        for number in range(2):
            client = plain_client(seaweed, wire.endpoint)
            _target(f"s3://{bucket}/outputs/{number}.json", client).success(document(rows=3))
        assert wire.operations == ["PutObject"] * 3


def test_outcomes_do_without_checksum_headers_and_say_who_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written and read, success and failure, by the settings of the environment."""
    refusal = (400, "InvalidRequest", "x-amz-checksum-sha256 is not supported")
    settings = {"STEPOUT_S3_PROFILE": "no-checksums", "STEPOUT_REQUEST_PAYER": "requester"}
    for name, value in {
        **settings, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with other_s3(refuses_checksums=refusal, requester_pays=True) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        context = TargetContext(run=run_of(), environ=settings)
        target = target_from_url("s3://bucket/outputs/a.json", context)
        target.failure("Some.Error", "why")
        target.success(document(rows=3))
        found = stepout.resolve_output("s3://bucket/outputs/a.json", allow=["s3://bucket/outputs/"])
        assert found.result == {"rows": 3}
        assert len(server.objects) == 2
        event = {"url": "s3://bucket/outputs/a.json", "execution": EXECUTION}
        assert named_failure.handler(event, None)["result"] == {"rows": 3}
