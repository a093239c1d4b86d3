"""A file that is written in order, or in pieces where they belong: its bytes are the same."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts.reading.files.file_in_pieces import FileInPieces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "preadv"), reason="a file has one position for all threads there")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        yield file
    finally:
        os.close(file)


@given(pieces=st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.booleans(), st.integers()), max_size=12))
def test_pieces_in_any_order_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, bool, int]]
) -> None:
    """Some are written where they belong and read again when it is their turn, others are written then."""
    path = tmp_path_factory.mktemp("x") / "file"
    data = b"".join(each for each, _, _ in pieces)
    starts = [sum(len(each) for each, _, _ in pieces[:number]) for number in range(len(pieces))]
    counted: list[int] = []
    with _opened(path) as file, FileInPieces(file, len(data), counted.append) as written:
        early = [(order, start, each) for start, (each, before, order) in zip(starts, pieces, strict=True) if before]
        for _, start, each in sorted(early):
            written.write_at(memoryview(each), start)
        for start, (each, before, _) in zip(starts, pieces, strict=True):
            buffer = bytearray(each)
            if before:
                buffer = bytearray(len(each))
                written.read_at(memoryview(buffer), start)
                assert buffer == each
            written(memoryview(buffer))
    assert path.read_bytes() == data
    assert counted == [len(each) for each, _, _ in pieces]


def test_what_comes_after_its_end_is_not_written(tmp_path: Path) -> None:
    """The number of a closed file may be another file's by then."""
    with _opened(tmp_path / "x") as file:
        with FileInPieces(file, 3, None) as written:
            written(memoryview(b"abc"))
        written.write_at(memoryview(b"???"), 0)
    assert (tmp_path / "x").read_bytes() == b"abc"


@pytest.mark.parametrize("again", [True, False])
def test_what_was_taken_stays_as_it_is(tmp_path: Path, again: bool) -> None:
    """It is what is verified: another answer's bytes for the same place, which come late, are not; the rest is kept."""
    with _opened(tmp_path / "x") as file, FileInPieces(file, 5, None) as written:
        buffer = memoryview(bytearray(b"abc"))
        if again:
            written.write_at(buffer, 0)
            written.read_at(buffer, 0)
        else:
            written(buffer)
        written.write_at(memoryview(b"??"), 0)
        written.write_at(memoryview(b"?de"), 2)
    assert (tmp_path / "x").read_bytes() == b"abcde"


def test_what_is_taken_replaces_what_is_being_written_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that are verified are the last ones that come to their place."""
    began, goes_on, taken = threading.Event(), threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slowly(file: int, view: memoryview, at: int) -> int:
        began.set()
        assert goes_on.wait(60)
        return pwrite(file, view, at)

    monkeypatch.setattr(os, "pwrite", slowly)
    with _opened(tmp_path / "x") as file, FileInPieces(file, 3, lambda _: taken.set()) as written:
        writer = threading.Thread(target=written.write_at, args=(memoryview(b"???"), 0))
        taker = threading.Thread(target=written, args=(memoryview(b"abc"),))
        writer.start()
        assert began.wait(60)
        taker.start()
        assert not taken.wait(0.05)
        goes_on.set()
        writer.join()
        taker.join()
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_its_end_waits_for_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing is written into a file that is closed."""
    began, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slowly(file: int, view: memoryview, at: int) -> int:
        began.set()
        assert goes_on.wait(60)
        return pwrite(file, view, at)

    monkeypatch.setattr(os, "pwrite", slowly)
    with _opened(tmp_path / "x") as file:
        written = FileInPieces(file, 3, None)
        writer = threading.Thread(target=written.write_at, args=(memoryview(b"abc"), 0))

        def end() -> None:
            with written:
                pass
            ended.set()

        writer.start()
        assert began.wait(60)
        leaver = threading.Thread(target=end)
        leaver.start()
        assert not ended.wait(0.05)
        goes_on.set()
        assert ended.wait(60)
        writer.join()
        leaver.join()
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    """Somebody has truncated it: what is not there cannot be verified."""
    with _opened(tmp_path / "x") as file, FileInPieces(file, 3, None) as written:
        written.write_at(memoryview(b"abc"), 0)
        os.ftruncate(file, 1)
        with pytest.raises(OSError, match="shorter"):
            written.read_at(memoryview(bytearray(3)), 0)
