"""Whole reads over connections that stall, break and are held, against a real object store: by requests and bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.wire import Wire, operation

import stepout
from stepout.artifacts.process import budget as process_budget
from stepout.artifacts.process.budget import ProcessBudget
from stepout.artifacts.transfer import parallel_get
from stepout.artifacts.transfer.range_plan import RangePlan
from stepout.schemas.runtime.process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Seaweed

MIB = 1 << 20
DATA = os.urandom(MIB) * 20 + b"the end"


@pytest.fixture(autouse=True)
def budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessBudget]:
    """The budget of a process in which nothing has been transferred yet; everything is given back."""
    held = PerProcess(lambda: ProcessBudget(256 * MIB))
    monkeypatch.setattr(process_budget, "_BUDGET", held)
    yield held.get()
    assert held.get().taken == (0, 0)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four ranges of two MiB at once, from the first byte on."""
    monkeypatch.setattr(parallel_get, "begins_in_ranges", lambda _: True)
    monkeypatch.setattr(parallel_get, "plan_for", lambda *_, **__: RangePlan(4, 2 * MIB))


@pytest.fixture
def pointer(seaweed_client: Any, bucket: str) -> dict[str, Any]:
    """What names the object."""
    written = seaweed_client.put_object(Bucket=bucket, Key="runs/large", Body=DATA)
    return {
        "stepout": "pointer/1",
        "bucket": bucket,
        "key": "runs/large",
        "etag": written["ETag"],
        "size": len(DATA),
        "checksum": {"sha256": hashlib.sha256(DATA).hexdigest()},
        "mediaType": "application/octet-stream",
    }


def _read(pointer: dict[str, Any], seaweed: Seaweed, wire: Wire, read: str, folder: Path) -> bytes:
    client = seaweed.client(endpoint=wire.endpoint)
    artifact = stepout.resolve_artifact(pointer, allow=[f"s3://{pointer['bucket']}/runs/"], client=client)
    return artifact.read_bytes() if read == "read_bytes" else artifact.download(folder / "file").read_bytes()


def _gets(wire: Wire) -> int:
    return sum(operation(line) == "GetObject" for line in wire.lines)


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize("read", ["read_bytes", "download"])
@pytest.mark.parametrize("kind", ["stall", "half"])
def test_a_range_that_stalls_is_asked_for_once_more(
    kind: Any, read: str, pointer: dict[str, Any], seaweed: Seaweed, tmp_path: Path
) -> None:
    """Without an answer, or in the middle of its body; and the thread that was held up by it is free again."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        fault = wire.when("GetObject", kind)
        assert _read(pointer, seaweed, wire, read, tmp_path) == DATA
        assert not fault.released.is_set()
        assert _gets(wire) > 11  # on a busy machine others may have seemed late, too
    _no_thread_reads()


@pytest.mark.parametrize("read", ["read_bytes", "download"])
@pytest.mark.parametrize("kind", ["stall", "half"])
def test_one_connection_that_stalls_gets_help(  # noqa: PLR0913, PLR0917 - cases and fixtures
    kind: Any, read: str, pointer: dict[str, Any], seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request of a process, while nothing is known of the server: it ends, and the rest comes in ranges."""
    monkeypatch.setattr(parallel_get, "plan_for", lambda *_, **__: RangePlan(4, 2 * MIB))
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        fault = wire.when("GetObject", kind)
        assert _read(pointer, seaweed, wire, read, tmp_path) == DATA
        assert not fault.released.is_set()
    _no_thread_reads()


@pytest.mark.usefixtures("ranges")
def test_ranges_whose_connections_die_are_taken_up_where_they_broke(
    pointer: dict[str, Any], seaweed: Seaweed, tmp_path: Path
) -> None:
    """Half of each comes, whoever asks, fourteen times: no byte is lost, and nothing fails."""
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        fault = wire.when("GetObject", "truncate", times=14)
        assert _read(pointer, seaweed, wire, "download", tmp_path) == DATA
        assert fault.hits == 14
        assert _gets(wire) >= 11 + 14


def test_a_connection_that_dies_again_and_again_ends_no_download_that_makes_progress(
    pointer: dict[str, Any], seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, as long as each brings something worth the request: here with a limit of one break in all."""
    monkeypatch.setattr("stepout.artifacts.reading.pinned_object._TOTAL_RECONNECTS", 1)
    with Wire(seaweed.endpoint, keep_alive=True) as wire:
        fault = wire.when("GetObject", "truncate", times=4)
        assert _read(pointer, seaweed, wire, "download", tmp_path) == DATA
        assert fault.hits == 4


def _no_thread_reads() -> None:
    """The threads of a read end soon after it, also those whose requests had stalled."""
    for each in threading.enumerate():
        if each.name == "stepout-read":
            each.join(60)
            assert not each.is_alive()
