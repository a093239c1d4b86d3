"""The documents: JSON Schemas and typed models. Pure: no network, no client library.

Names are imported when they are first used, so that a consumer does not load what only a producer needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepout.schemas.contract import Contract as Contract
    from stepout.schemas.errors import invalid_document as invalid_document
    from stepout.schemas.identity import RunIdentity as RunIdentity
    from stepout.schemas.output import TaskOutput as TaskOutput
    from stepout.schemas.pointer import Pointer as Pointer
    from stepout.schemas.problems import Problem as Problem
    from stepout.schemas.problems import describe_problems as describe_problems
    from stepout.schemas.progress import TaskProgress as TaskProgress
    from stepout.schemas.search.locate import Found as Found
    from stepout.schemas.search.locate import TheDocument as TheDocument
    from stepout.schemas.search.locate import find_documents as find_documents
    from stepout.schemas.search.locate import find_failures as find_failures
    from stepout.schemas.search.locate import the_document as the_document
    from stepout.schemas.spill import fit as fit
    from stepout.schemas.text.json_text import dump_json as dump_json
    from stepout.schemas.text.json_text import load_json as load_json
    from stepout.schemas.text.json_value import json_problems as json_problems
    from stepout.schemas.validation import schema as schema
    from stepout.schemas.validation import validate as validate

# Public name to the module that defines it; the imports above say the same to type checkers.
_HOMES: Final = {
    "Contract": "contract",
    "Found": "search.locate",
    "Pointer": "pointer",
    "Problem": "problems",
    "RunIdentity": "identity",
    "TaskOutput": "output",
    "TaskProgress": "progress",
    "TheDocument": "search.locate",
    "describe_problems": "problems",
    "dump_json": "text.json_text",
    "find_documents": "search.locate",
    "find_failures": "search.locate",
    "fit": "spill",
    "invalid_document": "errors",
    "json_problems": "text.json_value",
    "load_json": "text.json_text",
    "schema": "validation",
    "the_document": "search.locate",
    "validate": "validation",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
