"""The AWS region where botocore finds none: it reads ``AWS_DEFAULT_REGION`` and its files, not ``AWS_REGION``. Pure.

``AWS_REGION`` is what every other SDK reads, and what Lambda and many images set:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_REGION: Final = (
    "no AWS region is known: set AWS_REGION (or AWS_DEFAULT_REGION) to the region of the state machine, for example "
    "AWS_REGION=eu-west-1"
)
"""What to do where nothing names a region."""

_NAME: Final = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2}")


def fallback_region(*environs: Mapping[str, str], near: str | None = None) -> str | None:
    """Return the region to use where botocore knows none.

    Args:
        environs: Where ``AWS_REGION`` is looked up, in order, and then ``STEPOUT_EXECUTION``.
        near: The ARN of something that is in the region; it comes before the execution's.

    Returns:
        ``AWS_REGION``, else the region in ``near``, else the one in the execution's ARN, else ``None``.

    Examples:
        >>> execution = "arn:aws:states:eu-west-1:123456789012:execution:nightly:7f3c"
        >>> fallback_region({"STEPOUT_EXECUTION": execution})
        'eu-west-1'
        >>> fallback_region({"STEPOUT_EXECUTION": execution, "AWS_REGION": "us-east-1"})
        'us-east-1'
    """
    named = (environ.get("AWS_REGION", "").strip() for environ in environs)
    executions = (environ.get("STEPOUT_EXECUTION") for environ in environs)
    return next(filter(None, (*named, *map(_region_of, (near, *executions)))), None)


def _region_of(arn: str | None) -> str | None:
    parts = (arn or "").split(":")
    return parts[3] if len(parts) > 4 and parts[0] == "arn" and _NAME.fullmatch(parts[3]) else None  # noqa: PLR2004
