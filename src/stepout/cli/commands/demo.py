"""``stepout demo``: it all, on a local AWS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  stepout demo
  stepout demo --keep results/             (leaves photograph, picture, table, document and pages there)
  stepout demo --pages pages/              (leaves a page of each run there, to look at in a browser)

Needs stepout's extras "all" and "local".
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout demo``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave photograph, picture, table, document and pages in this folder"
    )
    parser.add_argument("--pages", type=Path, metavar="DIR", help="leave a page of each run in this folder")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from stepout.demo.scenario import run_demo

    return run_demo(keep=arguments.keep, pages=arguments.pages)
