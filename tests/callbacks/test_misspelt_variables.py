"""Variables that nobody knows, and tasks that nobody entered: both say what was meant."""
# ruff: noqa: PT031 - a task is dropped in two steps

from __future__ import annotations

import contextlib
import gc
import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stepout
from stepout.artifacts import allow
from stepout.callbacks.environment import read_settings
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime import environment
from stepout.schemas.runtime.environment import INTERNAL, VARIABLES, meant_for
from stepout.testing import MemoryStore, RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\bSTEPOUT_[A-Z0-9_]*[A-Z0-9]\b(?!…)")


def names_in(*folders: str) -> set[str]:
    """Every variable that files there name; one that ends in an underscore stands for several."""
    files: list[Path] = []
    for folder in folders:
        files += [ROOT / folder] if "." in folder else (ROOT / folder).rglob("*.*")
    found = {name for path in files if path.suffix in (".py", ".md") for name in NAME.findall(path.read_text("utf-8"))}
    return {name for name in found if not name.startswith(INTERNAL)}


@pytest.fixture(autouse=True)
def fresh() -> None:
    """As in a process that has warned of nothing yet."""
    environment._warn_once.cache_clear()


def test_there_is_one_list_of_variables() -> None:
    """What the documents name and what is known are the same; the code names no other."""
    examples = {"STEPOUT_BUKET", "STEPOUT_HOME", "STEPOUT_WHEEL"}  # misspelt, no variable, and of Dockerfiles
    assert names_in("README.md", "docs") - examples == set(VARIABLES)
    assert names_in("artifacts", "callbacks", "schemas", "src") - examples <= set(VARIABLES)
    table = (ROOT / "docs" / "reference" / "environment.md").read_text("utf-8")
    listed = set(re.findall(r"`(STEPOUT_[A-Z0-9_]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert listed == set(VARIABLES)
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `STEPOUT_")]
    assert all(len(row) == 4 and all(cell.strip(" |") for cell in row) for row in rows), "who sets it, default, meaning"


def _task(environ: Mapping[str, str]) -> None:
    with stepout.open_task(environ=environ, targets=RecordingTarget()):
        pass


READERS: list[Callable[[Mapping[str, str]], object]] = [
    _task,
    lambda environ: stepout.ArtifactManager.from_env(
        {"STEPOUT_BUCKET": "results", **environ}, bucket=MemoryStore("b-b")
    ),
    lambda environ: allow.from_env({"STEPOUT_ALLOW": "", **environ}),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STEPOUT_BUKET", "STEPOUT_BUCKET"),
        ("STEPOUT_TOKEN", "STEPOUT_TASK_TOKEN"),
        ("STEPOUT_HEARTBEAT", "STEPOUT_HEARTBEAT_SECONDS"),
        ("stepout_bucket", "STEPOUT_BUCKET"),
        ("STEPOUT_QQQQ", "another beginning"),
    ],
)
def test_an_unknown_variable_is_named_once(
    read: Callable[[Mapping[str, str]], object], name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By whichever reads the environment first, with what was meant, and without its value."""
    with caplog.at_level(logging.WARNING, logger="stepout.environment"):
        for _ in range(3):
            read({name: "hunter2"})
    (record,) = [record for record in caplog.records if record.name == "stepout.environment"]
    assert (name in record.getMessage(), meant in record.getMessage()) == (True, True)
    assert "hunter2" not in caplog.text


def test_known_variables_and_those_of_others_are_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    """No warning on the happy path."""
    environment.warn_of_unknown({**dict.fromkeys((*VARIABLES, *INTERNAL), "x"), "STEPOUTS": "x", "MY_STEPOUT_X": "x"})
    assert caplog.records == []


def test_what_follows_from_a_misspelt_variable_says_so() -> None:
    """The bucket of artifacts, the list of buckets, and where the outcome goes."""
    target = RecordingTarget()
    with (
        pytest.raises(ConfigurationError, match="did you mean STEPOUT_BUCKET"),
        stepout.open_task(environ={"STEPOUT_BUKET": "results"}, targets=target) as task,
    ):
        task.artifacts.put_bytes("a", b"")
    with pytest.raises(ConfigurationError, match="did you mean STEPOUT_BUCKET"):
        stepout.ArtifactManager.from_env({"STEPOUT_BUKET": "results"})
    with pytest.raises(ConfigurationError, match="did you mean STEPOUT_ALLOW"):
        allow.from_env({"STEPOUT_ALOW": "s3://b/"})
    with pytest.raises(ConfigurationError, match="did you mean STEPOUT_TASK_TOKEN"):
        read_settings({"STEPOUT_EXECUTION": "x", "STEPOUT_TASKTOKEN": "t"}, token=None)
    with pytest.raises(ConfigurationError, match="did you mean STEPOUT_ALLOW"):
        stepout.open_task(environ={"STEPOUT_ALOW": "s3://b/", "STEPOUT_INPUT": "s3://b/k"}, targets=RecordingTarget())
    assert meant_for({"STEPOUT_BUKET": ""}, "STEPOUT_ALLOW") == ""


def test_a_task_that_has_not_begun_says_how_to_begin_it() -> None:
    """``task = open_task(); task.artifacts``: and once it is dropped, Python shows that nothing was reported."""
    task = stepout.open_task(environ={}, bucket=MemoryStore("results"), targets=RecordingTarget())
    with pytest.raises(ConfigurationError, match=r"with stepout\.open_task\(\) as task"):
        _ = task.artifacts
    with pytest.warns(RuntimeWarning, match=r"never entered.*with stepout\.open_task\(\) as task"):
        del task
        gc.collect()


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_was_entered_is_dropped_without_a_word(*, fails: bool) -> None:
    """Also one whose block was left by an exception."""

    def work() -> None:
        with stepout.open_task(environ={}, targets=RecordingTarget()):
            if fails:
                raise KeyError

    with warnings.catch_warnings(), contextlib.suppress(KeyError):
        warnings.simplefilter("error")
        work()
    gc.collect()
