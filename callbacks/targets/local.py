"""Targets that need no service: standard output, a file, and a folder with a file for each outcome."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stepout.callbacks.targets.context import nothing_more
from stepout.schemas.array import own_url
from stepout.schemas.errors import ConfigurationError, TaskError
from stepout.schemas.text.foreign_text import shown_json
from stepout.schemas.text.json_text import dump_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.context import TargetContext
    from stepout.schemas.progress import TaskProgress


def failure_document(error: str, cause: str) -> dict[str, Any]:
    """Return what a failed task writes in place of its output document: ``error`` and ``cause`` as JSON."""
    try:
        value = json.loads(cause)
    except ValueError:
        value = cause
    return {"error": error, "cause": value}


def stdout_from_url(url: str, _context: TargetContext) -> StdoutTarget:
    """Make the target that ``stdout:`` means.

    Raises:
        ConfigurationError: Something follows the scheme.
    """
    nothing_more(url)
    return StdoutTarget()


def file_from_url(url: str, context: TargetContext) -> FileTarget:
    """Make the target for ``file:///path``; each child of an array job gets its own file, as they may share a volume.

    Raises:
        ConfigurationError: The URL names no local file, or the task may not write to its folder.
    """
    own = own_url(url, context.environ)
    parts = urlsplit(own)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        raise ConfigurationError("STEPOUT_TARGETS: a file target is written file:///path/to/outcome.json")
    path = Path(url2pathname(parts.path))
    if own != url:
        with contextlib.suppress(OSError):  # Said below.
            path.parent.mkdir(exist_ok=True)
    return FileTarget(path)


def folder_from_url(url: str, context: TargetContext) -> FolderTarget:
    """Make the target that ``folder:///path`` means; progress goes into the file that ``STEPOUT_PROGRESS`` names.

    Raises:
        ConfigurationError: The URL names no folder that the task may write to.
    """
    return FolderTarget(url2pathname(urlsplit(url).path), progress=context.environ.get("STEPOUT_PROGRESS") or None)


class StdoutTarget:
    """Writes the outcome as one line of JSON; the default target of a task that no state waits for.

    Args:
        stream: A text stream; by default ``sys.stdout`` at the time of the report.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __repr__(self) -> str:
        return "StdoutTarget()"

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document."""
        self._write(document)

    def failure(self, error: str, cause: str) -> None:
        """Write ``{"error": …, "cause": …}``."""
        self._write(failure_document(error, cause))

    def heartbeat(self) -> None:
        """Do nothing: this target does not pass on heartbeats."""

    def _write(self, document: Mapping[str, Any]) -> None:
        stream = self._stream or sys.stdout
        # Escaped as ASCII, so that no encoding of a terminal or container can lose a character.
        line = shown_json(json.dumps(document, allow_nan=False))
        try:
            stream.write(f"{line}\n")
            stream.flush()
        except (OSError, ValueError) as error:
            raise TaskError(f"the outcome could not be written to standard output: {error}") from error


class FileTarget:
    """Writes the outcome into a file, whole or not at all, in place of one that is there.

    Args:
        path: Where the output document goes, or ``{"error": …, "cause": …}``.

    Raises:
        ConfigurationError: The folder does not exist, or the task may not write to it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        if not _may_write_in(self._path.parent) or self._path.is_dir():
            raise ConfigurationError(
                f"the outcome cannot be written to {self._path}: it must name a file in a folder that exists and may "
                "be written to"
            )

    def __repr__(self) -> str:
        return f"FileTarget({str(self._path)!r})"

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document."""
        _write_outcome(self._path, document)

    def failure(self, error: str, cause: str) -> None:
        """Write ``{"error": …, "cause": …}``."""
        _write_outcome(self._path, failure_document(error, cause))

    def heartbeat(self) -> None:
        """Do nothing: this target does not pass on heartbeats."""


class FolderTarget:
    """Writes each outcome into a file of its own; the files' names sort in the order of the reports.

    The tasks that a command opens under ``stepout run`` report to that run in this way.

    Args:
        path: The folder.
        progress: The file that tells that run how far the task is; ``None``: nothing does.
        clock: Nanoseconds.

    Raises:
        ConfigurationError: The path is not a folder, or the task may not write to it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        progress: str | os.PathLike[str] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = Path(path).absolute()
        self._progress = None if progress is None else Path(progress).absolute()
        self._clock = clock
        if not _may_write_in(self._path):
            raise ConfigurationError(f"the outcome cannot be written to {self._path}: it is no folder to write to")

    def __repr__(self) -> str:
        return f"FolderTarget({str(self._path)!r})"

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document."""
        _write_outcome(self._new_file(), document)

    def failure(self, error: str, cause: str) -> None:
        """Write ``{"error": …, "cause": …}``."""
        _write_outcome(self._new_file(), failure_document(error, cause))

    def heartbeat(self) -> None:
        """Do nothing: this target does not pass on heartbeats."""

    def report_progress(self, progress: TaskProgress) -> None:
        """Write how far the task is, for the run to pass on.

        Raises:
            OSError: The file could not be written.
        """
        if self._progress is not None:
            write_atomically(self._progress, progress.to_dict())

    def _new_file(self) -> Path:
        return self._path / f"{self._clock():020d}-{os.getpid()}.json"


def _may_write_in(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _write_outcome(path: Path, document: Mapping[str, Any]) -> None:
    try:
        write_atomically(path, document)
    except OSError as error:
        message = f"the outcome could not be written to {path}: {error.strerror}. Nothing was left there"
        raise TaskError(message) from error


def write_atomically(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON to a temporary file beside ``path``, then rename it; readable by its owner only.

    Raises:
        OSError: The file could not be written; the temporary file is removed.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(dump_json(document) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
