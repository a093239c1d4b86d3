"""Request bodies over views behave like files, and are sent in large pieces."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.s3.request_bodies import SMALL, ViewBody, request_body

pieces_ = st.lists(st.binary(max_size=50), max_size=6)


@given(pieces=pieces_, moves=st.lists(st.tuples(st.integers(-5, 320), st.sampled_from([0, 1, 2])), max_size=5))
def test_seek_and_tell_follow_a_file(pieces: list[bytes], moves: list[tuple[int, int]]) -> None:
    """Anywhere a caller moves, what is left to read is what a file would give; outside, the nearest end."""
    data = b"".join(pieces)
    body = ViewBody([memoryview(piece) for piece in pieces])
    assert len(body) == len(data)
    assert body.seekable()
    position = 0
    for offset, whence in moves:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: position, io.SEEK_END: len(data)}[whence]
        position = min(max(base + offset, 0), len(data))
        assert body.seek(offset, whence) == body.tell() == position
    assert b"".join(iter(lambda: bytes(body.read(16384)), b"")) == data[position:]


@given(pieces=pieces_, size=st.integers(1, 70))
def test_reading_into_a_buffer_is_exact(pieces: list[bytes], size: int) -> None:
    """So awscrt reads when it signs: never more than it asks, never less before the end."""
    body, target, read = ViewBody([memoryview(piece) for piece in pieces]), memoryview(bytearray(size)), b""
    while count := body.readinto(target):
        read += bytes(target[:count])
        assert count == size or len(read) == len(body)
    assert read == b"".join(pieces)
    assert body.tell() == len(read)


def test_each_view_is_one_send() -> None:
    """However little http.client asks for, so that a megabyte is one system call."""
    views = [memoryview(bytes(1 << 20)), memoryview(bytes(1 << 20))]
    body = ViewBody(views)
    assert [len(body.read(16384)), len(body.read(16384)), len(body.read(16384))] == [1 << 20, 1 << 20, 0]
    assert body.read(0) == b""


def test_small_bodies_are_bytes() -> None:
    """Head and body then leave together."""
    assert request_body([memoryview(b"a"), memoryview(b"b")]) == b"ab"
    assert isinstance(request_body([memoryview(bytes(SMALL + 1))]), ViewBody)
