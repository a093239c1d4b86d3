"""The benchmark harness measures what it says, at a size where nobody waits for it; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _bench(folder: Path, *arguments: str, stem: str = "benchmarks") -> dict[str, Any]:
    places = ("--output", str(folder), "--folder", str(folder))
    command = [sys.executable, "-m", "benchmarks", *arguments, "--minutes", "30", *places]  # on a busy machine
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((folder / f"{stem}.json").read_text(encoding="utf-8")))


def _rows(section: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in section["rows"]}


def _folder_is_clean(folder: Path, stem: str = "benchmarks") -> bool:
    return {path.name for path in folder.iterdir()} <= {f"{stem}.md", f"{stem}.json", f"{stem}.svg"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the sink serves from forked processes")
def test_transfers_are_measured_and_reported(tmp_path: Path) -> None:
    """Both directions over both schemes: who ran, what the server saw, ratios to the baseline, a page and its JSON."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sized = ("--size", "12MiB", "--rounds", "1", "--quick", "--only", "stepout", "--downloads", str(elsewhere))
    values = _bench(tmp_path, "upload", "download", *sized)
    elsewhere.rmdir()  # nothing is left there
    assert [section["name"] for section in values["sections"]] == [
        f"{operation} 12 MiB, sink, {scheme}" for operation in ("upload", "download") for scheme in ("HTTP", "HTTPS")
    ]
    for section in values["sections"]:
        rows = _rows(section)
        assert {"stepout", "boto3", "SHA-256 alone"} <= set(rows)
        assert rows["boto3"]["wallToBaseline"] == [1, 1, 1]
        assert rows["stepout"]["wallToFloor"][0] > 0
        saw = rows["stepout"]["serverSaw"]
        if section["suite"] == "upload":
            assert 0 <= saw["bytes_in"] - (12 << 20) < 1024  # what is not AWS's is tried out with small objects
        else:
            assert saw["bytes_out"] >= 12 << 20  # more, where an answer was not waited for
        assert "failed" not in saw
        assert "unchecked" not in saw
        assert section["downloads"] is None or section["suite"] == "download"
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "```" not in page
    assert str(tmp_path) not in page
    assert page.count("| **stepout** |") == 4
    assert {target["section"] for target in values["targets"]} == {section["name"] for section in values["sections"]}
    assert _folder_is_clean(tmp_path)


def test_validation_is_measured_call_by_call(tmp_path: Path) -> None:
    """Of a document of 300 pointers; the limits are in milliseconds, and nobody who failed is quoted."""
    values = _bench(tmp_path, "validation", "--rounds", "1", "--quick")
    (section,) = values["sections"]
    assert all(row["wallSeconds"] > 0 and "reason" not in row for row in section["rows"])
    assert [target["got"].endswith(" ms") for target in values["targets"]] == [True, True]


