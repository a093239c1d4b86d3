"""``stepout verify``: whether the artifacts that a document names are still what was written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stepout.artifacts.listing import size_of_files
from stepout.cli.documents import artifacts_of
from stepout.cli.options import add_document, add_json, add_reading
from stepout.cli.printing import artifact_entry, print_json, print_table
from stepout.cli.selection import add_paths
from stepout.schemas.errors import StepoutError
from stepout.schemas.text.foreign_text import shown
from stepout.schemas.text.sizes import human_size
from stepout.terminal_progress import add_quiet, counting, transfer_bar

if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  stepout verify output.json --allow s3://results-bucket/runs/ && ./publish.sh
  stepout verify map-results.json --all --allow s3://results-bucket/runs/

Every artifact is read whole, a spilled result and the files of a directory too, and its size and checksum are compared
with the pointer's. Exit code 1 if any is missing, denied, changed or corrupt.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout verify``."""
    parser.epilog = _EPILOG
    add_document(parser)
    add_paths(parser)
    add_json(parser)
    add_quiet(parser)
    add_reading(parser)
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    findings: list[dict[str, Any]] = []
    with transfer_bar(quiet=arguments.quiet or arguments.json) as bar:
        found = artifacts_of(arguments, spilled=True)
        sizes = {name: size_of_files(artifact.pointer) or 0 for name, artifact in found.items()}
        for name, artifact in found.items():
            finding: dict[str, Any] = {"ok": True}
            try:
                artifact.verify(progress=counting(name, sizes, bar))
            except StepoutError as error:
                finding |= {"ok": False, "error": error.error_name, "message": " ".join(str(error).split())}
            findings.append({**artifact_entry(name, artifact.pointer, sizes[name]), **finding})
    failed = [finding for finding in findings if not finding["ok"]]
    if arguments.json:
        print_json({"ok": not failed, "artifacts": findings})
    else:
        rows = [(f["name"], human_size(f["size"]), "ok" if f["ok"] else f["error"], f["url"]) for f in findings]
        print_table(("NAME", "SIZE", "VERDICT", "WHERE"), rows)
        sys.stdout.flush()  # so that the table comes first in a file, too, as it does on a terminal
        sys.stderr.writelines(f"stepout: {shown(finding['name'])}: {finding['message']}\n" for finding in failed)
    return 1 if failed else 0
