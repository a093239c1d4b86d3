"""What ``stepout asl`` puts into a state: every ``STEPOUT_*`` variable, as expressions of both query languages. Pure.

Names and shapes are those of the context object
(https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html). Its counts are numbers, and a
process's variables are text, so they are formatted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

QueryLanguage = Literal["jsonpath", "jsonata"]

# From the service model of Step Functions, 2016-11-23: Arn and Name.
ARN_MOST, _NAME, _STATE_NAME = 256, 80, 80
COUNT_MOST = 9
_URL = len("s3://") + 63 + len("/") + 1_024
_TIME = len("2026-11-22T12:00:00.000Z")
_TOKEN = 700
"""Characters of a task token in practice; the service model allows 2,048."""

_INTO_URL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_INTO_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_INTO_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PATH = re.compile(r"\$\$?|\$\$?[.\[].*[^.]", re.DOTALL)
_RESULT_PATH = re.compile(r"null|\$(?:\.[A-Za-z_]\w*)*")
_TOKEN_NAMES = ("STEPOUT_TASK_TOKEN", "TASK_TOKEN")


@dataclass(frozen=True)
class Expression:
    """A value that is only known when the state is entered.

    Attributes:
        path: In JSONPath: a path or an intrinsic function.
        query: In JSONata, without the ``{% %}``.
        longest: The characters that the value may take inside a JSON string.
    """

    path: str
    query: str
    longest: int = 0


@dataclass(frozen=True, kw_only=True)
class StateOptions:
    """What a state is made of, besides its kind.

    Attributes:
        name: The state's name.
        language: JSONPath or JSONata.
        heartbeat: ``HeartbeatSeconds``; ``None`` for what fits the kind.
        timeout: ``TimeoutSeconds``; ``None`` for what fits the kind.
        input: What becomes ``STEPOUT_INPUT``: a path, in JSONata an expression; ``None`` leaves it out.
        input_json: A literal in its place, as JSON.
        input_size: The characters of JSON that ``input`` has at most, if known.
        input_is_url: Whether ``input`` is the URL of an output document, which goes on without quotes.
        allow: What the input may point to, instead of the place of the state's own artifacts.
        in_map: Whether the state is inside a Map.
        bucket: Where artifacts go.
        prefix: The folder in it.
        url: In pull mode, the path of the output document's URL, where an earlier state has made it.
        redrive: Whether ``STEPOUT_REDRIVE`` is passed; stand-ins for Step Functions may not know the count.
        result_path: Where in the state's input its result goes: ``$`` takes the input's place, ``$.member`` stands
            beside it, ``null`` drops the result.
        next: The state that follows; ``None`` ends the execution.
        catch: The state for each set of error names, in order.
        retries: How often a failure that may pass is tried again; 0 for never.
        retry_interval: Seconds before the first retry.
        environment: Further variables of the container, literally.
        variables: Further variables that are looked up when the state is entered.
        settings: What the kind's service needs, by the option's name.
        express: Whether it is meant for an Express workflow.
    """

    name: str = "Work"
    language: QueryLanguage = "jsonpath"
    heartbeat: int | None = None
    timeout: int | None = None
    input: str | None = "$"
    input_json: str | None = None
    input_size: int | None = None
    input_is_url: bool = False
    allow: tuple[str, ...] = ()
    in_map: bool = False
    bucket: str | None = None
    prefix: str | None = None
    url: str | None = None
    redrive: bool = True
    result_path: str = "$"
    next: str | None = None
    catch: tuple[tuple[tuple[str, ...], str], ...] = ((("States.ALL",), "Failed"),)
    retries: int = 3
    retry_interval: int = 10
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Expression] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    express: bool = False

    @property
    def input_path(self) -> str | None:
        """The path or expression by which ``STEPOUT_INPUT`` is looked up; ``None`` for a literal, or no input."""
        return None if self.input_json is not None else self.input

    def __post_init__(self) -> None:
        """Check what no kind of state can do without."""
        if not 0 < len(self.name) <= _STATE_NAME:
            raise ConfigurationError(f"a state's name has 1 to {_STATE_NAME} characters, not {len(self.name)}")
        if self.input_json is not None:
            _literal(self.input_json)
        _check_place(self.bucket, self.prefix)
        _check_allowed(self.allow)
        if not _RESULT_PATH.fullmatch(self.result_path):
            raise ConfigurationError(
                f"--result-path {self.result_path!r}: expected $, $.member (or $.member.member), or null"
            )
        _check_catchers([names for names, _ in self.catch])
        for name in _TOKEN_NAMES:
            if name in self.environment:
                raise ConfigurationError(
                    f"--env {name}: leave it out; the state passes the token itself, a new one a try"
                )


def _check_place(bucket: str | None, prefix: str | None) -> None:
    """Refuse what the task would refuse as STEPOUT_BUCKET and STEPOUT_PREFIX; placeholders are filled in later."""
    from stepout.artifacts.writing.buckets import place_of

    if "${" in f"{bucket}{prefix}":
        return
    try:
        place_of("results-bucket" if bucket is None else bucket, prefix or "")
    except ConfigurationError as error:
        option = "--bucket" if bucket is not None and not prefix else "--bucket, --prefix" if bucket else "--prefix"
        raise ConfigurationError(f"{option}: {str(error).partition(';')[0]}") from None


def _check_allowed(allow: tuple[str, ...]) -> None:
    from stepout.artifacts.allow import allowed_from

    try:
        allowed_from([each for each in allow if "${" not in each])
    except ConfigurationError as error:
        raise ConfigurationError(f"--allow: {error}") from None


def _check_catchers(catchers: list[tuple[str, ...]]) -> None:
    """Refuse what Step Functions refuses, and what it can never catch."""
    for names in catchers[:-1]:
        if "States.ALL" in names:
            raise ConfigurationError("--catch: States.ALL catches every error; one catcher has it, and it is the last")
    for names in catchers:
        if "States.ALL" in names and len(names) > 1:
            raise ConfigurationError("--catch: States.ALL stands alone in its catcher; leave the other names out")
        if "States.Runtime" in names:
            raise ConfigurationError("--catch: States.Runtime always ends the execution; it cannot be caught")


def _count(path: str) -> Expression:
    return Expression(
        path=f"States.Format('{{}}', $$.{path})", query=f"$string($states.context.{path})", longest=COUNT_MOST
    )


def run_variables(options: StateOptions) -> dict[str, Any]:
    """Return the variables that say which run of which state it is.

    Examples:
        >>> run_variables(StateOptions())["STEPOUT_ATTEMPT"].path
        "States.Format('{}', $$.State.RetryCount)"
    """
    name = len(json.dumps(options.name, ensure_ascii=False)) - 2
    variables: dict[str, Any] = {
        "STEPOUT_EXECUTION": Expression("$$.Execution.Id", "$states.context.Execution.Id", ARN_MOST),
        "STEPOUT_STATE": Expression("$$.State.Name", "$states.context.State.Name", name),
        "STEPOUT_ATTEMPT": _count("State.RetryCount"),
    }
    if options.redrive:
        variables["STEPOUT_REDRIVE"] = _count("Execution.RedriveCount")
    if options.in_map:
        variables["STEPOUT_MAP_INDEX"] = _count("Map.Item.Index")
    return {**variables, **options.variables}


def task_variables(options: StateOptions, *, heartbeat: int | None, text: bool = True) -> dict[str, Any]:
    """Return every variable of a task but for its places.

    Args:
        options: The state's.
        heartbeat: Its ``HeartbeatSeconds``, where a token is passed; ``None`` for pull mode.
        text: Whether the input is passed as JSON text, as a process's variable must be, or as it is.

    Returns:
        Literals and expressions by the variable's name.
    """
    variables = run_variables(options)
    if heartbeat is None:
        variables = {"STEPOUT_OUTPUT": output_url(options), **variables}
    else:
        token = Expression("$$.Task.Token", "$states.context.Task.Token", _TOKEN)
        variables = {"STEPOUT_TASK_TOKEN": token, **variables, "STEPOUT_HEARTBEAT_SECONDS": str(heartbeat)}
    value = input_expression(options, text=text)
    if value is not None:
        variables["STEPOUT_INPUT"] = value
    return variables


def input_expression(options: StateOptions, *, text: bool = True) -> Any:
    """Return what ``STEPOUT_INPUT`` is: a literal, an expression, or ``None``.

    Args:
        options: The state's.
        text: Whether it is passed as JSON text.

    Raises:
        ConfigurationError: The path is invalid.

    Examples:
        >>> input_expression(StateOptions(input="$.job")).path
        'States.JsonToString($.job)'
        >>> input_expression(StateOptions(input="$.job")).query
        '$string($states.input.job)'
    """
    if options.input_json is not None:
        literal = _literal(options.input_json)
        return json.dumps(literal, ensure_ascii=False, separators=(",", ":")) if text else literal
    if options.input_path is None:
        return None
    # Inside a JSON string every quote and backslash of JSON text takes two characters.
    longest = _URL if options.input_is_url else 2 * (options.input_size or 0)
    found = looked_up(options.language, "--input", options.input_path, longest)
    if text and not options.input_is_url:
        return Expression(f"States.JsonToString({found.path})", f"$string({found.query})", longest)
    return found


def allowed_places(options: StateOptions) -> tuple[str, ...]:
    """Return what ``STEPOUT_ALLOW`` says: what the input may point to, if it can be a pointer or a task output at all.

    Args:
        options: The state's; without ``allow`` the place of its own artifacts counts, where an earlier state of the
            same machine has most likely put its own.

    Examples:
        >>> allowed_places(StateOptions(bucket="results-bucket", prefix="runs"))
        ('s3://results-bucket/runs/',)
        >>> allowed_places(StateOptions(bucket="results-bucket", input_json='{"scene": 7}'))
        ()
    """
    if not _may_be_document(options):
        return ()
    return options.allow or own_place(options)


def _may_be_document(options: StateOptions) -> bool:
    from stepout.inputs import is_document

    if options.input_json is not None:
        return is_document(_literal(options.input_json))
    return options.input is not None


def own_place(options: StateOptions) -> tuple[str, ...]:
    """Return the one place of a state's artifacts, as an allow-list has it; none without a bucket."""
    from stepout.artifacts.writing.buckets import place_of

    if options.bucket is None:
        return ()
    if "${" in f"{options.bucket}{options.prefix}":
        parts = (options.bucket.removeprefix("s3://"), options.prefix or "")
        return (f"s3://{'/'.join(part.strip('/') for part in parts if part)}/",)
    bucket, prefix = place_of(options.bucket, options.prefix or "")
    return (f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}/",)


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError("--input-json is no JSON") from None


