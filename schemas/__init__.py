"""The documents: JSON Schemas and typed models. Pure: no network, no client library."""

from __future__ import annotations

from stepout.schemas.identity import RunIdentity
from stepout.schemas.json_text import dump_json, load_json
from stepout.schemas.json_value import json_problems
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, describe_problems, invalid_document

__all__ = [
    "Pointer",
    "Problem",
    "RunIdentity",
    "TaskOutput",
    "describe_problems",
    "dump_json",
    "invalid_document",
    "json_problems",
    "load_json",
]
