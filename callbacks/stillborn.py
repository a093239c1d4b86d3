"""A task that could not be made: whoever waits for it must hear of that, or would wait until the heartbeat runs out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stepout.callbacks.failure import cause_of, error_of
from stepout.callbacks.logs import redacted_logs
from stepout.callbacks.report import Reporter
from stepout.callbacks.sfn import StepFunctionsTarget
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.ports import Target

__all__ = ["report_stillborn"]

_log = logging.getLogger("stepout.callbacks.task")

_PATIENCE = 30.0
"""Seconds: there is nothing to lose but this one report."""


def report_stillborn(
    error: Exception,
    *,
    environ: Mapping[str, str],
    token: str | None,
    client: SFNClient | None,
    targets: Target | Sequence[Target] | None,
) -> None:
    """Report that a task could not be made; whatever goes wrong here is logged, not raised.

    Args:
        error: Why.
        environ: Says which run this is.
        token: The task token; without it and without targets nobody waits.
        client: For Step Functions, used as it is.
        targets: Where the caller wants the outcome.
    """
    try:
        reporter = _reporter(token, client, targets)
        if reporter is None:
            return
        redactor = reporter.redactor
        with redacted_logs(redactor):
            cause = cause_of(error, run=_run(environ).to_dict(), redactor=redactor)
            reporter.failure(redactor.text(error_of(error)), cause)
    except Exception as unreported:  # noqa: BLE001 - the caller's mistake is what must be seen
        _log.error("that the task could not be made could not be reported: %s", unreported)


def _reporter(
    token: str | None, client: SFNClient | None, targets: Target | Sequence[Target] | None
) -> Reporter | None:
    if targets is not None:
        try:
            return Reporter(targets)
        except ConfigurationError:
            pass  # They are the mistake.
    return None if token is None else Reporter(StepFunctionsTarget(token, client, patience=_PATIENCE))


def _run(environ: Mapping[str, str]) -> RunIdentity:
    try:
        return RunIdentity.from_env(environ)
    except ConfigurationError:  # That, too, may be the mistake.
        return RunIdentity(execution=environ.get("STEPOUT_EXECUTION"), state=environ.get("STEPOUT_STATE"))
