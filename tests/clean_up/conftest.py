"""A bucket in which tasks have left objects, and a clean-up of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.left_behind import ACCOUNT, LeftBehind

from stepout.clean_up import CleanUp
from stepout.clean_up.executions import Executions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sfn_strict import StrictStepFunctions


@pytest.fixture
def left(seaweed_client: Any, bucket: str) -> Iterator[LeftBehind]:
    """Tasks that write into a bucket of the test's own."""
    tasks = LeftBehind(seaweed_client, bucket)
    yield tasks
    for key, version in tasks.versions():
        seaweed_client.delete_object(Bucket=bucket, Key=key, VersionId=version)


@pytest.fixture
def clean_up(left: LeftBehind, sfn_strict: StrictStepFunctions) -> Callable[..., CleanUp]:
    """A clean-up of everything below ``runs/``, whatever its age."""

    def make(
        below: str = "runs/", *, bucket: str | None = None, age: timedelta = timedelta(0), **given: Any
    ) -> CleanUp:
        executions = Executions(sfn_strict.client(), account=ACCOUNT)
        settings = {"client": left.client, "executions": executions, **given}
        return CleanUp(f"s3://{bucket or left.bucket}/{below}", older_than=age, **settings)

    return make
