"""Speed and memory of stepout beside its peers, as ratios within the same run."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.certificate import make_certificate
from benchmarks.data import Data
from benchmarks.job import MIB
from benchmarks.measure import ROOT, Row
from benchmarks.report import ON_NETWORK, kept_sections, write_report
from benchmarks.sections import Context, Section
from benchmarks.suites import SUITES
from benchmarks.targets import outcomes

UNITS = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}


def parse_size(text: str) -> int:
    """Return the bytes that ``"64MiB"`` or ``"1GiB"`` means."""
    found = re.fullmatch(r"(\d+)\s*(|KiB|MiB|GiB)", text)
    if found is None:
        msg = f"{text!r} is no size: expected for example 256MiB or 1GiB"
        raise argparse.ArgumentTypeError(msg)
    return int(found.group(1)) * UNITS[found.group(2)]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "suites", nargs="*", metavar="suite", help=f"{', '.join(SUITES)}; by default all but those behind a network"
    )
    parser.add_argument("--size", type=parse_size, help="of the large object (default 1GiB; 64MiB with --quick)")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5; 2 with --quick)")
    parser.add_argument(
        "--only", action="append", default=[], help="a contender, by its name in the report; repeatable"
    )
    parser.add_argument(
        "--cell",
        action="append",
        default=[],
        help="of the network's grid and lines: only what has these words in its name; repeatable",
    )
    parser.add_argument("--quick", action="store_true", help="all of it small, in under three minutes")
    parser.add_argument(
        "--minutes", type=float, help="no round begins that would end later (default 60; 3 with --quick)"
    )
    parser.add_argument(
        "--output", type=Path, help="where the report goes (default docs/explanation/; build/benchmarks/ with --quick)"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the other suites of today's report as they are, instead of dropping them; cells of the network "
        "that were measured of this commit are not measured again",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the files to send and fetch lie meanwhile (default: temporary)"
    )
    parser.add_argument(
        "--downloads",
        type=Path,
        help="where downloads are written, for example in memory (default: there too)",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    return _completed(options)


def _completed(options: argparse.Namespace) -> argparse.Namespace:
    """Set what was not asked for; a quick run has defaults of its own."""
    quick = options.quick
    options.suites = options.suites or [name for name in SUITES if name not in ON_NETWORK]
    options.size = options.size or (64 * MIB if quick else 1 << 30)
    options.rounds = options.rounds or (2 if quick else 5)
    options.minutes = options.minutes or (3 if quick else 60)
    options.output = options.output or ROOT / ("build/benchmarks" if quick else "docs/explanation")
    return options


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(options: argparse.Namespace, folder: Path, downloads: Path) -> list[Section]:
    end = time.monotonic() + 60 * options.minutes
    data = Data(folder, options.size)
    context = Context(data, options.size, options.rounds, options.quick, make_certificate(folder), _say)
    context.only = frozenset(options.only)
    context.cells = tuple(options.cell)
    context.kept = options.kept
    context.commit = _commit()
    context.downloads, context.downloads_kind = downloads, _file_system(downloads)
    sections: list[Section] = []
    weights = {name: SUITES[name][1] for name in options.suites}
    for name in options.suites:
        now = time.monotonic()
        context.deadline = now + max(end - now, 0) * weights[name] / sum(weights.values())
        del weights[name]
        try:
            sections.extend(SUITES[name][0](context))
        except Exception as error:
            _say(f"{name} could not be run: {error}")
            sections.append(Section(name, name, 0, [Row(name, dict, reason=f"{type(error).__name__}: {error}")]))
    return sections


def _commit() -> str | None:
    """Return the commit of this checkout, marked where files differ from it; ``None`` outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _file_system(folder: Path) -> str | None:
    """Return the kind of the file system that a folder is in, where the system says so."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else None


def main(arguments: list[str] | None = None) -> int:
    """Run the suites and write the report; 1 if stepout failed anywhere."""
    options = _options(arguments)
    options.kept = kept_sections(options.output, options.suites) if options.keep else []
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="stepout-bench-", dir=options.folder) as folder,
        tempfile.TemporaryDirectory(prefix="stepout-bench-", dir=options.downloads or folder) as downloads,
    ):
        sections = _run(options, Path(folder).resolve(), Path(downloads).resolve())
    notes = {
        "suites": options.suites, "bytes": options.size, "rounds": options.rounds, "quick": options.quick,
        "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    if options.keep:
        others = [section for section in options.kept if section.suite not in options.suites]
        order = list(SUITES)
        sections = sorted([*others, *sections], key=lambda section: order.index(section.suite))
    for path in write_report(options.output, sections, notes):
        _say(f"wrote {path}")
    for outcome in outcomes(sections):
        _say(f"{'met   ' if outcome.met else 'MISSED'} {outcome.section}: {outcome.text}: {outcome.got}")
    failed = [row for section in sections for row in section.rows if (row.reason or "").startswith("failed")]
    return int(any(row.label.startswith("stepout") for row in failed))


if __name__ == "__main__":
    sys.exit(main())
