"""Outcomes in DynamoDB: what replaces what, lost answers, limits, and the consumer."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import unique
from support.outcomes import make_table
from support.wire import Fault, Wire

import stepout
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.dynamodb import DynamoDbTarget, target_from_url
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError, OutputTooLargeError, TaskClosedError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.local import LocalAws

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:7f3c"
RACERS = 16


def run_of(attempt: int = 0) -> RunIdentity:
    """The run that every test here is."""
    return RunIdentity(execution=EXECUTION, state="Mask", attempt=attempt, map_index="3")


def document(attempt: int = 0, **result: Any) -> dict[str, Any]:
    """An output document of that run."""
    return stepout.TaskOutput(result=result, producer=run_of(attempt)).to_dict()


@pytest.fixture
def aws(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """The local AWS, which the environment speaks of."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    return local_aws


@pytest.fixture(scope="module")
def client(local_aws: LocalAws) -> Any:
    """A client that may do everything."""
    return local_aws.client("dynamodb")


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    """A table of its own, with the usual key."""
    name = unique("outcomes")
    make_table(client, name, "id")
    yield name
    client.delete_table(TableName=name)


def _item(client: Any, table: str, key: str) -> dict[str, Any]:
    item: dict[str, Any] = client.get_item(TableName=table, Key={"id": {"S": key}}, ConsistentRead=True)["Item"]
    return item


@pytest.mark.usefixtures("aws")
def test_a_success_replaces_a_failure_and_nothing_replaces_a_success(client: Any, table: str) -> None:
    """Failure, success, late failure, late success: the first success stays."""
    first, second = (DynamoDbTarget(table, None, run_of(attempt), client) for attempt in (0, 1))
    first.heartbeat()
    url, allow = first.url, [f"dynamodb://{table}/"]
    assert (url, repr(first)) == (f"dynamodb://{table}/{EXECUTION}/Mask/3", f"DynamoDbTarget({url!r})")
    with pytest.raises(stepout.ArtifactNotFoundError, match="has not reported yet, or died"):
        stepout.resolve(url, allow=allow)
    first.failure("Demo.NothingToSee", '{"message": "too dark"}')
    with pytest.raises(stepout.TaskFailedError, match=r"Demo.NothingToSee: too dark$") as caught:
        stepout.resolve_output(url, allow=allow)
    assert (caught.value.error, caught.value.cause) == ("Demo.NothingToSee", '{"message": "too dark"}')
    second.success(document(1, rows=3))
    found = stepout.resolve_output(url, allow=allow, execution=EXECUTION, state="Mask")
    assert (found.result, found.producer) == ({"rows": 3}, run_of(1))
    with pytest.raises(TaskClosedError, match="holds a success already: the first one counts"):
        first.failure("Demo.Late", "{}")
    with pytest.raises(TaskClosedError, match="holds a success already: the first one counts"):
        first.success(document(0, rows=4))
    item = _item(client, table, f"{EXECUTION}/Mask/3")
    assert json.loads(item["document"]["S"]) == document(1, rows=3)
    assert (item["status"], item["attempt"], item["state"]) == ({"S": "SUCCEEDED"}, {"N": "1"}, {"S": "Mask"})
    assert "error" not in item


@pytest.mark.usefixtures("aws")
def test_the_consumer_checks_whose_it_is_and_what_is_allowed(client: Any, table: str) -> None:
    """Another execution's outcome, a table or a prefix that is not listed, and every bucket, which is no table."""
    target = DynamoDbTarget(table, "a/b", run_of(), client)
    target.success(document(rows=3))
    with pytest.raises(stepout.InvalidDocumentError, match="another run"):
        stepout.resolve(target.url, allow=[f"dynamodb://{table}/a/"], execution="arn:other")
    for allow in ([], [f"dynamodb://{table}x/"], [f"dynamodb://{table}/a/bb"], stepout.ANY_BUCKET, ["s3://results/"]):
        with pytest.raises(stepout.NotAllowedError, match=r"before any request.*allow-list"):
            stepout.resolve(target.url, allow=allow)
    for allowed in (f"dynamodb://{table}", f"dynamodb://{table}/", f"dynamodb://{table}/a", f"dynamodb://{table}/a/b"):
        assert stepout.resolve_output(target.url, allow=[allowed]).result == {"rows": 3}
    with pytest.raises(ConfigurationError, match="no dynamodb://table/"):
        stepout.resolve(target.url, allow=["dynamodb://x"])
    for url in ("dynamodb://", f"dynamodb://{table}"):
        with pytest.raises(stepout.InvalidDocumentError, match="dynamodb://table/key"):
            stepout.resolve(url, allow=[f"dynamodb://{table}"])


