"""Folders that a killed process left: removed by the next one, and nothing else is."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stepout.callbacks.process.owned_folder import owned_folder, remove_abandoned

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks that the kernel lets go of")


def test_a_folder_is_its_owners_as_long_as_it_lives(tmp_path: Path) -> None:
    """Locked while it is used, gone afterwards."""
    with owned_folder("mine-", str(tmp_path)) as folder:
        (folder / "file").write_text("x")
        assert remove_abandoned("mine-", tmp_path) == []
        with owned_folder("mine-", str(tmp_path)):
            assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_shows_no_dead_owner_stays(tmp_path: Path) -> None:
    """Folders without a lock, of another prefix, links, files: whatever they are, nobody said that they may go."""
    for name in ("mine-new", "mine-link-target", "other-1", "stepout-undelivered-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "other-1" / ".owner").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".owner").touch()
    (tmp_path / "mine-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine-file").touch()
    (tmp_path / "mine-lock-is-a-link").mkdir()
    (tmp_path / "mine-lock-is-a-link" / ".owner").symlink_to(tmp_path / "elsewhere" / ".owner")
    before = sorted(tmp_path.rglob("*"))
    assert remove_abandoned("mine-", tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "mine-new" / ".owner").touch()
    assert remove_abandoned("mine-", tmp_path) == [tmp_path / "mine-new"]


def test_without_locks_folders_work_and_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, and on file systems that have none."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (tmp_path / "mine-dead").mkdir()
    (tmp_path / "mine-dead" / ".owner").touch()
    with owned_folder("mine-", str(tmp_path)) as folder:
        assert folder.is_dir()
    assert [each.name for each in tmp_path.iterdir()] == ["mine-dead"]


def test_the_next_run_removes_what_a_killed_one_left(run: Any, tmp_path: Path) -> None:
    """And leaves that of one that still runs, though its command holds no lock, and documents that were undelivered."""
    places = tmp_path / "tmp"
    (places / "stepout-undelivered-1").mkdir(parents=True)
    environ = {"TMPDIR": str(places)}
    waits = ("--", "sh", "-c", "echo READY; read line; exit 0")
    killed, running = run(*waits, **environ).until(b"READY"), run(*waits, **environ).until(b"READY")
    assert len(list(places.glob("stepout-run-*"))) == 2
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait(60)
    assert run("--", "true", **environ).finish()[0] == 0
    assert len(list(places.glob("stepout-run-*"))) == 1
    assert running.finish(b"\n")[0] == 0
    assert [each.name for each in places.iterdir()] == ["stepout-undelivered-1"]
