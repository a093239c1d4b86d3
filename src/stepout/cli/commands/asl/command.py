"""``stepout asl``: a Task state, or a whole state machine, with every variable wired."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stepout.asl.chain import chain
from stepout.asl.map_state import map_machine, told
from stepout.asl.services import KINDS
from stepout.asl.states import machine_of, state_machine, state_warnings, task_state, unfilled
from stepout.asl.variables import StateOptions
from stepout.cli.commands.asl.chain import CHAIN, CHAIN_EPILOG, StateParser, chain_of
from stepout.cli.commands.asl.map import (
    MAP,
    MAP_EPILOG,
    add_map,
    before_map,
    check_no_map,
    child_kind,
    child_of,
    map_notes,
    map_options,
)
from stepout.cli.options import option_of
from stepout.cli.printing import print_json
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepout.cli.parser import CommandParser

_EXAMPLES = """\
examples:
  stepout asl ecs --cluster jobs --task-definition mask --subnets subnet-0a1b2c3d --bucket results-bucket
  stepout asl ecs --result-path '$.mask' --next Score > state.json
  stepout asl ecs --machine --catch BadFrame=Retake --catch Failed > machine.asl.json
  stepout asl eks --bucket results-bucket --prefix runs --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/mask:1
  stepout asl sqs --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/jobs --query-language jsonata

What is not said becomes a placeholder such as ${Cluster}, for CloudFormation's DefinitionSubstitutions or Terraform's
templatefile; standard error lists them. The task token appears in no state: only the expression that stands for it.
"""

_OPTIONS = """
The options of a state, such as --bucket, --cluster and --heartbeat, are those of 'stepout asl --help'.
"""
_SHORT = {
    CHAIN: (
        "%(prog)s --state NAME=KIND[:WHAT] [--state …] [OPTION …]\n       %(prog)s FILE [OPTION …]",
        f"{CHAIN_EPILOG}{_OPTIONS}",
    ),
    MAP: ("%(prog)s KIND [--state NAME=KIND[:WHAT]]… [OPTION …]", f"{MAP_EPILOG}{_OPTIONS}"),
}

# Which kinds have a use for an option.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "cluster": ("ecs", "ecs-sync", "eks"),
    "task_definition": ("ecs", "ecs-sync"),
    "container": ("ecs", "ecs-sync", "eks"),
    "launch_type": ("ecs", "ecs-sync"),
    "subnets": ("ecs", "ecs-sync"),
    "security_groups": ("ecs", "ecs-sync"),
    "public_ip": ("ecs", "ecs-sync"),
    "image": ("eks",),
    "namespace": ("eks",),
    "service_account": ("eks",),
    "certificate_authority": ("eks",),
    "endpoint": ("eks",),
    "queue_url": ("sqs",),
    "function": ("lambda", "consumer"),
    "activity": ("activity",),
    "job_queue": ("batch",),
    "job_definition": ("batch",),
    "job": ("glue",),
}


_WHAT: dict[str, str] = {
    "cluster": "the cluster's name",
    "task_definition": "the task definition's family, with or without a revision",
    "container": "the container's name in the task definition, or in the job; default: job",
    "launch_type": "where the task runs; default: FARGATE",
    "subnets": "where the task gets its address; needed on Fargate",
    "security_groups": "the security groups of that address",
    "public_ip": "give the task a public address: needed in a subnet without NAT",
    "image": "the container's image",
    "namespace": "the namespace in Kubernetes; default: default",
    "service_account": "the service account in Kubernetes, whose role the job has; default: default",
    "certificate_authority": "the cluster's, as DescribeCluster gives it",
    "endpoint": "the cluster's, as DescribeCluster gives it",
    "queue_url": "the queue of the workers",
    "function": "the function's name or ARN",
    "activity": "the activity's ARN",
    "job_queue": "the job queue's name",
    "job_definition": "the job definition's name, with or without a revision",
    "job": "the job's name",
}


def help_of(kind: str) -> argparse.ArgumentParser:
    """Return a parser that shows what a chain or a Map has; the options of a state are shown elsewhere.

    Args:
        kind: ``chain`` or ``map``.
    """
    usage, epilog = _SHORT[kind]
    shown = argparse.ArgumentParser(
        prog=f"stepout asl {kind}", usage=usage, epilog=epilog, add_help=False, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    if kind == MAP:
        add_map(shown)
    return shown


def configure(parser: CommandParser) -> None:
    """Declare ``stepout asl``."""
    parser.helps = {kind: partial(help_of, kind) for kind in _SHORT}
    parser.usage = (
        "%(prog)s KIND [OPTION …]\n       %(prog)s chain FILE|--state NAME=KIND[:WHAT]… [OPTION …]\n"
        "       %(prog)s map KIND [--state NAME=KIND[:WHAT]]… [OPTION …]"
    )
    kinds = "\n".join(f"  {name:10} {kind.summary}" for name, kind in KINDS.items())
    parser.epilog = f"kinds:\n{kinds}\n\n{_EXAMPLES}\n{CHAIN_EPILOG}\n{MAP_EPILOG}"
    parser.add_argument(
        "kind",
        metavar="KIND",
        choices=(*KINDS, CHAIN, MAP),
        help="which kind of state: one of those listed below; or chain, or map",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="chain: a file that describes the states; - for standard input. map: the KIND of a child",
    )
    parser.add_argument(
        "--state",
        action="append",
        metavar="NAME=KIND[:WHAT]",
        help="chain: one state; repeat it for each, in their order. map: a state before the Map",
    )
    _add_options(parser)
    add_map(parser)
    parser.set_defaults(run=_asl)


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what a state may have, on the command line and in a chain's file."""
    parser.add_argument("--machine", action="store_true", help="print a whole state machine, not the state alone")
    parser.add_argument(
        "--query-language", choices=("jsonpath", "jsonata"), default="jsonpath", help="default: jsonpath"
    )
    parser.add_argument(
        "--express",
        action="store_true",
        help="the state is for an Express workflow: refuse a kind that cannot be in one",
    )
    _add_state(parser)
    _add_input(parser)
    _add_settings(parser)


