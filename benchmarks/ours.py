"""stepout at the same jobs, through its public names alone."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.job import ETAG

if TYPE_CHECKING:
    from benchmarks.job import Job, Work

__all__ = ["artifact", "download", "manager", "pointer", "reading_client", "upload"]


def _import(*names: str) -> None:
    """Import what a first transfer would: imports are not measured, nor those of the peers (the cold suite does)."""
    for name in names:
        importlib.import_module(f"stepout.artifacts.{name}")


def _unsigned_client(job: Job) -> Any:
    """Make the client of a caller who sends unsigned payloads over plain HTTP, as some peers do by default."""
    import boto3
    from botocore.config import Config

    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": False, "addressing_style": "path"},
    )
    return boto3.client("s3", endpoint_url=job.endpoint, config=config)


def _grant(job: Job) -> None:
    """Let this process have as many MiB as the job says, as in a container of that size; before the first transfer."""
    if "granted" in job.options:
        os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = str(job.options["granted"])


def manager(job: Job) -> Any:
    """Make an artifact manager, from the environment unless the caller has a client of its own."""
    import stepout

    _grant(job)
    os.environ["AWS_ENDPOINT_URL"] = job.endpoint
    settings = {name: job.options[name] for name in ("connections", "memory", "part_size") if name in job.options}
    client = _unsigned_client(job) if job.options.get("unsigned") else None
    return stepout.ArtifactManager(
        job.bucket, "runs", client=client, settings=stepout.TransferSettings(**settings) if settings else None
    )


def pointer(job: Job, key: str) -> dict[str, Any]:
    """Return the document that a producer would have passed on."""
    checksum, kind = {"sha256": job.sha256}, "application/octet-stream"
    return {
        "stepout": "pointer/1",
        "bucket": job.bucket,
        "key": key,
        "size": job.size,
        "checksum": checksum,
        "mediaType": kind,
        "etag": ETAG,
    }


def artifact(job: Job, key: str, **options: Any) -> Any:
    """Resolve a pointer, with a client that exists already, as the peers' do."""
    import stepout

    _grant(job)
    return stepout.resolve_artifact(
        pointer(job, key), allow=[f"s3://{job.bucket}/"], client=reading_client(job), **options
    )


def reading_client(job: Job) -> Any:
    """Make the client that stepout makes for itself."""
    from stepout.artifacts.s3.clients import make_client

    return make_client(endpoint_url=job.endpoint)


def own_store(job: Job) -> Any:
    """Return what reads as stepout does by itself, lighter routes included; its client is made beforehand."""
    from stepout.artifacts.s3.clients import store_for
    from stepout.schemas.runtime.process import PerProcess

    client = PerProcess(lambda: reading_client(job))
    client.get()
    return store_for(client, job.bucket, own=True)


def upload(job: Job) -> Work:
    """``put_file``."""
    _import("s3.store", "s3.connections.preconnect", "s3.routes.request_template")
    writer, mode = manager(job), job.options.get("mode", "create")
    return lambda: {"sha256": writer.put_file("object", Path(job.path), mode=mode).checksum["sha256"]}


def download(job: Job) -> Work:
    """``resolve_artifact(…).download(path)``."""
    _import("s3.store", "reading.files.download", "transfer.parallel_get")
    found = artifact(job, job.key)

    def work() -> dict[str, Any]:
        found.download(job.path)
        return {"sha256": job.sha256}

    return work
