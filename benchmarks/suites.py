"""What is measured: every suite is a generator of sections, each a table of contenders that ran interleaved."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import servers
from benchmarks.job import MIB, Job
from benchmarks.measure import Row, run_job
from benchmarks.network.suite import bad_networks, lines, network, tails
from benchmarks.sections import Context, Section, human, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.servers import Server

__all__ = ["SUITES"]

SAME = ("stepout", "boto3", "boto3 tuned", "boto3 CRT", "s3fs", "pyarrow", "obstore", "obstore tuned", "s5cmd")
LESS = ("boto3", "boto3 CRT", "obstore", "s5cmd")
FEW = ("stepout", "boto3", "boto3 tuned", "boto3 CRT", "pyarrow", "obstore", "obstore tuned", "s5cmd")
OBJECT = 10 * 1024


def _sinks(context: Context) -> Iterator[tuple[str, Server, float]]:
    """Both sinks, one after the other, and the share of the time left that each may use."""
    with servers.sink(context.data.pattern) as server:
        yield "HTTP", server, 0.5
    with servers.sink(context.data.pattern, certificates=context.certificates) as server:
        yield "HTTPS", server, 1


def _contenders(context: Context, job: Job, same: Sequence[str], less: Sequence[str] = ()) -> list[Row]:
    from benchmarks.peers import TRANSFERS

    rows = [context.row(peer, replace(job, peer=peer)) for peer in same if job.operation in TRANSFERS[peer]]
    if job.operation == "upload" and not job.https:
        rows.insert(1, context.row("stepout, unsigned", replace(job, peer="stepout", options={"unsigned": True})))
    rows += [
        context.row(f"{peer}, no SHA-256", replace(job, peer=peer, hashed=False), "less")
        for peer in less
        if not context.quick
    ]
    return rows


def _floors(context: Context, job: Job) -> list[Row]:
    """Rows that hash the file, and rows that move the same bytes by hand."""
    hashing = replace(job, operation="upload", path=str(context.data.file(job.size)))
    rows = [
        context.row(name, replace(hashing, peer=name), "floor") for name in ("SHA-256 alone", "SHA-256 and CRC64NVME")
    ]
    rows.append(context.row("by hand", replace(job, peer="by hand"), "floor"))
    if job.operation == "upload" and not job.https:
        rows.append(context.row("by hand, signed", replace(job, peer="by hand, signed"), "floor"))
    return rows


def _large(context: Context, operation: str) -> Iterator[Section]:
    for scheme, server, share in _sinks(context):
        job = transfer(context, operation, server, context.size)
        rows = _contenders(context, job, SAME, LESS) + _floors(context, job)
        name = f"{operation} {human(context.size)}, sink, {scheme}"
        yield context.run(Section(operation, name, context.size, rows, floor="SHA-256 alone"), server, share=share)


def upload(context: Context) -> Iterator[Section]:
    """One large file, up."""
    yield from _large(context, "upload")


def download(context: Context) -> Iterator[Section]:
    """One large file, down to a file, verified."""
    yield from _large(context, "download")


def small(context: Context) -> Iterator[Section]:
    """Many small objects, put and got; and one after the other, as a job puts a few."""
    from benchmarks.small import SMALL

    count = 200 if context.quick else 2000
    files = context.data.small_files(count, OBJECT)
    with servers.sink(context.data.pattern) as server:
        for operation, share in (("put", 0.4), ("put_one", 0.25), ("get", 1)):
            job = Job(
                peer="", operation=operation, endpoint=server.endpoint, path=str(context.data.pattern), size=OBJECT,
                sha256=context.data.sha256(OBJECT), count=count, options={"folder": str(files)},
            )  # fmt: skip
            rows = [
                context.row(peer, replace(job, peer=peer), "floor" if peer.startswith("bare") else "same job")
                for peer, operations in SMALL.items()
                if operation in operations
            ]
            what = "one put of 10 KiB, warm" if operation == "put_one" else f"{operation} {count:,} objects of 10 KiB"
            name = f"{what}, sink, HTTP"
            yield context.run(Section("small", name, count * OBJECT, rows), server, share=share)


def parquet(context: Context) -> Iterator[Section]:
    """A table, encoded and sent."""
    from benchmarks.parquet import TABLES

    peers = [peer for peer in TABLES if not peer.endswith("stream")] + ["pyarrow S3 stream"]
    size = 32 * MIB if context.quick else 512 * MIB
    with servers.sink(context.data.pattern, certificates=context.certificates) as server:
        job = Job(peer="", operation="parquet", endpoint=server.endpoint, authority=server.authority, size=size)
        groups = {"encode only": "floor", "pyarrow S3 stream": "less"}
        rows = [context.row(peer, replace(job, peer=peer), groups.get(peer, "same job")) for peer in peers]
        section = Section("parquet", f"Parquet, a table of {human(size)}, sink, HTTPS", size, rows)
        section.baseline, section.floor = "pyarrow S3 stream", "encode only"
        yield context.run(section, server)


def cold(context: Context) -> Iterator[Section]:
    """A fresh interpreter, and a Lambda's runtime, up to 10 KiB verified; the first MiB of a process, up and down."""
    from benchmarks import cold as scripts

    rounds = 3 if context.quick else max(15, context.rounds)
    with scripts.credentials_endpoint() as credentials:
        for scheme, server, _ in _sinks(context):
            small = {"key": f"cold/{OBJECT}", "size": OBJECT, "sha256": context.data.sha256(OBJECT)}
            large = {"key": f"pattern/{MIB}", "size": MIB, "sha256": context.data.sha256(MIB)}
            for name, contenders, options in (
                ("10 KiB verified", scripts.READ, small),
                ("10 KiB verified, container credentials", scripts.CONTAINER, {**small, "credentials": credentials}),
                ("the first 1 MiB up", scripts.UP, {**large, "path": context.data.file(MIB)}),
                ("the first 1 MiB down", scripts.DOWN, {**large, "out": context.data.folder / "first"}),
            ):
                rows = [_whole(label, script, server, options) for label, script in contenders.items()]
                section = Section("cold", f"fresh interpreter to {name}, sink, {scheme}", 0, rows)
                section.above = "bare interpreter"
                yield context.run(section, server, rounds=rounds)
            for name, options in (
                ("10 KiB verified", small),
                ("10 KiB verified, container credentials", {**small, "credentials": credentials}),
            ):
                rows = [_handler(label, text, server, options) for label, text in scripts.LAMBDA.items()]
                section = Section("cold", f"Lambda's runtime client, start to {name}, sink, {scheme}", 0, rows)
                yield context.run(section, server, rounds=rounds)


