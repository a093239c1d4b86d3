"""Containers that fail: real processes between a real S3 server and the strict Step Functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.containers import Container, environment_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions


@pytest.fixture
def containers(sfn_strict: StrictStepFunctions, seaweed: Seaweed, bucket: str, seaweed_client: Any) -> Iterator[Any]:
    """Starts containers that write to the test's bucket; none outlives its test, and the bucket is left empty."""
    started: list[Container] = []

    def start(script: str, token: str, *, endpoint: str | None = None, **more: str) -> Container:
        environment = environment_for(sfn_strict, seaweed, endpoint=endpoint)
        environment |= {"STEPOUT_BUCKET": bucket, "STEPOUT_PREFIX": "runs", **more}
        started.append(Container(script, token, environment))
        return started[-1]

    yield start
    for container in started:
        container.close()
    for found in seaweed_client.list_objects_v2(Bucket=bucket).get("Contents", []):
        seaweed_client.delete_object(Bucket=bucket, Key=found["Key"])
