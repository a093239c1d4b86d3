"""Which run writes: nonce, run id, and the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from stepout.artifacts.run import new_run_id, process_nonce, resolve_run, rfc3339, version
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_the_nonce_is_one_for_a_process() -> None:
    """Every call gives the same nonce, and another process draws another one."""
    script = "from stepout.artifacts.run import process_nonce as n; print(n(), n())"
    other = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert len(process_nonce()) == 12
    assert process_nonce() == process_nonce()
    assert other[0] == other[1] != process_nonce()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_nonce_of_its_own() -> None:
    """A pool of forked workers does not share its parent's nonce."""
    script = (
        "import os\n"
        "from stepout.artifacts.run import process_nonce\n"
        "mine = process_nonce()\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(process_nonce() == mine)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_run_that_says_something_is_completed_the_same_way_each_time() -> None:
    """Two managers with the same run make the same keys, even before it is resolved."""
    known = RunIdentity(state="Mask")
    first, second = resolve_run(known), resolve_run(known)
    assert first == second
    assert first.state == "Mask"
    assert first.nonce == process_nonce()
    assert first.run_id
    assert first.version


def test_a_run_that_says_nothing_is_one_of_its_own() -> None:
    """Two managers without a run do not meet."""
    assert resolve_run(None).run_id != resolve_run(None).run_id


def test_an_execution_needs_no_run_id() -> None:
    """Where there is an execution, no run id is made up."""
    assert resolve_run(RunIdentity(execution="e")).run_id is None


def test_what_is_known_is_kept() -> None:
    """A resolved run stays as it is when it is resolved again."""
    resolved = resolve_run(RunIdentity(nonce="n", run_id="r", version="9"))
    assert (resolved.nonce, resolved.run_id, resolved.version) == ("n", "r", "9")
    assert resolve_run(resolved) == resolved


def test_run_ids_sort_by_time() -> None:
    """Later runs sort after earlier ones."""
    ids = [new_run_id(START + timedelta(milliseconds=step), os.urandom) for step in range(0, 5000, 7)]
    assert ids == sorted(ids)


def test_randomness_and_time_can_be_given() -> None:
    """The same clock and the same randomness give the same identity."""
    numbers = count()
    made = resolve_run(None, clock=lambda: START, random=lambda size: bytes([next(numbers)] * size))
    assert made.nonce == "000000000000"
    assert made.run_id == "20261122T120000000Z-010101010101"


def test_times_are_written_in_utc() -> None:
    """A time of any zone becomes RFC 3339 with Z."""
    assert rfc3339(datetime.fromisoformat("2026-11-22T13:30:00+01:00")) == "2026-11-22T12:30:00Z"


def test_the_environment_names_the_run() -> None:
    """All five variables are read; an empty one counts as absent."""
    environ = {
        "STEPOUT_EXECUTION": "arn:x",
        "STEPOUT_STATE": "Mask",
        "STEPOUT_ATTEMPT": " 2 ",
        "STEPOUT_MAP_INDEX": "3-0",
        "STEPOUT_REDRIVE": "",
    }
    assert RunIdentity.from_env(environ) == RunIdentity(execution="arn:x", state="Mask", attempt=2, map_index="3-0")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATTEMPT", "one"),
        ("ATTEMPT", "-1"),
        ("ATTEMPT", "1.0"),
        ("REDRIVE", "$$.x"),
        ("MAP_INDEX", "a"),
        ("MAP_INDEX", "3-"),
    ],
)
def test_bad_numbers_are_named(name: str, value: str) -> None:
    """A variable that holds no number is a configuration error that names it."""
    with pytest.raises(ConfigurationError, match=f"STEPOUT_{name} is "):
        RunIdentity.from_env({f"STEPOUT_{name}": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"map_index": 3},
        {"map_index": "first"},
        {"state": ""},
        {"execution": b"arn"},
        {"attempt": "1"},
        {"attempt": -1},
        {"redrive": True},
    ],
)
def test_a_run_that_no_document_could_hold_is_refused(wrong: dict[str, object]) -> None:
    """A member of the wrong type is named when the manager is made, not when the output is sent."""
    with pytest.raises(ConfigurationError, match=f"run: {next(iter(wrong))}"):
        resolve_run(RunIdentity(**wrong))  # type: ignore[arg-type]  # the wrong type is the point


def test_a_bare_folder_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stepout is not installed but copied, its version is unknown, which is no error."""
    from importlib import metadata

    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    version.cache_clear()
    monkeypatch.setattr(metadata, "version", missing)
    assert resolve_run(None).version is None
    version.cache_clear()