def _whole(label: str, script: str, server: Server, options: dict[str, Any]) -> Row:
    from benchmarks.cold import run_script

    act = partial(run_script, script, server.endpoint, authority=server.authority, **options)
    return Row(label, act, "floor" if label.startswith("bare") else "same job")


def _handler(label: str, text: str, server: Server, options: dict[str, Any]) -> Row:
    from benchmarks.cold import run_handler

    act = partial(run_handler, text, server.endpoint, authority=server.authority, **options)
    return Row(label, act, "floor" if label.startswith("bare") else "same job")


def validation(context: Context) -> Iterator[Section]:
    """A document of 300 pointers, checked before it is sent or believed."""
    from benchmarks.validation import POINTERS, VALIDATION

    job = Job(peer="", operation="validate", size=OBJECT, count=POINTERS, sha256=context.data.sha256(OBJECT))
    rows = [context.row(peer, replace(job, peer=peer)) for peer in VALIDATION]
    name = f"validate an output of {POINTERS} pointers, one call"
    yield context.run(Section("validation", name, 0, rows, baseline="jsonschema, validator kept"), None)


def growth(context: Context) -> Iterator[Section]:
    """From 1 MiB up: time per byte and memory."""
    sizes = [1, 16, 64] if context.quick else [1, 16, 256, 2048, 8192]
    with servers.sink(context.data.pattern) as server:
        for size in (each * MIB for each in sizes):
            for operation in ("upload", "download"):
                job = transfer(context, operation, server, size)
                peers = ["stepout", "boto3"] if size <= 2048 * MIB else ["stepout"]
                rows = [context.row(peer, replace(job, peer=peer)) for peer in peers]
                section = Section("growth", f"{operation} {human(size)}, sink, HTTP", size, rows)
                yield context.run(section, server, rounds=1 if size > 2 * context.data.size else None, share=0.5)
            context.data.forget(size)
        for size in (each * MIB for each in ([16] if context.quick else [100, 1024, 4096])):
            job = Job(peer="", operation="parquet", endpoint=server.endpoint, size=size)
            rows = [
                context.row(f"{peer}, stream", replace(job, peer=f"{peer}, stream"), group)
                for peer, group in (("stepout put_table", "same job"), ("encode only", "floor"))
            ]
            section = Section("growth", f"Parquet, a stream of {human(size)}, sink, HTTP", size, rows)
            section.baseline = "encode only, stream"
            yield context.run(section, server)


