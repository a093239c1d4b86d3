"""Task states in a row: what each hands to the next, and how small that must be. Pure.

A state machine without code can neither write to S3 nor measure its input, but the tasks can: an output over its budget
(``STEPOUT_OUTPUT_BUDGET``) goes to S3 and leaves a pointer, which consumers follow without noticing. So each task whose
output becomes ``STEPOUT_INPUT`` of a later container on ECS gets the budget that is sure to fit there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepout.asl.services import KINDS, OVERRIDES_LIMIT, overrides_size, room_beside
from stepout.asl.variables import StateOptions, output_url, own_place
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUDGET = "STEPOUT_OUTPUT_BUDGET"
_LEAST_BUDGET = 1_200
"""Bytes that an output takes, in practice, which has nothing but its manifest's pointer and the run."""
_AROUND_MEMBER = 8
_URL_MEMBER = len('{"output":""}')

Task = tuple[str, StateOptions]


def chain(tasks: Sequence[Task]) -> list[Task]:
    """Wire Task states in a row.

    Args:
        tasks: Kind and options of each, in order. The input ``$`` stands for what the state before gave on, which after
            pull mode is the URL of its output.

    Returns:
        The same with ``next``, ``input``, ``allow`` and, where that is needed, the budget of the output.

    Raises:
        ConfigurationError: There is no state, one says what follows it, or the outputs that a container is given
            cannot be made to fit.
    """
    if not tasks:
        raise ConfigurationError("a chain has at least one state")
    for _, options in tasks:
        if options.next is not None:
            raise ConfigurationError(f"state {options.name!r}: leave out --next: the order of the states says it")
    following = [options.name for _, options in tasks[1:]]
    linked = [
        (kind, replace(options, next=name)) for (kind, options), name in zip(tasks, [*following, None], strict=True)
    ]
    return _sized(_allowed(_with_urls(linked)))


def _with_urls(tasks: list[Task]) -> list[Task]:
    """After a state in pull mode, the next one is given the URL of its output; ``task.input`` follows it."""
    found = tasks[:1]
    for (before, above), (kind, options) in itertools.pairwise(tasks):
        pulled = KINDS[before].reports == "pull" and above.result_path == "$"
        if pulled and options.input_path == "$":
            url = "$.output" if above.url is None else above.url
            options = replace(options, input=url, input_is_url=True)  # noqa: PLW2901 - the same, wired
        found.append((kind, options))
    return found


def _allowed(tasks: list[Task]) -> list[Task]:
    """A task may read what the tasks before it wrote, besides its own place and what was said."""
    found: list[Task] = []
    places: list[str] = []
    for kind, options in tasks:
        places = list(dict.fromkeys([*places, *options.allow, *own_place(options)]))
        found.append((kind, replace(options, allow=tuple(places))))
    return found


@dataclass(frozen=True)
class _Passed:
    """What ``$`` is made of before a state, or the part of it that is the state's input.

    Attributes:
        fixed: Its characters, but for the outputs with a budget; ``None``: unknown.
        outputs: The positions of the tasks whose outputs are in it.
        places: Where each of them lies, a path.
    """

    fixed: int | None
    outputs: tuple[int, ...] = ()
    places: tuple[str, ...] = ()

    def after(self, position: int, kind: str, options: StateOptions) -> _Passed:
        """Return what ``$`` is after a state."""
        if options.result_path == "null" or options.url is not None:
            return self
        new = _given(position, kind, options)
        if options.result_path == "$":
            return new
        known = None if self.fixed is None or new.fixed is None else self.fixed + new.fixed
        around = len(options.result_path) + _AROUND_MEMBER
        there = zip(self.outputs, self.places, strict=True)
        kept = [(index, place) for index, place in there if place != options.result_path]  # the new one replaces it
        kept += [(index, options.result_path) for index in new.outputs]
        outputs, places = tuple(index for index, _ in kept), tuple(place for _, place in kept)
        return _Passed(None if known is None else known + around, outputs, places)

    def given_as(self, options: StateOptions) -> _Passed:
        """Return what a state is given of it: all, one output by its place, or something of unknown size."""
        if options.input_path is None:
            return _Passed(0)
        if options.input_path == "$":
            return self
        alone = [index for index, place in zip(self.outputs, self.places, strict=True) if place == options.input_path]
        return _Passed(0, tuple(alone), (options.input_path,)) if len(alone) == 1 else _Passed(None)


def _given(position: int, kind: str, options: StateOptions) -> _Passed:
    if KINDS[kind].reports == "pull":
        return _Passed(_URL_MEMBER + output_url(options).longest)
    if KINDS[kind].reports == "token" and KINDS[kind].has_variables:
        return _Passed(0, (position,), ("$",))
    return _Passed(None)


def _inputs(tasks: list[Task]) -> Iterator[_Passed]:
    passed = _Passed(tasks[0][1].input_size)  # the execution's input
    for position, (kind, options) in enumerate(tasks):
        yield passed.given_as(options)
        passed = passed.after(position, kind, options)


def _sized(tasks: list[Task]) -> list[Task]:
    """Give each task the largest budget that fits into every later container; from the end, as theirs counts too."""
    found, inputs, budgets = list(tasks), list(_inputs(tasks)), dict[int, int]()
    for position in range(len(tasks) - 1, -1, -1):
        kind, options = found[position]
        if position in budgets and _BUDGET not in options.environment:
            options = replace(options, environment={**options.environment, _BUDGET: str(budgets[position])})
        found[position] = kind, options
        passed = inputs[position]
        if passed.outputs and (room := _room(kind, options, passed)) is not None:
            each = room // (len(passed.outputs) + (passed.fixed is None))  # what is unknown gets a share, and a warning
            if each < _LEAST_BUDGET:
                raise _too_much(options, [tasks[index][1].name for index in passed.outputs], each)
            budgets |= {index: min(each, budgets.get(index, each)) for index in passed.outputs}
    return [_told(kind, options, passed, found) for (kind, options), passed in zip(found, inputs, strict=True)]


def _room(kind: str, options: StateOptions, passed: _Passed) -> int | None:
    """Return the characters of JSON that are sure to fit beside what is known."""
    size = overrides_size(kind, replace(options, input_size=0))
    return None if size is None else max(0, room_beside(size) - (passed.fixed or 0))


def _told(kind: str, options: StateOptions, passed: _Passed, tasks: list[Task]) -> Task:
    """Say how large the input is at most, where that is known."""
    known = options.input_size is not None or options.input_path is None or options.input_is_url
    if known or passed.fixed is None:
        return kind, options
    budgets = [tasks[index][1].environment.get(_BUDGET, "") for index in passed.outputs]
    if not all(budget.isdecimal() for budget in budgets):
        return kind, options
    return kind, replace(options, input_size=passed.fixed + sum(map(int, budgets)))


def _too_much(options: StateOptions, names: list[str], each: int) -> ConfigurationError:
    return ConfigurationError(
        f"state {options.name!r} is given the outputs of {', '.join(names)}, which leaves {each:,} characters a piece: "
        f"ECS allows {OVERRIDES_LIMIT:,} for all overrides, JSON included. Give it a part, in the file: "
        '"input": "$.member"; or let an earlier state have no "result-path"'
    )
