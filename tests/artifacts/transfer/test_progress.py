"""Progress: a callback, or a bar on a terminal, and nothing else."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest

from stepout.artifacts import ArtifactManager, MemoryStore, TransferSettings, resolve_artifact, resolve_output
from stepout.artifacts.transfer.progress import TerminalBar, for_artifact, progress_from

if TYPE_CHECKING:
    from pathlib import Path


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_a_callback_hears_of_every_artifact() -> None:
    """Bytes grow, and end at the size."""
    heard: list[tuple[str, int, int | None]] = []
    manager = ArtifactManager(
        MemoryStore("results"), progress=lambda *call: heard.append(call), settings=TransferSettings(memory=16 << 20)
    )
    manager.put("a", b"xy")
    manager.put("b", bytes(20 << 20))
    assert heard[0][0] == "a"
    for name, size in (("a", 2), ("b", 20 << 20)):
        done = [count for label, count, _ in heard if label == name]
        assert done == sorted(done)
        assert done[-1] == size
    assert {total for label, _, total in heard if label == "b"} == {20 << 20}


def test_a_callback_that_fails_does_not_fail_the_artifact(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged once, and the callback is left alone."""
    calls: list[int] = []

    def broken(_name: str, done: int, _total: int | None) -> None:
        calls.append(done)
        raise LookupError("broken")

    manager = ArtifactManager(MemoryStore("results"), progress=broken, settings=TransferSettings(memory=16 << 20))
    with caplog.at_level(logging.ERROR, "stepout"):
        assert manager.put("a", bytes(20 << 20)).size == 20 << 20
    assert len(calls) == len(caplog.records) == 1


@pytest.mark.parametrize("setting", ["auto", True])
def test_a_bar_appears_only_on_a_terminal(setting: object) -> None:
    """Logs of a container stay clean."""
    assert isinstance(progress_from(setting, stream=Terminal()), TerminalBar)  # type: ignore[arg-type]  # any of both
    assert progress_from(setting, stream=io.StringIO()) is None  # type: ignore[arg-type]  # any of both
    assert progress_from(None) is progress_from(False) is None
    assert for_artifact(None, "a") is None


def test_a_bar_is_redrawn_on_one_line() -> None:
    """It shows name, share and sizes, not more often than ten times a second, and ends its line."""
    times = iter([0.0, 0.05, 0.2, 0.21])
    terminal = Terminal()
    bar = TerminalBar(terminal, clock=lambda: next(times))
    for done in (0, 1 << 20, 2 << 20, 4 << 20):
        bar("mask", done, 4 << 20)
    lines = terminal.getvalue().split("\r\x1b[K")[1:]
    assert lines == [
        "mask  [........................]   0%  0 B of 4.0 MiB",
        "mask  [############............]  50%  2.0 MiB of 4.0 MiB",
        "mask  [########################] 100%  4.0 MiB of 4.0 MiB\n",
    ]


def test_a_bar_without_a_total_counts() -> None:
    """A stream shows what went out; an empty artifact is complete at once."""
    terminal = Terminal()
    bar = TerminalBar(terminal, clock=iter([0.0, 1.0, 2.0]).__next__)
    bar("a", 1536, None)
    bar("b", 5 << 30, None)
    bar("c", 0, 0)
    assert terminal.getvalue() == (
        "\r\x1b[Ka  1.5 KiB\r\x1b[Kb  5.0 GiB\r\x1b[Kc  [########################] 100%  0 B of 0 B\n"
    )


def test_nothing_is_printed_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    """A manager without progress is silent."""
    ArtifactManager(MemoryStore("results")).put("a", bytes(1 << 20))
    assert capfd.readouterr() == ("", "")


def test_a_directory_is_one_transfer(tmp_path: Path) -> None:
    """Put, downloaded and verified: bytes of all files together, under the artifact's name, up to their sum."""
    (tmp_path / "in").mkdir()
    for name, size in (("a", 3), ("b", 0), ("c", 5)):
        (tmp_path / "in" / name).write_bytes(b"x" * size)
    store = MemoryStore("results")
    heard: list[tuple[str, int, int | None]] = []

    def listen(*call: Any) -> None:
        heard.append(call)

    pointer = ArtifactManager(store, progress=listen).put_directory("tree", tmp_path / "in")
    assert_grows(heard, calls=3)
    document = {"stepout": "output/1", "artifacts": {"tree": pointer.to_dict()}}
    tree = resolve_output(document, allow=["s3://results/"], client=store)["tree"]
    for read in (lambda: tree.download(tmp_path / "out", progress=listen), lambda: tree.verify(progress=listen)):
        heard.clear()
        read()
        assert_grows(heard, calls=2)


def assert_grows(heard: list[tuple[str, int, int | None]], *, calls: int) -> None:
    """Files go side by side and end in any order: what holds in each is that the sum grows to the whole."""
    assert {(name, total) for name, _, total in heard} == {("tree", 8)}
    done = [size for _, size, _ in heard]
    assert len(done) == calls
    assert done == sorted(done)
    assert done[-1] == 8


def test_a_read_tells_how_far_it_is(tmp_path: Path) -> None:
    """Bytes grow to the size, under the artifact's name or that of its key; a broken callback costs nothing."""
    store = MemoryStore("results")
    pointer = ArtifactManager(store).put("a", bytes(5 << 20))
    artifact = resolve_artifact(pointer.to_dict(), allow=["s3://results/"], client=store)
    for read in (
        lambda heard: artifact.download(tmp_path / "a", progress=heard),
        lambda h: artifact.verify(progress=h),
    ):
        calls: list[tuple[str, int, int | None]] = []
        read(lambda *call, calls=calls: calls.append(call))
        assert {name for name, _, _ in calls} == {"a"}
        assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
        assert calls[-1][1:] == (5 << 20, 5 << 20)
        read(lambda *_: 1 / 0)


def test_a_bar_may_leave_out_what_is_short() -> None:
    """Below ``least`` nothing is drawn for a second; ``close`` ends a line that is open, and only such a line."""
    terminal = Terminal()
    times = iter([0.0, 0.5, 1.5, 2.0, 3.0])
    bar = TerminalBar(terminal, clock=lambda: next(times), least=100)
    bar("a", 10, 99)
    bar("a", 20, 99)
    bar.close()
    assert terminal.getvalue() == ""
    bar("a", 30, 99)
    bar.close()
    bar.close()
    bar("b", 10, 100)
    assert terminal.getvalue().count("\n") == 1
    bar("b", 100, 100)
    bar.close()
    assert [line.split()[0] for line in terminal.getvalue().split("\r\x1b[K")[1:]] == ["a", "a", "b", "b"]
    assert terminal.getvalue().count("\n") == 2
