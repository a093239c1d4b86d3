"""Keeps tokens out of logs: ours, and those in which botocore writes whole requests when it debugs."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.callbacks.redact import Redactor

__all__ = ["redacted_logs"]

# A filter acts on the very logger that it is attached to, not on those below it.
_LOGGERS: Final = (
    *(f"stepout.callbacks.{name}" for name in ("sfn", "heart", "task", "report", "signals")),
    "stepout.artifacts",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.auth",
    "botocore.parsers",
    "botocore.httpsession",
    "botocore.retryhandler",
    "urllib3.connectionpool",
)


class _RedactingFilter(logging.Filter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        return True


@contextmanager
def redacted_logs(redactor: Redactor) -> Iterator[None]:
    """While the block runs, take secrets out of what these loggers pass on.

    Args:
        redactor: Knows the secrets.
    """
    redacting = _RedactingFilter(redactor)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(redacting)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(redacting)
