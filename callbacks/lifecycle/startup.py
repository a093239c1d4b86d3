"""Makes a task's session, from arguments or from the environment."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Unpack

from stepout.callbacks.environment import parse_input, read_settings, take_token
from stepout.callbacks.lifecycle.heartbeat import interval_of
from stepout.callbacks.lifecycle.held_signals import held_signals
from stepout.callbacks.lifecycle.session import TaskSession
from stepout.callbacks.lifecycle.startup_failure import report_startup_failure
from stepout.callbacks.targets.fan_out import FanOut
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.environment import warn_of_unknown
from stepout.schemas.spill import DEFAULT_BUDGET, check_budget, fan_in_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.lifecycle.session import TaskOptions
    from stepout.callbacks.protocols import Artifacts, Target
    from stepout.schemas.contract import Contract
    from stepout.schemas.spill import Spill

_STOP_TIMEOUT = 30.0
"""The default seconds from SIGTERM to SIGKILL, as for ECS's ``stopTimeout``."""


def make_session(  # noqa: PLR0913 - the documented options, by keyword
    targets: Target | Sequence[Target],
    *,
    artifacts: Artifacts | Callable[[], Artifacts] | None = None,
    owns_artifacts: bool = False,
    environment_run: RunIdentity | None = None,
    heartbeat: float | None = None,
    max_concurrency: int | None = None,
    contract: Contract | None = None,
    redact: str | Iterable[str] = (),
    spill: Spill = "auto",
    budget: int | None = None,
    fan_in: int | None = None,
    stop_timeout: float | None = None,
    run: RunIdentity | None = None,
    input: Any = None,  # noqa: A002 - the documented name
) -> TaskSession:
    """Check the arguments, those of ``Task`` and two more that only ``TaskSession`` has, and make a session from them.

    Raises:
        ConfigurationError: An argument is invalid.
    """
    fan_out = FanOut(targets)
    redactor = fan_out.redactor([redact] if isinstance(redact, str) else redact)
    budget = DEFAULT_BUDGET if budget is None else check_budget(budget)
    if fan_in is not None:
        budget = min(budget, fan_in_budget(fan_in, run or environment_run))
    if spill not in ("auto", "never"):
        raise ConfigurationError('spill must be "auto" or "never"')
    stop_timeout = _STOP_TIMEOUT if stop_timeout is None else stop_timeout
    if not 0 < stop_timeout < float("inf"):
        raise ConfigurationError("the stop timeout must be a number of seconds above 0")
    return TaskSession(
        targets=fan_out,
        redactor=redactor,
        contract=contract,
        budget=budget,
        spill=spill,
        interval=interval_of(heartbeat, max_concurrency),
        stop_timeout=stop_timeout,
        artifacts=artifacts,
        owns_artifacts=owns_artifacts,
        run=run,
        environment_run=environment_run or RunIdentity(),
        input=input,
    )


@contextlib.contextmanager
def arguments_from_env(
    environ: Mapping[str, str],
    *,
    targets: Target | Sequence[Target] | None = None,
    client: SFNClient | None = None,
    token: str | None = None,
    **options: Unpack[TaskOptions],
) -> Iterator[tuple[Target | Sequence[Target], dict[str, Any]]]:
    """Read what ``make_session``, and so ``Task``, is given from the environment; take the task token out of it.

    If a setting is invalid, or the block fails to make a task, the state that waits for the token gets one failure
    report.

    Args:
        environ: ``os.environ``, or a mapping like it.
        targets: Instead of those that the environment names.
        client: For Step Functions, used as it is.
        token: The task token, instead of the environment's.
        options: As for ``Task``; they override the environment. An ``input`` that is text is read like
            ``STEPOUT_INPUT``.

    Yields:
        The targets, and the other arguments by keyword.

    Raises:
        ConfigurationError: A setting is invalid, or no setting names a target.
        InvalidTokenError: The token is empty, too long or damaged.
    """
    warn_of_unknown(environ)
    token = take_token(environ, token)
    try:
        settings = read_settings(environ, token=token, client=client, targeted=targets is not None)
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if "input" in given:
            given["input"] = parse_input(given["input"], called="input=")
        redact = given.get("redact", ())
        given["redact"] = [*([redact] if isinstance(redact, str) else redact), *([token] if token else [])]
        found: dict[str, Any] = {
            "environment_run": settings.run,
            "heartbeat": settings.heartbeat,
            "max_concurrency": settings.max_concurrency,
            "budget": settings.budget,
            "fan_in": settings.fan_in,
            "stop_timeout": settings.stop_timeout,
            "input": settings.input,
        }
        yield settings.targets if targets is None else targets, {**found, **given}
    except Exception as error:
        with held_signals():
            report_startup_failure(error, environ=environ, token=token, client=client, targets=targets)
        raise


@contextlib.contextmanager
def session_from_env(
    environ: Mapping[str, str],
    *,
    artifacts: Artifacts | Callable[[], Artifacts] | None = None,
    owns_artifacts: bool = False,
    **given: Any,
) -> Iterator[TaskSession]:
    """Make a session from the environment; a block that fails to make a task from it is reported as a failure.

    Args:
        environ: ``os.environ``, or a mapping like it.
        artifacts: As for ``Task``.
        owns_artifacts: See ``TaskSession``.
        given: As for ``arguments_from_env``, which says what is raised.
    """
    with arguments_from_env(environ, **given) as (targets, arguments):
        yield make_session(targets, artifacts=artifacts, owns_artifacts=owns_artifacts, **arguments)
