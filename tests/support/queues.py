"""Messages of a queue, as the relay gets them, and a clock that moves when somebody sleeps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from support.ministack import unique, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepout.callbacks.targets.messages import Report
    from stepout.local import LocalAws


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the seconds pass."""
        self.now += seconds


@pytest.fixture
def timing() -> dict[str, Any]:
    """``clock`` and ``sleep`` for what would wait."""
    time = Time()
    return {"clock": time.clock, "sleep": time.sleep}


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """Makes a record of Lambda's event out of a report, or of any body."""
    numbers = itertools.count(1)

    def make(body: Report | str, *, sent: int | None = None, group: str | None = None) -> dict[str, Any]:
        number = next(numbers)
        attributes = {"SentTimestamp": str(number if sent is None else sent), "ApproximateReceiveCount": "1"}
        if group is not None:
            attributes |= {"MessageGroupId": group, "SequenceNumber": f"{number:020}"}
        text = body if isinstance(body, str) else body.to_json()
        return {"messageId": f"m{number}", "body": text, "attributes": attributes, "eventSource": "aws:sqs"}

    return make


class Queue:
    """A queue of the local AWS."""

    def __init__(self, aws: LocalAws, *, fifo: bool = False, **attributes: str) -> None:
        name = unique("reports") + (".fifo" if fifo else "")
        more = {"FifoQueue": "true"} if fifo else {}
        self.sqs = aws.client("sqs")
        self.url = self.sqs.create_queue(QueueName=name, Attributes={**more, **attributes})["QueueUrl"]
        self.name = name
        got = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.arn = str(got["Attributes"]["QueueArn"])

    def take(self, least: int = 1) -> list[dict[str, Any]]:
        """Receive and delete messages until there are so many."""
        taken: list[dict[str, Any]] = []

        def enough() -> bool:
            answer = self.sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"]
            )
            for message in answer.get("Messages", []):
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                taken.append(message)
            return len(taken) >= least

        wait_until(enough, what=f"{least} messages")
        return taken

    def size(self) -> int:
        """How many messages there are, those that somebody has received included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        got = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(got[name]) for name in names)


@pytest.fixture
def make_queue(local_aws: LocalAws) -> Callable[..., Queue]:
    """Makes a queue of the test's own."""

    def make(**options: Any) -> Queue:
        return Queue(local_aws, **options)

    return make


@pytest.fixture
def sqs_through() -> Callable[[str], Any]:
    """Makes an SQS client that connects to a place of the test's own, without retries."""

    def make(endpoint: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "sqs",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    return make
