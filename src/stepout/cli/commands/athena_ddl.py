"""``stepout athena-ddl``: an external table of Athena's over exactly a dataset's files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.athena import WARNING, athena_table
from stepout.cli.documents import artifacts_of, chosen
from stepout.cli.options import add_document, add_reading
from stepout.cli.selection import add_paths
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_EPILOG = """\
examples:
  stepout athena-ddl output.json features --allow s3://results-bucket/runs/ > features.sql
  stepout athena-ddl output.json features --table analytics.features_v2
  stepout athena-ddl output.json features --symlink s3://results-bucket/tables/features/ --lists lists > features.sql
  aws s3 sync lists s3://results-bucket/tables/features/

Athena reads whatever lies in a table's or a partition's folder. Without --symlink those are the folders of the
dataset's own files: what somebody puts there later, or a put that failed left there, is read too. With --symlink the
table reads the files that its lists name, and nothing else. A dataset that was merged or appended to has files of one
partition in several folders, and needs that. Put the lists there before you query: the command writes them to a local
folder and sends nothing.

Athena verifies nothing: it compares no checksum, and reads the latest version of each object. It takes one statement at
a time. An empty dataset, a null partition value, and types that Athena cannot hold (uint64, time, duration, …) are
errors.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout athena-ddl``."""
    parser.epilog = _EPILOG
    add_document(parser)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which artifact, if the output has several")
    add_paths(parser, every=False)
    parser.add_argument("--table", metavar="[DATABASE.]TABLE", help="the table's name; default: the artifact's name")
    parser.add_argument(
        "--symlink", metavar="URL", help="s3://bucket/prefix/ of the lists of files that the table reads"
    )
    parser.add_argument(
        "--lists", metavar="FOLDER", help="with --symlink: the local folder for these lists, which you then copy to URL"
    )
    add_reading(parser)
    parser.set_defaults(run=_athena_ddl)


def _athena_ddl(arguments: argparse.Namespace) -> int:
    if (arguments.symlink is None) != (arguments.lists is None):
        raise ConfigurationError("athena-ddl: --symlink URL and --lists FOLDER go together. Nothing was read")
    if arguments.symlink is not None and not arguments.symlink.startswith("s3://"):
        raise ConfigurationError(
            f"--symlink {shown(arguments.symlink)}: expected s3://bucket/prefix/. Nothing was read"
        )
    found = chosen(artifacts_of(arguments), arguments.name)
    if len(found) != 1:
        raise ConfigurationError(f"athena-ddl: which dataset? Say one of {', '.join(sorted(found)) or 'none at all'}")
    ((name, artifact),) = found.items()
    if not artifact.is_dataset:
        raise ConfigurationError(f"{name} is no dataset but {shown(artifact.media_type)}: put_dataset writes one")
    manifest = artifact.manifest()
    from stepout.artifacts.reading.tables.dataset import schema_of

    made = athena_table(manifest, schema_of(manifest, artifact.url), arguments.table or name, arguments.symlink)
    if arguments.lists is not None:
        _write(Path(arguments.lists), made.lists)
    sys.stdout.write(f"-- {shown(artifact.url)}\n-- {WARNING}.\n")
    sys.stdout.write("\n".join(made.statements))
    sys.stderr.write(f"stepout: {WARNING}. Nothing here was run on Athena.\n")
    return 0


def _write(folder: Path, lists: Mapping[str, str]) -> None:
    for path, text in lists.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
