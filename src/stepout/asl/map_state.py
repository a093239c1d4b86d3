"""Map states around a child: its items, what each child is told, and where the results go. Pure.

Fields and defaults: https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html, and the pages of
``ItemReader``, ``ItemSelector``, ``ItemBatcher`` and ``ResultWriter`` there. A child of a Distributed Map is an
execution of its own: its context object has neither the item nor its parent's ARN, so ``ItemSelector`` passes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stepout.asl.services import KINDS
from stepout.asl.states import assembled, machine_of, map_results, task_state
from stepout.asl.variables import ARN_MOST, COUNT_MOST, Expression, StateOptions, looked_up, own_place, render
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

Transformation = Literal["NONE", "COMPACT", "FLATTEN"]
OutputType = Literal["JSON", "JSONL"]

DISTRIBUTED_MOST: Final = 10_000
INLINE_MOST: Final = 40
"""Children at once, by Step Functions' guide."""

GATHER: Final = "Gather"
"""The name of the state that gathers."""

_LABEL_MOST: Final = 40
_WHOLE: Final = 100
_URL = re.compile(r"s3://(?P<bucket>[^/]+)(?:/(?P<prefix>.*))?")


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """What a Map state is made of, besides its child.

    Attributes:
        name: The Map state's name.
        inline: Whether the children run within the parent's own execution; otherwise each is one of its own.
        items: The place of an array in the state's input, in place of a reader.
        pointer: The place of the pointer that ``write_item_reader_manifest`` returned.
        listing: ``s3://bucket/prefix/``: every object there is an item, in place of a pointer.
        versioned: Whether the pointer has a version.
        batch: How many items a child is given at most; ``None``: one, not in a list.
        concurrency: How many children run at once, at most; ``None`` for the default.
        tolerated: How many percent of the children may fail.
        label: What the children's ARNs are called by; ``None``: the name, as far as a label can hold it.
        results: ``s3://bucket/prefix/`` of the result files; ``None``: ``results/`` at the children's own place.
        transformation: What the result files hold of each child.
        output_type: How.
        gather: The function that is given the results; ``None`` for none.
        result_path: As in ``StateOptions``; of the results, which the function that gathers is given from there.
        next: The state that follows all.
        catch: As in ``StateOptions``; of the Map and of what gathers.
    """

    name: str = "Each"
    inline: bool = False
    items: str | None = None
    pointer: str = "$.artifacts.items"
    listing: str | None = None
    versioned: bool = True
    batch: int | None = None
    concurrency: int | None = None
    tolerated: int = 5
    label: str | None = None
    results: str | None = None
    transformation: Transformation = "NONE"
    output_type: OutputType = "JSONL"
    gather: str | None = "${GatherFunction}"
    result_path: str = "$"
    next: str | None = None
    catch: tuple[tuple[tuple[str, ...], str], ...] = ((("States.ALL",), "Failed"),)

    def __post_init__(self) -> None:
        """Check what no Map state can do with."""
        most = INLINE_MOST if self.inline else DISTRIBUTED_MOST
        if not 0 < self.at_once <= most:
            raise ConfigurationError(f"--max-concurrency: 1 to {most:,} for this kind of Map, not {self.at_once:,}")
        if not 0 <= self.tolerated <= _WHOLE:
            raise ConfigurationError(f"--tolerate {self.tolerated}: expected 0 to 100, a percentage")
        if self.batch is not None and self.batch < 1:
            raise ConfigurationError("--batch must be at least 1")
        if self.label is not None and not (0 < len(self.label) <= _LABEL_MOST and self.label == _as_label(self.label)):
            raise ConfigurationError(
                f"--label {self.label!r}: expected 1 to {_LABEL_MOST} letters, digits, '-' and '_'"
            )

    @property
    def at_once(self) -> int:
        """How many children run at once, at most."""
        return (INLINE_MOST if self.inline else _WHOLE) if self.concurrency is None else self.concurrency


def map_machine(
    kind: str, child: StateOptions, options: MapOptions, before: Sequence[tuple[str, StateOptions]] = ()
) -> dict[str, Any]:
    """Return a state machine: the states before, the Map, and what gathers its results.

    Args:
        kind: The kind of the child's state, one of ``KINDS``.
        child: What that is made of.
        options: What the Map is made of.
        before: States before it, each naming the next; the last one gives the Map its input.

    Raises:
        ConfigurationError: The options contradict one another, the kind cannot do what they ask, or two states have
            one name.
    """
    if before and KINDS[before[-1][0]].reports == "pull" and options.listing is None:
        raise ConfigurationError(
            f"state {before[-1][1].name!r} reports by pull mode and gives on a URL, where the Map needs a document's "
            "members: use a kind with a token, or --list"
        )
    states = [(each.name, task_state(of, each)) for of, each in before]
    states.append((options.name, map_state(kind, child, options)))
    if options.gather is not None:
        if options.result_path == "null":
            raise ConfigurationError(
                "--result-path null drops the results, so the function that gathers would be given none: leave it "
                "out, or say --no-gather"
            )
        gather = StateOptions(
            name=GATHER,
            language=child.language,
            input=options.result_path,
            settings={"function": options.gather},
            next=options.next,
            catch=() if gathers_a_list(child, options) else options.catch,
        )
        states.append((GATHER, task_state("consumer", gather)))
    return assembled(states, last=options.next, language=child.language)


def gathers_a_list(child: StateOptions, options: MapOptions) -> bool:
    """Tell whether the state that gathers has a list as its input, beside which JSONPath can put no error.

    Args:
        child: The child's options.
        options: The Map's.
    """
    return options.inline and options.result_path == "$" and child.language == "jsonpath"