@pytest.mark.usefixtures("aws")
def test_a_failure_of_another_run_says_nothing_of_this_one(client: Any, table: str) -> None:
    """The key was used before, and yesterday's failure is there: this task has not reported."""
    target = DynamoDbTarget(table, "a", run_of(), client)
    target.failure("Demo.Error", "{}")
    allow = [f"dynamodb://{table}/"]
    with pytest.raises(stepout.TaskFailedError):
        stepout.resolve(target.url, allow=allow, execution=EXECUTION, state="Mask")
    others: list[Any] = [{"execution": "arn:other"}, {"execution": EXECUTION, "state": "Other"}]
    for asked in others:
        with pytest.raises(stepout.ArtifactNotFoundError, match="another run's failure"):
            stepout.resolve(target.url, allow=allow, **asked)


@pytest.mark.usefixtures("aws")
def test_pointers_in_an_item_obey_the_allow_list(client: Any, table: str) -> None:
    """An item may be read, and what it points to may still lie outside the list."""
    pointer = {"stepout": "pointer/1", "bucket": "elsewhere", "key": "a", "size": 1, "mediaType": "text/plain"}
    forged = {**document(), "artifacts": {"a": {**pointer, "checksum": {"sha256": "0" * 64}}}}
    target = DynamoDbTarget(table, "forged", run_of(), client)
    target.success(forged)
    with pytest.raises(stepout.NotAllowedError, match="s3://elsewhere/a"):
        stepout.resolve(target.url, allow=[f"dynamodb://{table}/", "s3://results/"])


@pytest.mark.usefixtures("aws")
def test_an_item_that_is_none_of_ours_is_refused(client: Any, table: str) -> None:
    """No status, no error's name, a text that was changed; and a table that does not exist."""
    for item, says in (
        ({}, "status"),
        ({"status": {"S": "SUCCEEDED"}}, "with a document"),
        ({"status": {"S": "FAILED"}, "error": {"N": "1"}}, "must be text"),
        (
            {"status": {"S": "SUCCEEDED"}, "document": {"S": "{}"}, "sha256": {"S": "0"}},
            "not the text that was written",
        ),
    ):
        client.put_item(TableName=table, Item={"id": {"S": "other"}, **item})
        with pytest.raises(stepout.InvalidDocumentError, match=says):
            stepout.resolve(f"dynamodb://{table}/other", allow=[f"dynamodb://{table}"])
    with pytest.raises(stepout.ArtifactNotFoundError, match="no DynamoDB table nowhere"):
        stepout.resolve("dynamodb://nowhere/x", allow=["dynamodb://nowhere"])


