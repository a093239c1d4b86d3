"""Read the cases of valid and invalid documents in ``tests/schemas/cases``.

A case says why it is valid or not, and either holds its ``document`` or changes the file's ``base``: ``set`` and
``remove`` members, or ``repeat`` text into one. ``problems`` lists the expected locations and kinds. JSON has no word
for infinity and NaN: ``{"$float": "nan"}`` stands for it. Text is given as ``text``, as ``hex`` of its bytes, or as
``repeat``.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DocumentCase", "TextCase", "base", "document_cases", "text_cases"]

_FOLDER = Path(__file__).parents[1] / "schemas" / "cases"


class DocumentCase(NamedTuple):
    """A document, and the locations and kinds of its problems, sorted."""

    why: str
    document: Any
    problems: list[tuple[str, str]]


class TextCase(NamedTuple):
    """A text, and the locations and kinds of its problems, sorted."""

    why: str
    text: str | bytes
    problems: list[tuple[str, str]]


def base(name: str) -> dict[str, Any]:
    """Return a valid document with every member: a new ``"pointer"`` or ``"output"``."""
    document: dict[str, Any] = _read(name)["base"]
    return document


def document_cases(name: str) -> list[DocumentCase]:
    """Return every case of a ``"pointer"`` or an ``"output"``."""
    contents = _read(name)
    every = [*contents["valid"], *contents["invalid"]]
    return [DocumentCase(case["why"], _document(case, contents["base"]), _problems(case)) for case in every]


def text_cases() -> list[TextCase]:
    """Return every case of JSON text."""
    contents = _read("text")
    return [TextCase(case["why"], _text(case), _problems(case)) for case in (*contents["valid"], *contents["invalid"])]


def _read(name: str) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"), object_hook=_number)
    return contents


def _number(members: dict[str, Any]) -> Any:
    return float(members["$float"]) if members.keys() == {"$float"} else members


def _document(case: dict[str, Any], whole: dict[str, Any]) -> Any:
    if "document" in case:
        return case["document"]
    document = {**deepcopy(whole), **case.get("set", {})}
    document.update((name, text * count) for name, (text, count) in case.get("repeat", {}).items())
    return {name: value for name, value in document.items() if name not in case.get("remove", ())}


def _text(case: dict[str, Any]) -> str | bytes:
    if "repeat" in case:
        text, count = case["repeat"]
        return str(text * count)
    return str(case["text"]) if "text" in case else bytes.fromhex(case["hex"])


def _problems(case: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((location, kind) for location, kind in case.get("problems", ()))
