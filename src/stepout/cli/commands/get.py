"""``stepout get``: artifacts come back as files, verified."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stepout.artifacts.listing import names_files
from stepout.cli.documents import add_file, artifacts_of, chosen, one_file, print_artifact
from stepout.cli.options import add_document, add_json, add_reading
from stepout.cli.printing import artifact_entry, print_json, print_table
from stepout.cli.selection import add_paths, file_stem
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.sizes import human_size
from stepout.terminal_progress import add_quiet, counting, transfer_bar

if TYPE_CHECKING:
    import argparse


_EPILOG = """\
examples:
  stepout get pointer.json -o features.parquet --allow s3://results-bucket/runs/
  stepout get output.json --name preview --allow s3://results-bucket/runs/
  stepout get output.json -o results/ --allow s3://results-bucket/        (every artifact of the output)
  stepout get output.json --name images --file 2026/0017.png --allow s3://results-bucket/
  stepout get map-results.json --all -o results/ --allow s3://results-bucket/       (of every output in it)
  stepout get map-results.json --at '$[3]' --name table -o table.parquet --allow s3://results-bucket/
  aws stepfunctions describe-execution … --query output --output text | stepout get - -o results/ --allow …

A file is complete and verified, or it is not there: bytes go to a temporary file first. A file that exists is replaced
only if -o names it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout get``."""
    parser.epilog = _EPILOG
    add_document(parser)
    add_paths(parser)
    parser.add_argument("--name", help="which artifact of a task output; default: all of them")
    add_file(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="where to write: a file, a folder, or - for standard output; default: this folder",
    )
    add_json(parser)
    add_quiet(parser)
    add_reading(parser)
    parser.set_defaults(run=_get)


def _get(arguments: argparse.Namespace) -> int:
    if arguments.output == "-":
        if arguments.json:
            raise ConfigurationError(
                "get: --json and -o - exclude each other, standard output holds the bytes or the JSON: leave one out. "
                "Nothing was read."
            )
        return print_artifact(arguments)
    found = one_file(chosen(artifacts_of(arguments), arguments.name), arguments.file)
    keys = {name: "" if names_files(each.pointer) else each.pointer.key for name, each in found.items()}
    paths = target_paths(keys, arguments.output)
    sizes = {name: 0 if names_files(found[name].pointer) else found[name].size for name in paths}
    with transfer_bar(quiet=arguments.quiet or arguments.json) as bar:
        for name, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            found[name].download(path, progress=counting(name, sizes, bar))
    if arguments.json:
        entries = [artifact_entry(name, found[name].pointer, sizes[name]) for name in paths]
        print_json({"artifacts": [{**entry, "path": str(paths[entry["name"]])} for entry in entries]})
    else:
        rows = [(name, human_size(sizes[name]), str(path)) for name, path in paths.items()]
        print_table(("NAME", "SIZE", "FILE"), rows)
    return 0


def target_paths(keys: dict[str, str], output: str | None) -> dict[str, Path]:
    """Decide where each artifact goes.

    Args:
        keys: The artifacts' keys by name; empty for a directory of files.
        output: What ``-o`` says: a file for one artifact, a folder otherwise.

    Returns:
        A path for each name. One that a document had a say in (no file was named) never leaves the folder, is never
        hidden, and never exists already.

    Raises:
        ConfigurationError: Several artifacts, one file; or a file that is there already.
    """
    folder = Path(output or ".")
    named = output is not None and not output.endswith(("/", "\\")) and not folder.is_dir()
    if named and len(keys) == 1:
        return dict.fromkeys(keys, folder)
    if named and len(keys) > 1:
        raise ConfigurationError(f"get: {len(keys)} artifacts do not fit into one file; use -o {output}/ or --name")
    paths = {name: folder / _file_name(file_stem(name), key) for name, key in keys.items()}
    for path in paths.values():
        if sum(path == other for other in paths.values()) > 1:
            raise ConfigurationError(f"get: several artifacts would be {path}; use --at or --name. Nothing was read.")
        if path.exists():
            raise ConfigurationError(f"get: {path} is there already; name it with -o to replace it. Nothing was read.")
    return paths


def _file_name(name: str, key: str) -> str:
    suffix = PurePosixPath(key).suffix
    whole = name if name.endswith(suffix) else name + suffix
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in whole)
    return safe.lstrip(".") or "artifact"
