"""The one builder of boto3 clients for callbacks: it sets timeouts, turns retries off, and finds the region."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.regions import NO_REGION, fallback_region

if TYPE_CHECKING:
    from collections.abc import Mapping


def build_client(  # noqa: PLR0913 - by keyword, each with its own meaning
    name: str,
    *,
    environ: Mapping[str, str] | None = None,
    near: str | None = None,
    region_name: str | None = None,
    endpoint_url: str | None = None,
    profile: frozenset[str] = frozenset({"aws"}),
    connect_timeout: float = 5.0,
    read_timeout: float = 10.0,
    connections: int = 10,
) -> Any:
    """Return a client of boto3's default session: region, credentials and endpoint come from its usual places.

    It sends each request once: ``RetryLoop`` tries again, and has to see every answer (``decisions`` says why).

    Args:
        name: For example ``"sqs"``.
        environ: The task's own environment, which boto3 does not read. If boto3 knows no region, ``AWS_REGION`` and
            ``STEPOUT_EXECUTION`` in it give the region; they come before those of the process.
        near: The ARN of a resource in the service's region.
        region_name: The region; overrides boto3's.
        endpoint_url: The endpoint; overrides boto3's.
        profile: The words of ``STEPOUT_S3_PROFILE``: with any word but ``aws``, buckets are addressed by path.
        connect_timeout: Seconds.
        read_timeout: Seconds; must be longer than the service holds a long poll.
        connections: How many requests may run at a time.

    Raises:
        ConfigurationError: The client cannot be built: no region is known, or the endpoint is not a URL.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, NoRegionError

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=connections,
        user_agent_extra="stepout",
        # A NAT gateway forgets connections that are silent for 350 seconds; a heartbeat may come that late.
        tcp_keepalive=True,
        s3={"addressing_style": "path"} if profile != {"aws"} else None,
        # botocore adds checksum headers by itself otherwise.
        request_checksum_calculation="when_required" if "no-checksums" in profile else None,
        response_checksum_validation="when_required" if "no-checksums" in profile else None,
    )
    try:
        if boto3.DEFAULT_SESSION is None:
            boto3.setup_default_session()
        known = region_name or cast("Any", boto3.DEFAULT_SESSION).region_name
        region = known or fallback_region(*([] if environ is None else [environ]), os.environ, near=near)
        return boto3.client(cast("Any", name), region_name=region, endpoint_url=endpoint_url, config=config)
    except NoRegionError:
        raise ConfigurationError(f"no client for {name} could be built: {NO_REGION}") from None
    except (BotoCoreError, ValueError) as error:
        why = f"no client for {name} could be built: {str(error).removesuffix('.')}"
        raise ConfigurationError(f"{why}. Look at the variables of this process that begin with AWS_") from error
