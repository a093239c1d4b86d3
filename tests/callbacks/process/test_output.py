"""What a child process prints, as lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepout.callbacks.process.output import LineSplitter


def split(*pieces: bytes) -> list[str]:
    """The lines of what comes in pieces."""
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    for piece in (*pieces, b""):
        splitter(piece)
    return lines


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), min_size=1)), st.integers(1, 9))
def test_lines_do_not_depend_on_the_pieces(lines: list[str], size: int) -> None:
    """They come as they were printed, however the pipe cuts them, the last one also without its end."""
    data = "\n".join(lines).encode()
    assert split(*(data[at : at + size] for at in range(0, len(data), size))) == lines


def test_a_line_without_end_is_broken() -> None:
    """Memory stays bounded, and nothing is lost."""
    lines = split(*[b"x" * (1 << 16)] * 40)
    assert len(lines) > 1
    assert sum(map(len, lines)) == 40 << 16
