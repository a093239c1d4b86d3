"""S3 lifecycle rules for what tasks write. Pure.

What an element may stand with: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html.
The end
of uploads and of markers stands in no rule that looks at tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepout.artifacts.retention import KEEP_TAG, keep_days, keep_tag

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta


def lifecycle_rules(
    prefix: str, keep: Iterable[timedelta], *, uploads: timedelta, noncurrent: timedelta
) -> dict[str, Any]:
    """Return what ``aws s3api put-bucket-lifecycle-configuration`` takes.

    Args:
        prefix: As ``check_prefix`` returned it: the rules hold for keys below it.
        keep: How long objects are kept, as ``keep=`` said; one rule for each number of days.
        uploads: When an upload that was not completed is ended: later than the longest task takes.
        noncurrent: When a version goes that is not the newest any more: later than anybody reads a pointer to it.
    """
    below = f"{prefix}/" if prefix else ""
    everything = {
        "ID": "stepout-clean-up",
        "Status": "Enabled",
        "Filter": {"Prefix": below},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": keep_days(uploads)},
        "NoncurrentVersionExpiration": {"NoncurrentDays": keep_days(noncurrent)},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    kept = {keep_days(each): keep_tag(each)[KEEP_TAG] for each in keep}
    return {"Rules": [everything, *(_expiry(below, days, value) for days, value in sorted(kept.items()))]}


def _expiry(below: str, days: int, value: str) -> dict[str, Any]:
    tag = {"Key": KEEP_TAG, "Value": value}
    return {
        "ID": f"{KEEP_TAG}-{value}",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": below, "Tags": [tag]}} if below else {"Tag": tag},
        "Expiration": {"Days": days},
    }