def map_state(kind: str, child: StateOptions, options: MapOptions) -> dict[str, Any]:
    """Return the Map state alone.

    Args:
        kind: The kind of the child's state.
        child: What that is made of.
        options: What the Map is made of.

    Raises:
        ConfigurationError: As ``map_machine``.
    """
    language = child.language
    processor = machine_of([(kind, told(child, options))])
    processor.pop("QueryLanguage", None)
    express = {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS" if child.express else "STANDARD"}
    config = {"ProcessorConfig": {"Mode": "INLINE"} if options.inline else express}
    following = GATHER if options.gather is not None else options.next
    state: dict[str, Any] = {
        "Type": "Map",
        **({} if options.inline else {"Label": options.label or _as_label(options.name)}),
        **_items(language, options),
        "ItemSelector": render(_selected(options, language), language),
        **_batcher(language, options),
        "MaxConcurrency": options.at_once,
        **({} if options.inline else {"ToleratedFailurePercentage": options.tolerated}),
        "ItemProcessor": {**config, **processor},
        **({} if options.inline else _writer(child, options)),
    }
    state |= map_results(StateOptions(language=language, result_path=options.result_path, catch=options.catch))
    return {**state, **({"Next": following} if following else {"End": True})}


def told(child: StateOptions, options: MapOptions) -> StateOptions:
    """Return a child's options with what the Map tells each: its item, its index, its parent, and its siblings.

    Args:
        child: As it was asked for. An input of ``$`` stands for the item.
        options: The Map's.

    Raises:
        ConfigurationError: The child sets a variable that the Map does.
    """
    item = "$.Items" if options.batch else "$.item"
    first, parent = ("Items[0].", "BatchInput.parent") if options.batch else ("", "parent")
    ours = {
        "STEPOUT_PARENT_EXECUTION": Expression(f"$.{parent}", f"$states.input.{parent}", ARN_MOST),
        "STEPOUT_MAP_INDEX": _number(f"{first}index"),
    }
    if options.inline:  # its execution is its parent's, and the context object has the index
        ours = {"STEPOUT_FAN_IN": _number("count")}
    concurrency = {"STEPOUT_MAX_CONCURRENCY": str(options.at_once)}
    if taken := sorted({*ours, *concurrency} & set(child.environment)):
        raise ConfigurationError(f"--env {taken[0]}: leave it out; the Map passes it")
    return replace(
        child,
        input=item if child.input == "$" else child.input,
        in_map=options.inline,
        environment={**child.environment, **concurrency},
        variables=ours,
    )


def _number(member: str) -> Expression:
    return Expression(f"States.Format('{{}}', $.{member})", f"$string($states.input.{member})", COUNT_MOST)


def _items(language: Any, options: MapOptions) -> dict[str, Any]:
    where = "Arguments" if language == "jsonata" else "Parameters"
    path = options.items or ("$.items" if options.inline else None)
    if path is not None:
        found = looked_up(language, "--items", path)
        return {"Items": f"{{% {found.query} %}}"} if language == "jsonata" else {"ItemsPath": found.path}
    if options.listing is not None:
        bucket, prefix = _place(options.listing, "--list")
        place = {"Bucket": bucket, **({"Prefix": prefix} if prefix else {})}
        return {"ItemReader": {"Resource": "arn:aws:states:::s3:listObjectsV2", where: place}}
    pointer = looked_up(language, "--pointer", options.pointer)
    names = {"Bucket": "bucket", "Key": "key", **({"VersionId": "versionId"} if options.versioned else {})}
    members = {name: Expression(f"{pointer.path}.{of}", f"{pointer.query}.{of}") for name, of in names.items()}
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSONL"}}
    return {"ItemReader": {**reader, where: render(members, language)}}


def _selected(options: MapOptions, language: Any) -> dict[str, Any]:
    item = Expression("$$.Map.Item.Value", "$states.context.Map.Item.Value")
    if options.inline:
        items = looked_up(language, "--items", options.items or "$.items")
        return {"item": item, "count": Expression(f"States.ArrayLength({items.path})", f"$count({items.query})")}
    index = Expression("$$.Map.Item.Index", "$states.context.Map.Item.Index")
    return {"index": index, "item": item, **({} if options.batch else {"parent": _PARENT})}


_PARENT: Final = Expression("$$.Execution.Id", "$states.context.Execution.Id")


def _batcher(language: Any, options: MapOptions) -> dict[str, Any]:
    if options.batch is None:
        return {}
    shared = render({"parent": _PARENT}, language)
    return {"ItemBatcher": {"MaxItemsPerBatch": options.batch, "BatchInput": shared}}


def _writer(child: StateOptions, options: MapOptions) -> dict[str, Any]:
    bucket, prefix = _place(results_place(child, options), "--results")
    place = {"Bucket": bucket, "Prefix": prefix.rstrip("/")}
    where = "Arguments" if child.language == "jsonata" else "Parameters"
    config = {"Transformation": options.transformation, "OutputType": options.output_type}
    return {"ResultWriter": {"Resource": "arn:aws:states:::s3:putObject", where: place, "WriterConfig": config}}


def results_place(child: StateOptions, options: MapOptions) -> str:
    """Return ``s3://bucket/prefix/`` of the result files."""
    if options.results is not None:
        return options.results
    (own,) = own_place(child) or ("s3://${Bucket}/",)
    return f"{own}results/"


def _place(url: str, option: str) -> tuple[str, str]:
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError(f"{option} {url!r}: expected s3://BUCKET/PREFIX/")
    return found["bucket"], found["prefix"] or ""


def _as_label(name: str) -> str:
    """Return what a label can hold of a name.

    >>> _as_label("Each tile!")
    'Each-tile'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:_LABEL_MOST].strip("-") or "Map"
