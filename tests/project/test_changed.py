"""``make check`` runs the tests of the rooms that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.changed import ALWAYS, PAGES, TUTORIAL, select_tests

if TYPE_CHECKING:
    from pathlib import Path

TEST = "tests/artifacts/reading/test_source.py"
TREE = [
    "src/stepout/artifacts/reading/source.py",
    "src/stepout/inputs.py",
    TEST,
    "tests/artifacts/reading/deep/test_deep.py",
    "tests/artifacts/test_front.py",
    "tests/inputs/test_inputs.py",
    "tests/support/seaweed.py",
    ALWAYS,
    PAGES,
    TUTORIAL,
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree and its tests; one of them uses a program of ``support``."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("from support.seaweed import Seaweed" if name.endswith("front.py") else "")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("artifacts/reading/source.py", ["src/stepout/artifacts/reading/source.py", TEST]),
        ("artifacts/reading/gone.py", [TEST]),
        ("artifacts/new/room.py", ["tests/artifacts/test_front.py"]),
        ("src/stepout/inputs.py", ["src/stepout/inputs.py", "tests/inputs/test_inputs.py"]),
        (TEST, [TEST]),
        ("tests/artifacts/reading/conftest.py", [TEST]),
        ("tests/support/seaweed.py", ["tests/artifacts/test_front.py"]),
        ("docs/reading.md", [PAGES]),
        ("docs/tutorial/1-a-job.md", [TUTORIAL]),
        ("CHANGELOG.md", []),
        ("tests/conftest.py", []),
    ],
)  # fmt: skip
def test_a_change_is_tested_by_the_nearest_folder(tree: Path, changed: str, run: list[str]) -> None:
    """Each changed file names the tests of its room, and those of the repository are always among them."""
    assert select_tests([changed], tree) == sorted({ALWAYS, *run})
