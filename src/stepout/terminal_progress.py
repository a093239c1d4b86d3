"""How far something long is that the command line does or watches, on a terminal; nothing anywhere else."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from stepout.artifacts.transfer.progress import Progress

_LONG: Final = 8 << 20
"""Bytes: what is smaller is one request, and draws no bar unless it takes a second."""


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Declare ``--quiet``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress; it is shown on a terminal only")


@contextlib.contextmanager
def transfer_bar(*, quiet: bool) -> Iterator[Progress | None]:
    """Give what draws a bar for long transfers, if standard error is a terminal; whatever happens, its line is ended.

    Args:
        quiet: Whether to draw none in any case, as with ``--json`` and ``--quiet``.
    """
    if quiet:
        yield None
        return
    from stepout.artifacts.transfer.progress import TerminalBar, progress_from

    bar = progress_from("auto", least=_LONG)
    try:
        yield bar
    finally:
        if isinstance(bar, TerminalBar):
            with contextlib.suppress(OSError, ValueError):  # the terminal may have gone
                bar.close()


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a line on a stream can be drawn over; a dumb terminal cannot take one back."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def terminal_width(stream: TextIO) -> int:
    """Return how many characters a line of a terminal holds; 80 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def counting(name: str, sizes: dict[str, int], bar: Progress | None) -> Progress:
    """Return a callback that draws one transfer and keeps how many bytes it has in all.

    Args:
        name: What the transfer is called here.
        sizes: Takes the size, by that name.
        bar: From ``transfer_bar``.
    """

    def heard(_name: str, done: int, total: int | None) -> None:
        sizes[name] = done if total is None else total
        if bar is not None:
            bar(name, done, total)

    return heard
