"""An end to a question that botocore repeats: in which region is this bucket?

To an answer that sends a request elsewhere without naming a region botocore asks HeadBucket. Where that is sent
elsewhere too, its answer is one more such answer: 80 requests later Python's stack ends (botocore 1.43.106).
"""

from __future__ import annotations

from typing import Any

from stepout.artifacts.s3.internals import never_redirected


def ask_region_once(client: Any) -> None:
    """Let a client believe a server that does not say where a bucket is; the first answer is then its error.

    Args:
        client: A boto3 S3 client; a caller's may be one, or pass for one.
    """
    events = getattr(getattr(client, "meta", None), "events", None)
    if events is not None:
        events.register_first("needs-retry.s3.HeadBucket", _believe, unique_id="stepout-region-asked")


def _believe(request_dict: Any, response: Any, **_: Any) -> None:
    if response is None:
        return
    said = response[1]
    named = said.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if not (named or said.get("Error", {}).get("Region")):
        never_redirected(request_dict)
