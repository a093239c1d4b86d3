"""The doctor counts overrides as ``stepout asl`` does, and says so alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.asl.services import overrides_size
from stepout.asl.states import task_state
from stepout.asl.variables import StateOptions
from stepout.doctor.lengths import overrides_length
from stepout.doctor.machine import machine_states

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_OPTIONS = st.fixed_dictionaries(
    {
        "language": st.sampled_from(["jsonpath", "jsonata"]),
        "in_map": st.booleans(),
        "redrive": st.booleans(),
        "input": st.sampled_from([None, "$", "$.job"]),
        "environment": st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), _TEXT, max_size=3),
        "bucket": st.just("results-bucket"),
        "prefix": st.sampled_from([None, "runs", "a/b"]),
    }
)


def _length(kind: str, options: StateOptions) -> Any:
    [state] = machine_states({"StartAt": options.name, "States": {options.name: task_state(kind, options)}})
    return overrides_length(state)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80), _OPTIONS)
def test_a_state_with_a_token_is_as_long_as_asl_says(name: str, options: dict[str, Any]) -> None:
    """Whatever the name, the language and the variables are, both count the same characters."""
    made = StateOptions(name=name, **options)
    found = _length("ecs", made)
    assert found.characters == overrides_size("ecs", made)
    assert bool(found.unknown) == (made.input is not None)


@given(st.from_regex(r"[A-Za-z0-9]{1,80}", fullmatch=True), _OPTIONS, st.sampled_from([None, "$.url"]))
def test_a_state_in_pull_mode_is_as_long_as_asl_says(name: str, options: dict[str, Any], url: str | None) -> None:
    """The URL of the output counts as what it may become."""
    made = StateOptions(name=name, url=url, **options)
    assert _length("ecs-sync", made).characters == overrides_size("ecs-sync", made)


@pytest.mark.parametrize(("expression", "characters"), [("States.UUID()", 36), ("$$.Execution.Name", 80), ("$.a", 0)])
def test_what_asl_does_not_write_is_counted_by_its_longest(expression: str, characters: int) -> None:
    """Functions and parts of the context object that have a longest value count as that, the input as nothing."""
    overrides = {"ContainerOverrides": [{"Environment": [{"Name": "A", "Value.$": expression}]}]}
    call = {"Type": "Task", "Resource": "arn:aws:states:::ecs:runTask", "Parameters": {"Overrides": overrides}}
    [state] = machine_states({"A": call})
    found = overrides_length(state)
    assert found is not None
    empty = len('{"ContainerOverrides": [{"Environment": [{"Name": "A", "Value": ""}]}]}')
    assert found.characters == empty + characters
    assert bool(found.unknown) == (characters == 0)
