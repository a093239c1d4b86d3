"""``stepout asl chain``: the states of a chain, from a file or from ``--state``, with the options of ``asl KIND``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stepout.asl.services import KINDS
from stepout.cli.options import option_of, standard_input
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.text.json_text import load_json
from stepout.schemas.text.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHAIN = "chain"

CHAIN_EPILOG = """\
chain: a state machine of several states in a row, each given what the one before gave on
  stepout asl chain --state Mask=ecs:mask --state Score=ecs:score --state Tell=consumer:tell \\
    --cluster jobs --subnets subnet-0a1b2c3d --bucket results-bucket --prefix runs > machine.asl.json
  stepout asl chain chain.json > machine.asl.json

  --state NAME=KIND:WHAT  WHAT is the task definition (ecs, ecs-sync), the function (lambda, consumer), the image (eks),
                          the queue's URL (sqs), the activity (activity), the job definition (batch) or the job (glue).
                          Without :WHAT there is a placeholder.
  other options           hold for every state that has a use for them; --input, --input-json, --input-size and
                          --no-input are those of the first state.
  FILE                    JSON, for states with options of their own. Members are options without their dashes. What
                          stands beside "states" holds for all that have a use for it:
    { "bucket": "results-bucket", "prefix": "runs", "cluster": "jobs", "subnets": ["subnet-0a1b2c3d"],
      "states": [
        { "name": "Mask", "kind": "ecs", "task-definition": "mask", "env": { "LEVEL": "3" } },
        { "name": "Score", "kind": "ecs", "task-definition": "score", "result-path": "$.score" },
        { "name": "Tell", "kind": "consumer", "function": "tell" } ] }

  Reading: a container has the output of the state before as task.input; a function calls resolve_output(event).
  Failing: every state leads to Failed, which fails the execution with the error and the cause of the task.
  Sizes: ECS allows 8,192 characters of overrides. So an output that a later container on ECS is given has a budget
  (STEPOUT_OUTPUT_BUDGET). What is larger goes to S3 by itself, a pointer is passed on, and task.input follows it.
