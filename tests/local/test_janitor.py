"""The janitor: what it ends and removes when its owner is gone, and what it leaves alone when not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.ministack import unique

from stepout.callbacks.process.process_group import end_group, spawn
from stepout.local.janitor import main
from stepout.local.marked_processes import MARKER, marked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own."""
    process = spawn((sys.executable, "-c", "import time; time.sleep(600)"), os.environ, stdout=subprocess.DEVNULL)
    yield process
    end_group(process, grace=0)


def test_owner_that_is_gone_is_cleaned_up_after(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """At the end of its input, groups that still run, marked processes and the folder go."""
    mark = unique("mark")
    stray = spawn(
        (sys.executable, "-c", "import time; time.sleep(600)"),
        {**os.environ, MARKER: f"{mark}/task"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while list(marked(mark)) != [stray.pid]:  # the kernel shows a program's environment a moment after its start
        assert time.monotonic() < deadline
    folder = tmp_path / "folder"
    folder.mkdir()
    main(mark, str(folder), [f"+{sleeper.pid}\n"])
    assert (sleeper.wait(), stray.wait()) == (-9, -9)
    assert not folder.exists()


@pytest.mark.parametrize("words", [["done"], ["+{pid}", "-{pid}", "done"], ["+{pid}", "-{pid}"]])
def test_what_is_not_to_be_ended_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], words: list[str]
) -> None:
    """A group that ended in order is not signalled again; after ``done`` nothing is touched."""
    main(unique("mark"), str(tmp_path / "none"), [word.format(pid=sleeper.pid) for word in words])
    assert sleeper.poll() is None
