"""``task.result``: what cannot be reported is refused where it is set; what everybody expects is converted."""
# ruff: noqa: PT012 - what happens in the block is what is tested

from __future__ import annotations

import json
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stepout
from stepout.callbacks import RecordingTarget, Task
from stepout.callbacks.lifecycle.result import TaskResult
from stepout.schemas import json_problems
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.text.json_text import dump_plain_json
from stepout.testing import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

CYCLE: list[Any] = []
CYCLE.append(CYCLE)

BAD: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "numpy's NaN": np.float32("nan"),
    "datetime": datetime.now(UTC),
    "datetime64": np.datetime64("2026-01-01T00:00:00.000000001"),
    "timedelta64": np.timedelta64(5, "ns"),
    "Decimal": Decimal("0.1"),
    "set": {1},
    "bytes": b"x",
    "array": np.array([1, 2]),
    "masked": np.ma.masked,
    "complex": np.complex64(1),
    "large": 2**60,
    "numpy's large": np.uint64(2**60),
    "surrogate": "\ud800",
    "object": object(),
    "cycle": CYCLE,
}

WAYS: dict[str, tuple[Callable[[Task, Any], object], str]] = {
    "member": (lambda task, bad: task.result.__setitem__("a", bad), "$.result.a"),
    "nested": (lambda task, bad: task.result.__setitem__("a", {"b": [0, bad]}), "$.result.a.b[1]"),
    "in a tuple": (lambda task, bad: task.result.__setitem__("a", (0, (bad,))), "$.result.a[1][0]"),
    "update": (lambda task, bad: task.result.update({"ok": 1, "a": bad}), "$.result.a"),
    "update with pairs": (lambda task, bad: task.result.update([("a", bad)]), "$.result.a"),
    "update by keyword": (lambda task, bad: task.result.update(a=bad), "$.result.a"),
    "setdefault": (lambda task, bad: task.result.setdefault("a", bad), "$.result.a"),
    "|=": (lambda task, bad: task.result.__ior__({"a": bad}), "$.result.a"),
    "assignment": (lambda task, bad: setattr(task, "result", {"ok": 1, "a": bad}), "$.result.a"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("way", "location"), WAYS.values(), ids=WAYS)
def test_what_is_not_json_is_refused_where_it_is_set(
    way: Callable[[Task, Any], object], location: str, bad: Any
) -> None:
    """By every way to set it, with the member's path; nothing is set, and the task can go on."""
    target = RecordingTarget()
    with Task(target) as task:
        task.result["before"] = True
        with pytest.raises(InvalidDocumentError) as refused:
            way(task, bad)
        assert refused.value.problems[0].location.startswith(location)
    assert target.successes[0]["result"] == {"before": True}


@pytest.mark.parametrize("name", [1, None, ("a",), b"a"])
def test_names_of_members_are_text(name: Any) -> None:
    """At the top and below."""
    for value in ({name: 1}, {"a": {name: 1}}):
        with pytest.raises(InvalidDocumentError, match="names of members are text"):
            TaskResult().update(value)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_changed_after_it_was_set_is_checked_at_the_end(bad: Any) -> None:
    """The very list that was set is reported, with what was put into it later, or is named."""
    target, rows = RecordingTarget(), [1]
    with Task(target) as task:
        task.result["rows"] = {"all": rows}
        rows.append(2)
    assert target.successes[0]["result"] == {"rows": {"all": [1, 2]}}
    target = RecordingTarget()
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.rows\.all\[2\]"), Task(target) as task:
        task.result["rows"] = {"all": rows}
        rows.append(bad)
    assert target.failures[0]["error"] == "Stepout.InvalidDocument"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_a_decorated_function_returns_is_named_by_member(bad: Any) -> None:
    """It is merged into the result, and refused like it."""
    target = RecordingTarget()

    @stepout.task(environ={}, targets=target)
    def job(_: stepout.OpenTask) -> dict[str, Any]:
        return {"rows": 3, "bad": bad}

    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.bad"):
        job()
    assert target.failures[0]["error"] == "Stepout.InvalidDocument"


Pair = namedtuple("Pair", "low high")  # noqa: PYI024 - a plain one, as jobs have them

CONVERTED: list[tuple[Any, Any]] = [
    (np.int8(3), 3),
    (np.uint64(3), 3),
    (np.float32(0.5), 0.5),
    (np.float64(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array(3), 3),
    ((1, 2), [1, 2]),
    (Pair(1, (2,)), [1, [2]]),
    ({"a": (np.int64(1), {"b": ()})}, {"a": [1, {"b": []}]}),
    (OrderedDict(a=1), {"a": 1}),
    (MappingProxyType({"a": (1,)}), {"a": [1]}),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED)
def test_tuples_and_numpy_scalars_are_what_everybody_expects(value: Any, expected: Any) -> None:
    """In the result, a JSON artifact, annotations and a contract, by type as well."""
    store, target = MemoryStore("results"), RecordingTarget()
    with stepout.open_task(environ={}, bucket=store, targets=target) as task:
        task.result["value"] = value
        pointer = task.artifacts.put_json("json", value, annotations={"value": value})
    document = target.successes[0]
    for found in (
        document["result"]["value"],
        json.loads(store.read(pointer.key)),
        document["artifacts"]["json"]["annotations"]["value"],
        pointer.annotations["value"] if pointer.annotations else None,
    ):
        assert json.dumps(found) == json.dumps(expected)
    contract = stepout.Contract(result={"properties": {"value": {"enum": (value,)}}, "required": ("value",)})
    with Task(RecordingTarget(), contract=contract) as checked:
        checked.result["value"] = value


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_siblings_name_the_member_as_well(bad: Any) -> None:
    """A JSON artifact, annotations, and a contract's schema; nothing is sent."""
    store = MemoryStore("results")
    manager = stepout.ArtifactManager(store)
    with pytest.raises(InvalidDocumentError, match=r"\$\.a\[0\]"):
        manager.put_json("a", {"a": [bad]})
    with pytest.raises(InvalidDocumentError, match=r"\$\.annotations\.a\[0\]"):
        manager.put_bytes("a", b"", annotations={"a": [bad]})
    with pytest.raises(ConfigurationError, match=r"\$\.default\[0\]"):
        stepout.Contract(result={"default": [bad]})
    assert store.keys() == []


@pytest.mark.parametrize("what", ["tags", "metadata"])
def test_tags_and_metadata_are_text_and_say_which_is_not(what: str) -> None:
    """S3 has nothing else there."""
    options: Any = {what: {"team": "maps", "rows": np.int64(3)}}
    with pytest.raises(ConfigurationError, match=rf"{what}\.rows is of type int64"):
        stepout.ArtifactManager(MemoryStore("results"), **options)


_SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, width=32)
_LEAVES = _SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))) | st.text("aé", max_size=3)
_WRAPPED = _LEAVES | st.booleans().map(np.bool_) | st.integers(-99, 99).map(np.int64)
_VALUES = st.recursive(
    _WRAPPED,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_the_conversion_is_that_of_json(value: Any) -> None:
    """What ``json.dumps`` writes, given ``.item()`` of what it does not know, is what is written."""
    assert json_problems(value, convertible=True) == []
    assert json.loads(dump_plain_json(value)) == json.loads(json.dumps(value, default=lambda scalar: scalar.item()))
