"""The peers' clients, pointed at a local endpoint. Credentials come from the environment that ``measure`` sets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.job import Job

__all__ = ["boto3_client", "crt_manager", "obstore_store", "pyarrow_filesystem", "s3fs_filesystem"]

REGION = "us-east-1"


def boto3_client(job: Job, **options: Any) -> Any:
    """Make a boto3 client as anybody does; the pool is as large as the threads need."""
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=64, s3={"addressing_style": "path"}, **options)
    return boto3.client("s3", endpoint_url=job.endpoint, region_name=REGION, verify=job.authority, config=config)


def crt_manager(job: Job) -> Any:
    """Make the CRT transfer manager of s3transfer.

    boto3 itself builds it with the same parts, but always with TLS and for AWS's own endpoints only.
    """
    import botocore.session
    from s3transfer import crt

    session = botocore.session.get_session()
    wrapper = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    client = crt.create_s3_crt_client(
        region=REGION,
        crt_credentials_provider=wrapper.to_crt_credentials_provider(),
        use_ssl=job.https,
        verify=job.authority,
        target_throughput=job.options.get("throughput"),
        part_size=job.options.get("part_size"),
    )
    serializer = crt.BotocoreCRTRequestSerializer(session, {"endpoint_url": job.endpoint, "region_name": REGION})
    return crt.CRTTransferManager(client, serializer)


def obstore_store(job: Job, **config: Any) -> Any:
    """Make an obstore store."""
    from obstore.store import S3Store

    client: dict[str, Any] = {"allow_http": True}
    if job.authority:
        with open(job.authority, "rb") as file:  # noqa: PTH123 - as short as that
            client["root_certificate"] = file.read()
    return S3Store(
        job.bucket,
        endpoint=job.endpoint,
        region=REGION,
        virtual_hosted_style_request=False,
        client_options=client,
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        **config,
    )


def s3fs_filesystem(job: Job) -> Any:
    """Make an s3fs file system."""
    import s3fs

    return s3fs.S3FileSystem(
        client_kwargs={"endpoint_url": job.endpoint, "region_name": REGION, "verify": job.authority},
        config_kwargs={"s3": {"addressing_style": "path"}},
    )


def pyarrow_filesystem(job: Job) -> Any:
    """Make an Arrow S3 file system."""
    from pyarrow import fs

    scheme, _, host = job.endpoint.partition("://")
    trust = {"tls_ca_file_path": job.authority} if job.authority else {}
    return fs.S3FileSystem(
        endpoint_override=host,
        scheme=scheme,
        region=REGION,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        **trust,
    )