"""

_WHAT = {
    "ecs": "task_definition",
    "ecs-sync": "task_definition",
    "eks": "image",
    "sqs": "queue_url",
    "activity": "activity",
    "lambda": "function",
    "consumer": "function",
    "batch": "job_definition",
    "glue": "job",
}
_OF_THE_FIRST = {"input": None, "input_json": None, "input_size": None, "no_input": False}
_OF_ONE_STATE = {"name": None, "next": None, "url": None, "result_path": "$"}
_SWITCHES = ("machine", "express", "map", "no_catch", "no_input", "no_redrive", "public_ip")
_JOINED = ("subnets", "security_groups")


class StateParser(argparse.ArgumentParser):
    """Reads a state's options from words, and raises instead of ending the process."""

    where = ""

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigurationError``."""
        raise ConfigurationError(f"{self.where}{message}")

    def check_members(self, members: Iterable[str]) -> None:
        """Raise ``ConfigurationError`` for a member that is no option; it says what may have been meant."""
        known = [option.removeprefix("--") for option in self._option_string_actions]
        for member in members:
            if member != "kind" and member.replace("_", "-") not in known:
                hint = did_you_mean(member.replace("_", "-"), [*known, "kind"])
                raise ConfigurationError(f"{self.where}unknown member {member!r}{hint}")


def chain_of(
    arguments: argparse.Namespace, parser: StateParser, uses: Callable[[str, str], bool]
) -> Iterator[argparse.Namespace]:
    """Yield the arguments of each state, as ``stepout asl KIND`` would have them.

    Args:
        arguments: Of ``stepout asl chain``.
        parser: Of a state's options alone, ``kind`` included, without defaults for what is there already.
        uses: Whether a kind has a use for an option of a service.

    Raises:
        ConfigurationError: A file is no description of a chain, or an option is invalid.
    """
    shared, states = argparse.Namespace(**vars(arguments)), _described(arguments)
    if arguments.file is not None:
        above, states = states
        _read_into(shared, {"kind": "ecs", **above}, parser, f"{arguments.file}: ")
    given = [name for name, none in _OF_ONE_STATE.items() if getattr(shared, name) != none]
    if given == ["next"]:
        raise ConfigurationError("leave out --next: the order of the states says what follows")
    if given:
        raise ConfigurationError(f"{option_of(given[0])} is of one state: say it in the file, within that state")
    for index, members in enumerate(states):
        where = f"state {members.get('name', index + 1)!r}: "
        if members.get("kind") not in KINDS:
            kind = members.get("kind")
            hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
            raise ConfigurationError(f"{where}kind is {kind!r}{hint or ':'} expected one of {', '.join(KINDS)}")
        one = argparse.Namespace(**vars(shared))
        _narrow(one, str(members["kind"]), uses)
        if index:
            vars(one).update(_OF_THE_FIRST)
        if "catch" in members:
            one.catch = None
        _read_into(one, {"name": f"State{index + 1}", **members}, parser, where)
        yield one


def _described(arguments: argparse.Namespace) -> Any:
    """Return the states of the command line; of a file, what stands beside its states, and the states."""
    if (arguments.file is None) == (not arguments.state):
        raise ConfigurationError(
            "chain: which states? Pass --state NAME=KIND:WHAT for each, or one FILE ('stepout asl --help' shows both)"
        )
    if arguments.file is None:
        return [_from_word(word) for word in arguments.state]
    text = standard_input().read() if arguments.file == "-" else Path(arguments.file).read_bytes()
    try:
        value = load_json(text)
    except InvalidDocumentError as error:
        raise ConfigurationError(f"{arguments.file}: {error}") from None
    states = value.get("states") if isinstance(value, dict) else None
    if not isinstance(states, list) or not states or not all(isinstance(each, dict) for each in states):
        raise ConfigurationError(f'{arguments.file}: expected an object whose member "states" is a list of objects')
    return {name: each for name, each in value.items() if name != "states"}, states


def _from_word(word: str) -> dict[str, Any]:
    name, found, rest = word.partition("=")
    kind, of, what = rest.partition(":")
    if not (name and found) or kind not in _WHAT or (of and not what):
        hint = did_you_mean(kind, _WHAT) if name and kind and kind not in _WHAT else ""
        raise ConfigurationError(
            f"--state {word!r}{hint or ':'} expected NAME=KIND or NAME=KIND:WHAT, KIND being {', '.join(_WHAT)}"
        )
    return {"name": name, "kind": kind, **({_WHAT[kind]: what} if what else {})}


def _narrow(arguments: argparse.Namespace, kind: str, uses: Callable[[str, str], bool]) -> None:
    """Leave out what was said for all, and this kind has no use for."""
    for name in vars(arguments):
        if not uses(kind, name):
            setattr(arguments, name, None)
    if KINDS[kind].reports != "token":
        arguments.heartbeat = None


def _read_into(arguments: argparse.Namespace, members: dict[str, Any], parser: StateParser, where: str) -> None:
    parser.where = where
    parser.check_members(members)
    parser.parse_args([str(members["kind"]), *_words(members, where)], namespace=arguments)


def _words(members: dict[str, Any], where: str) -> Iterator[str]:
    """Say members as options: ``{"task-definition": "mask"}`` is ``--task-definition=mask``."""
    for key, value in members.items():
        name = key.replace("-", "_")
        option = option_of(name)
        if name == "kind":
            continue
        if name in _SWITCHES:
            if not isinstance(value, bool):
                raise ConfigurationError(f"{where}{key} must be true or false")
            yield from [option] if value else []
        elif name == "input_json":
            yield f"{option}={json.dumps(value)}"
        elif name == "env" and isinstance(value, dict):
            yield from (f"{option}={variable}={_text(each, where, key)}" for variable, each in value.items())
        elif isinstance(value, list):
            texts = [_text(each, where, key) for each in value]
            yield from [f"{option}={','.join(texts)}"] if name in _JOINED else [f"{option}={each}" for each in texts]
        else:
            yield f"{option}={'null' if value is None else _text(value, where, key)}"


def _text(value: Any, where: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigurationError(f"{where}{key} must be text or a whole number")
    return str(value)