def _add_state(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the state")
    group.add_argument("--name", help="the state's name; default: Work")
    group.add_argument(
        "--result-path",
        default="$",
        metavar="PATH",
        help="where the result goes: $ (the default) takes the input's place, $.member stands beside it, null drops it",
    )
    group.add_argument("--next", metavar="STATE", help="the state that follows; default: none, the execution ends")
    group.add_argument(
        "--catch",
        action="append",
        type=_catch,
        metavar="[ERROR[,ERROR]=]STATE",
        help="which state a failure leads to; repeatable, the first match counts; default: Failed, for every error. "
        "With --machine, chain and map it is a Fail state with the error and its cause: put yours in its place",
    )
    group.add_argument("--no-catch", action="store_true", help="let a failure fail the execution")
    _add_tries(group)
    group.add_argument(
        "--map", action="store_true", help="the state is inside a Map that you write: pass the item's index"
    )


def _add_tries(group: argparse._ArgumentGroup) -> None:
    """Declare how often a task is tried, and for how long."""
    group.add_argument(
        "--retries",
        type=_whole,
        default=3,
        metavar="N",
        help="how often to try again after a failure that may pass; default: 3",
    )
    group.add_argument(
        "--retry-interval", type=_positive, default=10, metavar="SECONDS", help="before the first of them; default: 10"
    )
    group.add_argument(
        "--heartbeat",
        type=_positive,
        metavar="SECONDS",
        help="without a heartbeat for so long the state fails; must cover image pull and the wait for capacity; "
        "default: by the kind, 600 for ecs",
    )
    group.add_argument(
        "--timeout",
        type=_positive,
        metavar="SECONDS",
        help="the whole task ends by then; longer than --heartbeat; default: by the kind, 6 hours for ecs",
    )


def _add_input(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the task is told")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--input", metavar="PATH", help="which part of the state's input becomes STEPOUT_INPUT; default: $, all of it"
    )
    which.add_argument("--input-json", metavar="JSON", help="STEPOUT_INPUT itself, for example a pointer")
    which.add_argument("--no-input", action="store_true", help="no STEPOUT_INPUT")
    group.add_argument(
        "--input-size",
        type=_whole,
        metavar="N",
        help="how many characters STEPOUT_INPUT has at most: a warning says if they may not fit",
    )
    group.add_argument(
        "--allow",
        action="append",
        metavar="s3://BUCKET/PREFIX/",
        help="STEPOUT_ALLOW: what an input that is a pointer or an output may point to; repeatable; default: the place "
        "of --bucket and --prefix",
    )
    group.add_argument("--bucket", help="STEPOUT_BUCKET: where artifacts go; in pull mode the output document, too")
    group.add_argument("--prefix", help="STEPOUT_PREFIX: the folder in the bucket")
    group.add_argument(
        "--url", metavar="PATH", help="pull mode: where a state before this one has put the output's URL"
    )
    group.add_argument(
        "--no-redrive",
        action="store_true",
        help="no STEPOUT_REDRIVE, for a stand-in of Step Functions that does not know its count",
    )
    group.add_argument(
        "--env",
        action="append",
        default=[],
        type=_variable,
        metavar="NAME=VALUE",
        help="one more variable of the container; repeatable",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the service")
    for name, kinds in _SETTINGS.items():
        option = option_of(name)
        text = f"{', '.join(kinds)}: {_WHAT[name]}"
        if name == "public_ip":
            group.add_argument(option, action="store_true", default=None, help=text)
        elif name == "launch_type":
            group.add_argument(option, choices=("FARGATE", "EC2"), help=text)
        elif name in ("subnets", "security_groups"):
            group.add_argument(option, nargs="+", metavar="ID", help=text)
        else:
            group.add_argument(option, metavar="TEXT", help=text)


def _catch(text: str) -> tuple[tuple[str, ...], str]:
    before, found, state = text.rpartition("=")
    names = tuple(name.strip() for name in before.split(","))
    if not state or (found and not all(names)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected STATE, or ERROR=STATE")
    return (names if found else ("States.ALL",)), state


def _variable(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _positive(text: str) -> int:
    if (number := _whole(text)) == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _asl(arguments: argparse.Namespace) -> int:
    if arguments.kind != MAP:
        check_no_map(arguments)
    if arguments.kind == CHAIN:
        tasks = _chain(arguments)
        document, notes = machine_of(tasks), _chain_warnings(tasks)
    elif arguments.kind == MAP:
        document, notes = _map(arguments)
    elif arguments.file is not None or arguments.state:
        strange = "--state" if arguments.file is None else repr(arguments.file)
        raise ConfigurationError(
            f"{strange}: leave it out; 'stepout asl {arguments.kind}' prints one state and takes options alone, "
            "such as --task-definition. Several states: 'stepout asl chain'"
        )
    else:
        options = _options(arguments)
        document = (state_machine if arguments.machine else task_state)(arguments.kind, options)
        notes = state_warnings(arguments.kind, options)
    print_json(document, one_line=False)
    left = unfilled(document)
    notes += [f"to be filled in: {', '.join(f'${{{name}}}' for name in left)}"] if left else []
    sys.stderr.writelines(f"stepout: {note}\n" for note in notes)
    return 0


def _chain(arguments: argparse.Namespace) -> list[tuple[str, StateOptions]]:
    parser = StateParser(allow_abbrev=False, add_help=False)
    parser.add_argument("kind", choices=KINDS)
    _add_options(parser)

    def uses(kind: str, name: str) -> bool:
        return name not in _SETTINGS or kind in _SETTINGS[name]

    tasks = [(one.kind, _options(one)) for one in chain_of(arguments, parser, uses)]
    if len({options.language for _, options in tasks}) > 1:
        raise ConfigurationError("chain: --query-language is one for all states: say it beside them")
    return chain(tasks)


def _map(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    arguments.kind = child_kind(arguments)
    options, child = map_options(arguments), _options(child_of(arguments))
    options = replace(options, catch=child.catch)
    before = _chain(before_map(arguments)) if arguments.state else []
    if before:
        kind, last = before[-1]
        before[-1] = kind, replace(last, next=options.name)
    child = replace(child, catch=())  # its failure is its result
    notes = _chain_warnings([*before, (arguments.kind, told(child, options))])
    return map_machine(arguments.kind, child, options, before), notes + map_notes(child, options)


def _chain_warnings(tasks: Sequence[tuple[str, StateOptions]]) -> list[str]:
    """What may go wrong with each state, by its name; what is so with several is said once."""
    found: dict[str, list[str]] = {}
    for kind, options in tasks:
        for warning in state_warnings(kind, options):
            found.setdefault(warning, []).append(options.name)
    return [f"{', '.join(names)}: {warning}" for warning, names in found.items()]


def _options(arguments: argparse.Namespace) -> StateOptions:
    given = {name: getattr(arguments, name) for name in _SETTINGS}
    for name in ("subnets", "security_groups"):
        given[name] = [each for each in ",".join(given[name] or ()).split(",") if each] or None
    kept = {name: value for name, value in given.items() if value is not None}
    strange = [name for name in kept if arguments.kind not in _SETTINGS[name]]
    if strange:
        raise ConfigurationError(f"{arguments.kind} has no use for {option_of(strange[0])}")
    others = {name: getattr(arguments, name) for name in ("name", "next", "bucket", "url", "input", "result_path")}
    empty = [name for name, value in {**kept, **others}.items() if value == ""]
    if empty:
        raise ConfigurationError(f"{option_of(empty[0])} is empty: leave it out for a placeholder or the default")
    return StateOptions(
        name="Work" if arguments.name is None else arguments.name,
        language=arguments.query_language,
        heartbeat=arguments.heartbeat,
        timeout=arguments.timeout,
        input=None if arguments.no_input else "$" if arguments.input is None else arguments.input,
        input_json=arguments.input_json,
        input_size=arguments.input_size,
        allow=tuple(arguments.allow or ()),
        in_map=arguments.map,
        bucket=arguments.bucket,
        prefix=arguments.prefix,
        url=arguments.url,
        redrive=not arguments.no_redrive,
        result_path=arguments.result_path,
        next=arguments.next,
        catch=_catchers(arguments.catch, none=arguments.no_catch),
        retries=arguments.retries,
        retry_interval=arguments.retry_interval,
        environment=dict(arguments.env),
        settings=kept,
        express=arguments.express,
    )


def _catchers(
    given: Sequence[tuple[tuple[str, ...], str]] | None, *, none: bool
) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return the catchers, with States.ALL last, as the language wants it."""
    if none and given:
        raise ConfigurationError("--catch and --no-catch contradict each other")
    if none:
        return ()
    found = given if given is not None else [(("States.ALL",), "Failed")]
    return tuple(sorted(found, key=lambda each: "States.ALL" in each[0]))
