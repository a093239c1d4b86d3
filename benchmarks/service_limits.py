"""Quotas and prices of the services, as data: each with its source, the day of its source, and whether it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LIMITS", "PRICES", "Price", "Quota"]

_SFN: Final = "https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"
_S3: Final = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"
_FARGATE: Final = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html"
_FARGATE_PRICES: Final = "wring.co/blog/aws-fargate-pricing-guide"
_MAP: Final = "https://docs.aws.amazon.com/step-functions/latest/dg/state-map.html"


@dataclass(frozen=True)
class Quota:
    """One quota: ``value`` in ``unit``, with a ``burst`` on top where it is a bucket of tokens."""

    name: str
    value: float
    unit: str
    source: str
    burst: float = 0


@dataclass(frozen=True)
class Price:
    """US dollars for ``count`` of ``unit`` in us-east-1.

    Attributes:
        read: The newest stored copy that was read; the source's own date where it has one.
        verified: Whether that copy is the provider's own page; else it is somebody's who quotes it.
    """

    name: str
    dollars: float
    count: float
    unit: str
    source: str
    read: str
    verified: bool

    def of(self, amount: float) -> float:
        """Return what so much costs."""
        return self.dollars * amount / self.count


LIMITS: Final = {
    limit.name: limit
    for limit in (
        Quota("inline Map, children at once", 40, "children", _MAP),
        Quota("payload of a state", 262_144, "bytes", _SFN),
        Quota("history of an execution", 25_000, "events", _SFN),
        Quota("Fargate launches", 20, "a second", _FARGATE, burst=100),
        Quota("Distributed Map, Standard children begun", 100, "a second", _SFN),
        Quota("Distributed Map, children at once", 10_000, "children", _SFN),
        Quota("SendTaskHeartbeat", 500, "a second", _SFN, burst=3_000),
        Quota("SendTaskSuccess", 500, "a second", _SFN, burst=3_000),
        Quota("state transitions", 5_000, "a second", _SFN, burst=5_000),
        Quota("S3 writes of a prefix", 3_500, "a second", _S3),
        Quota("S3 reads of a prefix", 5_500, "a second", _S3),
    )
}
"""Defaults of the three largest regions; in others SendTask… has 300 a second (bursts of 1,500), transitions 800."""

REPARTITION: Final = (1_800, 3_600)
"""Seconds of too many requests after which S3 has split a prefix (a comment on AWS's knowledge centre; no promise)."""

EVENTS_OF_A_CHILD: Final = 8
"""What one child with a task token adds to its parent's history in an inline Map: iteration started and succeeded,
state entered and exited, task scheduled, started, submitted and succeeded. From the API's list of event types, and not
counted in a run; a retry adds more."""

PRICES: Final = {
    price.name: price
    for price in (
        Price("S3 PUT", 0.005, 1_000, "requests", "c3x.dev/blog/s3-request-fees-explained", "undated", verified=False),
        Price("S3 GET", 0.0004, 1_000, "requests", "c3x.dev/blog/s3-request-fees-explained", "undated", verified=False),
        Price(
            "state transition", 0.025, 1_000, "transitions", "aws.amazon.com/step-functions/pricing", "undated copy",
            verified=True,
        ),
        Price("Fargate vCPU", 0.04048, 3_600, "seconds", _FARGATE_PRICES, "March 2026", verified=False),
        Price("Fargate GB", 0.004445, 3_600, "seconds", _FARGATE_PRICES, "March 2026", verified=False),
    )
}  # fmt: skip
