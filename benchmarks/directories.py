"""A directory of many small files, put and got; and one file out of very many.

Every contender ends with the SHA-256 of each file known. What is got lies on a real object store, since a listing has
to be there.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from benchmarks.clients import boto3_client
from benchmarks.job import Job, Work, hash_file
from benchmarks.peers import run_s5cmd, s5cmd_program

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[Job], Work]

THREADS = 16
"""As many connections as stepout uses."""


def _files(job: Job) -> list[Path]:
    return sorted(Path(job.options["folder"]).iterdir())


def _count(found: int, job: Job) -> dict[str, Any]:
    if found != job.count:
        msg = f"{found:,} files, expected {job.count:,}"
        raise AssertionError(msg)
    return {}


# Put -----------------------------------------------------------------------------------------------------------------


def _put_directory(job: Job) -> Work:
    writer = ours.manager(job)

    def work() -> dict[str, Any]:
        return _count(writer.put_directory("directory", job.options["folder"]).annotations["files"], job)

    return work


def _put_many(job: Job) -> Work:
    writer, files = ours.manager(job), _files(job)
    return lambda: _count(len(writer.put_many((f"n{number}", file) for number, file in enumerate(files))), job)


def _boto3_put(job: Job) -> Work:
    client, files = boto3_client(job), _files(job)

    def put(file: Path) -> str:
        body = file.read_bytes()
        client.put_object(Bucket=job.bucket, Key=f"peer/{file.name}", Body=body)
        return hashlib.sha256(body).hexdigest()

    return lambda: _count(len(_in_threads(put, files)), job)


def _s5cmd_put(job: Job) -> Work:
    s5cmd_program()

    def work() -> dict[str, Any]:
        digests = [hash_file(str(file)) for file in _files(job)]
        run_s5cmd(job, "cp", f"{job.options['folder']}/", f"s3://{job.bucket}/peer/")
        return _count(len(digests), job)

    return work


def _in_threads(act: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(act, items))


# Get -----------------------------------------------------------------------------------------------------------------


def _resolved(job: Job) -> Any:
    import stepout

    return stepout.resolve_artifact(job.options["pointer"], allow=[f"s3://{job.bucket}/"], client=ours.own_store(job))


def _download(job: Job) -> Work:
    artifact = _resolved(job)

    def work() -> dict[str, Any]:
        artifact.download(job.path)
        return _count(sum(1 for _ in Path(job.path).iterdir()), job)

    return work


def _boto3_get(job: Job) -> Work:
    client, folder = boto3_client(job), Path(job.path)
    keys = [f"{job.options['prefix']}/{number}" for number in range(job.count)]

    def get(key: str) -> str:
        body = client.get_object(Bucket=job.bucket, Key=key)["Body"].read()
        (folder / key.rpartition("/")[2]).write_bytes(body)
        return hashlib.sha256(body).hexdigest()

    def work() -> dict[str, Any]:
        folder.mkdir()
        return _count(len(_in_threads(get, keys)), job)

    return work


def _s5cmd_get(job: Job) -> Work:
    s5cmd_program()

    def work() -> dict[str, Any]:
        run_s5cmd(job, "cp", f"s3://{job.bucket}/{job.options['prefix']}/*", f"{job.path}/")
        return _count(len([hash_file(str(file)) for file in Path(job.path).iterdir()]), job)

    return work


DIRECTORIES: dict[str, dict[str, Make]] = {
    "stepout put_directory": {"put_directory": _put_directory},
    "stepout put_many": {"put_directory": _put_many},
    "stepout download": {"get_directory": _download},
    "boto3": {"put_directory": _boto3_put, "get_directory": _boto3_get},
    "s5cmd": {"put_directory": _s5cmd_put, "get_directory": _s5cmd_get},
}


# One file ------------------------------------------------------------------------------------------------------------


def _file(job: Job) -> Work:
    artifact = _resolved(job)
    artifact.file  # noqa: B018 - missing before its measurement, not within

    def work() -> dict[str, Any]:
        return {"sha256": hashlib.sha256(artifact.file(job.options["wanted"]).read_bytes()).hexdigest()}

    return work


def _whole_listing(job: Job) -> Work:
    """Fetch the listing, hash it, look for the line, fetch the file, hash it: what a user does without an index."""
    client, pointer = boto3_client(job), job.options["pointer"]

    def fetch(key: str) -> bytes:
        return bytes(client.get_object(Bucket=job.bucket, Key=key)["Body"].read())

    def work() -> dict[str, Any]:
        listing = fetch(pointer["key"])
        if hashlib.sha256(listing).hexdigest() != pointer["checksum"]["sha256"]:
            msg = "the listing is another one"
            raise AssertionError(msg)
        files = {line.get("path"): line for line in map(json.loads, listing.splitlines())}
        return {"sha256": hashlib.sha256(fetch(files[job.options["wanted"]]["key"])).hexdigest()}

    return work


ONE_FILE: dict[str, dict[str, Make]] = {
    "stepout file": {"one_file": _file},
    "boto3, whole listing": {"one_file": _whole_listing},
}


# What is read --------------------------------------------------------------------------------------------------------


def _settle(job: Job) -> Work:
    """Put a directory, and return what reads it."""
    writer = ours.manager(job)

    def work() -> dict[str, Any]:
        pointer = writer.put_directory("directory", job.options["folder"])
        prefix = pointer.key.rpartition("/")[0] + "/directory"
        return {"get": {"pointer": pointer.to_dict(), "prefix": prefix}}

    return work


def _settle_listing(job: Job) -> Work:
    """Put one file, and a listing that has it under very many paths: no more than one of them is read."""
    from stepout.artifacts.directory_listing import ListingLines
    from stepout.artifacts.listing import Entry
    from stepout.artifacts.media_types import DIRECTORY
    from stepout.schemas import Pointer

    client, body = boto3_client(job), b"x" * job.size

    def put(key: str, data: bytes) -> Pointer:
        client.put_object(Bucket=job.bucket, Key=key, Body=data)
        checksum = {"sha256": hashlib.sha256(data).hexdigest()}
        return Pointer(bucket=job.bucket, key=key, size=len(data), checksum=checksum)

    def work() -> dict[str, Any]:
        one = put("runs/one/file", body)
        lines = ListingLines({"bucket": job.bucket}, "runs/one/directory")
        paths = [f"{number // 1_000:06}/{number:09}.bin" for number in range(job.count)]
        parts = [lines.begin(), *(lines.add(Entry(path, one)) for path in paths), lines.end()]
        listing = put("runs/one/directory.jsonl", b"".join(parts))
        document = {**listing.to_dict(), "mediaType": DIRECTORY, "annotations": lines.annotations()}
        return {"one": {"pointer": document, "wanted": paths[len(paths) * 2 // 3]}, "sha": one.checksum["sha256"]}

    return work


SETTLE_DIRECTORY: dict[str, dict[str, Make]] = {
    "stepout": {"settle_directory": _settle, "settle_listing": _settle_listing}
}
