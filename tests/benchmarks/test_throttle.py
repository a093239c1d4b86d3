"""Processes at a server's limit, simulated with the library's own paces: the rate settles, and nothing fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.profile import THOROUGH

ROOT = Path(__file__).resolve().parents[2]

_RUNS = """
import dataclasses, json
from benchmarks.throttle_simulation import *
runs = {}
for name, scenario in {
    **{f"one, {limit}, {latency}": Scenario(limit=limit, latency=latency, seconds=seconds, seed=int(limit))
       for limit, latency, seconds in [
           (5, .001, 120), (5, .1, 120), (20, .01, 90), (50, .1, 60), (500, .001, 30), (500, .02, 30),
           (3500, .001, 15)]},
    "tenths": Scenario(limit=500, burst=0.1, seconds=45),
    "again": Scenario(limit=500, burst=0.1, seconds=45),
    "less": Scenario(limit=300, later=30, seconds=60),
    "more": Scenario(limit=30, later=300, seconds=90),
    "many, 500": Scenario(limit=500, processes=64, seconds=MANY_SECONDS),
    "many, 3500": Scenario(limit=3500, processes=64, seconds=15),
    "enough": Scenario(limit=5, later=1e6, threads=2, seconds=200),
}.items():
    runs[name] = dataclasses.asdict(simulate(scenario))
print(json.dumps(runs))
"""


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """Some runs, simulated where ``benchmarks`` can be imported."""
    command = [sys.executable, "-c", _RUNS.replace("MANY_SECONDS", "90" if THOROUGH else "45")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return dict(json.loads(done.stdout))


def test_a_run_is_a_function_of_its_scenario(runs: dict[str, Any]) -> None:
    """The same again, to the last digit."""
    assert runs["tenths"] == runs["again"]


def test_one_process_settles_at_the_limit(runs: dict[str, Any]) -> None:
    """From 5 to 3,500 a second, with answers after 1 to 100 ms: nine tenths at least, and few refusals."""
    found = {name: run for name, run in runs.items() if name.startswith("one") or name == "tenths"}
    assert len(found) == 8
    assert all(run["share"] >= 0.9 and run["whole"] >= 0.9 for run in found.values())
    assert all(run["refused"] < 0.08 for run in found.values())


@pytest.mark.parametrize("name", ["less", "more"])
def test_a_limit_that_changes_is_followed(runs: dict[str, Any], name: str) -> None:
    """To a tenth, and to ten times."""
    assert runs[name]["share"] >= 0.9


@pytest.mark.parametrize("name", ["many, 500", "many, 3500"])
def test_many_processes_share_one_limit(runs: dict[str, Any], name: str) -> None:
    """With sixteen threads each, and knowing nothing of each other: all of it is used, and everybody gets some."""
    assert runs[name]["share"] >= 0.9
    assert runs[name]["least"] > 0.1


def test_nothing_fails(runs: dict[str, Any]) -> None:
    """No request is refused for as long as it is repeated."""
    assert {run["failed"] for run in runs.values()} == {0}


def test_where_the_limit_is_gone_the_pace_is(runs: dict[str, Any]) -> None:
    """It is free again."""
    assert runs["enough"]["free"] == 1
