"""``stepout local``: an AWS on this machine."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.callbacks.process.exit_codes import code_of
from stepout.cli.options import add_json, command_of
from stepout.cli.printing import logged, print_json

if TYPE_CHECKING:
    from stepout.local import LocalAws

_EPILOG = """\
examples:
  stepout local                            (prints what to export; Ctrl-C ends it)
  stepout local --port 4566 --json         (the same port every time, so that what was exported stays right)
  stepout local -- pytest tests/           (runs the command with the environment set, exits with its code)
  stepout local -- aws s3 ls
  stepout local --bucket weather --layer pyarrow -- $SHELL   (a shell with it all; exit ends both)

Tasks that a state machine (or RunTask) starts are run as processes of this machine: the container definition's command
with its environment, images ignored. Their output goes to standard error.
"""

_SHELLS = ("bash", "dash", "fish", "ksh", "sh", "zsh")
_POLL_SECONDS = 0.1
_CHILD_GRACE_SECONDS = 10.0
_NOT_FOUND = 127


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout local``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--port", type=int, help="the loopback port, the same for every run, such as 4566; default: any free one"
    )
    parser.add_argument("--region", default="us-east-1", help="the region that everything is in; default: us-east-1")
    parser.add_argument("--bucket", action="append", default=[], help="create this bucket; repeatable")
    parser.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="an installed package, such as pyarrow, as a layer for the functions of stepout execute; repeatable",
    )
    add_json(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run this, then end")
    parser.set_defaults(run=_local)


def _local(arguments: argparse.Namespace) -> int:
    from stepout.local import LocalAws

    command = command_of(arguments.command, "local") if arguments.command else []
    with (
        logged("stepout.local", "stepout: %(message)s"),
        LocalAws(port=arguments.port, region=arguments.region, on_output=_to_stderr) as aws,
    ):
        for bucket in arguments.bucket:
            aws.client("s3").create_bucket(Bucket=bucket)
        for package in arguments.layer:
            aws.publish_layer(re.sub(r"\W", "-", package), package)
        if command:
            if Path(command[0]).name in _SHELLS and not command[1:]:
                _greet(aws, arguments.bucket)
            return _run(aws, command)
        _announce(aws, as_json=arguments.json)
        while aws.alive:
            time.sleep(_POLL_SECONDS)
    sys.stderr.write("stepout: the local AWS ended by itself\n")
    return 1


def _to_stderr(container: str, line: str) -> None:
    sys.stderr.write(f"[{container}] {line}\n")
    sys.stderr.flush()


def _greet(aws: LocalAws, buckets: list[str]) -> None:
    """Say that there is a shell within the shell: its prompt may look the same."""
    what = f", with the bucket{'s' if buckets[1:] else ''} {', '.join(buckets)}" if buckets else ""
    sys.stderr.write(f"stepout: a local AWS at {aws.endpoint}{what}; exit ends both\n")
    sys.stderr.flush()


def _announce(aws: LocalAws, *, as_json: bool) -> None:
    if as_json:
        print_json({"endpoint": aws.endpoint, "environ": aws.environ})
    else:
        head = f"# Local AWS at {aws.endpoint}: Step Functions, ECS, Lambda, S3, SQS, SNS. Ctrl-C ends it.\n"
        sys.stdout.write(head + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in aws.environ.items()))
    sys.stdout.flush()


def _run(aws: LocalAws, command: list[str]) -> int:
    """Run the command in the foreground; it gets Ctrl-C from the terminal, and every SIGTERM from us."""
    from stepout.callbacks.process.forwarding import forwarding
    from stepout.local.aws import clean_environment

    program = shutil.which(command[0])
    if program is None:
        sys.stderr.write(f"stepout: there is no program {command[0]!r}\n")
        return _NOT_FOUND
    # A foreground command of the user's, with the user's own arguments.
    child = subprocess.Popen([program, *command[1:]], env={**clean_environment(os.environ), **aws.environ})  # noqa: S603
    try:
        return code_of(child.wait())
    finally:
        if child.poll() is None:
            # The command line ignores a second one, the command need not. Never SIG_DFL, even for a moment: it would
            # end this process before the local AWS is cleaned up.
            signal.signal(signal.SIGTERM, lambda *_: None)
            with forwarding(child.send_signal, [signal.SIGTERM]):
                child.terminate()
                try:
                    child.wait(_CHILD_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
