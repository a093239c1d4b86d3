"""Fixtures shared by all tests; each lives beside the program it starts, in ``support``."""

from __future__ import annotations

import gc
import sys
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.profile import THOROUGH
from support.shared_models import share_models

from stepout.artifacts.process import memory_granted as container_memory
from stepout.artifacts.transfer import parallel_get

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = [
    name
    for name in ("support.seaweed", "support.ministack", "support.sfn_strict", "support.queues")
    if find_spec(name) is not None
]

# How long an example takes says how busy the machine is, and nothing of the code. A test that needs more or fewer
# examples than others says so as a multiple of these.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100 if THOROUGH else 25,
)
settings.load_profile("unhurried")

share_models()


# Tests find the container that most expectations are written for, and not this machine's memory.
_CONTAINER = container_memory.GrantedMemory(512 << 20, "tests")
container_memory._GRANTED.become(lambda: _CONTAINER, _CONTAINER)


# Tests find every server nearby and fast, however busy this machine is; those of ranges say otherwise.
setattr(parallel_get, "plan_for", lambda *_, **__: None)  # noqa: B010 - a name of another module


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through thousands of collected tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave slow tests to continuous integration, unless they are asked for."""
    if THOROUGH:
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: set STEPOUT_TEST_SLOW=1 to run it, as .ci/run does"))


@pytest.fixture(autouse=True)
def _hooks() -> Iterator[None]:
    """A task that ended with an exception leaves its hooks, which are none of the next test's business."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before
