"""``stepout worker``: take tasks from an SQS queue or an activity, and run a command for each."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from stepout.cli.printing import logged
from stepout.cli.run_options import add_run_options, run_arguments
from stepout.observe.json_logs import install
from stepout.observe.switches import logs_json
from stepout.schemas import RunIdentity
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from stepout.callbacks.worker.protocols import WorkerCounts, WorkerOptions
    from stepout.callbacks.worker.worker import Worker

_SIGNALLED = 128

_EPILOG = """\
examples:
  stepout worker --queue https://sqs.eu-west-1.amazonaws.com/123456789012/jobs -- ./mask.sh
  stepout worker --queue URL --concurrency 4 --fresh-folder --output mask=mask.png -- /opt/mask
  stepout worker --queue URL --direct -- python -m mask             (a job that calls stepout.open_task itself)
  stepout worker --activity arn:aws:states:eu-west-1:123456789012:activity:mask -- ./mask.sh

A message is a JSON object: what a state of arn:aws:states:::sqs:sendMessage.waitForTaskToken sends as its MessageBody
('stepout asl sqs' prints such a state). Its STEPOUT_TASK_TOKEN, STEPOUT_EXECUTION, STEPOUT_STATE, STEPOUT_ATTEMPT,
STEPOUT_PARENT_EXECUTION, STEPOUT_MAP_INDEX, STEPOUT_REDRIVE, STEPOUT_HEARTBEAT_SECONDS, STEPOUT_MAX_CONCURRENCY,
STEPOUT_FAN_IN, STEPOUT_INPUT and STEPOUT_OUTPUT become variables of the command's environment, and nothing else does.
Without STEPOUT_INPUT, the other members are the input.

Each task is a process of its own. The command is wrapped in 'stepout run', which sends heartbeats, reports the outcome
and keeps the token from the command. With --direct the command does that itself. While it runs, other workers do not
see its message; once the outcome is reported, the message is deleted. If a process dies and has reported nothing, the
worker reports the failure. A message that no worker can read is never deleted: give the queue a dead-letter queue.

stopping: on SIGTERM or SIGINT no further task is taken, and running commands get SIGTERM. A task that has not reported
by the stop timeout is visible to other workers again. A second signal ends the worker sooner. A poll of an activity
takes up to 60 seconds. Give its worker, and the worker's container, a stop timeout of 70 seconds or more. Otherwise a
task that is handed over meanwhile is lost until its heartbeat runs out.

exit codes:
  0        ended by --once or --idle-exit
  1        failed
  2        wrong arguments, or the queue cannot be used
  130, 143 stopped by SIGINT, SIGTERM
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout worker``."""
    parser.epilog = _EPILOG
    _add_source(parser)
    _add_running(parser)
    add_run_options(parser)
    parser.add_argument(
        "command", nargs="+", metavar="-- COMMAND", help="the program that does one task, and its arguments"
    )
    parser.set_defaults(run=_worker)


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Declare how tasks are run."""
    parser.add_argument(
        "--concurrency", type=int, default=1, metavar="N", help="how many tasks run at a time; default: 1"
    )
    parser.add_argument(
        "--direct",
        action="store_true",
        help="do not wrap the command in stepout run: it opens a task and reports by itself",
    )
    parser.add_argument(
        "--fresh-folder", action="store_true", help="run each task in an empty folder of its own, removed afterwards"
    )
    label = parser.add_mutually_exclusive_group()
    label.add_argument(
        "--label",
        action="store_true",
        default=None,
        help="begin each line that a task prints with the task's name; default: if several run at a time",
    )
    label.add_argument(
        "--no-label", dest="label", action="store_false", default=None, help="print what tasks print, unchanged"
    )
    parser.add_argument("--once", action="store_true", help="end after one task")
    parser.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end after this time without a task")


def _add_source(parser: argparse.ArgumentParser) -> None:
    """Declare where tasks come from."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--queue", metavar="URL", help="take tasks from this SQS queue")
    source.add_argument("--activity", metavar="ARN", help="take tasks from this Step Functions activity")
    queue = parser.add_argument_group("the queue")
    queue.add_argument(
        "--visibility",
        type=int,
        default=120,
        metavar="SECONDS",
        help="if the worker is killed, others see its message again after this time; extended while a task runs; "
        "default: 120",
    )
    queue.add_argument(
        "--poll",
        type=int,
        default=20,
        metavar="SECONDS",
        help="how long one poll waits for a message; default, and at most: 20",
    )
    activity = parser.add_argument_group("the activity")
    activity.add_argument(
        "--worker-name", metavar="NAME", help="shown in the execution history; default: host and process"
    )


def _worker(arguments: argparse.Namespace) -> int:
    worker = _make(arguments)
    as_json = logs_json(os.environ) and install(RunIdentity())
    form = "%(asctime)s stepout worker[%(process)d]: %(message)s"
    with contextlib.nullcontext() if as_json else logged("stepout", form):
        tally = worker.run()
        _tell(tally)
    return 0 if tally.signum is None else _SIGNALLED + tally.signum


def _make(arguments: argparse.Namespace) -> Worker:
    options: WorkerOptions = {
        "concurrency": arguments.concurrency,
        "idle_exit": arguments.idle_exit,
        "limit": 1 if arguments.once else None,
        "label": arguments.label,
        "fresh_folder": arguments.fresh_folder,
        "stop_timeout": _seconds(arguments.run_stop_timeout),
    }
    command = _command(arguments)
    if arguments.queue is not None:
        from stepout.callbacks.worker.sqs import SqsWorker

        return SqsWorker(arguments.queue, command, visibility=arguments.visibility, poll=arguments.poll, **options)
    from stepout.callbacks.worker.activity import ActivityWorker

    return ActivityWorker(arguments.activity, command, worker_name=arguments.worker_name, **options)


def _command(arguments: argparse.Namespace) -> list[str]:
    # The worker's stop timeout is the worker's: it tells each command how much of it there is for it.
    wrapping = run_arguments(argparse.Namespace(**{**vars(arguments), "run_stop_timeout": None}))
    if arguments.direct:
        if wrapping:
            raise ConfigurationError(
                "--direct leaves everything to the command, so there is nothing for " + wrapping[0]
            )
        return list(arguments.command)
    placed = arguments.run_output or arguments.run_dir or arguments.run_result
    if arguments.concurrency > 1 and placed and not arguments.fresh_folder:
        raise ConfigurationError(
            "tasks that run at the same time would write the same files: add --fresh-folder, and name outputs by "
            "relative paths"
        )
    return [sys.executable, "-m", "stepout", "run", *wrapping, "--", *arguments.command]


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ConfigurationError("--stop-timeout must be a number of seconds") from None


def _tell(tally: WorkerCounts) -> None:
    told = f"{tally.reported} reported, {tally.failed_here} failed here, {tally.returned} given back, {tally.kept} kept"
    logging.getLogger("stepout.callbacks.worker").info("the worker ends: %s", told)