def concurrency(context: Context) -> Iterator[Section]:
    """From 1 to 16 connections."""
    size = min(context.size, 256 * MIB)
    steps = (1, 4) if context.quick else (1, 2, 4, 8, 16)
    for scheme, server, share in _sinks(context):
        job = transfer(context, "upload", server, size)
        rows = [
            context.row(f"{peer}, {count}", replace(job, peer=peer, options=_connections(peer, count)))
            for count in steps
            for peer in ("stepout", "boto3", "obstore")
        ]
        name = f"upload {human(size)} over n connections, sink, {scheme}"
        section = Section("concurrency", name, size, rows, baseline=f"boto3, {steps[-1]}")
        yield context.run(section, server, share=share)


def _connections(peer: str, count: int) -> dict[str, int]:
    """Name the settings with which a peer has that many parts on their way; ours needs memory for more than seven."""
    if peer != "stepout":
        return {"connections": count}
    return {"connections": count, "part_size": 8 * MIB, "memory": max(64, (count + 2) * 8) * MIB}


def seaweed(context: Context) -> Iterator[Section]:
    """A real object store."""
    size = min(context.size, (16 if context.quick else 128) * MIB)
    folder = context.data.folder / "seaweed"
    folder.mkdir()
    with servers.seaweed(folder) as server:
        job = transfer(context, "upload", server, size)
        run_job(replace(job, peer="boto3"), timeout=context.timeout)  # what the downloads read
        for operation, share in (("upload", 0.5), ("download", 1)):
            rows = _contenders(context, transfer(context, operation, server, size), FEW)
            name = f"{operation} {human(size)}, SeaweedFS, HTTP"
            yield context.run(Section("seaweed", name, size, rows), server, share=share)
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def datasets(context: Context) -> Iterator[Section]:
    """A dataset of 20 partitions on a real object store: written, scanned by engines; and random reads."""
    from benchmarks.datasets import LARGE, PARTITIONS, PIECE, RANDOM, SCANS, WRITES

    size = (32 if context.quick else 384) * MIB
    count = 50 if context.quick else 300
    folder = context.data.folder / "seaweed-datasets"
    folder.mkdir()
    with servers.seaweed(folder) as server:
        job = Job(peer="stepout", operation="settle", endpoint=server.endpoint, size=size)
        settled = run_job(job, timeout=context.timeout)
        if "scan" not in settled:
            raise RuntimeError(f"the dataset was not written: {settled}")
        engines = sorted({label.partition(",")[0] for label in SCANS})
        for part, what in enumerate(("all of it", "2 of 12 columns, a tenth of the rows")):
            for number, engine in enumerate(engines):
                scan = replace(job, operation="scan", options={**settled["scan"], "part": part})
                labels = [label for label in SCANS if label.startswith(f"{engine},")]
                rows = [context.row(label, replace(scan, peer=label), _kind(label)) for label in labels]
                name = f"scan with {engine}: {what}, {PARTITIONS} files, {human(size)} of Arrow, SeaweedFS"
                section = Section("datasets", name, size, rows, baseline=f"{engine}, s3fs")
                yield context.run(section, server, share=1 / (2 * len(engines) + 2 - part * len(engines) - number))
        read = replace(job, operation="random", size=LARGE, count=count, options=settled["random"])
        rows = [context.row(label, replace(read, peer=label), _kind(label)) for label in RANDOM]
        name = f"{count} random reads of {human(PIECE)} of an object of {human(LARGE)}, SeaweedFS"
        yield context.run(Section("datasets", name, 0, rows, baseline="s3fs"), server, share=0.5)
    with servers.sink(context.data.pattern) as server:
        put = replace(job, operation="put_dataset", endpoint=server.endpoint)
        groups = {"encode only": "floor", "pyarrow write_dataset, to files": "less"}
        rows = [context.row(label, replace(put, peer=label), groups.get(label, "same job")) for label in WRITES]
        section = Section("datasets", f"put a dataset of {PARTITIONS} partitions, {human(size)}, sink", size, rows)
        section.baseline = section.floor = "encode only"
        yield context.run(section, server)
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def directories(context: Context) -> Iterator[Section]:
    """A directory of small files, put to a sink and got from a real object store, and one file out of very many."""
    from benchmarks.directories import DIRECTORIES, ONE_FILE

    count, many = (200, 2_000) if context.quick else (10_000, 100_000)
    files = context.data.small_files(count, OBJECT)
    job = Job(peer="", operation="put_directory", size=OBJECT, count=count, options={"folder": str(files)})
    of = f"{count:,} files of {human(OBJECT)}"
    with servers.sink(context.data.pattern) as server:
        rows = _of_table(context, replace(job, endpoint=server.endpoint), DIRECTORIES)
        section = Section("directories", f"put a directory, {of}, sink, HTTP", count * OBJECT, rows, baseline="s5cmd")
        yield context.run(section, server, share=0.4)
    with _seaweed(context, "directories") as server:
        settle = replace(job, peer="stepout", operation="settle_directory", endpoint=server.endpoint)
        settled = _settled(context, settle, "get")
        get = replace(settle, operation="get_directory", options=settled["get"])
        section = Section(
            "directories", f"get a directory, {of}, SeaweedFS", count * OBJECT,
            _of_table(context, get, DIRECTORIES), baseline="s5cmd",
        )  # fmt: skip
        yield context.run(section, server, share=0.8)
        settled = _settled(context, replace(settle, operation="settle_listing", count=many), "one")
        one = replace(settle, operation="one_file", options=settled["one"], sha256=settled["sha"])
        section = Section(
            "directories", f"one file of {many:,}, SeaweedFS", 0,
            _of_table(context, one, ONE_FILE), baseline="boto3, whole listing",
        )  # fmt: skip
        yield context.run(section, server)


