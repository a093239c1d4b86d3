"""Fixtures shared by all tests; each lives beside the program it starts, in ``support``."""

from __future__ import annotations

from importlib.util import find_spec

pytest_plugins = [
    name for name in ("support.seaweed", "support.ministack", "support.sfn_strict") if find_spec(name) is not None
]
