"""Many small objects: each sent with its SHA-256 known, or read and held against it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.clients import boto3_client, obstore_store, s3fs_filesystem
from benchmarks.job import Job, Work, mapped
from benchmarks.peers import run_s5cmd, s5cmd_program

__all__ = ["SMALL"]

Make = Callable[[Job], Work]
Act = Callable[[int], Any]

_WARM = 20
"""Puts before those that are measured, where one warm call is."""


def _bodies(job: Job) -> list[bytes]:
    view = mapped(job.path)
    starts = (number * job.size % max(len(view) - job.size, 1) for number in range(job.count))
    return [bytes(view[start : start + job.size]) for start in starts]


def _check(job: Job, body: bytes | memoryview) -> None:
    if hashlib.sha256(body).hexdigest() != job.sha256:
        msg = "wrong bytes"
        raise AssertionError(msg)


def _key(job: Job, number: int) -> str:
    return f"small/{number}/{job.size}"


def _new_keys(job: Job) -> Callable[[int], str]:
    """Return keys that no other run has written: those of write-once writes."""
    run = secrets.token_hex(6)
    return lambda number: f"small-{run}/{number}/{job.size}"


def _each(job: Job, act: Act, threads: int) -> Work:
    def work() -> dict[str, Any]:
        if threads == 1:
            for number in range(job.count):
                act(number)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(act, range(job.count)):
                    pass
        return {}

    return work


def _boto3_put(threads: int) -> Make:
    def make(job: Job) -> Work:
        client, bodies = boto3_client(job), _bodies(job)

        def put(number: int) -> None:
            hashlib.sha256(bodies[number]).hexdigest()
            client.put_object(Bucket=job.bucket, Key=_key(job, number), Body=bodies[number])

        return _each(job, put, threads)

    return make


def _boto3_get(threads: int) -> Make:
    def make(job: Job) -> Work:
        client = boto3_client(job)

        def get(number: int) -> None:
            _check(job, client.get_object(Bucket=job.bucket, Key=_key(job, number))["Body"].read())

        return _each(job, get, threads)

    return make


def _bare_put(job: Job) -> Work:
    """A bare ``put_object`` on the client that stepout builds: what the manager's own cost is measured against."""
    from stepout.artifacts.s3.clients import make_client

    client, bodies, key = make_client(endpoint_url=job.endpoint, region="us-east-1"), _bodies(job), _new_keys(job)

    def put(number: int) -> None:
        value = base64.b64encode(hashlib.sha256(bodies[number]).digest()).decode()
        client.put_object(
            Bucket=job.bucket, Key=key(number), Body=bodies[number], ChecksumSHA256=value, IfNoneMatch="*"
        )

    return _each(job, put, 1)


def _obstore_put(job: Job) -> Work:
    import obstore

    store, bodies = obstore_store(job), _bodies(job)

    def put(number: int) -> None:
        hashlib.sha256(bodies[number]).hexdigest()
        obstore.put(store, _key(job, number), bodies[number], use_multipart=False)

    return _each(job, put, 8)


def _obstore_create(job: Job) -> Work:
    """What ``put_many`` asks for: write-once, the SHA-256 known here, and checked by the server."""
    import obstore

    store, bodies, key = obstore_store(job, checksum_algorithm="sha256"), _bodies(job), _new_keys(job)

    def put(number: int) -> None:
        hashlib.sha256(bodies[number]).hexdigest()
        obstore.put(store, key(number), bodies[number], use_multipart=False, mode="create")

    return _each(job, put, 8)


def _obstore_get(job: Job) -> Work:
    import obstore

    store = obstore_store(job)
    return _each(job, lambda number: _check(job, memoryview(obstore.get(store, _key(job, number)).bytes())), 8)


def _s3fs_put(job: Job) -> Work:
    filesystem, bodies = s3fs_filesystem(job), _bodies(job)

    def work() -> dict[str, Any]:
        for body in bodies:
            hashlib.sha256(body).hexdigest()
        filesystem.pipe({f"{job.bucket}/{_key(job, number)}": body for number, body in enumerate(bodies)})
        return {}

    return work


def _s3fs_get(job: Job) -> Work:
    filesystem = s3fs_filesystem(job)

    def work() -> dict[str, Any]:
        for body in filesystem.cat([f"{job.bucket}/{_key(job, number)}" for number in range(job.count)]).values():
            _check(job, body)
        return {}

    return work


def _aio(job: Job, act: Callable[[Any, int], Any]) -> Work:
    """Do it with aiobotocore, 32 at once; making the client is part of the run, as an event loop cannot be left."""
    from aiobotocore.session import get_session
    from botocore.config import Config

    config = Config(max_pool_connections=32, s3={"addressing_style": "path"})

    async def run() -> None:
        slots = asyncio.Semaphore(32)
        session = get_session()
        trust = {"verify": job.authority} if job.authority else {}
        async with session.create_client("s3", endpoint_url=job.endpoint, config=config, **trust) as client:

            async def one(number: int) -> None:
                async with slots:
                    await act(client, number)

            await asyncio.gather(*(one(number) for number in range(job.count)))

    def work() -> dict[str, Any]:
        asyncio.run(run())
        return {}

    return work


