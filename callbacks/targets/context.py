"""What a target is made from, besides its URL. The registry imports the targets; each target imports this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_stepfunctions import SFNClient


@dataclass(frozen=True, kw_only=True)
class TargetContext:
    """What a target may need to be made.

    Attributes:
        token: The task token, if there is one.
        run: Identifies the run that reports.
        environ: The task's environment; the token is no longer in it.
        client: A boto3 Step Functions client to use as it is.
    """

    token: str | None = field(default=None, repr=False)
    run: RunIdentity = field(default_factory=RunIdentity)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    client: SFNClient | None = field(default=None, repr=False)


def nothing_more(url: str) -> None:
    """Raise ``ConfigurationError`` unless a scheme stands alone, as in ``sfn:``."""
    if url.partition(":")[2].strip("/"):
        raise ConfigurationError(f"STEPOUT_TARGETS: {url.partition(':')[0]}: stands alone, nothing may follow it")
