"""Reads a task's environment, in one place: token, targets, heartbeat, limits and run identity."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.local import StdoutTarget
from stepout.callbacks.targets.registry import parse_targets, target_urls
from stepout.callbacks.targets.sfn import check_token
from stepout.schemas import Pointer, RunIdentity, TaskOutput, describe_problems, load_json
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.runtime.environment import meant_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.protocols import Target

_Number = TypeVar("_Number", int, float)

_TOKENS = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")
_URLS = ("s3://", "dynamodb://")


class InputUrl(str):
    """An input that is the URL of a document (``s3://bucket/key``), not JSON; a JSON string would have quotes."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a task that the environment gives; ``None`` for a setting that is absent."""

    targets: tuple[Target, ...]
    heartbeat: float | None
    max_concurrency: int | None
    stop_timeout: float | None
    budget: int | None
    fan_in: int | None
    input: Any
    run: RunIdentity


def take_token(environ: Mapping[str, str], given: str | None = None) -> str | None:
    """Return the task token and take it out of the environment, so that no child process and no dump shows it.

    Args:
        environ: ``os.environ``, or a mapping like it.
        given: A token from the caller; it replaces the environment's.

    Raises:
        InvalidTokenError: The token is empty, too long or damaged.
    """
    found = [environ[name] for name in _TOKENS if name in environ]
    if isinstance(environ, MutableMapping):
        for name in _TOKENS:
            with contextlib.suppress(KeyError):
                del environ[name]
    if given is not None:
        return check_token(given)
    return check_token(found[0]) if found else None


def read_settings(
    environ: Mapping[str, str], *, token: str | None, client: SFNClient | None = None, targeted: bool = False
) -> Settings:
    """Read the environment, except the token.

    Args:
        environ: ``os.environ``, or a mapping like it.
        token: The task token, if there is one.
        client: For Step Functions targets.
        targeted: Whether the caller gives the targets; then no targets are made here.

    Returns:
        The settings.

    Raises:
        ConfigurationError: A setting is invalid, or no setting names a target.
    """
    run = RunIdentity.from_env(environ)
    context = TargetContext(token=token, run=run, environ=environ, client=client)
    return Settings(
        targets=() if targeted else _targets(environ, context),
        heartbeat=_number(environ, "STEPOUT_HEARTBEAT_SECONDS", float, least=1),
        max_concurrency=_number(environ, "STEPOUT_MAX_CONCURRENCY", int, least=1),
        stop_timeout=_number(environ, "STEPOUT_STOP_TIMEOUT", float, least=1),
        budget=_number(environ, "STEPOUT_OUTPUT_BUDGET", int, least=1),
        fan_in=_number(environ, "STEPOUT_FAN_IN", int, least=1),
        input=parse_input(environ.get("STEPOUT_INPUT")),
        run=run,
    )


def _targets(environ: Mapping[str, str], context: TargetContext) -> tuple[Target, ...]:
    named, pulled = environ.get("STEPOUT_TARGETS", "").split(), environ.get("STEPOUT_OUTPUT", "").strip()
    urls = target_urls(named, pulled=pulled or None, token=context.token is not None)
    if urls:
        return parse_targets(" ".join(urls), context)
    if environ.get("STEPOUT_EXECUTION"):
        raise ConfigurationError(
            "STEPOUT_EXECUTION is set, but neither STEPOUT_TASK_TOKEN nor STEPOUT_OUTPUT nor STEPOUT_TARGETS: the "
            "state machine would never hear of this task's outcome. Pass $$.Task.Token as STEPOUT_TASK_TOKEN (and call "
            "the state with .waitForTaskToken), pass an s3:// URL as STEPOUT_OUTPUT (pull mode), or name a target"
            + meant_for(environ, "STEPOUT_TASK_TOKEN", "STEPOUT_OUTPUT", "STEPOUT_TARGETS")
        )
    return (StdoutTarget(),)


def _number(environ: Mapping[str, str], name: str, kind: Callable[[str], _Number], *, least: int) -> _Number | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    value: _Number | None = None
    with contextlib.suppress(ValueError):
        value = kind(text)
    if value is None or not least <= value < float("inf"):
        raise ConfigurationError(f"{name} must be a number of at least {least}")
    return value


def parse_input(value: Any, *, called: str = "STEPOUT_INPUT") -> Any:
    """Return a task's input as a value.

    Args:
        value: JSON as text or UTF-8, or the URL of a document; any other value is the input itself. ``None`` and blank
            text mean that there is no input.
        called: The input's name in messages.

    Returns:
        Parsed JSON; an ``InputUrl``; ``None`` where there is no input.

    Raises:
        ConfigurationError: The value is text, but neither JSON nor the URL of a document.

    Examples:
        >>> parse_input('{"scene": 7}')
        {'scene': 7}
        >>> parse_input("s3://results/outputs/1.json"), parse_input('"s3://results"')
        ('s3://results/outputs/1.json', 's3://results')
    """
    if isinstance(value, Pointer | TaskOutput):
        return value.to_dict()
    if not isinstance(value, str | bytes | bytearray) or isinstance(value, InputUrl):
        return value
    bare = value.strip()
    if not bare:
        return None
    if isinstance(bare, str) and bare.startswith(_URLS):
        return InputUrl(bare)
    try:
        return load_json(value)
    except InvalidDocumentError as error:
        what = f"{called} cannot be read: {describe_problems(error.problems)}"
        raise ConfigurationError(f"{what}. Pass it with States.JsonToString or $string") from None