def _aio_put(job: Job) -> Work:
    bodies = _bodies(job)

    async def put(client: Any, number: int) -> None:
        hashlib.sha256(bodies[number]).hexdigest()
        await client.put_object(Bucket=job.bucket, Key=_key(job, number), Body=bodies[number])

    return _aio(job, put)


def _aio_get(job: Job) -> Work:
    async def get(client: Any, number: int) -> None:
        answer = await client.get_object(Bucket=job.bucket, Key=_key(job, number))
        _check(job, await answer["Body"].read())

    return _aio(job, get)


def _s5cmd_put(job: Job) -> Work:
    s5cmd_program()
    folder = job.options["folder"]

    def work() -> dict[str, Any]:
        for body in _bodies(job):
            hashlib.sha256(body).hexdigest()
        run_s5cmd(job, "cp", f"{folder}/", f"s3://{job.bucket}/small/")
        return {}

    return work


def _s5cmd_get(job: Job) -> Work:
    s5cmd_program()

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            numbers = range(job.count)
            lines = [f"cp s3://{job.bucket}/{_key(job, number)} {folder}/{number}\n" for number in numbers]
            (folder / "commands").write_text("".join(lines), encoding="utf-8")
            run_s5cmd(job, "run", str(folder / "commands"))
            for number in numbers:
                _check(job, (folder / str(number)).read_bytes())
        return {}

    return work


def _ours_put(threads: int) -> Make:
    def make(job: Job) -> Work:
        writer, bodies = ours.manager(job), _bodies(job)
        return _each(job, lambda number: writer.put_bytes(f"n{number}", bodies[number]), threads)

    return make


def _warm(put: Act, job: Job) -> Work:
    """Put one object after the other from the main thread, after a few that are not measured."""
    for number in range(_WARM):
        put(number)

    def work() -> dict[str, Any]:
        for number in range(_WARM, job.count):
            put(number)
        return {}

    return work


def _boto3_put_one(job: Job) -> Work:
    client, bodies = boto3_client(job), _bodies(job)

    def put(number: int) -> None:
        hashlib.sha256(bodies[number]).hexdigest()
        client.put_object(Bucket=job.bucket, Key=_key(job, number), Body=bodies[number])

    return _warm(put, job)


def _ours_put_one(job: Job) -> Work:
    writer, bodies = ours.manager(job), _bodies(job)
    return _warm(lambda number: writer.put_bytes(f"n{number}", bodies[number]), job)


def _ours_put_many(*, fast: bool) -> Make:
    def make(job: Job) -> Work:
        if not fast:
            _forget_extra()
        writer, bodies = ours.manager(job), _bodies(job)

        def work() -> dict[str, Any]:
            writer.put_many({f"n{number}": body for number, body in enumerate(bodies)})
            return {}

        return work

    return make


def _ours_read_many(*, fast: bool) -> Make:
    def make(job: Job) -> Work:
        if not fast:
            _forget_extra()
        output = _shared(job)

        def work() -> dict[str, Any]:
            for _name, body in output.read_many():
                if len(body) != job.size:
                    msg = "bytes are missing"
                    raise AssertionError(msg)
            return {}

        return work

    return make


def _forget_extra() -> None:
    """Make this process one in which the extra ``fast`` is not installed."""
    sys.modules.update({"awscrt": None, "obstore": None})  # type: ignore[dict-item]  # None means: not to be imported


def _ours_get(threads: int) -> Make:
    def make(job: Job) -> Work:
        artifacts = list(_shared(job).values())
        return _each(job, lambda number: artifacts[number].read_bytes(), threads)

    return make


def _shared(job: Job) -> Any:
    """Resolve all pointers as one output, with the client that stepout builds."""
    import stepout

    keys = [_key(job, number) for number in range(job.count)]
    document = {"stepout": "output/1", "artifacts": {f"n{at}": ours.pointer(job, key) for at, key in enumerate(keys)}}
    return stepout.resolve_output(document, allow=[f"s3://{job.bucket}/"], client=ours.own_store(job))


SMALL: dict[str, dict[str, Make]] = {
    "stepout": {"put": _ours_put(1), "get": _ours_get(1), "put_one": _ours_put_one},
    "stepout, 8 threads": {"put": _ours_put(8), "get": _ours_get(8)},
    "stepout many": {"put": _ours_put_many(fast=True), "get": _ours_read_many(fast=True)},
    "stepout many, no extra": {"put": _ours_put_many(fast=False), "get": _ours_read_many(fast=False)},
    "boto3": {"put": _boto3_put(1), "get": _boto3_get(1), "put_one": _boto3_put_one},
    "boto3, 8 threads": {"put": _boto3_put(8), "get": _boto3_get(8)},
    "bare put_object": {"put": _bare_put},
    "s3fs": {"put": _s3fs_put, "get": _s3fs_get},
    "aiobotocore, 32 at once": {"put": _aio_put, "get": _aio_get},
    "obstore, 8 threads": {"put": _obstore_put, "get": _obstore_get},
    "obstore, create-only, 8 threads": {"put": _obstore_create},
    "s5cmd": {"put": _s5cmd_put, "get": _s5cmd_get},
}
