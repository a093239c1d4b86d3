"""``stepout cat``: an artifact's bytes on standard output, verified."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stepout.artifacts.listing import names_files
from stepout.cli.documents import artifacts_of
from stepout.cli.options import add_document, add_reading
from stepout.cli.selection import add_paths
from stepout.schemas.errors import ConfigurationError
from stepout.terminal_progress import add_quiet, transfer_bar

if TYPE_CHECKING:
    import argparse

    from stepout.artifacts.reading.artifact import Artifact

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


def print_artifact(arguments: argparse.Namespace) -> int:
    """Write the one artifact that is meant to standard output; ``get -o -`` does the same."""
    found = chosen(artifacts_of(arguments), arguments.name)
    if len(found) != 1:
        raise ConfigurationError(f"cat: which one? Pass --name with one of {_listed(found)}")
    ((name, artifact),) = one_file(found, arguments.file).items()
    if names_files(artifact.pointer):
        raise ConfigurationError("cat: that is a directory or a dataset: --file says which file; stepout get has all")
    from stepout.artifacts.transfer.progress import counted

    # A bar would stand amidst the bytes where these go to the terminal.
    with transfer_bar(quiet=arguments.quiet or sys.stdout.isatty()) as bar, artifact.open() as stream:
        count = counted(bar, name, artifact.size)
        while block := stream.read(1 << 20):
            sys.stdout.buffer.write(block)
            count(len(block))
    sys.stdout.buffer.flush()
    return 0


def chosen(found: dict[str, Artifact], name: str | None) -> dict[str, Artifact]:
    """Return what ``--name`` means: the artifacts of that name; all of them where it is not given."""
    if name is None:
        return found
    if named := {path: each for path, each in found.items() if path.endswith(f".artifacts.{name}")}:  # with --all
        return named
    if name not in found:
        raise ConfigurationError(f"there is no artifact {name!r} in the document, only {_listed(found)}")
    return {name: found[name]}


def add_file(parser: argparse.ArgumentParser) -> None:
    """Declare ``--file``."""
    parser.add_argument("--file", metavar="PATH", help="one file of a directory or a dataset, by its path in there")


def one_file(found: dict[str, Artifact], path: str | None) -> dict[str, Artifact]:
    """Return what ``--file`` means, by its last segment; everything where it is not given.

    Raises:
        ConfigurationError: Several artifacts may have it.
        StepoutError: The artifact has no such file, or its listing could not be read.
    """
    if path is None:
        return found
    if len(found) != 1:
        raise ConfigurationError(f"--file: of which artifact? Pass --name with one of {_listed(found)}")
    (artifact,) = found.values()
    return {path.rpartition("/")[2]: artifact.file(path)}


def _listed(found: dict[str, Artifact]) -> str:
    return ", ".join(sorted(found)) or "none at all"
