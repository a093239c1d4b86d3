"""Reports a task that could not be made: without a report, the state would wait until its heartbeat runs out."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from stepout.callbacks.delivery.failure import cause_of, error_of
from stepout.callbacks.delivery.logs import redacted_logs
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.fan_out import FanOut
from stepout.callbacks.targets.registry import CARRIERS, parse_targets, target_urls
from stepout.callbacks.targets.sfn import StepFunctionsTarget
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.identity import run_told_by
from stepout.schemas.text.foreign_text import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.protocols import Target

_log = logger("stepout.callbacks.task")

_PATIENCE = 30.0
"""Seconds for tries; short, because only this one report could be lost."""


def report_startup_failure(
    error: Exception,
    *,
    environ: Mapping[str, str],
    token: str | None,
    client: SFNClient | None,
    targets: Target | Sequence[Target] | None,
) -> None:
    """Report that a task could not be made. An error in this function is logged, not raised.

    Args:
        error: Why the task could not be made.
        environ: The task's environment: names the run and its targets.
        token: The task token; without a token and without targets, no report is made.
        client: For Step Functions, used as it is.
        targets: The caller's targets, instead of the environment's.
    """
    redactor = Redactor([token] if token is not None else [])
    try:
        fan_out = _fan_out(environ, token, client, targets)
        if fan_out is None:
            return
        redactor |= fan_out.redactor()
        with redacted_logs(redactor):
            cause = cause_of(error, run=run_told_by(environ).to_dict(), redactor=redactor)
            fan_out.limit(_PATIENCE)
            fan_out.failure(redactor.text(error_of(error)), cause)
    except Exception as unreported:  # noqa: BLE001 - the caller's mistake is what must be seen
        told = redactor.text(str(unreported))
        _log.error("that the task could not be made could not be reported: %s", told)


def _fan_out(
    environ: Mapping[str, str],
    token: str | None,
    client: SFNClient | None,
    targets: Target | Sequence[Target] | None,
) -> FanOut | None:
    if targets is not None:
        try:
            return FanOut(targets)
        except ConfigurationError:
            pass  # The caller's targets are the mistake.
    context = TargetContext(token=token, run=run_told_by(environ), environ=environ, client=client)
    named = _named_targets(context) if targets is None else []
    if token is not None and not any(carries for carries, _ in named):
        return FanOut(StepFunctionsTarget(token, client, environ=environ, patience=_PATIENCE))
    # Targets that carry the outcome to the waiting state come first: the first target is the primary one.
    ordered = [target for _, target in sorted(named, key=lambda pair: not pair[0])]
    return FanOut(ordered) if ordered else None


def _named_targets(context: TargetContext) -> list[tuple[bool, Target]]:
    """Return the environment's targets that can be made, each with whether it carries the outcome to the state."""
    named = context.environ.get("STEPOUT_TARGETS", "").split()
    pulled = context.environ.get("STEPOUT_OUTPUT", "").strip()
    urls = [*named, *([pulled] if pulled else [])]
    with contextlib.suppress(ConfigurationError):
        urls = target_urls(named, pulled=pulled or None, token=context.token is not None)
    found: list[tuple[bool, Target]] = []
    for url in urls:
        carries = url.partition(":")[0].lower() in CARRIERS
        # A target that cannot be made may be the mistake; the other targets are still told.
        with contextlib.suppress(Exception):
            made = parse_targets(url, context if carries else replace(context, token=None))
            found += [(carries, target) for target in made]
    return found
