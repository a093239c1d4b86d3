"""``stepout put``: a file becomes an artifact."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.cli.options import add_json, add_store, standard_input, store_client, store_environ
from stepout.cli.printing import artifact_entry, print_json
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.json_text import load_json
from stepout.terminal_progress import add_quiet, transfer_bar

if TYPE_CHECKING:
    from stepout.artifacts.manager import ArtifactManager
    from stepout.artifacts.transfer.progress import Progress
    from stepout.schemas.pointer import Pointer

_EPILOG = """\
examples:
  stepout put features features.parquet --bucket results-bucket --prefix runs
  duckdb -c "COPY t TO '/dev/stdout' (FORMAT parquet)" | stepout put t - --media-type application/vnd.apache.parquet
  stepout put model model.onnx --annotate version=3 --annotate 'metrics={"auc": 0.93}'

The pointer is printed when the bytes are stored whole. Inside a task, the run's identity comes from STEPOUT_EXECUTION,
STEPOUT_STATE and STEPOUT_ATTEMPT, bucket and prefix from STEPOUT_BUCKET and STEPOUT_PREFIX.
"""

_BLOCK_BYTES = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout put``."""
    parser.epilog = _EPILOG
    parser.add_argument("name", metavar="NAME", help="the artifact's name: letters, digits, underscores")
    parser.add_argument("file", metavar="FILE", help="a file or a folder, or - for standard input")
    parser.add_argument("--bucket", help="the bucket, or s3://bucket/prefix; default: STEPOUT_BUCKET")
    parser.add_argument("--prefix", help="what the key begins with; default: STEPOUT_PREFIX, or nothing")
    parser.add_argument(
        "--media-type", metavar="TYPE", help="what the bytes are, such as text/csv; default: by the file's extension"
    )
    parser.add_argument(
        "--annotate",
        action="append",
        default=[],
        type=_annotation,
        metavar="KEY=VALUE",
        help="small facts for the pointer, JSON or text; repeatable",
    )
    parser.add_argument(
        "--mode",
        choices=("create", "overwrite"),
        default="create",
        help="create: never replace other content; overwrite: replace it; default: create",
    )
    parser.add_argument(
        "--resume-from",
        action="append",
        metavar="URL",
        help="the folder in S3 that an earlier try of the same folder wrote to, s3://bucket/…/0-abcd/: files that are "
        "the same there are not sent again; repeatable",
    )
    add_json(parser)
    add_quiet(parser)
    add_store(parser)
    parser.set_defaults(run=_put)


def _annotation(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    try:
        return name, load_json(value)
    except ValueError:
        return name, value


def _put(arguments: argparse.Namespace) -> int:
    from stepout.artifacts.listing import size_of_files

    with transfer_bar(quiet=arguments.quiet or arguments.json) as bar:
        pointer = _write(_manager(arguments, bar), arguments)
    if arguments.json:
        print_json({"artifacts": [artifact_entry(arguments.name, pointer, size_of_files(pointer))]})
    else:
        print_json(pointer.to_dict(), one_line=False)
    return 0


def _manager(arguments: argparse.Namespace, bar: Progress | None) -> ArtifactManager:
    from stepout import ArtifactManager

    settings = {"STEPOUT_BUCKET": arguments.bucket, "STEPOUT_PREFIX": arguments.prefix}
    environ = {**store_environ(arguments), **{name: value for name, value in settings.items() if value is not None}}
    if not environ.get("STEPOUT_BUCKET"):
        raise ConfigurationError("put: which bucket? Pass --bucket, or set STEPOUT_BUCKET. Nothing was written.")
    return ArtifactManager.from_env(environ, client=store_client(arguments), progress=bar)


def _write(manager: ArtifactManager, arguments: argparse.Namespace) -> Pointer:
    options: dict[str, Any] = {"annotations": dict(arguments.annotate) or None, "mode": arguments.mode}
    if arguments.media_type:
        options["media_type"] = arguments.media_type
    if arguments.file != "-" and Path(arguments.file).is_dir():
        return manager.put_directory(arguments.name, Path(arguments.file), resume_from=arguments.resume_from, **options)
    if arguments.resume_from is not None:
        raise ConfigurationError(f"--resume-from: {arguments.file} is no folder. Nothing was sent")
    if arguments.file != "-":
        return manager.put_file(arguments.name, Path(arguments.file), **options)
    with manager.open(arguments.name, "wb", **options) as stream:
        shutil.copyfileobj(standard_input(), stream, _BLOCK_BYTES)
    return manager.pointers[arguments.name]
