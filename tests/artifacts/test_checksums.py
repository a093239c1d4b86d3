"""Checksums: against known values, against each other, and combined from parts."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepout.artifacts import checksums
from stepout.artifacts.checksums import (
    Crc,
    Digest,
    combine,
    combine_all,
    crc_of,
    from_base64,
    has_native_crc64nvme,
    pure_crc64nvme,
    sha256_of,
    to_base64,
)
from stepout.artifacts.s3.clients import profile_named

if TYPE_CHECKING:
    from collections.abc import Iterator

CRCS: list[Crc] = ["crc64nvme", "crc32"]


@pytest.fixture
def without_awscrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library as it is where awscrt is not installed."""
    monkeypatch.setitem(__import__("sys").modules, "awscrt", None)
    checksums._native_crc64nvme.cache_clear()
    yield
    checksums._native_crc64nvme.cache_clear()


def test_published_check_values() -> None:
    """The catalogue's check values over ``123456789``."""
    body = [memoryview(b"123456789")]
    assert crc_of("crc64nvme", body) == "ae8b14860a799888"
    assert crc_of("crc32", body) == "cbf43926"
    assert pure_crc64nvme(b"123456789") == 0xAE8B14860A799888


@given(data=st.binary(max_size=5000), cut=st.integers(0, 5000))
def test_pure_python_equals_awscrt(data: bytes, cut: int) -> None:
    """In one go and continued."""
    assert has_native_crc64nvme()
    expected = int(crc_of("crc64nvme", [memoryview(data)]), 16)
    assert pure_crc64nvme(data) == expected
    assert pure_crc64nvme(data[cut:], pure_crc64nvme(data[:cut])) == expected


@pytest.mark.parametrize("algorithm", CRCS)
@given(pieces=st.lists(st.binary(max_size=3000), max_size=8))
def test_parts_combine_to_the_whole(algorithm: Crc, pieces: list[bytes]) -> None:
    """However a body is cut, empty pieces included."""
    parts = [(crc_of(algorithm, [memoryview(piece)]), len(piece)) for piece in pieces]
    assert combine_all(algorithm, parts) == crc_of(algorithm, [memoryview(b"".join(pieces))])


@given(first=st.binary(max_size=50), length=st.integers(1, 1 << 45))
@settings(max_examples=settings().max_examples // 2)
def test_combination_agrees_with_awscrt_at_any_length(first: bytes, length: int) -> None:
    """Lengths far beyond what a test can hash: up to 32 TiB."""
    from awscrt.checksums import combine_crc32, combine_crc64nvme

    one64, other64 = crc_of("crc64nvme", [memoryview(first)]), "0123456789abcdef"
    assert int(combine("crc64nvme", one64, other64, length), 16) == combine_crc64nvme(
        int(one64, 16), int(other64, 16), length
    )
    one32, other32 = zlib.crc32(first), 0x01234567
    assert int(combine("crc32", f"{one32:08x}", f"{other32:08x}", length), 16) == combine_crc32(one32, other32, length)


@given(pieces=st.lists(st.binary(max_size=3000), max_size=8))
def test_a_digest_is_the_same_however_it_is_fed(pieces: list[bytes]) -> None:
    """SHA-256 and CRC over a stream equal those over the whole."""
    digest, whole = Digest("crc64nvme"), memoryview(b"".join(pieces))
    for piece in pieces:
        digest.update(piece)
    assert digest.size == len(whole)
    assert digest.checksums() == {"sha256": sha256_of([whole]), "crc64nvme": crc_of("crc64nvme", [whole])}
    assert sha256_of([whole]) == hashlib.sha256(whole).hexdigest()


@given(data=st.binary(min_size=1, max_size=200), bit=st.integers(min_value=0))
def test_any_flipped_bit_changes_every_checksum(data: bytes, bit: int) -> None:
    """No single flip goes unseen by any of the three."""
    position = bit % (len(data) * 8)
    flipped = bytearray(data)
    flipped[position // 8] ^= 1 << position % 8
    for algorithm in CRCS:
        assert crc_of(algorithm, [memoryview(data)]) != crc_of(algorithm, [memoryview(flipped)])
    assert sha256_of([memoryview(data)]) != sha256_of([memoryview(flipped)])


@given(st.binary(max_size=64))
def test_headers_round_trip(data: bytes) -> None:
    """Hex to base64 and back."""
    assert from_base64(to_base64(data.hex())) == data.hex()


@pytest.mark.usefixtures("without_awscrt")
def test_without_awscrt_everything_still_works() -> None:
    """CRC64NVME is slow then, so the profile asks for CRC32; a digest can still verify both."""
    assert not has_native_crc64nvme()
    assert profile_named("aws").multipart_checksum == "crc32"
    assert crc_of("crc64nvme", [memoryview(b"123456789")]) == "ae8b14860a799888"
    digest = Digest("crc64nvme")
    digest.update(b"123456789")
    assert digest.checksums()["crc64nvme"] == "ae8b14860a799888"
