"""Clean up behind a local AWS whose owner was killed: ``python -m stepout.local.janitor MARK FOLDER``.

The owner holds the other end of standard input and writes a line for each process group that it starts (``+123``) or
ends (``-123``), and ``done`` once it has cleaned up itself. When the input ends without ``done``, the owner is gone:
its groups, every process that carries its mark, and its folder go too.
"""

from __future__ import annotations

import shutil
import signal
import sys
from typing import TYPE_CHECKING

from stepout.callbacks.process.process_group import kill_group
from stepout.local.marked_processes import end_marked

if TYPE_CHECKING:
    from collections.abc import Iterable


def main(mark: str, folder: str, lines: Iterable[str]) -> None:
    """Wait for the owner's end, and clean up unless it did.

    Args:
        mark: The value of ``STEPOUT_LOCAL_ID`` in the environment of every process of that local AWS.
        folder: Its temporary folder.
        lines: What the owner writes.
    """
    groups: set[int] = set()
    for line in lines:
        word = line.strip()
        if word == "done":
            return
        if word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):  # its id may be another process's by the time that the owner is killed
            groups.discard(int(word[1:]))
    # Groups first: they are known without a search. Then whoever left its group, by the mark in its environment, which
    # takes /proc. The folder last: a process that still runs would write into it anew.
    for group in groups:
        kill_group(group)
    end_marked(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it outlives its owner by design, and ends when the owner does
    main(sys.argv[1], sys.argv[2], sys.stdin)
