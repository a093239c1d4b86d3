"""The project's own files, however deep: what the tests of the project walk."""

from __future__ import annotations

import ast
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {
    "stepout": ROOT / "src/stepout",
    "stepout.artifacts": ROOT / "artifacts",
    "stepout.callbacks": ROOT / "callbacks",
    "stepout.schemas": ROOT / "schemas",
}
"""Each package at the top, and its folder."""


def walk(folder: Path) -> list[Path]:
    """Every file below a folder, without following links: those of src/stepout lead to other folders of this table."""
    found = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if "__pycache__" not in path.parts and not path.is_symlink())


SOURCES = [path for folder in FOLDERS.values() for path in walk(folder) if path.suffix == ".py"]
"""Every module of the package."""


def module_name(file: Path) -> str:
    """The name that a module is imported by."""
    package, folder = next((name, folder) for name, folder in FOLDERS.items() if file.is_relative_to(folder))
    parts = file.relative_to(folder).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


_OURS = {module_name(source) for source in SOURCES}


def imports(file: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it, for types only included."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= inner & _OURS or {node.module}
    return (named & _OURS) - {module_name(file)}
