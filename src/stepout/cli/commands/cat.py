"""``stepout cat``: an artifact's bytes on standard output, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepout.cli.documents import add_file, print_artifact
from stepout.cli.options import add_document, add_reading
from stepout.cli.selection import add_paths
from stepout.terminal_progress import add_quiet

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  stepout cat output.json --name summary --allow s3://results-bucket/runs/ | jq .
  stepout cat output.json --name images --file logs/train.log --allow s3://results-bucket/runs/

Bytes leave as they arrive. If they turn out to be wrong the command fails with exit code 1 after some were written: use
get where that is too late.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout cat``."""
    parser.epilog = _EPILOG
    add_document(parser)
    add_paths(parser, every=False)
    parser.add_argument("--name", help="which artifact of a task output, if it has several")
    add_file(parser)
    add_quiet(parser)
    add_reading(parser)
    parser.set_defaults(run=print_artifact)
