"""What is measured behind the network: a grid of cells, the price of a stall, and networks that are bad."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import servers
from benchmarks.job import MIB
from benchmarks.measure import Row, interleave
from benchmarks.network.check import check
from benchmarks.network.model import Conditions
from benchmarks.network.namespaces import shared_line
from benchmarks.network.peers import OURS, PEERS
from benchmarks.sections import Section, human, transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.job import Job
    from benchmarks.network.peers import Contender
    from benchmarks.sections import Context
    from benchmarks.servers import Server

__all__ = ["CELLS", "STALLS", "bad_networks", "cell_names", "line_names", "lines", "network", "tails"]

OPERATIONS = ("upload", "download")
STALLS = ", one request stalls"
BEST = 2
"""Peers that stay in the race after the first round."""
LARGE, MEDIUM = 1 << 30, 128 * MIB
FIRST = ((0.05, 80e6), (0.01, 25e6), (0.01, 80e6))
LATENCIES, RATES = (0.001, 0.01, 0.05, 0.1), (25e6, 50e6, 80e6, 200e6)
STALLED = ((0.01, 80e6), (0.05, 80e6), (0.01, 25e6))
LARGE_AT = ((0.01, 80e6), (0.05, 80e6), (0.01, 200e6), (0.05, 25e6))
SECURED_AT = ((0.01, 80e6), (0.05, 80e6), (0.05, 25e6))


class Where(NamedTuple):
    """A cell of the grid: so many bytes, through a network, over TLS or not."""

    size: int
    conditions: Conditions
    https: bool = False


def _cells() -> list[Where]:
    """The grid, the cells that tell most first."""
    medium = sorted(itertools.product(LATENCIES, RATES), key=lambda cell: cell not in FIRST)
    plain = [Where(MEDIUM, Conditions(latency=latency, rate=rate)) for latency, rate in medium]
    stalled = [
        Where(MEDIUM, Conditions(latency=latency, rate=rate, stalls=stalls))
        for stalls in (0.01, 0.03)
        for latency, rate in STALLED
    ]
    large = [Where(LARGE, Conditions(latency=latency, rate=rate)) for latency, rate in LARGE_AT]
    secured = [Where(MEDIUM, Conditions(latency=latency, rate=rate), https=True) for latency, rate in SECURED_AT]
    return [*plain, *stalled, *large, *secured]


CELLS = _cells()


def network(context: Context) -> Iterator[Section]:
    """The grid: everybody for one round, then five of stepout, of stepout with 64 MiB and of the two best peers."""
    cells = CELLS[:1] if context.quick else CELLS
    pattern = context.data.pattern
    with servers.sink(pattern) as plain, servers.sink(pattern, certificates=context.certificates) as secured:
        yield from _checks(context, plain, cells)
        if context.quick:
            cells = [each._replace(size=min(each.size, context.size)) for each in cells]
        todo = [(operation, each) for each in cells for operation in OPERATIONS]
        kept = {section.name: section for section in context.kept if section.cell is not None}

        def known(cell: tuple[str, Where]) -> int:
            found = kept.get(_cell_name(*cell))
            return 0 if found is None else 1 if found.commit != context.commit else 2

        measured = 0
        for operation, cell in sorted(todo, key=known):  # what was never measured, then what was of another commit
            fits = cell.size <= context.size
            wanted = fits and all(word in _cell_name(operation, cell) for word in context.cells)
            if wanted and known((operation, cell)) < 2 and context.time_for(measured):
                measured += 1
                yield _cell(context, secured if cell.https else plain, operation, cell)
            elif known((operation, cell)):
                yield kept[_cell_name(operation, cell)]


def cell_names() -> list[str]:
    """Return the names of all cells of the grid, in both directions."""
    return [_cell_name(operation, cell) for cell in CELLS for operation in OPERATIONS]


def _cell_name(operation: str, cell: Where) -> str:
    return _name(operation, cell.size, cell.conditions) + (", HTTPS" if cell.https else "")


def _name(operation: str, size: int, conditions: Conditions) -> str:
    stalls = f", {100 * conditions.stalls:g} % stalls of {conditions.stall_seconds:g} s" if conditions.stalls else ""
    return f"{operation} {human(size)}, {_line(conditions)}{stalls}"


def _line(conditions: Conditions) -> str:
    return f"{1000 * conditions.latency:g} ms, {conditions.rate / 1e6:g} MB/s a connection"


def _cell(context: Context, sink: Server, operation: str, cell: Where) -> Section:
    section = Section("network", _cell_name(operation, cell), cell.size, [], baseline="stepout")
    section.cell = {"operation": operation, "size": cell.size, "https": cell.https, **asdict(cell.conditions)}
    with servers.network(sink, cell.conditions) as before:
        section.rows = _rows(context, before, section, operation)
        context.begin(section)
        _race(context, section)
    return section


def _race(context: Context, section: Section) -> None:
    """One round of everybody, then more of stepout and of the best."""
    interleave(section.rows, 1, say=context.say)
    ours = {each.label for each in OURS}
    finished = [(row.rounds[0]["wall"], row) for row in section.rows if row.rounds[0] and row.label not in ours]
    best = [row for _, row in sorted(finished, key=lambda pair: pair[0])[:BEST]]
    chosen = [row for row in section.rows if row.label in ours or row in best]
    done = interleave(chosen, context.rounds, say=context.say)
    for row in section.rows:
        if row not in chosen:
            row.group = "one round"
            row.rounds += [None] * done


def _rows(context: Context, before: Server, section: Section, operation: str, words: str = "") -> list[Row]:
    job = transfer(context, operation, before, section.size)
    return [_row(context, before, each, job, words) for each in (*OURS, *(PEERS[:1] if context.quick else PEERS))]


def _row(context: Context, before: Server, contender: Contender, job: Job, words: str) -> Row:
    """A contender; a seed for each round lets all of them meet the same network in it."""
    seeds = itertools.count(1)
    inner = context.row(contender.label, replace(job, peer=contender.peer, options=contender.options))

    def act() -> dict[str, Any]:
        assert before.network is not None  # noqa: S101 - it is what is measured
        start = before.network.ask(f"seed {next(seeds)}")
        result = inner.act()
        carried = {name: count - start[name] for name, count in before.network.ask("counters").items()}
        seen = {name: carried[name] for name in ("opened", "requests", "stalled", "cut")}
        return {**result, **seen, "extra": carried["bytes_up"] + carried["bytes_down"] - job.size}

    return Row(contender.label + words, act)


def _checks(context: Context, sink: Server, cells: list[Where]) -> Iterator[Section]:
    """The network itself, against a plain socket: how much longer everything took than the model says."""
    seen = {(each.latency, each.rate): replace(each, stalls=0) for _, each, _ in cells}
    kept = {section.name: section for section in context.kept if section.baseline == "model"}
    for conditions in seen.values():
        section = Section("network", f"the network itself, {_line(conditions)}", 0, [], baseline="model")
        if section.name in kept:
            yield kept[section.name]
            continue
        context.begin(section)
        with servers.network(sink, conditions) as before:
            errors = check(before, conditions).errors()
        measured = {"model": 0.0, **errors}
        section.rows = [
            Row(label, dict, "floor", [{"wall": 1 + error, "cpu": 0.0, "memory": None}])
            for label, error in measured.items()
        ]
        yield section


def tails(context: Context) -> Iterator[Section]:
    """What one request that stalls for two seconds costs a transfer: without and with it, side by side."""
    conditions = Conditions(latency=0.03, rate=80e6)
    size = min(context.size, MEDIUM)
    with servers.sink(context.data.pattern) as sink:
        for operation, share in zip(OPERATIONS, (0.5, 1), strict=True):
            name = f"{_name(operation, size, conditions)}, one request stalls for 2 s"
            section = Section("tails", name, size, [], baseline="stepout")
            stalling = replace(conditions, stalled_connection=3)
            with servers.network(sink, conditions) as plain, servers.network(sink, stalling) as stalls:
                section.rows = _rows(context, plain, section, operation)
                section.rows += _rows(context, stalls, section, operation, STALLS)
                yield context.run(section, None, share=share)


BAD: dict[str, Conditions] = {
    "4 connections at most": Conditions(latency=0.01, rate=80e6, connections=4),
    "every fifth request dies in its body": Conditions(latency=0.01, rate=80e6, cuts=0.2),
}


LINES = ((1e9, MEDIUM), (5e9, LARGE))
"""Bits per second, and bytes of the object: a second or two of the line."""


LINE_CONDITIONS = Conditions(latency=0.01, rate=80e6)


def line_names() -> list[str]:
    """Return the names of all transfers over a shared line."""
    return [_line_name(operation, size, rate) for rate, size in LINES for operation in OPERATIONS]


def _line_name(operation: str, size: int, rate: float) -> str:
    return f"{_name(operation, size, LINE_CONDITIONS)}, on a line of {rate / 1e9:g} Gbit/s"


def lines(context: Context) -> Iterator[Section]:
    """A line that all connections share, by the kernel, behind the usual 10 ms and 80 MB/s a connection."""
    for rate, asked in LINES[:1] if context.quick else LINES:
        size = min(context.size, asked)
        try:
            with shared_line(rate) as line, servers.sink(context.data.pattern, line=line) as sink:
                for operation in OPERATIONS:
                    name = _line_name(operation, size, rate)
                    section = Section("lines", name, size, [], baseline="stepout")
                    section.line = rate
                    kept = next((each for each in context.kept if each.name == name), None)
                    if not all(word in name for word in context.cells):
                        if kept is not None:
                            yield kept
                        continue
                    with servers.network(sink, LINE_CONDITIONS) as before:
                        section.rows = _rows(context, before, section, operation)
                        context.begin(section)
                        _race(context, section)
                    yield section
        except OSError as error:
            reason = f"not run: {type(error).__name__}: {error}"
            yield Section(
                "lines", f"transfers on a line of {rate / 1e9:g} Gbit/s", 0, [Row("stepout", dict, reason=reason)]
            )


def bad_networks(context: Context) -> Iterator[Section]:
    """Networks that are bad: who gets through, and how fast."""
    size = min(context.size, MEDIUM)
    cases = [(words, each, operation) for words, each in BAD.items() for operation in OPERATIONS]
    with servers.sink(context.data.pattern) as sink:
        for left, (words, conditions, operation) in zip(range(len(cases), 0, -1), cases, strict=True):
            name = f"{_name(operation, size, conditions)}, {words}"
            section = Section("bad networks", name, size, [], baseline="stepout")
            with servers.network(sink, conditions) as before:
                section.rows = _rows(context, before, section, operation)
                yield context.run(section, None, share=1 / left)
