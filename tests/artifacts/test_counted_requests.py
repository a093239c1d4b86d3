"""docs/explanation/limits.md says how many requests each put and each read sends: here they are counted."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pytest
from support.tree import ROOT
from support.wire import Wire

import stepout
from stepout.testing import RecordingTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.schemas import Pointer

PAGE: Final = ROOT / "docs" / "explanation" / "limits.md"
MIB: Final = 1 << 20
WRITES: Final = {"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"}
READS: Final = {"GetObject", "HeadObject"}
RUN: Final = stepout.RunIdentity(execution="e", state="s", nonce="n")
FOUR: Final = pa.table({"part": [1, 2, 3, 4] * 10, "x": list(range(40))})

Steps = dict[str, "Callable[[], Any]"]


def _said() -> dict[str, tuple[int, int]]:
    """The table of the page: writes and reads, by what is done."""
    table = PAGE.read_text(encoding="utf-8").partition("\n## Requests\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {what: (int(writes), int(reads)) for what, writes, reads in rows if writes.isdigit()}


def _puts(bucket: str, client: Any, folder: Path, pointers: dict[str, Pointer]) -> Steps:
    # With parts of one size, whether or not a busy machine takes the server for a far one.
    settings = stepout.TransferSettings(part_size=8 * MIB)
    manager = stepout.ArtifactManager(bucket, "runs", client=client, settings=settings)
    (folder / "many").mkdir()
    for at in range(100):
        (folder / "many" / f"{at}.txt").write_text(str(at))
    (folder / "large").write_bytes(random.Random(1).randbytes(20 * MIB))
    client.put_object(Bucket=bucket, Key="foreign", Body=b"theirs", ChecksumAlgorithm="SHA256")
    table = pa.table({name: np.random.default_rng(1).random(500_000) for name in "abcd"})

    def kept(name: str, put: Callable[[str], Pointer]) -> Callable[[], None]:
        return lambda: pointers.update({name: put(name)})

    def task() -> None:
        with stepout.open_task(targets=(RecordingTarget(),), bucket=bucket, prefix="runs", client=client) as task:
            task.artifacts.put_bytes("small", b"small")

    def once() -> Pointer:
        return stepout.ArtifactManager(bucket, "runs", client=client, run=RUN).put_bytes("again", b"again")

    once()
    return {
        "`put_bytes`, 10 kB": kept("small", lambda name: manager.put_bytes(name, bytes(10_000))),
        "`put_bytes`, 5 MiB": kept("middle", lambda name: manager.put_bytes(name, bytes(5 * MIB))),
        "`put_file`, 20 MiB in parts of 8 MiB": kept("large", lambda name: manager.put_file(name, folder / "large")),
        "`put_table`, 34 kB": kept("table", lambda name: manager.put_table(name, table.slice(0, 1000))),
        "`put_directory`, 100 small files": kept("many", lambda name: manager.put_directory(name, folder / "many")),
        "`put_many`, 100 small artifacts": lambda: manager.put_many({f"m{at}": str(at) for at in range(100)}),
        "`put_dataset`, 4 files": kept("four", lambda name: manager.put_dataset(name, FOUR, partition_by=["part"])),
        "`adopt`": lambda: manager.adopt("theirs", f"s3://{bucket}/foreign"),
        '`adopt(verify="read")`': lambda: manager.adopt("read", f"s3://{bucket}/foreign", verify="read"),
        "a put that finds its own content there": once,
        "a task with one small artifact": task,
        "(the 16 MB table of the rows below)": kept("wide", lambda name: manager.put_table(name, table)),
    }


def _reads(bucket: str, client: Any, folder: Path, pointers: dict[str, Pointer]) -> Steps:
    def of(name: str) -> stepout.Artifact:
        return stepout.resolve_artifact(pointers[name].to_dict(), allow=[f"s3://{bucket}/runs/"], client=client)

    def seek(name: str) -> None:
        with of(name).open() as file:
            file.seek(2 * MIB)
            file.read(1000)

    return {
        "`resolve_artifact`, `resolve_output`": lambda: of("small"),
        "`read_bytes`, 10 kB": lambda: of("small").read_bytes(),
        "`download`, 20 MiB": lambda: of("large").download(folder / "there"),
        "`open`, seek and read 1 kB of 5 MiB": lambda: seek("middle"),
        "`open`, seek and read 1 kB of 20 MiB": lambda: seek("large"),
        "`read_table`, 16 MB": lambda: of("wide").read_table(),
        "`read_table(columns=…)`, 34 kB": lambda: of("table").read_table(columns=["a"]),
        "`read_table(columns=…)`, one of four columns of 16 MB": lambda: of("wide").read_table(columns=["a"]),
        "`dataset().to_table()`, 4 files": lambda: of("four").dataset().to_table(),
        "`file`, one of a directory of 100, and `read_bytes`": lambda: of("many").file("7.txt").read_bytes(),
        "`download` of a directory of 100 small files": lambda: of("many").download(folder / "copy"),
    }


@pytest.mark.timeout(300)
def test_the_page_says_what_is_sent(seaweed: Seaweed, bucket: str, tmp_path: Path) -> None:
    """Each row of the table, by what a server is sent."""
    pointers: dict[str, Pointer] = {}
    found = {}
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        client = seaweed.client(endpoint=wire.endpoint)
        warm = stepout.ArtifactManager(bucket, "runs", client=client)
        warm.put_bytes("warm", b"the server is tried out once")
        warm.put_bytes("large", bytes(9 * MIB))
        for steps in (_puts, _reads):
            for what, step in steps(bucket, client, tmp_path, pointers).items():
                before = len(wire.operations)
                step()
                sent = wire.operations[before:]
                assert set(sent) <= WRITES | READS
                found[what] = (sum(each in WRITES for each in sent), sum(each in READS for each in sent))
    del found["(the 16 MB table of the rows below)"]
    assert _said() == found
