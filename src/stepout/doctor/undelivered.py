"""Outcomes that could not be delivered, in folders of this machine: each may be the only copy. Only you remove one."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from stepout.callbacks.lifecycle.document import UNDELIVERED_STEM
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepout.doctor.findings import Finding

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_DOCUMENT = "output.json"


def undelivered_findings(folder: Path, now: float) -> list[Finding]:
    """Return a finding for each folder in which a task kept an outcome that it could not deliver; the oldest first.

    Args:
        folder: Where temporary files go; links in it are not followed.
        now: The time, in seconds of the epoch.
    """
    return [finding for _, finding in sorted(_found(folder, now), key=lambda each: each[0])]


def _found(folder: Path, now: float) -> Iterator[tuple[float, Finding]]:
    try:
        paths = list(folder.glob(f"{UNDELIVERED_STEM}-*"))
    except OSError:  # the folder is gone, or may not be listed
        return
    for path in paths:
        try:
            about = path.lstat()
        except OSError:  # removed meanwhile
            continue
        if stat.S_ISDIR(about.st_mode):
            yield about.st_mtime, replace(_finding(path, now - about.st_mtime), source=str(path))


def _finding(path: Path, seconds: float) -> Finding:
    age = _age(seconds)
    try:
        about = (path / _DOCUMENT).lstat()
    except FileNotFoundError:
        return find("SO903", "", f"no {_DOCUMENT} in it, {age} old", do="Nothing is in it: remove the folder.")
    except OSError as error:
        return find("SO903", "", f"{age} old, and it may not be read: {error.strerror}")
    return find("SO903", _DOCUMENT, f"the outcome of a task, {about.st_size:,} bytes, {age} old")


def _age(seconds: float) -> str:
    """Return a length of time in its largest unit.

    >>> _age(90), _age(3 * 86_400 + 5), _age(-1)
    ('1 minute', '3 days', '0 seconds')
    """
    whole = max(0, int(seconds))
    size, unit = next((each for each in _UNITS if whole >= each[0]), _UNITS[-1])
    return f"{whole // size} {unit}{'' if whole // size == 1 else 's'}"
