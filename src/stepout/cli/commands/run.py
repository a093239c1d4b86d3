"""``stepout run``: a command in any language becomes a task."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.cli.options import command_of
from stepout.cli.run_options import add_run_options
from stepout.schemas.errors import ConfigurationError, StepoutError
from stepout.terminal_progress import add_quiet

if TYPE_CHECKING:
    from stepout.run.command import RunPlan

_DESCRIPTION = """\
Run any command as a task of a state machine: the entrypoint of a container in any language. It sends heartbeats,
passes signals on, waits, uploads the outputs that you declare, and reports the outcome once: SendTaskSuccess with
pointers to the outputs and the result, or SendTaskFailure with the exit code and the end of what was printed.
"""

_EPILOG = """\
examples:
  stepout run --output table=out/table.csv -- ./job.sh --day 2026-11-22
  stepout run --output 'model=out/model-*.bin' --output 'part_*=out/part-*.csv' --dir plots=out/plots -- Rscript fit.R
  stepout run --permanent 2,64-78 --retryable 75 --outputs-on-failure --output log=job.log -- ./job

In a Dockerfile:  ENTRYPOINT ["stepout", "run", "--output", "table=/out/table.csv", "--"]
                  CMD ["./job.sh"]

outputs: NAME=PATH is one file or folder. A glob must match exactly one file. If the name has a * too, as in
part_*=out/part-*.csv, each match becomes an artifact, named by what the wild card stands for. An output that is missing
fails the task.

the command's environment: STEPOUT_RESULT names a file for one small JSON object, the task's result; STEPOUT_PROGRESS
one for lines like {"done": 3, "total": 10, "message": "tile 3"}, which stepout watch shows. The task token is not in
it. STEPOUT_INPUT, STEPOUT_BUCKET and the others are. A Python command may use stepout.open_task() as usual: its
artifacts, its result and its failure go into the one report.

stopping: each SIGTERM is passed on. Shortly before the stop timeout, what still runs is killed, and
Stepout.Interrupted is reported.

exit codes:
  0        the outcome is delivered
  1        the outputs or the result were at fault; also if the command ended with 3 or 4, which the cause then holds
  2        wrong arguments or settings
  3        the work is done, but its outcome could not be delivered
  4        nobody waits for the task any more
  126, 127 the command is not executable, or was not found
  130, 143 stopped by SIGINT, SIGTERM
  others   the command's own, if it failed; 128+n if signal n killed it
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout run``."""
    parser.usage = "stepout run [OPTION …] -- COMMAND [ARGUMENT …]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_run_options(parser)
    add_quiet(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the program and its arguments")
    parser.set_defaults(run=_run, prints=False)


def _run(arguments: argparse.Namespace) -> int:
    from stepout.callbacks.lifecycle.signals import STOPS
    from stepout.callbacks.process.forwarding import noting

    asked: list[int] = []
    with noting(asked, STOPS):
        from stepout.run.command import run_command

        plan, stop_timeout = _plan(arguments)
        return run_command(plan, os.environ, stop_timeout=stop_timeout, asked=asked)


def report_misuse(message: str) -> None:
    """Report to the state that waits that the arguments could not be read; the command line has printed it already.

    Args:
        message: What is wrong with them.
    """
    from stepout.run.command import run_command

    with contextlib.suppress(StepoutError):
        run_command(ConfigurationError(f"stepout run: {message}"), os.environ)


def _plan(arguments: argparse.Namespace) -> tuple[RunPlan | ConfigurationError, float | None]:
    """What the arguments ask for; a mistake in them is returned, because a state may wait for the report of it."""
    from stepout.callbacks.process.exit_codes import ExitCodes
    from stepout.callbacks.process.tail import tail_size
    from stepout.run.command import RunPlan
    from stepout.run.outputs import parse_outputs

    try:
        plan = RunPlan(
            command=command_of(arguments.command, "run"),
            outputs=parse_outputs(arguments.run_output, arguments.run_dir),
            keep_on_failure=arguments.run_outputs_on_failure,
            codes=ExitCodes.parse(arguments.run_permanent, arguments.run_retryable),
            tail=tail_size(arguments.run_tail),
            result=Path(arguments.run_result).absolute() if arguments.run_result else None,
            quiet=arguments.quiet,
        )
        return plan, _seconds(arguments.run_stop_timeout)
    except ConfigurationError as error:
        return error, None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds: float | None = None
    with contextlib.suppress(ValueError):
        seconds = float(text)
    if seconds is None or not 1 <= seconds < float("inf"):
        raise ConfigurationError(
            "--stop-timeout must be a number of seconds, at least 1: stopTimeout in the task definition"
        )
    return seconds
