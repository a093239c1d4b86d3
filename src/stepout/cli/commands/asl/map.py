"""``stepout asl map``: a Map around a child's state, what is read before it, and what gathers its results."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from stepout.asl.map_state import GATHER, MapOptions, gathers_a_list, results_place
from stepout.asl.services import KINDS
from stepout.asl.variables import own_place
from stepout.cli.options import option_of
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text.spelling import did_you_mean

if TYPE_CHECKING:
    from stepout.asl.variables import StateOptions

MAP: Final = "map"

MAP_EPILOG = """\
map: a Distributed Map with its reader, its writer and its children wired, and a function that gathers
  stepout asl map ecs --cluster jobs --task-definition mask --subnets subnet-0a1b2c3d --bucket results-bucket \\
    --prefix runs --max-concurrency 500 --gather gather > machine.asl.json
  stepout asl map ecs --state Plan=ecs:plan --pointer '$.artifacts.scenes' …   (a state before it writes the items)
  stepout asl map ecs --inline --items '$.shards' …                            (40 children at once, in one execution)

  KIND: the kind of each child's state; its options are those of 'stepout asl KIND'. --next, --catch and --result-path
  are the Map's. A child's failure is its own result, and lies beside the others'.
  Items: a task before the Map writes them: stepout.write_item_reader_manifest(task.artifacts, "items", items). The
  reader finds bucket, key and version in that task's output, at --pointer. Or the items are all objects of --list; or
  the array at --items, which must fit into the state's input (256 KiB).
  Children: each is given its item as STEPOUT_INPUT; with --batch N, a list of {"index": …, "item": …}. It is also told
  its index, its parent's execution (STEPOUT_PARENT_EXECUTION: the artifacts of all children are in the parent's folder)
  and how many run at once (STEPOUT_MAX_CONCURRENCY: their heartbeats are spread).
  Results: files below --results. NONE has each child's execution, input, output or error; COMPACT has the outputs
  alone, so it is not known which child one is. JSONL has one child a line, so a reader takes one line at a time.
  Gathering: the function is given the results, and reads them with stepout.gather(event).
  Children are Standard workflows, as a token needs one; each costs its state transitions.
  The state machine's role: 'stepout iam machine --kind map', and the one for the child's kind.
