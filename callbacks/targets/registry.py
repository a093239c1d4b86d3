"""The URLs in ``STEPOUT_TARGETS``: a table of schemes, and the function of the module that makes each target."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepout.callbacks.protocols import Target
    from stepout.callbacks.targets.context import TargetContext

SCHEMES: Mapping[str, str] = {
    "sfn": "stepout.callbacks.targets.sfn:target_from_url",
    "sqs": "stepout.callbacks.targets.sqs:target_from_url",
    "s3": "stepout.callbacks.targets.pull:target_from_url",
    "dynamodb": "stepout.callbacks.targets.dynamodb:target_from_url",
    "sns": "stepout.callbacks.targets.notifications:sns_from_url",
    "events": "stepout.callbacks.targets.notifications:events_from_url",
    "stdout": "stepout.callbacks.targets.local:stdout_from_url",
    "file": "stepout.callbacks.targets.local:file_from_url",
    "folder": "stepout.callbacks.targets.local:folder_from_url",
}
"""Modules are imported when their scheme is used."""

CARRIERS = frozenset({"sfn", "sqs"})
"""The kinds of target that bring an outcome to the state that waits for the task token."""


NOTIFICATIONS = frozenset({"sns", "events"})
"""The kinds that only notify others; they are never primary."""

_COPIES = frozenset({"stdout", "file"})
"""Schemes of targets that no state waits at; with STEPOUT_OUTPUT, a state waits at its URL."""


_PULLED = frozenset({"s3", "dynamodb"})
_INTERNAL = frozenset({"folder"})  # commands under ``stepout run`` report to it this way


def target_urls(named: Sequence[str], *, pulled: str | None, token: bool) -> list[str]:
    """Return the URLs that a task reports to, the primary first. Pure.

    Args:
        named: What ``STEPOUT_TARGETS`` names.
        pulled: What ``STEPOUT_OUTPUT`` names (pull mode).
        token: Whether there is a task token.

    Returns:
        The URLs; empty if the environment names no target.

    Raises:
        ConfigurationError: Only notifications are named, and nothing else says where the outcome goes; or
            ``STEPOUT_OUTPUT`` is no URL of an outcome.

    Examples:
        >>> target_urls([], pulled="s3://bucket/outputs/1.json", token=False)
        ['s3://bucket/outputs/1.json']
        >>> target_urls(["sns:arn:aws:sns:eu-west-1:123456789012:done"], pulled=None, token=True)
        ['sfn:', 'sns:arn:aws:sns:eu-west-1:123456789012:done']
        >>> target_urls(["stdout:"], pulled="s3://bucket/outputs/1.json", token=False)
        ['s3://bucket/outputs/1.json', 'stdout:']
    """
    if pulled and (len(pulled.split()) != 1 or _kind(pulled) not in _PULLED):
        raise ConfigurationError(
            "STEPOUT_OUTPUT must be one URL, s3://bucket/key or dynamodb://table/key; other targets go into "
            "STEPOUT_TARGETS"
        )
    usual = [*(["sfn:"] if token else []), *([pulled] if pulled else [])]
    if not named:
        return usual
    if _kind(named[0]) not in NOTIFICATIONS:
        if pulled and not token and _kind(named[0]) in _COPIES:
            return [pulled, *(url for url in named if url != pulled)]
        return [*named, *([pulled] if pulled and pulled not in named else [])]
    if not usual:
        raise ConfigurationError(
            f"STEPOUT_TARGETS begins with {_kind(named[0])}:, which only notifies: name first where the outcome goes, "
            "for example stdout:, s3://bucket/key or sfn: (which is the default where there is a task token)"
        )
    return [*usual, *(url for url in named if url not in usual)]


def parse_targets(text: str, context: TargetContext) -> tuple[Target, ...]:
    """Make the targets that ``STEPOUT_TARGETS`` names.

    Args:
        text: URLs, separated by white space; the first is the primary.
        context: What a target may need.

    Returns:
        The targets, in order.

    Raises:
        ConfigurationError: A URL has an unknown scheme, or cannot be used; or there is a task token, and no target
            reports to the state that waits for it, or such a target is not the first.
    """
    urls = text.split()
    schemes = [_known(url) for url in urls]
    if context.token is not None and CARRIERS.isdisjoint(schemes):
        raise ConfigurationError(
            "STEPOUT_TARGETS names no target that reports to Step Functions, but there is a task token: the state that "
            "waits for it would never hear of the outcome. Add sfn: or an sqs:// relay, or do not pass the token"
        )
    if context.token is not None and schemes[0] not in CARRIERS:
        raise ConfigurationError(
            f"STEPOUT_TARGETS begins with {schemes[0]}:, but there is a task token: the first target decides, and the "
            "others are merely told, so the state that waits for the token might never hear of the outcome; name sfn: "
            "or the sqs: relay first"
        )
    made = tuple(_maker(scheme)(url, context) for url, scheme in zip(urls, schemes, strict=True))
    if not context.environ.get("STEPOUT_TOKEN_TABLE"):
        return made
    return (*made, *import_module("stepout.callbacks.targets.token_table").keeper_from_env(context))


def _kind(url: str) -> str:
    return url.partition(":")[0].lower()


def _known(url: str) -> str:
    kind = _kind(url)
    if ":" not in url or kind not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES if name not in _INTERNAL)
        raise ConfigurationError(
            f"STEPOUT_TARGETS: a target of the kind {kind[:20]!r} is not known here; known are {known}"
        )
    return kind


def _maker(scheme: str) -> Callable[[str, TargetContext], Target]:
    module, _, name = SCHEMES[scheme].partition(":")
    return cast("Callable[[str, TargetContext], Target]", getattr(import_module(module), name))
