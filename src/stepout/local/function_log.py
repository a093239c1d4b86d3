"""What local Lambda functions print and raise, on its way from ministack's process to whoever started the local AWS.

The server writes it into a file, an object of JSON on each line; the owner of the local AWS reads on where it stopped.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from functools import wraps
from typing import IO, TYPE_CHECKING, Any

from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "functions.log"
"""Its name, in the folder that the server writes to."""

_logger = logger("stepout.local")
_POLL_SECONDS = 0.15
_EXECUTE = "_execute_function_warm"
_TOKEN = re.compile(r"c3RlcG91dC10YXNrLXRva2Vu[A-Za-z0-9+/=]{100,}")
"""A task token of the local AWS (``stepout.local.token_rules``): all of them begin with the same bytes."""


def write_down(service: dict[str, Any], file: Path) -> None:
    """Have what functions print and raise written into a file, call by call.

    Args:
        service: The names of ministack's module for Lambda.
        file: The file.

    Raises:
        KeyError: This ministack has no such function: it is not the version that is pinned.
    """
    execute = service[_EXECUTE]
    alone = threading.Lock()

    @wraps(execute)
    def told(func: dict[str, Any], event: Any, request_id: str) -> Any:
        result = execute(func, event, request_id)
        with contextlib.suppress(Exception):  # a call must not fail because its output cannot be shown
            lines = _lines(result)
            if lines:
                name = (func.get("config") or func)["FunctionName"]
                with alone, file.open("a", encoding="utf-8") as log:
                    log.writelines(f"{json.dumps([name, line])}\n" for line in lines)
        return result

    service[_EXECUTE] = told


def _lines(result: dict[str, Any]) -> list[str]:
    """What a call has printed, and the traceback of what it raised; of a failed import, the message at least."""
    text = result.get("log") or ""
    body = result.get("body")
    if result.get("error") and isinstance(body, dict) and str(body.get("errorMessage")) not in text:
        text = f"{text}\n{body.get('errorMessage')}"
    return [_TOKEN.sub("[task token]", line) for line in text.splitlines() if line.strip()]


class FunctionLog(threading.Thread):
    """Reads the file as it grows.

    Args:
        file: The file; it need not be there yet.
        on_line: Called with ``function NAME`` and a line.
    """

    def __init__(self, file: Path, on_line: Callable[[str, str], None]) -> None:
        super().__init__(name="stepout-local-functions", daemon=True)
        self._file, self._on_line = file, on_line
        self._closing = threading.Event()
        self._rest = ""

    def run(self) -> None:
        """Read until ``close``, and then what is left."""
        while not self._closing.wait(_POLL_SECONDS) and not self._file.exists():
            pass
        with contextlib.suppress(FileNotFoundError), self._file.open(encoding="utf-8") as log:
            while not self._closing.wait(_POLL_SECONDS):
                self._read(log)
            self._read(log)

    def close(self) -> None:
        """Read what is there, and stop; nothing happens if it was never started."""
        self._closing.set()
        if self.is_alive():
            self.join()

    def _read(self, log: IO[str]) -> None:
        *whole, self._rest = (self._rest + log.read()).split("\n")
        for each in whole:
            name, line = json.loads(each)
            try:
                self._on_line(f"function {name}", line)
            except Exception:
                # A fault in the callback must not keep the next lines back.
                _logger.exception("on_output failed for a line of the function %s", name)