"""

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "items": {"metavar": "PATH", "help": "an array in the input, instead of a reader; with --inline: $.items"},
    "pointer": {"metavar": "PATH", "help": "where the items' pointer is; default: $.artifacts.items"},
    "list": {"metavar": "s3://BUCKET/PREFIX/", "help": "each object there is an item, instead of a pointer"},
    "no_version": {"action": "store_true", "help": "the bucket keeps no versions, so the pointer has none"},
    "batch": {
        "type": int,
        "metavar": "N",
        "help": "a child is given a list of N items, at most; default: one item, no list",
    },
    "max_concurrency": {
        "type": int,
        "metavar": "N",
        "help": "how many children run at once; default: 100, and 40 with --inline",
    },
    "tolerate": {"type": int, "metavar": "PERCENT", "help": "so many of the children may fail; default: 5"},
    "label": {"metavar": "TEXT", "help": "what the children's ARNs contain; default: the Map's name"},
    "results": {
        "metavar": "s3://BUCKET/PREFIX/",
        "help": "where the result files go; default: results/ below --bucket and --prefix",
    },
    "transformation": {
        "choices": ("NONE", "COMPACT", "FLATTEN"),
        "help": "what the result files hold: each child's ARN, input and output (NONE), or outputs; default: NONE",
    },
    "output_type": {
        "choices": ("JSON", "JSONL"),
        "help": "a result file is an array, or has one child a line; default: JSONL",
    },
    "gather": {"metavar": "FUNCTION", "help": "the function that is given the results; default: a placeholder"},
    "no_gather": {"action": "store_true", "help": "print no state that gathers"},
    "inline": {
        "action": "store_true",
        "help": "an inline Map: the children run within the execution, and their outputs come together (256 KiB)",
    },
    "map_name": {"metavar": "NAME", "help": "the Map's name; default: Each"},
}
_FIELDS: Final = {
    "items": "items",
    "pointer": "pointer",
    "list": "listing",
    "batch": "batch",
    "max_concurrency": "concurrency",
    "tolerate": "tolerated",
    "label": "label",
    "results": "results",
    "transformation": "transformation",
    "output_type": "output_type",
    "gather": "gather",
    "map_name": "name",
}
_DISTRIBUTED: Final = (
    "pointer", "list", "no_version", "batch", "tolerate", "label", "results", "transformation", "output_type",
)  # fmt: skip
_SOURCES: Final = ("items", "pointer", "list")
_ITS_OWN: Final = {"name": None, "next": None, "url": None, "result_path": "$"}
_OF_THE_CHILD: Final = {**_ITS_OWN, "input": None, "input_json": None, "input_size": None, "no_input": False}


def add_map(parser: argparse.ArgumentParser) -> None:
    """Declare what a Map has besides its child."""
    group = parser.add_argument_group("map")
    for name, settings in _OPTIONS.items():
        group.add_argument(option_of(name), default=None, **settings)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}


def check_no_map(arguments: argparse.Namespace) -> None:
    """Refuse what only a Map has.

    Raises:
        ConfigurationError: One of its options was given.
    """
    if given := list(_given(arguments)):
        raise ConfigurationError(f"{option_of(given[0])} is for 'stepout asl map'; leave it out")


def child_kind(arguments: argparse.Namespace) -> str:
    """Return the kind of a child's state.

    Raises:
        ConfigurationError: There is none of this name.
    """
    kind = arguments.file
    if kind not in KINDS:
        if kind is None:
            raise ConfigurationError(
                "map: of which kind is a child's state? Say it behind map, as in 'stepout asl map ecs': "
                f"{', '.join(KINDS)}"
            )
        hint = did_you_mean(kind, KINDS)
        raise ConfigurationError(
            f"map: the kind of a child is {kind!r}{hint or ':'} expected one of {', '.join(KINDS)}"
        )
    if arguments.map or arguments.machine:
        option = "--map" if arguments.map else "--machine"
        raise ConfigurationError(f"{option}: 'stepout asl map' prints a machine with a Map in any case; leave it out")
    return str(kind)


def map_options(arguments: argparse.Namespace) -> MapOptions:
    """Return the Map's options; its catchers are added by the caller.

    Raises:
        ConfigurationError: They contradict one another.
    """
    given = _given(arguments)
    if empty := [name for name, value in given.items() if value == ""]:
        raise ConfigurationError(f"{option_of(empty[0])} is empty: leave it out for the default")
    if arguments.inline and (strange := [name for name in _DISTRIBUTED if name in given]):
        raise ConfigurationError(f"{option_of(strange[0])}: an inline Map has none; leave out that, or --inline")
    if len(sources := [option_of(name) for name in _SOURCES if name in given]) > 1:
        raise ConfigurationError(f"{', '.join(sources)}: the items are in one place; say one of them")
    if "no_gather" in given and "gather" in given:
        raise ConfigurationError("--gather and --no-gather contradict each other")
    found = {field: given[name] for name, field in _FIELDS.items() if name in given}
    if "no_gather" in given:
        found["gather"] = None
    return MapOptions(
        inline="inline" in given,
        versioned="no_version" not in given,
        result_path=arguments.result_path,
        next=arguments.next,
        **found,
    )


def child_of(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments of a child's state: what follows, and where results go, is the Map's."""
    return argparse.Namespace(**{**vars(arguments), "next": None, "result_path": "$"})


def before_map(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments of the chain before the Map: what is a child's own is left out."""
    return argparse.Namespace(**{**vars(arguments), **_OF_THE_CHILD, "file": None})


def map_notes(child: StateOptions, options: MapOptions) -> list[str]:
    """Return what is to be known of a Map that is valid."""
    if options.gather is None:
        return []
    places = dict.fromkeys([*own_place(child), *([] if options.inline else [results_place(child, options)])])
    needed = [place for place in places if not any(place != other and place.startswith(other) for other in places)]
    what = "outputs" if options.inline else "outputs and result files"
    notes = [f'{GATHER}: set STEPOUT_ALLOW="{" ".join(needed)}" for the function: {what}'] if needed else []
    if gathers_a_list(child, options) and options.catch:
        notes.append(
            f"{GATHER} has no Catch: its input is the list of outputs, and JSONPath can put no error beside a list. "
            "Its failure fails the execution. To catch it, put the list beside the input: --result-path '$.results'"
        )
    return notes