def test_a_lost_answer_is_a_success(
    local_aws: LocalAws, client: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retried write meets its own item, which stays as it was."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    with Wire(local_aws.endpoint) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        target = target_from_url(f"dynamodb://{table}", TargetContext(run=run_of()))
        fault = wire.arm(Fault(lambda line: line.startswith("POST"), "lost", 2))
        target.success(document(rows=3))
        assert (fault.hits, len(wire.lines)) == (2, 3)
        with pytest.raises(TaskClosedError):
            target.success(document(rows=4))
    assert json.loads(_item(client, table, f"{EXECUTION}/Mask/3")["document"]["S"]) == document(rows=3)


def test_of_many_racers_one_wins(client: Any, table: str) -> None:
    """Sixteen successes and failures at once: one success is accepted, and it is the one that is there."""
    barrier = threading.Barrier(RACERS)

    def attempt(number: int) -> int | None:
        target = DynamoDbTarget(table, "race", run_of(number), client)
        barrier.wait()
        try:
            if number % 4 == 3:
                target.failure("Demo.Error", "{}")
                return None
            target.success(document(number, winner=number))
        except TaskClosedError:
            return None
        return number

    with ThreadPoolExecutor(RACERS) as pool:
        winners = [number for number in pool.map(attempt, range(RACERS)) if number is not None]
    assert len(winners) == 1
    assert json.loads(_item(client, table, "race")["document"]["S"]) == document(winners[0], winner=winners[0])


def test_what_no_item_can_hold_is_refused_and_what_fits_is_taken(client: Any, table: str) -> None:
    """400 KB an item, its key and names included; nothing is sent for more."""
    target = DynamoDbTarget(table, "k" * 2_048, run_of(), client)
    with pytest.raises(OutputTooLargeError, match="409,600"):
        target.success(document(text="x" * 401_400))
    target.success(document(text="x" * 401_000))


def test_a_table_of_another_key_and_a_missing_table(client: Any) -> None:
    """The key's name is in the URL; a table that is not there is an error when the outcome is reported."""
    name = unique("outcomes")
    make_table(client, name, "pk")
    target = DynamoDbTarget(name, "x", run_of(), client, key_name="pk")
    target.success(document(rows=3))
    assert target.url == f"dynamodb://{name}:pk/x"
    assert client.get_item(TableName=name, Key={"pk": {"S": "x"}})["Item"]["status"] == {"S": "SUCCEEDED"}
    with pytest.raises(TaskError, match="PutItem dynamodb://nowhere/x"):
        DynamoDbTarget("nowhere", "x", run_of(), client).success(document())


@pytest.mark.parametrize(
    ("url", "run", "says"),
    [
        ("dynamodb://", run_of(), "expected dynamodb://table"),
        ("dynamodb://t", run_of(), "expected dynamodb://table"),
        ("dynamodb://outcomes", RunIdentity(execution=EXECUTION), "STEPOUT_STATE is not set"),
        ("dynamodb://outcomes/key", RunIdentity(state="Mask"), "STEPOUT_EXECUTION is not set"),
        ("dynamodb://outcomes:status/key", run_of(), "cannot be called status"),
        (f"dynamodb://outcomes/{'k' * 2049}", run_of(), "2,048 bytes"),
        ("dynamodb://outcomes", RunIdentity(execution="e" * 2_048, state="Mask"), "2,048 bytes"),
    ],
)
def test_a_wrong_url_is_an_error_before_any_work(url: str, run: RunIdentity, says: str) -> None:
    """The URL and the run are looked at when the target is made."""
    with pytest.raises(ConfigurationError, match=says):
        target_from_url(url, TargetContext(run=run))


def test_an_empty_key_is_no_key() -> None:
    """In code as in a URL."""
    with pytest.raises(ConfigurationError, match="key is empty"):
        DynamoDbTarget("outcomes", "", run_of())
    with pytest.raises(ConfigurationError, match="expected dynamodb://table"):
        DynamoDbTarget("out comes", "x", run_of())


class _Denies(BaseHTTPRequestHandler):
    """Answers as DynamoDB does where a permission is missing."""

    def do_POST(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_denied_access_names_the_permission(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is missing, on either side; a signal's limit ends the tries."""
    assert aws.alive
    with ThreadingHTTPServer(("127.0.0.1", 0), _Denies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(stepout.AccessDeniedError, match="Grant dynamodb:GetItem"):
            stepout.resolve("dynamodb://outcomes/x", allow=["dynamodb://outcomes"])
        target = DynamoDbTarget("outcomes", "x", run_of())
        target.limit(30.0)
        with pytest.raises(TaskError, match="Allow dynamodb:PutItem on the table outcomes"):
            target.success(document())
        server.shutdown()