def fan_in(context: Context) -> Iterator[Section]:
    """All children of a Distributed Map from one result file, and the first of them."""
    from benchmarks.fan_in import FAN_IN

    with _seaweed(context, "fan-in") as server:
        for left, count in ((3, 100), (1, 400)) if context.quick else ((9, 1_000), (4, 10_000), (1, 100_000)):
            job = Job(peer="stepout", operation="settle_gather", endpoint=server.endpoint, count=count)
            settled = _settled(context, job, "gather")
            job = replace(job, operation="gather", options=settled["gather"])
            name = f"gather {count:,} children, {settled['bytes'] / MIB:.1f} MiB, SeaweedFS"
            rows = _of_table(context, job, FAN_IN)
            section = Section("fan-in", name, settled["bytes"], rows, baseline="json.load")
            yield context.run(section, server, share=1 / left)


def throttle(context: Context) -> Iterator[Section]:
    """A server that answers 503 SlowDown above a rate of requests."""
    from benchmarks.throttle import LIMITS, limit_row

    for limit in LIMITS[: 1 if context.quick else None]:
        count = int(limit * 8)
        with servers.sink(context.data.pattern, limit=limit) as server:
            for operation in ("put", "get"):
                job = Job(
                    peer="", operation=operation, endpoint=server.endpoint, path=str(context.data.pattern), size=OBJECT,
                    sha256=context.data.sha256(OBJECT), count=count,
                )  # fmt: skip
                peers = ("stepout many", "stepout many, no extra", "boto3, 8 threads", "obstore, 8 threads")
                rows = [context.row(peer, replace(job, peer=peer)) for peer in peers]
                name = f"{operation} {count:,} objects of 10 KiB, sink, HTTP, {limit:g} requests a second"
                section = Section("throttle", name, count * OBJECT, [*rows, limit_row(count, limit)])
                section.baseline = section.floor = "the limit"
                yield context.run(section, server, share=0.25)


def _of_table(context: Context, job: Job, table: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return a row for everybody in a table who does the job."""
    return [context.row(peer, replace(job, peer=peer)) for peer, does in table.items() if job.operation in does]


def _settled(context: Context, job: Job, name: str) -> dict[str, Any]:
    """Write what others are to read, and return what says where it is."""
    found = run_job(job, timeout=5 * context.timeout)
    if name not in found:
        raise RuntimeError(f"what is to be read was not written: {found}")
    return found


@contextlib.contextmanager
def _seaweed(context: Context, name: str) -> Iterator[Server]:
    folder = context.data.folder / f"seaweed-{name}"
    folder.mkdir()
    with servers.seaweed(folder) as server:
        yield server
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def _kind(label: str) -> str:
    """Put what verifies nothing into a group of its own."""
    return "same job" if "stepout" in label else "less"


SUITES: dict[str, tuple[Callable[[Context], Iterator[Section]], float]] = {
    "upload": (upload, 9),
    "download": (download, 8),
    "small": (small, 3.5),
    "parquet": (parquet, 2),
    "cold": (cold, 0.5),
    "validation": (validation, 0.2),
    "growth": (growth, 1.5),
    "concurrency": (concurrency, 1.2),
    "network": (network, 30),
    "tails": (tails, 3),
    "lines": (lines, 3),
    "bad networks": (bad_networks, 4),
    "seaweed": (seaweed, 1.3),
    "datasets": (datasets, 4),
    "directories": (directories, 3),
    "fan-in": (fan_in, 2),
    "throttle": (throttle, 1.5),
}
"""Each suite, and its share of the time."""