def looked_up(language: QueryLanguage, option: str, path: str, longest: int = 0) -> Expression:
    """Return what is at a path.

    Args:
        language: JSONPath; or JSONata, where the path may be an expression as well.
        option: Which option says it, for messages.
        path: The path.
        longest: The characters that it may take inside a JSON string.

    Raises:
        ConfigurationError: It is no path.
    """
    if language == "jsonpath" and not _PATH.fullmatch(path):
        raise ConfigurationError(f"{option} {path!r} is no path: expected $, $.member or $$.member")
    return Expression(path, _as_query(path), longest)


def _as_query(path: str) -> str:
    """Say in JSONata what a simple JSONPath says; anything else is JSONata already, its ``{% %}`` taken off."""
    if path.startswith("{%") and path.endswith("%}"):
        return path[2:-2].strip()
    if path == "$":
        return "$states.input"
    if path.startswith("$$."):
        return f"$states.context.{path[3:]}"
    return f"$states.input{path[1:]}" if path.startswith(("$.", "$[")) else path


def output_url(options: StateOptions) -> Expression:
    """Return where a task in pull mode writes its output document: a place for each visit of the state.

    The time at which the state was entered keeps the visits of a loop apart; it is the same for every retry.

    Args:
        options: The state's; ``bucket`` or ``url`` must be there.

    Raises:
        ConfigurationError: There is no bucket, or a name cannot be part of a URL.
    """
    if options.url is not None:
        return looked_up(options.language, "--url", options.url, _URL)
    if options.bucket is None:
        raise ConfigurationError("pull mode needs a place for the output document: pass --bucket (and --prefix)")
    if not _INTO_BUCKET.fullmatch(options.bucket):
        raise ConfigurationError(
            f"--bucket {options.bucket!r} is no bucket's name: in pull mode pass that alone, and the folder as --prefix"
        )
    if options.prefix and not _INTO_PREFIX.fullmatch(options.prefix):
        raise ConfigurationError("--prefix: in pull mode, letters, digits, '.', '_', '-' and '/' between them alone")
    if not _INTO_URL.fullmatch(options.name):
        raise ConfigurationError(
            f"--name {options.name!r}: in pull mode the state's name is part of a URL: letters, digits, '.', '_', '-'"
        )
    parts = ["StateMachine.Name", "Execution.Name", "State.Name", "State.EnteredTime"]
    lengths = [_NAME, _NAME, len(options.name), _TIME]
    if options.in_map:
        parts, lengths = [*parts, "Map.Item.Index"], [*lengths, COUNT_MOST]
    place = "/".join(filter(None, (f"s3://{options.bucket}", options.prefix, "outputs")))
    slots = "/".join("{}" for _ in parts)
    found = ", ".join(f"$$.{part}" for part in parts)
    asked = " & '/' & ".join(f"$states.context.{part}" for part in parts)
    return Expression(
        path=f"States.Format('{place}/{slots}.json', {found})",
        query=f"'{place}/' & {asked} & '.json'",
        longest=len(place) + len(".json") + sum(lengths) + len(lengths),
    )


_OPEN: Final = "{% "
_CLOSE: Final = " %}"


def render(value: Any, language: QueryLanguage) -> Any:
    """Return a template in one query language.

    Args:
        value: JSON in which an ``Expression`` may stand for any member's value.
        language: JSONPath or JSONata.

    Examples:
        >>> render({"Name": Expression("$.name", "$states.input.name")}, "jsonpath")
        {'Name.$': '$.name'}
        >>> render({"Name": Expression("$.name", "$states.input.name")}, "jsonata")
        {'Name': '{% $states.input.name %}'}
    """
    if isinstance(value, list):
        return [render(each, language) for each in value]
    if not isinstance(value, dict):
        return f"{_OPEN}{value.query}{_CLOSE}" if isinstance(value, Expression) else value
    found: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, Expression) and language == "jsonpath":
            found[f"{name}.$"] = each.path
        else:
            found[name] = render(each, language)
    return found