def _script(text: str, *arguments: str) -> Any:
    """What a script prints, run where ``benchmarks`` can be imported."""
    command = [sys.executable, "-c", text, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(run.stdout)


def test_a_wrong_digest_is_a_failure(tmp_path: Path) -> None:
    """A contender that comes to another SHA-256 than the expected one has failed, however fast it was."""
    file = tmp_path / "file"
    file.write_bytes(b"0123456789" * 1000)
    script = """
import json, sys
from benchmarks import measure
from benchmarks.job import Job
job = Job(peer="SHA-256 alone", operation="upload", path=sys.argv[1], size=10000, sha256="0" * 64)
print(json.dumps(measure.run_job(job)))
"""
    assert _script(script, str(file))["failed"].startswith("AssertionError: SHA-256 is ")


def test_ratios_are_taken_within_rounds_and_nobody_is_dropped() -> None:
    """A round in which everything was slow changes no ratio, and a missing peer is in the table with the reason."""
    script = """
import json
from benchmarks.measure import Row, interleave
from benchmarks.report import page
from benchmarks.stats import ratio_between
from benchmarks.sections import Section

order = []
def contender(name, *walls):
    times = iter(walls)
    def act():
        order.append(name)
        return {"wall": (t := next(times)), "cpu": t, "memory": 1 << 20}
    return Row(name, act)
rows = [contender("stepout", 1, 10, 3), contender("boto3", 2, 40, 6)]
rows.append(Row("absent", lambda: {"skipped": "ModuleNotFoundError: No module named 'absent'"}))
section = Section("upload", "upload, sink, HTTP", 1 << 30, rows)
interleave(rows, 3)
ratio = ratio_between(section, "stepout", "boto3", "wall")
text = page([section], "2026-01-01", plot=False)
print(json.dumps({"order": order, "ratio": [ratio.median, ratio.least, ratio.most], "page": text}))
"""
    found = _script(script)
    assert found["order"] == ["stepout", "boto3", "boto3", "stepout", "stepout", "boto3"]
    assert found["ratio"] == [0.5, 0.25, 0.5]
    assert "| absent | skipped: ModuleNotFoundError: No module named 'absent' |" in found["page"]
    assert "| **stepout** | 0.50 (0.25\u20130.50) |" in found["page"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the sink serves from forked processes")
def test_directories_are_put_and_got(tmp_path: Path) -> None:
    """The same files by everybody, to the sink and from a real object store; and one file out of many by its index."""
    only = [word for name in ("put_directory", "download", "file") for word in ("--only", f"stepout {name}")]
    values = _bench(tmp_path, "directories", "--rounds", "1", "--quick", "--size", "1MiB", *only)
    put, get, one = values["sections"]
    assert "reason" not in {name for section in values["sections"] for row in section["rows"] for name in row}
    saw = _rows(put)["stepout put_directory"]["serverSaw"]
    assert saw["put"] == saw["header_checksum"]
    assert 0 <= saw["put"] - 201 <= 1  # what is not AWS's is tried out with a small object
    assert "unchecked" not in saw
    assert set(_rows(get)) == {"stepout download", "s5cmd"}
    assert set(_rows(one)) == {"stepout file", "boto3, whole listing"}
    assert len(values["targets"]) == 3
    assert _folder_is_clean(tmp_path)


def test_children_are_gathered(tmp_path: Path) -> None:
    """All of them, the first of them, and all of them by loading the whole file: each counts what it found."""
    values = _bench(tmp_path, "fan-in", "--rounds", "1", "--quick", "--size", "1MiB")
    for section in values["sections"]:
        assert set(_rows(section)) == {"stepout gather", "stepout gather, first child", "json.load"}
        assert all("reason" not in row and row["wallSeconds"] > 0 for row in section["rows"])
    assert len(values["targets"]) == 4
    assert _folder_is_clean(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the sink serves from forked processes")
def test_transfers_are_measured_behind_a_network(tmp_path: Path) -> None:
    """A cell of the grid, the network itself, a stall and bad networks have a page of their own; what is kept stays."""
    small = ("--rounds", "1", "--quick", "--size", "6MiB", "--only", "boto3")
    page = {"stem": "benchmarks-network"}
    values = _bench(tmp_path, "network", "bad networks", *small, **page)
    checked, up, down, *bad = values["sections"]
    assert _rows(checked)["model"]["wallToBaseline"] == [1, 1, 1]
    for section in up, down:
        rows = _rows(section)
        assert set(rows) == {"stepout", "boto3"}
        assert all(row["group"] == "same job" and len(row["rounds"]) == 2 for row in rows.values())
        assert 0 <= rows["boto3"]["rounds"][0]["extra"] < 1 << 16
        assert section["cell"]["rate"] == 25e6
    assert len(bad) == 4
    late = "stepout, one request stalls"
    kept = _bench(tmp_path, "tails", "--keep", *small, "--only", late, **page)
    assert [section for section in kept["sections"] if section["suite"] != "tails"] == values["sections"]
    tails = [_rows(section) for section in kept["sections"] if section["suite"] == "tails"]
    assert [set(rows) for rows in tails] == [{"stepout", "boto3", late}] * 2
    text = (tmp_path / "benchmarks-network.md").read_text(encoding="utf-8")
    assert "| upload 6 MiB | 1 | " in text
    assert str(tmp_path) not in text
    assert _folder_is_clean(tmp_path, **page)


@pytest.mark.parametrize("page", ["benchmarks.report:benchmarks", "benchmarks.network.page:benchmarks-network"])
def test_the_committed_page_explains_itself_in_the_words_of_the_code(page: str) -> None:
    """What stands above the tables in docs/explanation is what the code would write."""
    module, _, stem = page.partition(":")
    script = f"import sys; from {module} import METHOD; sys.stdout.write(METHOD)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout in (ROOT / "docs" / "explanation" / f"{stem}.md").read_text(encoding="utf-8")


HANDLED = """
import json
from benchmarks import cold

job = {"endpoint": "http://127.0.0.1:1", "key": "key", "size": 1, "sha256": "0" * 64}
done = cold.run_handler(cold.LAMBDA["bare runtime"], **job)
failed = cold.run_handler("def handler(event, context):\\n    raise ValueError(event['key'])", **job)
cold.importlib.util.find_spec = lambda _name: None
absent = cold.run_handler(cold.LAMBDA["bare runtime"], **job)
print(json.dumps([done, failed, absent]))
"""


def test_handlers_run_in_lambdas_runtime_client_where_it_is_installed() -> None:
    """A handler that answers is measured, one that raises has failed, and without the client nobody is measured."""
    done, failed, absent = _script(HANDLED)
    missing = {"skipped": "ModuleNotFoundError: No module named 'awslambdaric'"}
    assert absent == missing
    if done != missing:
        assert done["wall"] > 0
        assert done["cpu"] > 0
        assert failed["failed"] == "ValueError: key"
