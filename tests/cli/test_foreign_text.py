"""What a document holds reaches a terminal as escapes, in every command that prints it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stepout.cli import main

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\u202e\u2066\u200f\u061c\u2028\u200b\U000e0041"
CONTROLS = "\x1b[2J\x9b2J\x85\x7f\x00"


def _pointer(key: str) -> dict[str, Any]:
    digest = {"sha256": "0" * 64}
    given = {"bucket": "results", "key": key, "size": 1, "checksum": digest, "mediaType": "text/plain"}
    return {"stepout": "pointer/1", **given}


def _output() -> dict[str, Any]:
    producer = {"execution": f"arn{HOSTILE}", "state": f"Mask{HOSTILE}"}
    result = {f"name{CONTROLS}": f"value{HOSTILE}{CONTROLS}"}
    artifacts = {"a": _pointer(f"runs/{HOSTILE}")}
    return {"stepout": "output/1", "artifacts": artifacts, "result": result, "producer": producer}


DOCUMENTS = {
    "a pointer": _pointer(f"runs/{HOSTILE}"),
    "an output": _output(),
    "members": {**_output(), "artifacts": {f"n{CONTROLS}{HOSTILE}": {f"x{HOSTILE}": CONTROLS}}, f"p{HOSTILE}": 1},
    "a machine": {"StartAt": HOSTILE, "States": {f"S{CONTROLS}{HOSTILE}": {"Type": "Task", "Retry": [{HOSTILE: 1}]}}},
}


@pytest.mark.parametrize("words", [["show"], ["show", "--json"], ["verify", "--allow", "s3://other/"]], ids=str)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_of_a_document_drives_a_terminal(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, JSON and complaints hold the text escaped."""
    main([*words, json.dumps(DOCUMENTS[name])])
    _check(capsys)


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["schema", "--check"]], ids=str)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_nor_does_what_is_found_in_it(
    name: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings and file names hold the text escaped."""
    file = tmp_path / f"a{HOSTILE}.json"
    file.write_text(json.dumps(DOCUMENTS[name]))
    main([*words, str(file)])
    _check(capsys)


@pytest.mark.parametrize("command", ["show", "get", "cat", "verify", "doctor"])
def test_a_name_that_is_no_file_is_escaped(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An operating system's own error quotes the name as it is."""
    more = ["--allow", "s3://other/"] if command in ("get", "cat", "verify") else []
    assert main([command, f"no{HOSTILE}\x1b\x9b", *more]) != 0
    _check(capsys)


def _check(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = capsys.readouterr()
    assert out + err
    assert (out + err).replace("\n", "").isprintable()
