"""The command line: ``stepout COMMAND …``.

A command is one line in ``COMMANDS``. The module of its name in ``commands`` has ``configure(parser)``, which declares
the arguments and sets ``run``: a function of the parsed arguments that returns an exit code. It is imported when the
command is used.

Exit codes: 0 done, 1 failed, 2 usage, 3 undelivered, 4 nobody waits, 130 and 143 for SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stepout.cli.parser import CommandParser, MisuseError
from stepout.schemas.errors import ConfigurationError, StepoutError
from stepout.schemas.runtime.environment import warn_of_unknown
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["COMMANDS", "DONE", "FAILED", "USAGE", "Command", "command_parser", "main"]

DONE, FAILED, USAGE = 0, 1, 2
_SIGNALLED = 128
_LONGEST_COMPLAINT = 4_000


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        name: As it is typed; its module in ``commands`` has the same name.
        summary: One line for ``stepout --help``.
    """

    name: str
    summary: str


COMMANDS = (
    Command("run", "run any command as a task: heartbeat, signals, outputs, one report"),
    Command("worker", "take tasks from an SQS queue or an activity, and run a command for each"),
    Command("put", "write a file as an artifact and print its pointer"),
    Command("get", "download what a pointer or a task output names, verified"),
    Command("cat", "write an artifact's bytes to standard output, verified"),
    Command("show", "list what a document names: sizes, checksums, places"),
    Command("verify", "read every artifact of a document and check its bytes"),
    Command("watch", "show how far a task in pull mode is, until its outcome is there"),
    Command("page", "write a page to look at: an execution, its outputs and what is inside, as one HTML file"),
    Command("schema", "print a JSON Schema, or check documents against it"),
    Command("asl", "print a state, a chain or a Map: ECS, EKS, SQS, Lambda, activities, Batch, Glue"),
    Command("athena-ddl", "print an external table of Athena's over a dataset's files"),
    Command("iam", "print least-privilege policies for each role that takes part"),
    Command("gc", "list or remove what tasks left behind that no record names"),
    Command("lifecycle", "print S3 lifecycle rules for what tasks write"),
    Command("doctor", "find what will go wrong: state machine, task definition, bucket"),
    Command("local", "run a local AWS: Step Functions, ECS, Lambda, S3, SQS, SNS"),
    Command("execute", "execute a state machine on the local AWS, with the programs beside it"),
    Command("demo", "show it all on a local AWS: container, state machine, Lambda"),
)

_EPILOG = """\
examples:
  stepout run --output features=out/features.parquet -- ./job.sh
  stepout worker --queue https://sqs.eu-west-1.amazonaws.com/123456789012/tasks -- python job.py
  stepout asl ecs --cluster jobs --task-definition mask > state.json
  stepout doctor state-machine.json task-definition.json
  stepout put features features.parquet --bucket results-bucket --prefix runs > pointer.json
  stepout show pointer.json
  stepout verify pointer.json --allow s3://results-bucket/runs/
  stepout watch s3://results-bucket/outcomes/7f3c/Mask.json
  stepout page output.json -o run.html --allow s3://results-bucket/runs/
  stepout get output.json --name features -o features.parquet --allow s3://results-bucket/runs/
  stepout local -- pytest tests/

A document chooses the bucket and the key that are read. Commands that read from S3 therefore want to be told what is
allowed: --allow s3://bucket/prefix/ (repeat it for more), the variable STEPOUT_ALLOW, or --allow-any.

--json (put, get, show, verify, schema, doctor, local) prints one JSON object on one line. Artifacts stand in it as
{"artifacts": [{"name": …, "url": …, "size": …, "mediaType": …, "pointer": {…}}]}, size in bytes, of a directory that of
its files together; get adds path, verify ok and, where that is false, error and message. watch prints such a line for
each thing that is new.

exit codes: 0 done, 1 failed, 2 usage, 3 work done but its outcome undelivered, 4 nobody waits any more, 130 and 143 for
SIGINT and SIGTERM; run passes its command's own code on
"""


class _SignalledError(BaseException):
    """A signal asks the command to end; a ``BaseException``, so that nothing on the way takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _print_whatever()
    _open_what_is_closed()
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it takes what is written until the process ends
    arguments = _parsed(words)
    if isinstance(arguments, int):
        return arguments
    if sys.stdout is None and getattr(arguments, "prints", True):
        return _complain(OSError("standard output is closed: redirect it; nothing was done"))
    _tell_of_unknown_variables()
    try:
        with _signals_raise():
            return int(arguments.run(arguments))
    except _SignalledError as ended:
        return _SIGNALLED + ended.signum
    except BrokenPipeError:
        return _reader_left()
    except Exception as error:
        if arguments.debug:
            raise
        return _complain(error)


def _parsed(words: Sequence[str]) -> argparse.Namespace | int:
    """The arguments, or the exit code where they ask for help or are wrong."""
    try:
        return command_parser(words).parse_args(words)
    except MisuseError as misuse:
        if next((word for word in words if not word.startswith("-")), "") == "run":
            from stepout.cli.commands.run import report_misuse

            report_misuse(misuse.message)
        return USAGE
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USAGE


def _tell_of_unknown_variables() -> None:
    """Say which ``STEPOUT_…`` variables are misspelt; the library only logs it, and each once in a process."""
    logger, handler = logging.getLogger("stepout.environment"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("stepout: %(message)s"))
    logger.addHandler(handler)
    try:
        warn_of_unknown(os.environ)
    finally:
        logger.removeHandler(handler)


def _open_what_is_closed() -> None:
    """Open the standard streams that are closed on the null device, or a connection would become one of them."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest that is free: this one.


def _print_whatever() -> None:
    """Let a character that the terminal cannot show be escaped instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def command_parser(words: Sequence[str]) -> CommandParser:
    """Return the parser of all commands.

    Args:
        words: What is to be parsed: of a command that is not among them, only the name is declared.
    """
    from stepout import __version__

    parser = CommandParser(
        prog="stepout",
        description="Outputs for containers that AWS Step Functions runs: verified S3 artifacts, reported as pointers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stepout {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        child = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if command.name in words:
            import_module(f"stepout.cli.commands.{command.name.replace('-', '_')}").configure(child)
    return parser


def _complain(error: Exception) -> int:
    """Say what went wrong in one line."""
    text = shown(" ".join(str(error).split()), _LONGEST_COMPLAINT)
    if not isinstance(error, (StepoutError, OSError)):
        text = f"{type(error).__name__}: {text} (unexpected; --debug shows where)"
    sys.stderr.write(f"stepout: {text}\n")
    return USAGE if isinstance(error, ConfigurationError) else FAILED


def _reader_left() -> int:
    """The reader of our output has gone (``| head``): say nothing, and let nothing be flushed at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into an exception, so that everything is cleaned up; ignore further ones."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = (signal.SIGINT, signal.SIGTERM)

    def stop(signum: int, _frame: object) -> NoReturn:
        for each in watched:
            signal.signal(each, signal.SIG_IGN)
        raise _SignalledError(signum)

    before = [signal.signal(each, stop) for each in watched]
    try:
        yield
    finally:
        for each, handler in zip(watched, before, strict=True):
            signal.signal(each, handler)
