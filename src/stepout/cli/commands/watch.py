"""``stepout watch``: how far a task in pull mode is, until its outcome is there."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from stepout.cli.options import add_store, store_client
from stepout.cli.printing import print_json
from stepout.outcome_watch import OutcomeWatch, same_news
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.pull import Failure
from stepout.schemas.text.foreign_text import shown
from stepout.terminal_progress import is_terminal, terminal_width

if TYPE_CHECKING:
    import argparse

    from stepout.outcome_watch import Sight
    from stepout.schemas import RunIdentity

_EPILOG = """\
examples:
  stepout watch s3://results-bucket/outcomes/7f3c/Mask.json
  stepout watch dynamodb://outcomes/7f3c/Mask --timeout 3600 && ./next.sh
  stepout watch s3://results-bucket/outcomes/7f3c/Mask.json --json | jq .progress.done

URL is what the task was given as STEPOUT_OUTPUT. The task says how far it is with task.progress(done, total, message);
a command under stepout run writes the same into the file $STEPOUT_PROGRESS. On a terminal there is one line that is
drawn anew; elsewhere, and with --json, one line for each thing that is new.

Only what lies at the URL and begins like it is read: s3:GetObject on it, s3:ListBucket on the bucket (without it S3
calls a missing object a denied one), or dynamodb:GetItem on the table.

exit codes: 0 the task succeeded; 1 it failed, or --timeout is over, or it cannot be looked at; 2 usage
"""

_BAR: Final = 20
_LONGEST: Final = 600
_LEAST_ROOM: Final = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout watch``."""
    parser.epilog = _EPILOG
    parser.add_argument("url", metavar="URL", help="s3://bucket/key or dynamodb://table/key of the task's outcome")
    parser.add_argument("--execution", metavar="ARN", help="whose outcome counts, where the URL was used before")
    parser.add_argument(
        "--every", type=float, default=5.0, metavar="SECONDS", help="between two looks at least (default: 5)"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after so long (default: never)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each thing that is new")
    parser.add_argument("--expected-bucket-owner", metavar="ACCOUNT", help="refuse buckets of any other account")
    add_store(parser)
    parser.set_defaults(run=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    if not arguments.url.startswith(("s3://", "dynamodb://")):
        raise ConfigurationError(
            "watch wants the URL of an outcome in pull mode, s3://bucket/key or dynamodb://table/key: the outcome of a "
            "task with a token is in its execution alone, and its progress in its log"
        )
    watch = OutcomeWatch(
        arguments.url,
        execution=arguments.execution,
        every=arguments.every,
        timeout=arguments.timeout,
        client=store_client(arguments),
        expected_bucket_owner=arguments.expected_bucket_owner,
        request_payer=arguments.requester_pays,
    )
    told: _Told = _JsonPrinter(arguments.url) if arguments.json else _told_to_people(arguments.url)
    last: Sight | None = None
    try:
        for sight in watch.sights():
            told.tell(sight, last)
            last = sight
    finally:
        told.close()
    if last is not None and last.ended:
        return 0 if last.status == "succeeded" else 1
    sys.stderr.write(f"stepout: no outcome within {arguments.timeout:g} s; the task may still run\n")
    return 1


class _Told(Protocol):
    """Tells on standard output what is seen."""

    def tell(self, sight: Sight, before: Sight | None) -> None:
        """Tell one sight, given the one before."""
        ...

    def close(self) -> None:
        """End what is still open."""
        ...


class _JsonPrinter:
    """One JSON object a line."""

    def __init__(self, url: str) -> None:
        self._url = url

    def tell(self, sight: Sight, before: Sight | None) -> None:
        """Print what is new, and a progress also where only its time is."""
        if sight == before:
            return
        members: dict[str, Any] = {"status": sight.status, "url": self._url}
        if sight.progress is not None:
            members |= sight.progress.to_dict()
        if sight.run is not None:
            members["run"] = sight.run.to_dict()
        members |= {"error": sight.error, "cause": sight.cause, "note": sight.note or None}
        print_json({name: value for name, value in members.items() if value is not None})
        sys.stdout.flush()

    def close(self) -> None:
        """Every line is whole already."""


class _Lines:
    """A line of text, with the time of day, for each thing that is new."""

    def __init__(self, url: str) -> None:
        self._url = url

    def tell(self, sight: Sight, before: Sight | None) -> None:
        """Print what is new to people."""
        if not same_news(sight, before):
            self._print(f"{time.strftime('%H:%M:%S')}  {_said(sight, self._url)}")

    def close(self) -> None:
        """Every line is whole already."""

    def _print(self, line: str) -> None:
        sys.stdout.write(f"{shown(line, _LONGEST)}\n")
        sys.stdout.flush()


class _TerminalLine(_Lines):
    """One line that is drawn over while the task runs; notes and the outcome are lines that stay."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._note = ""
        self._changed = time.monotonic()

    def tell(self, sight: Sight, before: Sight | None) -> None:
        """Draw the line, and print what stays."""
        if not same_news(sight, before):
            self._changed = time.monotonic()
        if sight.note and sight.note != self._note and not sight.ended:
            self._print(f"\r\x1b[K{shown(sight.note, _LONGEST)}")
        self._note = sight.note
        if sight.ended:
            self._print(f"\r\x1b[K{shown(_said(sight, self._url), _LONGEST)}")
            return
        quiet = int(time.monotonic() - self._changed)
        line = _drawn(sight, self._url, f"  {quiet} s ago" if sight.progress is not None and quiet else "")
        sys.stdout.write(f"\r\x1b[K{shown(line, terminal_width(sys.stdout) - 1)}")
        sys.stdout.flush()

    def close(self) -> None:
        """End the line."""
        sys.stdout.write("\r\x1b[K")
        sys.stdout.flush()

    def _print(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _told_to_people(url: str) -> _Told:
    return _TerminalLine(url) if is_terminal(sys.stdout) else _Lines(url)


def _drawn(sight: Sight, url: str, age: str) -> str:
    progress = sight.progress
    if progress is None or progress.share is None or terminal_width(sys.stdout) < _LEAST_ROOM:
        return f"{_said(replace(sight, note=''), url)}{age}"
    filled = int(progress.share * _BAR)
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    return f"{bar} {progress}{_whose(progress.run)}{age}"


def _said(sight: Sight, url: str) -> str:
    """Return what a sight says, in one line."""
    note = f" ({sight.note})" if sight.note else ""
    if sight.status == "succeeded":
        return f"succeeded{_whose(sight.run)}: stepout show '{url}' lists what it wrote{note}"
    if sight.status == "failed":
        whose = _whose(None if sight.progress is None else sight.progress.run)
        reached = "" if sight.progress is None else f"; it had told {sight.progress}{whose}"
        return f"failed: {Failure(sight.error or '', sight.cause or '')}{reached}"
    if sight.status == "unreachable":
        return f"not reached, tried again: {sight.note}"
    if sight.progress is None:
        return f"nothing is there yet: neither an outcome nor progress at {url}{note}"
    return f"{sight.progress}{_whose(sight.progress.run)}{note}"


def _whose(run: RunIdentity | None) -> str:
    return "" if run is None or not run.attempt else f" (attempt {run.attempt})"
