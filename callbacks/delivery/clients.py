"""boto3 clients that report, and the region that they ask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from stepout.schemas.errors import ConfigurationError
from stepout.schemas.runtime.regions import NO_REGION, fallback_region

if TYPE_CHECKING:
    from collections.abc import Mapping


def build_client(
    name: str, *, environ: Mapping[str, str] | None = None, near: str | None = None, **options: Any
) -> Any:
    """Return a client of boto3's default session: region, credentials and endpoint come from its usual places.

    Args:
        name: For example ``"sqs"``.
        environ: A task's own environment, where boto3 does not look: ``AWS_REGION`` and ``STEPOUT_EXECUTION`` in it
            say where the service is, before the process's, if boto3 knows no region.
        near: The ARN of something in the service's region.
        options: Passed on to boto3, e.g. ``config``; ``region_name`` is used as it is.

    Raises:
        ConfigurationError: None could be built, e.g. for want of a region, or for an endpoint that is no URL.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, NoRegionError

    try:
        if boto3.DEFAULT_SESSION is None:
            boto3.setup_default_session()
        known = options.pop("region_name", None) or cast("Any", boto3.DEFAULT_SESSION).region_name
        region = known or fallback_region(*([] if environ is None else [environ]), os.environ, near=near)
        return boto3.client(cast("Any", name), region_name=region, **options)
    except NoRegionError:
        raise ConfigurationError(f"no client for {name} could be built: {NO_REGION}") from None
    except (BotoCoreError, ValueError) as error:
        why = f"no client for {name} could be built: {str(error).removesuffix('.')}"
        raise ConfigurationError(f"{why}. Look at the variables of this process that begin with AWS_") from error


def service(
    name: str,
    *,
    environ: Mapping[str, str] | None = None,
    near: str | None = None,
    profile: Any = frozenset({"aws"}),
    **options: Any,
) -> Any:
    """Return a client for a target: short timeouts, few retries of its own, as reports have theirs.

    Args:
        name: For example ``"sqs"``.
        environ: As for ``build_client``.
        near: As for ``build_client``.
        profile: The words of ``STEPOUT_S3_PROFILE``: with any but ``aws``, buckets are addressed by path.
        options: Passed on to boto3, e.g. ``region_name``.

    Raises:
        ConfigurationError: None could be built, e.g. for want of a region.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 1},
        tcp_keepalive=True,
        s3={"addressing_style": "path"} if profile != {"aws"} else None,
        # botocore adds checksum headers by itself otherwise.
        request_checksum_calculation="when_required" if "no-checksums" in profile else None,
        response_checksum_validation="when_required" if "no-checksums" in profile else None,
    )
    return build_client(name, environ=environ, near=near, config=config, **options)
