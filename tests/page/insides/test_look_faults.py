"""Whatever is wrong with an artifact: its card says so, by name, and the page is made."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.looks import Bench
from support.seaweed import READER
from support.shelf import BreakingStore

from stepout.artifacts.manager import ArtifactManager
from stepout.artifacts.media_types import PARQUET
from stepout.artifacts.resolve import resolve_artifact
from stepout.page.budget import PageBudget
from stepout.page.insides import look_inside
from stepout.page.model import ImageInside, TableInside, TextInside
from stepout.schemas.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.seaweed import Seaweed

    from stepout.schemas import Pointer

TABLE = pa.table({"a": [1, 2, 3]})


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, format="PNG")
    return buffer.getvalue()


KINDS = {
    "image/png": _png(),
    PARQUET: _parquet(),
    "text/plain": b"text",
    "application/json": b'{"a": 1}',
    "application/vnd.stepout.directory+jsonl": b'{"stepout":"directory/2"}\n{}\n',
    "application/vnd.stepout.directory+json": b'{"stepout":"directory/1","files":[]}',
    "application/vnd.stepout.dataset+json": b"{}",
    "application/octet-stream": b"whatever",
}


def _gone(bench: Bench, pointer: Pointer) -> Pointer:
    bench.shelf.store.delete(pointer.key)
    return pointer


def _changed(bench: Bench, pointer: Pointer) -> Pointer:
    bench.shelf.store.replace(pointer.key, bytes(pointer.size))
    return pointer


def _damaged(bench: Bench, pointer: Pointer) -> Pointer:
    bench.shelf.store.replace(pointer.key, bytes(pointer.size))
    return replace(pointer, etag=None, version_id=None)


def _shorter(bench: Bench, pointer: Pointer) -> Pointer:
    bench.shelf.store.replace(pointer.key, b"")
    return replace(pointer, etag=None, version_id=None)


def _expired(_bench: Bench, pointer: Pointer) -> Pointer:
    return replace(pointer, expires_at="2020-01-01T00:00:00Z")


@pytest.mark.parametrize("media_type", KINDS)
@pytest.mark.parametrize(
    ("happened", "error"),
    [
        (_gone, "Stepout.ArtifactNotFound"),
        (_changed, "Stepout.ArtifactChanged"),
        (_damaged, "Stepout.ChecksumMismatch"),
        (_shorter, "Stepout.SizeMismatch"),
        (_expired, "Stepout.ArtifactExpired"),
    ],
)
def test_what_happened_to_an_artifact_is_its_problem(
    media_type: str, happened: Callable[[Bench, Pointer], Pointer], error: str
) -> None:
    """Of every kind: nothing of it is shown, nothing of it counts as verified."""
    bench = Bench()
    pointer = happened(bench, bench.shelf.put(KINDS[media_type], "a", media_type=media_type))
    look = bench.look(pointer)
    assert (look.inside, look.verified) == (None, "not")
    assert look.problem is not None
    assert look.problem.error == error
    assert pointer.url in look.problem.message
    damaged = error == "Stepout.ChecksumMismatch"
    assert ("not those that were written" if damaged else "Nothing of it was read.") in look.verified_note


def test_a_server_that_fails_is_a_problem() -> None:
    """After the usual tries."""
    bench = Bench()
    pointer = bench.shelf.put(b"text", "a.txt", media_type="text/plain")
    look = bench.look(pointer, client=BreakingStore(bench.shelf.store, [-1] * 20))
    assert look.problem is not None
    assert look.problem.error == "Stepout.StoreUnavailable"


def test_a_broken_connection_is_taken_up_and_counted() -> None:
    """What was read twice has cost twice."""
    bench = Bench()
    pointer = bench.shelf.put(b"text" * 100, "a.txt", media_type="text/plain")
    store = BreakingStore(bench.shelf.store, [100, None], StoreUnavailableError("broke"))
    look = bench.look(pointer, client=store)
    assert isinstance(look.inside, TextInside)
    assert (bench.budget.spent().requests, bench.budget.spent().bytes_read) == (2, 400)


def test_without_a_checksum_the_card_says_that_nothing_was_compared() -> None:
    """As of what another tool's reference names."""
    bench = Bench()
    pointer = replace(bench.shelf.put(b"text", "a.txt", media_type="text/plain"), checksum={"md5": "0" * 32})
    artifact = resolve_artifact(
        bench.shelf.put(b"text", "a.txt", media_type="text/plain"),
        allow=["s3://results/runs/"],
        client=bench.shelf.store,
    )
    look = look_inside(type(artifact)(pointer, artifact.access), PageBudget())
    assert isinstance(look.inside, TextInside)
    assert look.verified == "not"
    assert "no checksum" in look.verified_note


