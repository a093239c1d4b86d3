"""A folder as a target: where the tasks that a command of ``stepout run`` opens report to, a file each."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stepout.callbacks.targets.local import failure_document, write_atomically
from stepout.schemas.errors import ConfigurationError, TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepout.callbacks.targets.registry import TargetContext


def target_from_url(url: str, _context: TargetContext) -> FolderTarget:
    """Make the target that ``folder:///path`` means.

    Raises:
        ConfigurationError: It names no folder that may be written to.
    """
    return FolderTarget(url2pathname(urlsplit(url).path))


class FolderTarget:
    """Writes each outcome into a file of its own, named so that they sort in the order in which they came.

    Args:
        path: The folder.
        clock: Nanoseconds.

    Raises:
        ConfigurationError: It is no folder, or may not be written to.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = Path(path).absolute()
        self._clock = clock
        if not (self._path.is_dir() and os.access(self._path, os.W_OK)):
            raise ConfigurationError(f"the outcome cannot be written to {self._path}: it is no folder to write to")

    def __repr__(self) -> str:
        return f"FolderTarget({str(self._path)!r})"

    def success(self, document: Mapping[str, Any]) -> None:
        """Write the output document."""
        self._write(document)

    def failure(self, error: str, cause: str) -> None:
        """Write ``{"error": …, "cause": …}``."""
        self._write(failure_document(error, cause))

    def heartbeat(self) -> None:
        """Do nothing: nobody listens."""

    def _write(self, document: Mapping[str, Any]) -> None:
        path = self._path / f"{self._clock():020d}-{os.getpid()}.json"
        try:
            write_atomically(path, document)
        except OSError as error:
            raise TaskError(f"the outcome could not be written to {path}: {error.strerror}") from error
