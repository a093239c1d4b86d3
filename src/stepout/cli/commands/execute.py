"""``stepout execute``: a state machine on the local AWS, with the programs that lie beside it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stepout.cli.options import document_text
from stepout.cli.printing import print_json
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.foreign_text import shown

if TYPE_CHECKING:
    import argparse

_LONGEST = 4_000
_NO_NAME = r'[\x00-\x1f/\\:*?"<>|]'
_EPILOG = """\
examples:
  stepout local -- $SHELL                  (first: a shell with a local AWS; exit ends both)
  stepout execute weather.asl.json --input '{"station": "JFK"}' > output.json
  stepout execute weather.asl.json --keep kept; stepout show kept/Measure.json    (the output of one state)

A task definition NAME of the state machine is the program NAME.py beside its file, or NAME.sh, or an executable NAME; a
function NAME is NAME.py with its handler. A function is given stepout, boto3, each --layer of stepout local, and
STEPOUT_ALLOW for the place that the containers write to. Buckets that the states name are created. Execute it again
after a change: all of it is taken anew.

States and failures are told on standard error; the output of the execution is printed on standard output. If a
container ends and reports nothing, its state waits for a heartbeat: for how long is told. If that is more than a
minute, the execution is stopped, with exit code 1. It runs on a server of this machine only, never in an account.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare ``stepout execute``."""
    parser.epilog = _EPILOG
    parser.add_argument("machine", type=Path, metavar="MACHINE", help="the file of the state machine's definition")
    parser.add_argument(
        "--input",
        default="{}",
        metavar="JSON",
        help="the input of the execution: JSON, a file, or - for standard input; default: {}",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="write the output of each state into this folder, as NAME.json; if one runs twice, the last counts",
    )
    parser.set_defaults(run=_play)


def _play(arguments: argparse.Namespace) -> int:
    from stepout.local.execute import execute

    text = document_text(arguments.input)
    try:
        document = json.dumps(json.loads(text))
    except ValueError as error:
        raise ConfigurationError(f"--input is neither JSON nor a file of it: {error}") from None
    folder: Path | None = arguments.keep
    if folder is None:
        ended = execute(arguments.machine, document, say=_say)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        ended = execute(arguments.machine, document, say=_say, keep=lambda name, output: _keep(folder, name, output))
    if ended.status == "SUCCEEDED":
        print_json(ended.output, one_line=False)
        return 0
    _say(f"{ended.status}: {ended.error}: {ended.cause}".rstrip(": "))
    return 1


def _keep(folder: Path, state: str, output: str) -> None:
    """Write a state's output into a file of its name; what no file's name may have becomes a dash."""
    text = json.dumps(json.loads(output), ensure_ascii=False, indent=2)
    (folder / f"{re.sub(_NO_NAME, '-', state)}.json").write_text(f"{text}\n", encoding="utf-8")


def _say(line: str) -> None:
    sys.stderr.write(f"stepout: {shown(line, _LONGEST)}\n")
    sys.stderr.flush()
