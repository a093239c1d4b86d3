"""What a task reads from its environment, in one place: token, targets, heartbeat, limits and run identity."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stepout.callbacks.places import FileTarget, StdoutTarget
from stepout.callbacks.sfn import StepFunctionsTarget, check_token
from stepout.schemas import RunIdentity, describe_problems, load_json
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from stepout.callbacks.ports import Target

__all__ = ["Settings", "parse_targets", "read_settings", "take_token"]

_Number = TypeVar("_Number", int, float)

_TOKENS = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says about a task; ``None`` where it says nothing."""

    targets: tuple[Target, ...]
    heartbeat: float | None
    stop_timeout: float | None
    budget: int | None
    input: Any
    run: RunIdentity


def take_token(environ: Mapping[str, str], given: str | None = None) -> str | None:
    """Return the task token and take it out of the environment, so that no child process and no dump shows it.

    Args:
        environ: ``os.environ``, or a mapping like it.
        given: A token that comes before the environment's.

    Raises:
        InvalidTokenError: It is empty, too long or damaged.
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
    """Read the environment, but for the token.

    Args:
        environ: ``os.environ``, or a mapping like it.
        token: The task token, if there is one.
        client: For Step Functions targets.
        targeted: Whether the caller brings targets of their own, so that none are made here.

    Returns:
        The settings.

    Raises:
        ConfigurationError: A setting cannot be understood, or nothing says where to report to.
    """
    return Settings(
        targets=() if targeted else _targets(environ, token, client),
        heartbeat=_number(environ, "STEPOUT_HEARTBEAT_SECONDS", float, least=1),
        stop_timeout=_number(environ, "STEPOUT_STOP_TIMEOUT", float, least=1),
        budget=_number(environ, "STEPOUT_OUTPUT_BUDGET", int, least=1),
        input=_input(environ.get("STEPOUT_INPUT")),
        run=RunIdentity.from_env(environ),
    )


def _targets(environ: Mapping[str, str], token: str | None, client: SFNClient | None) -> tuple[Target, ...]:
    if environ.get("STEPOUT_TARGETS", "").strip():
        return parse_targets(environ["STEPOUT_TARGETS"], token=token, client=client)
    if token is not None:
        return (StepFunctionsTarget(token, client),)
    if environ.get("STEPOUT_EXECUTION"):
        raise ConfigurationError(
            "STEPOUT_EXECUTION is set, but neither STEPOUT_TASK_TOKEN nor STEPOUT_TARGETS: the state machine would "
            "never hear of this task's outcome. Pass $$.Task.Token as STEPOUT_TASK_TOKEN (and call the state with "
            ".waitForTaskToken), or name a target"
        )
    return (StdoutTarget(),)


def parse_targets(text: str, *, token: str | None = None, client: SFNClient | None = None) -> tuple[Target, ...]:
    """Make the targets that ``STEPOUT_TARGETS`` names.

    Args:
        text: URLs, separated by spaces; the first is the primary.
        token: For ``sfn:``.
        client: For ``sfn:``.

    Returns:
        The targets, in order.

    Raises:
        ConfigurationError: A URL has an unknown scheme, or cannot be used.
    """
    return tuple(_target(url, _Context(token, client)) for url in text.split())


@dataclass(frozen=True)
class _Context:
    token: str | None
    client: SFNClient | None

    def __repr__(self) -> str:
        return "_Context()"


def _target(url: str, context: _Context) -> Target:
    scheme = url.partition(":")[0].lower()
    make = _SCHEMES.get(scheme)
    if make is None or ":" not in url:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        raise ConfigurationError(
            f"STEPOUT_TARGETS: a target of the kind {scheme!r} is not known here; known are {known}"
        )
    return make(url, context)


def _sfn(url: str, context: _Context) -> Target:
    _nothing_more(url)
    if context.token is None:
        raise ConfigurationError("STEPOUT_TARGETS names sfn:, but there is no task token: set STEPOUT_TASK_TOKEN")
    return StepFunctionsTarget(context.token, context.client)


def _stdout(url: str, _context: _Context) -> Target:
    _nothing_more(url)
    return StdoutTarget()


def _file(url: str, _context: _Context) -> Target:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
        raise ConfigurationError("STEPOUT_TARGETS: a file target is written file:///path/to/outcome.json")
    return FileTarget(url2pathname(parts.path))


def _nothing_more(url: str) -> None:
    if url.partition(":")[2].strip("/"):
        raise ConfigurationError(f"STEPOUT_TARGETS: {url.partition(':')[0]}: stands alone, nothing may follow it")


# One line a scheme: later kinds of target are added here.
_SCHEMES: dict[str, Callable[[str, _Context], Target]] = {"sfn": _sfn, "stdout": _stdout, "file": _file}


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


def _input(text: str | None) -> Any:
    if text is None or not text.strip():
        return None
    try:
        return load_json(text)
    except InvalidDocumentError as error:
        what = f"STEPOUT_INPUT cannot be read: {describe_problems(error.problems)}"
        raise ConfigurationError(f"{what}. Pass it with States.JsonToString or $string") from None
