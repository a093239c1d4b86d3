"""What ``stepout run`` is told of a command, which ``stepout worker`` takes too and passes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_REPEATED = {"--output": "run_output", "--dir": "run_dir"}
_SINGLE = {
    "--permanent": "run_permanent",
    "--retryable": "run_retryable",
    "--stop-timeout": "run_stop_timeout",
    "--tail": "run_tail",
    "--result": "run_result",
}
_SWITCHES = {"--outputs-on-failure": "run_outputs_on_failure"}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stepout run`` knows about a command: its outputs, its exit codes, how it is stopped.

    The values land in attributes that begin with ``run_``; ``run_arguments`` turns them back into arguments.
    """
    group = parser.add_argument_group("the command's outputs and its end")
    group.add_argument(
        "--output",
        dest="run_output",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a file (or folder, or glob) that becomes the artifact NAME when the command has succeeded; repeatable",
    )
    group.add_argument(
        "--dir",
        dest="run_dir",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a folder that becomes the artifact NAME, every file in it an object of its own; repeatable",
    )
    group.add_argument(
        "--outputs-on-failure",
        dest="run_outputs_on_failure",
        action="store_true",
        help="keep the outputs that are there when the command fails, too; the failure's cause then points to them",
    )
    _add_end(group)


def _add_end(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--permanent",
        dest="run_permanent",
        metavar="CODES",
        help="exit codes that fail as Stepout.Permanent, e.g. 2,64-78: trying again cannot help",
    )
    group.add_argument(
        "--retryable",
        dest="run_retryable",
        metavar="CODES",
        help="exit codes that fail as Stepout.Retryable, e.g. 75,137: trying again may help",
    )
    group.add_argument(
        "--stop-timeout",
        dest="run_stop_timeout",
        metavar="SECONDS",
        help="seconds from SIGTERM to SIGKILL, as in the task definition; default: STEPOUT_STOP_TIMEOUT, or 30",
    )
    group.add_argument(
        "--tail",
        dest="run_tail",
        metavar="LINES[/BYTES]",
        help="how much of the end of standard error and output a failure's cause shows; the whole cause has at most "
        "4,096 bytes; default: 50/16384",
    )
    group.add_argument(
        "--result",
        dest="run_result",
        metavar="PATH",
        help="where the command leaves its result, a JSON object; default: a new file, named in STEPOUT_RESULT",
    )


def run_arguments(namespace: argparse.Namespace) -> list[str]:
    """Return the arguments for ``stepout run`` that make ``add_run_options`` find the same values again.

    Args:
        namespace: What a parser with those options made.

    Returns:
        Without ``--`` and the command.
    """
    words: list[str] = []
    for flag, member in _REPEATED.items():
        words += [f"{flag}={value}" for value in getattr(namespace, member)]
    for flag, member in _SINGLE.items():
        value = getattr(namespace, member)
        words += [] if value is None else [f"{flag}={value}"]
    return words + [flag for flag, member in _SWITCHES.items() if getattr(namespace, member)]
