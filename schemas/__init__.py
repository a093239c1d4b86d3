"""The documents: JSON Schemas and typed models. Pure: no network, no client library."""

from __future__ import annotations

from stepout.schemas.identity import RunIdentity
from stepout.schemas.output import TaskOutput
from stepout.schemas.pointer import Pointer
from stepout.schemas.problems import Problem

__all__ = ["Pointer", "Problem", "RunIdentity", "TaskOutput"]
