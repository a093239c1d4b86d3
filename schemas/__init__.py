"""The documents: JSON Schemas and typed models. Pure: no network, no client library."""

from __future__ import annotations

from stepout.schemas.contract import Contract
from stepout.schemas.identity import RunIdentity
from stepout.schemas.json_text import dump_json, load_json
from stepout.schemas.json_value import json_problems
from stepout.schemas.locate import Found, TheDocument, find_documents, the_document
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem, describe_problems, invalid_document
from stepout.schemas.spill import fit
from stepout.schemas.validation import schema, validate

__all__ = [
    "Contract",
    "Found",
    "Pointer",
    "Problem",
    "RunIdentity",
    "TaskOutput",
    "TheDocument",
    "describe_problems",
    "dump_json",
    "find_documents",
    "fit",
    "invalid_document",
    "json_problems",
    "load_json",
    "schema",
    "the_document",
    "validate",
]
