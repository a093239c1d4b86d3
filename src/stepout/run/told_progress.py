"""How far a command says it is: the file that ``STEPOUT_PROGRESS`` names, looked at while the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.progress import PROGRESS_LIMIT
from stepout.schemas.text.foreign_text import logger
from stepout.schemas.text.json_text import load_json

if TYPE_CHECKING:
    from pathlib import Path

    from stepout.callbacks.task import Task

_log = logger("stepout.run")


class ToldProgress:
    """Passes on what a command leaves in a file: ``{"done": 3, "total": 10, "message": "…"}``, the last line counts.

    A task that the command opens itself writes the same file. What is half written is read at the next look. Nothing
    here fails the task.

    Args:
        path: The file.
        task: Hears of it.
    """

    def __init__(self, path: Path, task: Task) -> None:
        self._path, self._task = path, task
        self._seen: tuple[int, int] | None = None

    def look(self, *, last: bool = False) -> None:
        """Pass on what is new.

        Args:
            last: Whether the command has ended, so that what cannot be understood stays so, and is said.
        """
        try:
            about = self._path.stat()
            mark = (about.st_mtime_ns, about.st_size)
            if mark == self._seen and not last:
                return
            with self._path.open("rb") as file:
                file.seek(max(0, about.st_size - PROGRESS_LIMIT))
                text = file.read(PROGRESS_LIMIT)
        except OSError:  # the command has written nothing, or has put something else there
            return
        if not text.strip():
            return
        told = _told(text)
        if told is None:
            if last:
                _log.warning(
                    "STEPOUT_PROGRESS: its last line is no JSON object with the member done; it is passed over"
                )
            return
        if mark != self._seen:
            self._seen = mark
            self._task.progress(told["done"], told.get("total"), told.get("message", ""))


def _told(text: bytes) -> dict[str, Any] | None:
    try:
        value = load_json(text.strip().splitlines()[-1])
    except InvalidDocumentError:
        return None
    nested = value.get("progress", value) if isinstance(value, dict) else None  # "progress": a task that it opened
    return nested if isinstance(nested, dict) and "done" in nested else None
