"""The page of what was measured behind the network."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.network.grid import MINE, Cell, cells, mean
from benchmarks.network.suite import cell_names, line_names
from benchmarks.sections import human
from benchmarks.stats import memory_of, ratio_between, row_of
from benchmarks.tables import section_table, table_line, target_lines
from benchmarks.targets import outcomes

if TYPE_CHECKING:
    from benchmarks.sections import Section

__all__ = ["METHOD", "network_page"]

METHOD = """\
How long transfers take where there is a network, beside the best of the other clients. `make bench-network` generates
this page. The absolute times are in [benchmarks-network.json](benchmarks-network.json).

## The network

Between each client and the server of the [benchmarks](benchmarks.md) stands a proxy, a program in user space that
needs no rights (`benchmarks/network`). Anybody can run it. This is what it does to each connection:

- **Latency.** Bytes that follow a change of direction arrive half a round trip after they were sent. The first bytes of
  a connection wait for one round trip more, as for TCP's handshake.
- **Rate.** Each direction carries so many bytes per second, whatever other connections do. This is how S3 behaves: one
  connection gets 25 to 100 MB/s, and many get many times as much.
- **Stalls.** A share of the requests meets two seconds in which nothing arrives: half of them before the answer, the
  others within the first MiB of the body.
- **Cuts.** A share of the requests meets a reset within the first MiB of the body.

A seed, the number of the connection and the number of the request decide what a request meets. So runs repeat, and in
one round all contenders meet the same network. The proxy is no model of slow start, of packet loss, or of a line that
connections share. `connect()` returns at once; its round trip is part of the first answer. The proxy takes 0.3 to 0.9
seconds of CPU per GiB, on the cores that the client runs on.

**A line that connections share** is made by the kernel where that is allowed: a network namespace, with a token bucket
(`tbf`) at each end. The proxy stands before it.

**Not run:** `netem` (delay and loss in the kernel). The kernel of the machine that measures has none.

## How it is measured

- Each cell begins with one round of all contenders. The two fastest peers, stepout, and stepout with 64 MiB then run
  five more rounds in turns. The ratio is taken within each round; shown are the median, and the least and the most.
- Everybody knows or compares the SHA-256 of the whole object at the end. A peer that computes none is measured together
  with a hash of the file. Imports and clients are not measured. Most cells are HTTP, so that the CPU time of TLS
  does not hide the network.
- Where a table or a cell of 1 GiB has fewer contenders, only those were run. The commit says which code was measured.
- Peers are set up as their documentation advises for fast networks (`benchmarks/network/peers.py` names the sources).
  Their memory is the peak above the process before it began.
- **stepout** takes the memory that it takes by default on this machine. **stepout, 64 MiB** is what it takes in a
  container of 512 MiB ([limits](limits.md#memory-and-connections)).
- stepout overwrites, as the peers do. On AWS a write-once upload costs the same. Any other server is tried out before
  the first write-once upload of a process, which takes some more round trips.
"""


def network_page(sections: list[Section], where: str, *, plot: bool) -> str:
    """Return the page; ``where`` says when it was measured, and on what."""
    lines = ["# Benchmarks on a network", "", where, "", METHOD]
    lines += ["![Time relative to the best peer](benchmarks-network.svg)", ""] if plot else []
    found = cells(sections)
    lines += [*_means(found), *_checks(sections), *_grid(found), *_missing(sections)]
    for section in sections:
        if section.suite != "network":
            lines += [f"## {section.name[0].upper()}{section.name[1:]}", "", *section_table(section), ""]
            lines += _share(section)
    return "\n".join([*lines, *target_lines(outcomes(sections))])


def _share(section: Section) -> list[str]:
    """Say how much of a shared line was filled, and how much of the machine that took."""
    row = row_of(section, "stepout")
    rounds = [each for each in row.rounds if each] if row else []
    if section.line is None or not rounds:
        return []
    share = statistics.median(8 * section.size / each["wall"] / section.line for each in rounds)
    cores = statistics.median(each["cpu"] / each["wall"] for each in rounds)
    words = f"stepout filled {100 * share:.0f} % of the line, from its first request to the end of hashing"
    return [f"{words}, and kept {cores:.1f} cores busy.", ""]


def _kind(cell: Cell) -> tuple[str, int, bool, bool]:
    return cell.operation, cell.size, cell.stalls > 0, cell.https


def _means(found: list[Cell]) -> list[str]:
    if not found:
        return []
    lines = ["## Summary", "", "Geometric means over the cells of the time relative to the best peer of each cell:", ""]
    lines += [table_line(["", "cells", *MINE, "best peers"]), table_line(["---"] * (3 + len(MINE)))]
    kinds = sorted({_kind(cell) for cell in found}, reverse=True)
    for operation, size, stalls, https in kinds:
        chosen = [cell for cell in found if _kind(cell) == (operation, size, stalls, https)]
        means = [f"{value:.2f}" if (value := mean(chosen, mine)) else "" for mine in MINE]
        won = {best: sum(cell.best == best for cell in chosen) for best in sorted({cell.best for cell in chosen})}
        best = ", ".join(f"{name} {count} ×" for name, count in won.items())
        words = f"{operation} {human(size)}" + (", HTTPS" if https else "") + (", with stalls" if stalls else "")
        lines.append(table_line([words, str(len(chosen)), *means, best]))
    return [*lines, ""]


def _checks(sections: list[Section]) -> list[str]:
    checked = [section for section in sections if section.baseline == "model"]
    if not checked:
        return []
    names = {"first": "a connection and its first request", "next": "one more request", "up": "a body up",
             "down": "a body down"}  # fmt: skip
    lines = [
        "## The network, held against a plain socket",
        "",
        "What a plain socket measured, as a ratio to the model; the least of seven:",
    ]
    lines += ["", table_line(["", *names.values()]), table_line(["---"] * (1 + len(names)))]
    for section in checked:
        ratios = [ratio_between(section, name, "model", "wall") for name in names]
        words = section.name.removeprefix("the network itself, ")
        lines.append(table_line([words, *(f"{ratio.median:.2f}" if ratio else "" for ratio in ratios)]))
    return [*lines, ""]


def _grid(found: list[Cell]) -> list[str]:
    if not found:
        return []
    lines = ["## Cells", "", "Time relative to the best peer of the cell, and extra memory in MiB:", ""]
    head = ["", "best peer", "MiB"]
    for mine in MINE:
        head += [mine, "MiB"]
    lines += [table_line([*head, "commit"]), table_line(["---"] * (len(head) + 1))]
    for cell in found:
        row = [cell.section.name, cell.best, f"{cell.memory:.0f}"]
        for mine in MINE:
            memory = memory_of(row_of(cell.section, mine))
            row += [str(cell.ratios.get(mine, "")), "" if memory is None else f"{memory:.0f}"]
        lines.append(table_line([*row, cell.section.commit or ""]))
    return [*lines, ""]


def _missing(sections: list[Section]) -> list[str]:
    measured = {section.name for section in sections}
    missing = [name for name in (*cell_names(), *line_names()) if name not in measured]
    return (
        ["## Not run", "", "Of the grid and of the lines:", "", *(f"- {name}" for name in missing), ""]
        if missing
        else []
    )
