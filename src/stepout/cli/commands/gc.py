"""``stepout gc``: what tasks left behind that no record names."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepout.artifacts.retention import duration_of
from stepout.cli.options import add_json, add_store, store_client
from stepout.schemas.text.foreign_text import shown, shown_json
from stepout.schemas.text.sizes import human_size
from stepout.terminal_progress import add_quiet

if TYPE_CHECKING:
    import argparse

    from stepout.clean_up import CleanUp, Leftover, Tally

_LONGEST = 2_000
_EPILOG = """\
examples:
  stepout gc s3://results-bucket/runs/ --older-than 14d               (lists, removes nothing)
  stepout gc s3://results-bucket/runs/ --older-than 14d --delete

An object is a leftover if its metadata says that a task with a commit record wrote it, if no record below its manager's
prefix names it, and if its execution has ended for good. 'unknown' is listed and never removed: nobody could say
whether it is needed. docs/how-to/clean-up.md has all rules.

--json prints one object: {"found": [{"url": …, "size": …, "execution": …, "kind": "leftover"|"unknown", "why": …,
"removed": …}], "tally": {…}, "unreadable": {…}}, sizes in bytes.

exit codes:
  0  done
  1  a record could not be read, an execution could not be looked up, or a deletion failed
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout gc``."""
    parser.epilog = _EPILOG
    parser.add_argument("url", metavar="s3://BUCKET/PREFIX/", help="where to look for leftovers")
    parser.add_argument(
        "--older-than", required=True, metavar="AGE", help="leave alone what is younger, by S3's clock: 14d, 36h, 8w"
    )
    parser.add_argument("--delete", action="store_true", help="remove leftovers; without it they are listed")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="s3://BUCKET/PREFIX/",
        help="another place where listings and manifests may be read that records name; repeatable; the bucket itself "
        "is always allowed",
    )
    parser.add_argument("--expected-bucket-owner", metavar="ACCOUNT", help="refuse a bucket of any other account")
    add_quiet(parser)
    add_json(parser)
    add_store(parser)
    parser.set_defaults(run=_gc)


def _gc(arguments: argparse.Namespace) -> int:
    from stepout.clean_up import CleanUp

    line = _ProgressLine(drawn=sys.stderr.isatty() and not (arguments.quiet or arguments.json))
    clean_up = CleanUp(
        arguments.url,
        older_than=duration_of(arguments.older_than),
        delete=arguments.delete,
        allow=arguments.allow,
        client=store_client(arguments),
        expected_bucket_owner=arguments.expected_bucket_owner,
        request_payer=arguments.requester_pays,
        progress=line.draw,
    )
    tally = clean_up.tally
    try:
        if arguments.json:
            _print_json(clean_up)
        else:
            for each in clean_up.leftovers():
                line.clear()
                sys.stdout.write(f"{_line(each)}\n")
    finally:
        line.clear()
    if not arguments.json:
        sys.stderr.write(f"stepout: {_summary(tally)}\n")
        for key, why in clean_up.unreadable.items():
            sys.stderr.write(f"stepout: the record {shown(key, _LONGEST)} could not be read: {shown(why, _LONGEST)}\n")
    return 1 if tally.hindered or tally.failed or clean_up.unreadable else 0


class _ProgressLine:
    """Says on a terminal how much has been looked at, on one line that is written over."""

    def __init__(self, *, drawn: bool) -> None:
        self._drawn = drawn

    def draw(self, tally: Tally) -> None:
        if self._drawn:
            sys.stderr.write(f"\r\x1b[Kobjects looked at: {tally.seen:,}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _print_json(clean_up: CleanUp) -> None:
    """Print one object on one line, as it is found: a bucket may hold more than memory does."""
    sys.stdout.write('{"found": [')
    separator = ""
    for each in clean_up.leftovers():
        sys.stdout.write(separator + _dumped(each.to_dict()))
        separator = ", "
    sys.stdout.write(f'], "tally": {_dumped(asdict(clean_up.tally))}')
    sys.stdout.write(f', "unreadable": {_dumped(dict(clean_up.unreadable))}}}\n')


def _dumped(value: dict[str, Any]) -> str:
    return shown_json(json.dumps(value, ensure_ascii=False))


def _line(found: Leftover) -> str:
    what = "removed" if found.removed else found.kind
    size = "upload" if found.upload_id else human_size(found.size)
    version = f"?versionId={found.version_id}" if found.version_id else ""
    why = found.why if found.error is None else f"{found.why}; it could not be removed: {found.error}"
    execution = f" [{found.execution}]" if found.execution else ""
    return f"{what:8}  {size:>10}  {shown(f'{found.url}{version}  {why}{execution}', 2 * _LONGEST)}"


def _summary(tally: Tally) -> str:
    said = [f"{tally.leftovers:,} left over ({human_size(tally.bytes)})", f"{tally.removed:,} removed"]
    said += [f"{tally.uploads:,} uploads left over", f"{tally.aborted:,} aborted"] if tally.uploads else []
    said += [f"{tally.unknown:,} unknown"] if tally.unknown else []
    said += [f"{tally.failed:,} could not be removed"] if tally.failed else []
    kept = f"of {tally.seen:,}: {tally.named:,} named, {tally.running:,} of executions that run or can be redriven"
    return f"{', '.join(said)}; {kept}, {tally.young:,} too young or records, {tally.foreign:,} of others"
