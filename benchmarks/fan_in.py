"""The children of a Distributed Map from one file of its ResultWriter: all of them, and how soon the first comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from benchmarks.clients import boto3_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.job import Job, Work

    Make = Callable[[Job], Work]

_PARENT = "arn:aws:states:us-east-1:123456789012:execution:Segment:7f3c"


def _row(job: Job, number: int) -> dict[str, Any]:
    """Return one result as the ResultWriter tells it, of about 1.8 KB."""
    arn = f"arn:aws:states:us-east-1:123456789012:execution:Segment/Map:{number:08d}"
    pointers = {
        f"part{each}": {
            "stepout": "pointer/1",
            "bucket": job.bucket,
            "key": f"runs/Segment/7f3c/Map/{number}/0-abcdefgh/part{each}.parquet",
            "size": 1_000_000 + number,
            "checksum": {"sha256": f"{number:064x}"},
            "mediaType": "application/vnd.apache.parquet",
        }
        for each in range(4)
    }
    run = {"execution": arn, "parentExecution": _PARENT, "state": "Mask", "attempt": 0, "mapIndex": str(number)}
    output = {"stepout": "output/1", "artifacts": pointers, "result": {"rows": number}, "producer": run}
    return {
        "ExecutionArn": arn, "Input": json.dumps({"item": number}), "InputDetails": {"Included": True},
        "Name": f"{number:08d}", "Output": json.dumps(output), "OutputDetails": {"Included": True},
        "StartDate": "2026-11-28T12:00:00.000Z", "Status": "SUCCEEDED", "StopDate": "2026-11-28T12:01:00.000Z",
    }  # fmt: skip


def _settle(job: Job) -> Work:
    client = boto3_client(job)

    def work() -> dict[str, Any]:
        key, manifest = "runs/map/SUCCEEDED_0.json", "runs/map/manifest.json"
        rows = ",".join(json.dumps(_row(job, number), separators=(",", ":")) for number in range(job.count))
        data = f"[{rows}]".encode()
        client.put_object(Bucket=job.bucket, Key=key, Body=data)
        files = {"SUCCEEDED": [{"Key": key, "Size": len(data)}], "FAILED": [], "PENDING": []}
        told = {"DestinationBucket": job.bucket, "MapRunArn": f"{_PARENT}:map", "ResultFiles": files}
        client.put_object(Bucket=job.bucket, Key=manifest, Body=json.dumps(told).encode())
        event = {"MapRunArn": f"{_PARENT}:map", "ResultWriterDetails": {"Bucket": job.bucket, "Key": manifest}}
        return {"gather": {"event": event, "key": key}, "bytes": len(data)}

    return work


def _children(job: Job) -> Any:
    from stepout import gather

    return gather(job.options["event"], allow=[f"s3://{job.bucket}/runs/"], client=ours.own_store(job))


def _gather(job: Job) -> Work:
    children = _children(job)

    def work() -> dict[str, Any]:
        found = 0
        for child in children:
            if child.error is not None:
                raise child.error
            found += len(child.output) > 0
        return _checked(found, job)

    return work


def _first(job: Job) -> Work:
    children = _children(job)

    def work() -> dict[str, Any]:
        child = next(children)
        return _checked(job.count if child.error is None else 0, job)

    return work


def _json_load(job: Job) -> Work:
    client = boto3_client(job)

    def work() -> dict[str, Any]:
        body = client.get_object(Bucket=job.bucket, Key=job.options["key"])["Body"]
        outputs = [json.loads(row["Output"]) for row in json.load(body)]
        return _checked(sum(len(output["artifacts"]) > 0 for output in outputs), job)

    return work


def _checked(found: int, job: Job) -> dict[str, Any]:
    if found != job.count:
        msg = f"{found:,} children, expected {job.count:,}"
        raise AssertionError(msg)
    return {}


FAN_IN: dict[str, dict[str, Make]] = {
    "stepout gather": {"gather": _gather},
    "stepout gather, first child": {"gather": _first},
    "json.load": {"gather": _json_load},
}
SETTLE_FAN_IN: dict[str, dict[str, Make]] = {"stepout": {"settle_gather": _settle}}
