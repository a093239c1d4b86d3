"""``stepout page``: a run to look at, as one HTML file."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stepout.cli.options import add_reading, reading_settings
from stepout.schemas.text.sizes import human_size
from stepout.terminal_progress import add_quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.page.budget import PageBudget

_EPILOG = """\
examples:
  stepout page arn:aws:states:eu-west-1:123456789012:execution:Nightly:7f3c -o run.html --allow s3://results-bucket/runs/
  stepout page output.json -o run.html
  stepout page s3://results-bucket/runs/nightly.json -o run.html --allow s3://results-bucket/runs/
  stepout page s3://results-bucket/map/2f1c/manifest.json -o map.html --allow s3://results-bucket/

The file loads nothing and runs no script: send it by mail, print it, open it on a phone. A file that is there is
replaced, once the new one is complete.

An execution takes the rights states:DescribeExecution and states:GetExecutionHistory; Express executions have no
history to ask for. What artifacts hold is shown only where --allow (or STEPOUT_ALLOW) permits reading it.

Needs stepout's extra "page".
"""
_EVERY_SECONDS: Final = 0.2
_KIB: Final = 1 << 10
_UNITS: Final = {"": 1, "kib": _KIB, "mib": _KIB**2, "gib": _KIB**3}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout page``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="the ARN of an execution; or output documents: files, - for standard input, JSON, s3://bucket/key or "
        "dynamodb://table/key of an outcome, the s3:// URL of a ResultWriter's manifest.json",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="where the page goes; - for standard output"
    )
    group = parser.add_argument_group("what making the page may cost")
    group.add_argument("--budget-bytes", type=_bytes, default=64 << 20, metavar="SIZE", help="default: 64MiB")
    group.add_argument("--budget-requests", type=int, default=500, metavar="COUNT", help="default: 500")
    group.add_argument("--budget-seconds", type=float, default=60.0, metavar="SECONDS", help="default: 60")
    add_quiet(parser)
    add_reading(parser)
    parser.set_defaults(run=_page)


def _bytes(text: str) -> int:
    number = text.rstrip("KMGiBkmgb")
    unit = _UNITS.get(text[len(number) :].lower())
    if unit is None or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no size: expected bytes, or a number with KiB, MiB or GiB")
    return int(number) * unit


def _page(arguments: argparse.Namespace) -> int:
    from stepout.page.write import require_page, save_page

    require_page()
    from stepout.page.budget import PageBudget
    from stepout.page.collect import collect_run
    from stepout.page.rendering.render import render_page

    settings = reading_settings(arguments)
    del settings["budget"]  # a page has its own
    budget = PageBudget(
        bytes=arguments.budget_bytes, requests=arguments.budget_requests, seconds=arguments.budget_seconds
    )
    with _told(budget, quiet=arguments.quiet):
        page = collect_run(arguments.sources, budget=budget, **settings)
    html = render_page(page)
    if arguments.output == "-":
        sys.stdout.write(html)
        return 0
    path = save_page(html, Path(arguments.output))
    if not arguments.quiet:
        cost = f"{human_size(page.spent.bytes_read)} read in {page.spent.requests:,} requests"
        sys.stderr.write(f"stepout: {path}: {human_size(len(html.encode()))}, {cost}\n")
    return 0


@contextlib.contextmanager
def _told(budget: PageBudget, *, quiet: bool) -> Iterator[None]:
    """Say on a terminal how much has been read, until the page is collected; nothing anywhere else."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_EVERY_SECONDS):
            spent = budget.spent()
            text = f"reading: {human_size(spent.bytes_read)}, {spent.requests:,} requests, {spent.seconds:.0f} s"
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

    teller = threading.Thread(target=tell, name="stepout-page-progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
