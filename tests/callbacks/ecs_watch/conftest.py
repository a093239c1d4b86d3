"""A local AWS of these tests' own, with the watcher as a Lambda function behind a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.watch_events import WatchedAws, deploy_watcher

from stepout.local import LocalAws

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def watched() -> Iterator[WatchedAws]:
    """A local AWS where the watcher reports what dies silently, after a quarter of a second of grace."""
    events: list[dict[str, Any]] = []
    with LocalAws(stop_grace=1.0, on_task_state_change=events.append) as aws:
        deploy_watcher(aws, "watcher", STEPOUT_WATCH_GRACE_SECONDS="0.25")
        yield WatchedAws(aws, events)