def test_sha256_that_is_asked_for_and_is_not_there_is_a_problem() -> None:
    """``verify="sha256"`` holds for a page, too."""
    bench = Bench()
    pointer = replace(bench.shelf.put(b"text", "a.txt", media_type="text/plain"), checksum={"crc64nvme": "0" * 16})
    look = bench.look(pointer, verify="sha256")
    assert look.problem is not None
    assert look.problem.error == "Stepout.Configuration"


def test_a_page_that_has_spent_its_time_shows_no_more() -> None:
    """The rest of the cards say so, and nothing is requested for them."""
    now = [0.0]
    budget = PageBudget(seconds=1, clock=lambda: now[0])
    bench = Bench()
    pointer = bench.shelf.put(_png(), "a.png", media_type="image/png")
    assert isinstance(bench.look(pointer, budget).inside, ImageInside)
    now[0] = 2.0
    look = bench.look(pointer, budget)
    assert (look.inside, look.problem, look.verified) == (None, None, "not")
    assert "1 seconds, and did: allow more with --budget-seconds" in look.verified_note
    assert (budget.spent().requests, budget.spent().ran_out) == (1, True)


def test_one_table_leaves_something_for_the_next() -> None:
    """Each takes half of what is left at most."""
    bench, budget = Bench(), PageBudget(bytes=2 << 20)
    draw = np.random.default_rng(1)
    for name in ("one", "two", "three"):
        table = pa.table({f"c{index}": draw.random(20_000) for index in range(20)})
        look = bench.look(bench.artifacts.put_table(name, table), budget)
        assert isinstance(look.inside, TableInside)
        assert look.inside.rows == 20_000
    assert budget.spent().bytes_read <= 2 << 20


def test_a_real_server_gives_the_same_looks(seaweed: Seaweed, bucket: str) -> None:
    """What is read is counted as it is sent; a reader without rights gets a problem."""
    writer = ArtifactManager(bucket, "runs", client=seaweed.client())
    image = writer.put_image("i", Image.effect_noise((700, 500), 40).convert("RGB"), format="jpeg")
    table = writer.put_table("t", pa.table({"a": np.arange(400_000), "b": np.random.default_rng(1).random(400_000)}))
    reader, budget = seaweed.client(READER), PageBudget()
    allow = [f"s3://{bucket}/runs/"]
    look = look_inside(resolve_artifact(image, allow=allow, client=reader), budget)
    assert isinstance(look.inside, ImageInside)
    assert (look.inside.width, look.verified) == (700, "whole")
    assert (budget.spent().requests, budget.spent().bytes_read) == (1, image.size)
    look = look_inside(resolve_artifact(table, allow=allow, client=reader), budget)
    assert isinstance(look.inside, TableInside)
    assert (look.inside.rows, look.verified, look.problem) == (400_000, "whole", None)
    denied = seaweed.client(replace(READER, secret_key="wrong"))
    look = look_inside(resolve_artifact(image, allow=allow, client=denied), PageBudget())
    assert look.problem is not None
    assert look.problem.error == "Stepout.AccessDenied"


@pytest.mark.parametrize("happened", [_gone, _changed, _shorter])
def test_what_was_verified_for_a_page_before_is_not_shown_again(
    happened: Callable[[Bench, Pointer], Pointer], tmp_path: Path
) -> None:
    """The store is asked anew in the same process: nothing that was kept stands in for what is gone or changed."""
    bench, draw = Bench(), np.random.default_rng(1)
    table = bench.artifacts.put_table("t", pa.table({f"c{index}": draw.random(40_000) for index in range(8)}))
    (tmp_path / "a.txt").write_text("a")
    listing = bench.artifacts.put_directory("d", tmp_path)
    for pointer in (table, listing):
        first, spent = bench.look(pointer), bench.budget.spent().bytes_read
        again = bench.look(pointer)
        assert (first.inside, bench.budget.spent().bytes_read) == (again.inside, spent)
        look = bench.look(happened(bench, pointer))
        assert (look.inside, look.verified, look.verified_note) == (None, "not", "Nothing of it was read.")
        assert look.problem is not None
        assert bench.budget.spent().bytes_read == 0
