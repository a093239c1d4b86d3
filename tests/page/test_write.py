"""Where a page goes: whole or not at all, in the place of what was there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stepout
from stepout.page import write
from stepout.page.write import save_page

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual mask, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_page_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """The name always holds a whole page, readable as any new file, and nothing is left beside it."""
    path = tmp_path / "run.html"
    save_page("first", path)
    save_page("second \ud800", path)
    assert path.read_bytes() == b"second \\ud800"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["run.html"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Who keeps the latest page behind a link finds it replaced there."""
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "latest.html").symlink_to("real.html")
    save_page("new", tmp_path / "latest.html")
    assert (tmp_path / "latest.html").is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    """A folder in the way, or one that is missing, is an error that names it, and leaves nothing."""
    (tmp_path / "folder").mkdir()
    for error, path in (
        (IsADirectoryError, tmp_path / "folder"),
        (FileNotFoundError, tmp_path / "missing" / "run.html"),
    ):
        with pytest.raises(error) as raised:
            save_page("page", path)
        # The name that was given, and no other: what was written beside it is nobody's business.
        assert str(raised.value).endswith(f": '{path}'")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """What is no ordinary file is not replaced."""
    save_page("page", Path(os.devnull))
    assert Path(os.devnull).is_char_device()
    assert not any(tmp_path.iterdir())


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is read."""
    monkeypatch.setattr(write, "find_spec", lambda _name: None)
    with pytest.raises(stepout.ConfigurationError, match='extra "page"'):
        stepout.write_page("no-such-file.json", tmp_path / "run.html")
