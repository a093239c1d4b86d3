"""``stepout schema``: the schemas, and documents checked against them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stepout.cli import main

if TYPE_CHECKING:
    from pathlib import Path

POINTER = {
    "stepout": "pointer/1",
    "bucket": "results-bucket",
    "key": "runs/a.bin",
    "size": 1,
    "checksum": {"sha256": "0" * 64},
    "mediaType": "application/octet-stream",
}


@pytest.mark.parametrize("name", ["pointer", "output"])
def test_schema_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``schema NAME`` prints the JSON Schema."""
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == f"urn:stepout:schema:{name}:1"


def test_check_lists_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``schema --check`` lists every problem of every document, and exits 1 if there is any."""
    good, bad, text = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "text.json"
    good.write_text(json.dumps(POINTER))
    bad.write_text(json.dumps({**POINTER, "size": -1, "checksum": {"sha256": "00"}}))
    text.write_text("{,}")
    assert main(["schema", "--check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: valid\n"
    assert main(["schema", "--check", str(good), str(bad), str(text)]) == 1
    out = capsys.readouterr().out
    assert f"{bad}: 2 problems" in out
    assert "$.size: " in out
    assert "$.checksum.sha256: " in out
    assert f"{text}: 1 problem" in out
    assert main(["schema", "--check", str(bad), "--json"]) == 1
    (checked,) = json.loads(capsys.readouterr().out)["documents"]
    kinds = {problem["kind"] for problem in checked["problems"]}
    assert "range" in kinds


def test_check_can_insist_on_a_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A valid pointer is no valid output."""
    file = tmp_path / "pointer.json"
    file.write_text(json.dumps(POINTER))
    assert main(["schema", "pointer", "--check", str(file)]) == 0
    assert main(["schema", "output", "--check", str(file)]) == 1
    assert "$.artifacts" in capsys.readouterr().out
