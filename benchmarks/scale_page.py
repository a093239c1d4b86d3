"""Writes docs/explanation/scale.md's tables and curves from the simulation: ``python -m benchmarks.scale_page``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import ROOT
from benchmarks.scale import Directory, MapRun, MapScenario, inline_limits, simulate, simulate_directory
from benchmarks.service_limits import LIMITS, PRICES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CASES", "SIZES", "draw", "main", "page_with", "tables"]

SIZES: Final = (1, 1_000, 100_000, 10_000_000)
CASES: Final = {
    "Fargate launches each child, which works for a minute and writes one artifact": MapScenario(children=1),
    "Workers that are there already, the same work": MapScenario(children=1, fargate=False),
    "Workers, ten minutes each": MapScenario(children=1, fargate=False, work_seconds=600),
    "Workers, ten minutes each, heartbeats not spread": MapScenario(
        children=1, fargate=False, work_seconds=600, spread=False
    ),
    "Workers, a minute each, a hundred artifacts a child": MapScenario(children=1, fargate=False, artifacts=100),
}
_BEGIN, _END = "<!-- {}: python -m benchmarks.scale_page -->", "<!-- end -->"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([_line(head), _line(["---"] * len(head)), *map(_line, rows)])


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.01 else f"{amount:.5f}"


def _named(name: str | None) -> str:
    return name or "none"


def _of(scenario: MapScenario, children: int) -> MapScenario:
    return MapScenario(**{**vars(scenario), "children": children})


def _maps() -> str:
    parts = []
    head = [
        "children", "S3 writes", "S3 reads", "heartbeats", "throttled beats", "S3, Step Functions $", "containers $",
        "time", "first limit", "longest limit",
    ]  # fmt: skip
    for title, scenario in CASES.items():
        runs = [(size, simulate(_of(scenario, size))) for size in SIZES]
        parts += [f"**{title}.**", "", _table(head, [_map_row(size, run) for size, run in runs]), ""]
    return "\n".join(parts).rstrip()


def _map_row(size: int, run: MapRun) -> list[str]:
    return [
        f"{size:,}", f"{run.writes:,}", f"{run.reads:,}", f"{run.beats:,}", f"{run.late:.0%}", _dollars(run.dollars),
        _dollars(run.compute), _time(run.seconds), _named(run.first), _named(run.longest),
    ]  # fmt: skip


def _directories() -> str:
    rows = []
    for size in SIZES:
        run = simulate_directory(Directory(files=size))
        numbers = [f"{number:,}" for number in (size, run.writes, run.reads)]
        rows.append([*numbers, _dollars(run.dollars), _time(run.seconds), _named(run.first)])
    return _table(["files", "S3 writes", "S3 reads", "$", "time each way", "first limit"], rows)


def _inline() -> str:
    rows = [[name, f"{count:,} children"] for name, count in inline_limits(MapScenario(children=1)).items()]
    return _table(["limit of an inline Map", "carries"], rows)


def _limits() -> str:
    rows = []
    for limit in LIMITS.values():
        burst = f", {limit.burst:,.0f} at once" if limit.burst else ""
        rows.append([limit.name, f"{limit.value:,.0f} {limit.unit}{burst}", limit.source])
    return _table(["limit", "value", "source"], rows)


def _prices() -> str:
    rows = [
        [price.name, f"{price.dollars:g} for {price.count:,.0f} {price.unit}", price.source, price.read,
         "yes" if price.verified else "no: quoted by others"]
        for price in PRICES.values()
    ]  # fmt: skip
    return _table(["price", "$, us-east-1", "source", "date", "from AWS itself"], rows)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    return {
        "directories": _directories(), "inline": _inline(), "maps": _maps(), "limits": _limits(), "prices": _prices(),
    }  # fmt: skip


def page_with(page: str, found: dict[str, str]) -> str:
    """Return the page with these tables in their places.

    Raises:
        ValueError: The page has no place for one of them.
    """
    for name, table in found.items():
        begin = _BEGIN.format(name)
        pattern = re.escape(begin) + r"\n.*?" + re.escape(_END)
        page, count = re.subn(pattern, lambda _, text=f"{begin}\n{table}\n{_END}": text, page, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            msg = f"the page has {count} places for the table {name!r}: expected one"
            raise ValueError(msg)
    return page


# Curves --------------------------------------------------------------------------------------------------------------


def draw(path: Path) -> None:
    """Draw how long each case takes, and what it costs, from one child to ten million."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "stepout", "svg.fonttype": "none", "font.size": 8})
    figure, (times, costs) = plt.subplots(1, 2, figsize=(9, 3.4))
    sizes = [10**power for power in range(8)]
    for scenario in CASES.values():
        if not scenario.spread:
            continue
        runs = [simulate(_of(scenario, size)) for size in sizes]
        times.plot(sizes, [run.seconds / 3_600 for run in runs], marker=".", label=_short(scenario))
        costs.plot(sizes, [run.dollars for run in runs], marker=".", label=_short(scenario))
    _axes(times, "hours until the last child has reported")
    _axes(costs, "dollars of S3 and Step Functions")
    times.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _short(scenario: MapScenario) -> str:
    who = "Fargate" if scenario.fargate else "workers"
    many = f", {scenario.artifacts} artifacts" if scenario.artifacts > 1 else ""
    return f"{who}, {scenario.work_seconds / 60:g} min{many}"


def _axes(axes: Any, title: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("children")
    axes.set_title(title, fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: list[str] | None = None) -> int:
    """Write the page's tables and its picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_page", description=__doc__, allow_abbrev=False)
    parser.add_argument("--print", action="store_true", help="print the tables, and write nothing")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "explanation" / "scale.md", help="the page")
    options = parser.parse_args(arguments)
    found = tables()
    if options.print:
        sys.stdout.write("\n\n".join(found.values()) + "\n")
        return 0
    page: Path = options.page
    page.write_text(page_with(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(page.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
