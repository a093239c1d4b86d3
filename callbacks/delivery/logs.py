"""Keeps secrets out of logs: our own, the job's, and botocore's, which at level DEBUG hold whole requests."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.callbacks.delivery.redaction import Redactor

# Lines of these loggers are also redacted by pattern (signatures, access keys). The job's own lines are changed only
# where they hold one of the exact secrets.
_CLIENTS: Final = frozenset({"stepout", "boto3", "botocore", "s3transfer", "urllib3", "aiobotocore", "s3fs", "awscrt"})

# Tasks in several threads add and remove factories. Without the lock, two threads could read the same current factory,
# and the factory that is set last would leave the other one out.
_changing: Final = threading.Lock()


class _RecordFactory:
    """Makes log records without secrets, for all loggers and handlers, also those that are set up later.

    Args:
        before: The record factory that was set before; it makes the record.
        redactor: Knows the secrets.
    """

    def __init__(self, before: Callable[..., logging.LogRecord], redactor: Redactor) -> None:
        self.before = before
        self.active = True
        self._redactor = redactor

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record; a record without a secret keeps its arguments and its exception unchanged."""
        record = self.before(*args, **kwargs)
        if self.active:
            self._redact(record)
        return record

    def _redact(self, record: logging.LogRecord) -> None:
        always = record.name.partition(".")[0] in _CLIENTS
        message = _message(record)
        if always or self._redactor.hits(message):
            record.msg, record.args = self._redactor.text(message), None
        if record.exc_info and record.exc_info[1] is not None:
            trace = logging.Formatter().formatException(record.exc_info)
            told = self._redactor.text(trace) if always or self._redactor.hits(trace) else trace
            if told != trace:
                record.exc_info, record.exc_text = None, told
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - logging complains of such a call itself, and quotes it
        return f"{record.msg!r} {record.args!r}"


@contextmanager
def redacted_logs(redactor: Redactor) -> Iterator[None]:
    """While the block runs, take secrets out of every line that the process logs.

    Args:
        redactor: Knows the secrets.
    """
    with _changing:
        factory = _RecordFactory(_active(logging.getLogRecordFactory()), redactor)
        logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        factory.active = False
        with _changing:
            logging.setLogRecordFactory(_active(logging.getLogRecordFactory()))


def _active(factory: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """The factory without those of tasks that have ended; tasks in several threads end in any order."""
    while isinstance(factory, _RecordFactory) and not factory.active:
        factory = factory.before
    if isinstance(factory, _RecordFactory):
        factory.before = _active(factory.before)
    return factory
