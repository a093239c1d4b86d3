"""Decides whether paths from a document may be used below a target folder, without touching the disk."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import Final

from stepout.schemas.problems import Problem, item, member

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_WINDOWS_ONLY = re.compile(r'[<>:"|?*]|[. ]$')
_DEVICES: Final = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}) | {
    f"{name}{digit}"
    for name in ("COM", "LPT")
    for digit in "123456789\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}"
}
_NAME_LIMIT: Final = 255  # bytes; the limit of every common file system


def path_fault(path: str, *, windows: bool = os.name == "nt") -> str | None:
    """Return why a path from a document may not be used below a target folder, or ``None``.

    Args:
        path: Relative, with slashes.
        windows: Whether names with a special meaning in Windows are refused too (drives and backslashes always are).

    >>> path_fault("a/b.txt") is None, path_fault("../b.txt")
    (True, "it has a segment '..'")
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if "\\" in path or _CONTROL.search(path):
        return "it has a backslash or a control character"
    if _DRIVE.match(path):
        return "it begins with a drive"
    return next((fault for fault in (_segment_fault(part, windows) for part in path.split("/")) if fault), None)


def _segment_fault(segment: str, windows: bool) -> str | None:
    if segment == "":
        return "it has an empty segment"
    if segment in {".", ".."}:
        return f"it has a segment {segment!r}"
    if len(segment.encode()) > _NAME_LIMIT:
        return f"a segment has more than {_NAME_LIMIT} bytes"
    if windows and (_WINDOWS_ONLY.search(segment) or segment.partition(".")[0].rstrip().upper() in _DEVICES):
        return "Windows does not take it as a file's name"
    return None


def collisions(paths: list[str]) -> list[Problem]:
    """Return what keeps the paths of the array ``$.files`` from being files below one folder.

    Args:
        paths: Each without a ``path_fault``.

    Returns:
        Kind ``"duplicate"``: a path that occurs twice, and a file that is another's folder.
    """
    seen: set[str] = set()
    # By segments, a folder comes right before what lies in it; spelling every folder out would be quadratic in depth.
    ordered = sorted(set(paths), key=lambda path: path.split("/"))
    folders = {path for path, following in pairwise(ordered) if following.startswith(path + "/")}
    problems = []
    for index, path in enumerate(paths):
        place = member(item("$.files", index), "path")
        if path in seen:
            problems.append(Problem(place, "duplicate", "occurs more than once"))
        if path in folders:
            problems.append(Problem(place, "duplicate", "is a file and another file's folder"))
        seen.add(path)
    return problems
