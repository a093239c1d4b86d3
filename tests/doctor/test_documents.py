"""What the project itself hands out, in its pages and examples, is what its doctor asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.docs import blocks

from stepout.doctor import examine
from stepout.doctor.examination import recognise
from stepout.doctor.findings import Document, Expectations

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documents() -> list[Document]:
    """Return every state, state machine and task definition of README, docs and examples."""
    shown = [block for page in PAGES for block in blocks(page) if block.language == "json"]
    found = [Document(f"{block.file.name}:{block.line}", json.loads(block.text)) for block in shown]
    files = sorted((ROOT / "examples").glob("*/*.json"))
    found += [Document(f"{file.parent.name}, {file.name}", json.loads(file.read_bytes())) for file in files]
    return [each for each in found if recognise(each.value) in ("state machine", "task definition")]


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.source)
def test_what_is_handed_out_is_sound(document: Document) -> None:
    """A reader who copies a state, a state machine or a task definition gets nothing worse than a note."""
    findings = examine([document], Expectations())
    assert [f"{each.rule} {each.where}: {each.what}" for each in findings if each.severity != "note"] == []


def test_there_is_something_to_look_at() -> None:
    """The pages and the examples do hold states and task definitions."""
    kinds = [recognise(each.value) for each in documents()]
    assert kinds.count("state machine") > 10
    assert kinds.count("task definition") > 5


@pytest.mark.parametrize(("image", "rules"), [("${Image}", []), ("${Registry}/mask:${Tag}", []), ("mask", ["SO407"])])
def test_an_image_that_is_filled_in_later_is_not_judged(image: str, rules: list[str]) -> None:
    """What a placeholder stands for may have a version."""
    container: dict[str, Any] = {"name": "job", "image": image}
    found = examine([Document("task", {"family": "mask", "containerDefinitions": [container]})], Expectations())
    assert [each.rule for each in found if each.rule == "SO407"] == rules
