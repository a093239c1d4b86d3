"""The table of failures and the tests that back it: neither without the other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "explanation" / "failure-semantics.md"
DEMANDED = (
    "Killed before start",
    "Killed midway",
    "Killed between the last upload and the report",
    "Lost response",
    "Throttled for a minute",
    "Step Functions unreachable",
    "Expired token",
    "Duplicate delivery",
    "Clock skew",
    "Credentials that rotate",
)


def _rows() -> dict[str, list[str]]:
    """The table: the columns by what happens."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| **")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].split("**")[1]: row for row in cells}


def _named() -> list[str]:
    return [name for row in _rows().values() for name in re.findall(r"`(test_\w+)`", row[-1])]


def _written() -> set[str]:
    files = [file for file in FOLDER.glob("test_*.py") if file != Path(__file__).resolve()]
    bodies = [ast.parse(file.read_text(encoding="utf-8")).body for file in files]
    functions = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("what", DEMANDED)
def test_every_failure_has_a_row_with_a_test(what: str) -> None:
    """Seven columns, none of them empty."""
    row = _rows()[what]
    assert len(row) == 7
    assert all(row)
    assert re.search(r"`test_\w+`", row[-1])


def test_the_table_and_the_tests_agree() -> None:
    """Every test that is named exists, every test that exists is named, each once."""
    assert set(_named()) == _written()
    assert max(Counter(_named()).values()) == 1


def test_every_row_names_a_test() -> None:
    """Rows beyond those that were demanded, too."""
    assert all(re.search(r"`test_\w+`", row[-1]) for row in _rows().values())
