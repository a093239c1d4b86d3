"""The simulation is a function of its scenario, and the page shows what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

_RUNS = """
import dataclasses, json
from benchmarks.scale import *
runs = {}
for name, scenario in {
    "one": MapScenario(children=1),
    "fargate": MapScenario(children=100_000),
    "again": MapScenario(children=100_000),
    "other seed": MapScenario(children=100_000, seed=5),
    "spread": MapScenario(children=30_000, fargate=False, work_seconds=600),
    "not spread": MapScenario(children=30_000, fargate=False, work_seconds=600, spread=False),
    "writes": MapScenario(children=200_000, fargate=False, artifacts=100),
}.items():
    run = simulate(scenario)
    runs[name] = {**dataclasses.asdict(run), "first": run.first, "longest": run.longest}
print(json.dumps(runs))
"""


def _script(text: str) -> str:
    command = [sys.executable, "-c", text]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """Some runs, simulated where ``benchmarks`` can be imported."""
    return dict(json.loads(_script(_RUNS)))


def test_a_run_is_a_function_of_its_scenario(runs: dict[str, Any]) -> None:
    """The same again, to the last digit; another seed gives other times and the same requests."""
    assert runs["fargate"] == runs["again"]
    assert runs["fargate"] != runs["other seed"]
    assert runs["fargate"]["writes"] == runs["other seed"]["writes"] == 200_000


def test_the_limits_hold(runs: dict[str, Any]) -> None:
    """Nothing goes faster than its quota, and what was limited says so."""
    assert runs["one"]["reached"] == {}
    assert runs["fargate"]["seconds"] >= (100_000 - 100) / 20
    assert runs["fargate"]["first"] == runs["fargate"]["longest"] == "Fargate launches"
    assert runs["writes"]["seconds"] >= 200_000 * 101 / (3_500 * runs["writes"]["partitions"])
    assert runs["writes"]["longest"] == "S3 writes of a prefix"
    assert runs["writes"]["partitions"] > 1
    assert max(run["peaks"]["Distributed Map, children at once"] for run in runs.values()) <= 10_000 + 1e-6


def test_spread_heartbeats_keep_to_the_quota(runs: dict[str, Any]) -> None:
    """10,000 containers that beat every 20 seconds exceed 500 a second; spread, they do not."""
    assert runs["not spread"]["late"] > 0
    assert runs["spread"]["late"] == 0
    assert runs["spread"]["peaks"]["SendTaskHeartbeat"] < 500


def test_the_page_shows_what_the_simulation_prints() -> None:
    """Every table of docs/explanation/scale.md is in its place, as the command would write it; the curves are there."""
    script = """
import sys
from pathlib import Path
from benchmarks.scale_page import page_with, tables
page = Path("docs/explanation/scale.md").read_text(encoding="utf-8")
sys.stdout.write(page_with(page, tables()))
"""
    assert _script(script) == (ROOT / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "explanation" / "scale.svg").stat().st_size < 100_000
