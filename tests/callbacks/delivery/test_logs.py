"""``stepout.callbacks.delivery.logs``: no secret in what the process logs while a task runs."""

from __future__ import annotations

import io
import logging
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAZ1+/x9=" * 20


@pytest.fixture
def job() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A job's own logger, with a handler of its own."""
    stream, logger = io.StringIO(), logging.getLogger("job_of_a_test")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def _fail(message: str) -> None:
    raise ValueError(message)


def test_a_jobs_own_lines_lose_their_secrets(job: tuple[logging.Logger, io.StringIO]) -> None:
    """In the message, its arguments, a traceback and the stack, even if logging is called wrongly."""
    logger, stream = job
    with redacted_logs(Redactor([TOKEN])):
        logger.error("one %s", TOKEN)
        logger.error(f"two {TOKEN[:60]}…")  # noqa: G004 - jobs do that
        try:
            _fail(f"three {TOKEN}")
        except ValueError:
            logger.exception("four")
        logger.error("five %d", TOKEN)  # noqa: PLE1206, RUF100 - wrong on purpose
        logger.error("six", stack_info=True)
    printed = stream.getvalue()
    assert TOKEN[:24] not in printed
    for kept in ("one [redacted]", "two [redacted]…", "ValueError: three [redacted]", "four", "five", "Stack (most"):
        assert kept in printed


def test_records_without_secrets_are_left_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    """Handlers that look at arguments and exceptions go on working."""
    with redacted_logs(Redactor([TOKEN])):
        try:
            _fail("x")
        except ValueError:
            logging.getLogger("job_of_a_test").exception("rows: %d, AKIAIOSFODNN7EXAMPLE", 3)
    (record,) = caplog.records
    assert record.args == (3,)
    assert record.exc_info
    assert "AKIA" in record.getMessage()


def test_what_clients_log_is_redacted_by_pattern_too(caplog: pytest.LogCaptureFixture) -> None:
    """They write whole requests when they debug."""
    with redacted_logs(Redactor()):
        logging.getLogger("botocore.endpoint").error("key %s", "AKIAIOSFODNN7EXAMPLE")
    assert caplog.messages == ["key [redacted]"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_the_factory_of_before_comes_back_in_any_order(order: tuple[int, ...]) -> None:
    """Tasks of several threads overlap; nothing piles up."""
    before = logging.getLogRecordFactory()
    stacks = [ExitStack() for _ in range(3)]
    for stack in stacks:
        stack.enter_context(redacted_logs(Redactor([TOKEN])))
    for index in order:
        stacks[index].close()
    assert logging.getLogRecordFactory() is before


def test_a_factory_that_came_later_stays() -> None:
    """It is somebody else's; ours does nothing any more."""
    before = logging.getLogRecordFactory()
    try:
        with redacted_logs(Redactor([TOKEN])):
            ours = logging.getLogRecordFactory()

            def theirs(*args: Any, **kwargs: Any) -> logging.LogRecord:
                return ours(*args, **kwargs)

            logging.setLogRecordFactory(theirs)
        assert logging.getLogRecordFactory() is theirs
        assert theirs("n", 20, "p", 1, TOKEN, (), None).getMessage() == TOKEN
    finally:
        logging.setLogRecordFactory(before)


def test_blocks_of_several_threads_leave_each_others_redaction_in_place() -> None:
    """Others are told from threads of their own, which begin and end while a task begins and ends."""
    stop, before = threading.Event(), sys.getswitchinterval()

    def churn() -> None:
        while not stop.is_set():
            with redacted_logs(Redactor(["another-secret-of-somebody"])):
                pass

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for number in range(300):
            with redacted_logs(Redactor([f"secret-number-{number:08}"])):
                for _ in range(5):
                    made = logging.getLogRecordFactory()("n", 30, "p", 1, f"secret-number-{number:08}", (), None)
                    assert made.getMessage() == "[redacted]"
    finally:
        stop.set()
        sys.setswitchinterval(before)
        for thread in threads:
            thread.join()
