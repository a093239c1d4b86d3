"""What a manager's put costs from the outside: requests on the wire, bytes read and hashed, memory beside buffers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import support.put_costs
from support.seaweed import ADMIN
from support.wire import Wire

from stepout.artifacts.transfer.plan import BLOCK_SIZE, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.seaweed import Seaweed

SMALL, SINGLE, LARGE = 100 * 1024, 8 * MIB, 16 * MIB + 5
MANY = 4
SLACK = 32 * 1024
"""Bytes of signatures and of the kernel's own files, which are counted too."""


class Costs(NamedTuple):
    """Of one put: requests in their order, and bytes."""

    operations: list[str]
    read: int | None
    sha256: int
    crc: int
    others: int
    beyond: int


@pytest.fixture
def costs(seaweed: Seaweed, bucket: str, tmp_path: Path) -> Callable[..., Costs]:
    """Put something in a process of its own, through a wire that counts requests."""

    def count(how: str, size: int, profile: str = "aws") -> Costs:
        path = tmp_path / "source"
        path.write_bytes(os.urandom(size))
        with Wire(seaweed.endpoint) as wire:
            environ = {
                **os.environ,
                "AWS_ENDPOINT_URL": wire.endpoint,
                "AWS_ACCESS_KEY_ID": ADMIN.access_key,
                "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
                "AWS_REGION": "us-east-1",
                "STEPOUT_S3_PROFILE": profile,
                "BUCKET": bucket,
            }
            with subprocess.Popen(
                [sys.executable, support.put_costs.__file__, how, str(path)],
                env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            ) as process:  # fmt: skip
                assert process.stdout is not None
                assert process.stdout.readline() == "warm\n"
                wire.lines.clear()
                found = json.loads(process.communicate("go\n", timeout=300)[0])
            return _costs(wire.operations, found)

    return count


def _costs(operations: list[str], found: dict[str, Any]) -> Costs:
    hashed: dict[str, int] = found["hashed"]
    crc = sum(amount for name, amount in hashed.items() if name.startswith("crc"))
    sha256 = hashed.get("sha256", 0)
    return Costs(operations, found["read"], sha256, crc, sum(hashed.values()) - crc - sha256, found["beyond"])


def _check(found: Costs, *, read: int, sha256: range, crc: range, whole: int) -> None:
    """Hold what was counted against bytes to be read, and against passes over ``whole`` bytes."""
    if found.read is not None:  # the kernel counts on Linux alone
        assert read <= found.read <= read + SLACK
    for amount, passes in ((found.sha256, sha256), (found.crc, crc)):
        assert amount // whole in passes
        assert amount % whole <= SLACK
    assert found.others <= SLACK
    assert found.beyond < BLOCK_SIZE // 2


@pytest.mark.parametrize("how", ["put_file", "put_bytes", "write", "put_many"])
def test_a_small_put_is_one_request_and_one_read(costs: Callable[..., Costs], how: str) -> None:
    """Nobody looks first or afterwards; one hash for the pointer, and at most one for a signature."""
    found, count = costs(how, SMALL), MANY if how == "put_many" else 1
    assert found.operations == ["PutObject"] * count
    read = SMALL if how == "put_file" else 0
    _check(found, read=read, sha256=range(1, 3), crc=range(1), whole=SMALL * count)


@pytest.mark.parametrize("how", ["put_file", "put_bytes", "write", "put_many"])
def test_a_put_below_the_threshold_is_one_request_one_read_and_no_copy(costs: Callable[..., Costs], how: str) -> None:
    """One hash is pointer's, server's and signature's; a CRC of every byte for the blocks; no byte is copied."""
    found, count = costs(how, SINGLE), MANY if how == "put_many" else 1
    assert found.operations == ["PutObject"] * count
    read = SINGLE if how == "put_file" else 0
    _check(found, read=read, sha256=range(1, 2), crc=range(1, 2), whole=SINGLE * count)


@pytest.mark.parametrize(
    ("how", "profile"),
    [("put_file", "aws"), ("put_stream", "aws"), ("put_bytes", "aws"), ("write", "aws"), ("put_file", "compatible")],
)
def test_a_put_of_parts_makes_one_other_request_reads_once_and_copies_nothing(
    costs: Callable[..., Costs], how: str, profile: str
) -> None:
    """SHA-256 for the pointer and for signatures, one CRC for the blocks and the server; no part is copied."""
    found = costs(how, LARGE, profile)
    look = [] if profile == "aws" else ["GetObject"]  # a byte, to see what readers will
    found.operations.remove("PutObject")  # the list of blocks, beside the last parts
    parts = len(found.operations) - 2 - len(look)
    assert found.operations == ["CreateMultipartUpload", *["UploadPart"] * parts, "CompleteMultipartUpload", *look]
    assert 3 <= parts <= 4  # of 5 to 8 MiB
    read = LARGE if how in {"put_file", "put_stream"} else 0
    _check(found, read=read, sha256=range(2, 3), crc=range(1, 2), whole=LARGE)
