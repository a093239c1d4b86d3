"""Outputs that are over their budget."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schema_cases import base

from stepout.schemas import Pointer, RunIdentity, TaskOutput, fit, validate
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError, OutputTooLargeError
from stepout.schemas.spill import DEFAULT_BUDGET, MAX_BUDGET, check_budget, fan_in_budget, measure

if TYPE_CHECKING:
    from collections.abc import Mapping

POINTER = Pointer.from_dict({name: value for name, value in base("pointer").items() if name != "annotations"})
RUN = RunIdentity(state="Mask", attempt=0)
ROOM = 700
"""Bytes that hold a manifest and its producer."""


class Store:
    """Keeps what is written, as a store would; the pointers are small."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}

    def write(self, stem: str, document: Mapping[str, Any]) -> Pointer:
        """Keep a document under its stem."""
        assert stem not in self.written
        self.written[stem] = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return replace(POINTER, key=stem, size=len(self.written[stem].encode()))

    def read(self, pointer: Pointer) -> Any:
        """Return what a pointer leads to."""
        return json.loads(self.written[pointer.key])


def wire_size(output: TaskOutput) -> int:
    """Measure independently of the code under test."""
    return len(json.dumps(output.to_dict(), ensure_ascii=False, separators=(",", ":")).encode())


def resolved(output: TaskOutput, store: Store) -> TaskOutput:
    """Undo the spilling, as a consumer does."""
    if output.manifest is not None:
        output = TaskOutput.from_dict(store.read(output.manifest), manifest_allowed=False)
    return replace(output, result=store.read(output.result)) if isinstance(output.result, Pointer) else output


def sized(size: int, letter: str, *, artifacts: int = 1) -> TaskOutput:
    """Return an output of exactly ``size`` bytes, its result filled with a letter."""
    output = TaskOutput(artifacts={f"a{n}": POINTER for n in range(artifacts)}, result={"text": ""}, producer=RUN)
    room, width = size - wire_size(output), len(letter.encode())
    output = replace(output, result={"text": letter * (room // width) + "x" * (room % width)})
    assert wire_size(output) == size
    return output


@pytest.mark.parametrize("budget", [2_000, 5_001, DEFAULT_BUDGET, MAX_BUDGET])
@pytest.mark.parametrize("letter", ["a", "é", "𝄞"])
def test_exactly_the_budget_fits_and_one_byte_more_spills(budget: int, letter: str) -> None:
    """Bytes of UTF-8 count, not characters."""
    store = Store()
    whole = sized(budget, letter)
    assert fit(whole, write=store.write, budget=budget) is whole
    assert store.written == {}
    over = sized(budget + 1, letter)
    spilled = fit(over, write=store.write, budget=budget)
    assert list(store.written) == ["stepout-result"]
    assert wire_size(spilled) <= budget
    assert spilled.artifacts == over.artifacts
    assert validate(spilled.to_dict()) == []
    assert resolved(spilled, store) == over


def test_the_default_budget_is_64_kib() -> None:
    """Without a word about it."""
    store = Store()
    assert fit(sized(65_536, "é"), write=store.write).manifest is None
    assert store.written == {}
    fit(sized(65_537, "é"), write=store.write)
    assert list(store.written) == ["stepout-result"]


def test_many_artifacts_become_a_manifest(caplog: pytest.LogCaptureFixture) -> None:
    """The whole document is written, a manifest is reported, and a warning names the price."""
    store = Store()
    output = sized(200_000, "é", artifacts=300)
    with caplog.at_level(logging.WARNING, "stepout"):
        spilled = fit(replace(output, extra={"later": [1]}), write=store.write)
    assert list(store.written) == ["stepout-output"]
    assert list(spilled.to_dict()) == ["stepout", "manifest", "producer"]
    assert spilled.producer == RUN
    assert resolved(spilled, store) == replace(output, extra={"later": [1]})
    assert "$.artifacts no longer work" in caplog.text


def test_result_and_artifacts_too_large_together_spill_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Where the result's own pointer is what breaks the budget, both steps are taken and both can be undone."""
    output = sized(5_000, "a", artifacts=3)
    budget = wire_size(replace(output, result=None)) + 10
    store = Store()
    with caplog.at_level(logging.INFO, "stepout"):
        spilled = fit(output, write=store.write, budget=budget)
    assert list(store.written) == ["stepout-result", "stepout-output"]
    assert spilled.manifest is not None
    assert resolved(spilled, store) == output
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_a_moved_result_that_leaves_exactly_the_budget_is_enough() -> None:
    """One byte less and the whole document has to go."""
    output = sized(9_000, "é", artifacts=3)
    moved = wire_size(replace(output, result=replace(POINTER, key="stepout-result", size=wire_size(output))))
    assert fit(output, write=Store().write, budget=moved).manifest is None
    assert fit(output, write=Store().write, budget=moved - 1).manifest is not None


def test_a_result_that_is_a_pointer_already_is_not_written_again() -> None:
    """Only inline results move."""
    output = TaskOutput(artifacts={f"a{n}": POINTER for n in range(9)}, result=POINTER)
    store = Store()
    spilled = fit(output, write=store.write, budget=ROOM)
    assert list(store.written) == ["stepout-output"]
    assert spilled.manifest is not None
    assert TaskOutput.from_dict(store.read(spilled.manifest)) == output


def test_never_raises_with_size_and_budget_and_writes_nothing() -> None:
    """The error says how far over the output is, and what to do."""
    store = Store()
    with pytest.raises(OutputTooLargeError, match=r"has 2,001 bytes, its budget is 2,000.*nothing was written"):
        fit(sized(2_001, "é"), write=store.write, budget=2_000, spill="never")
    assert store.written == {}
    assert fit(sized(2_000, "é"), write=store.write, budget=2_000, spill="never").manifest is None


def test_a_producer_that_is_too_large_itself_fails_before_anything_is_written() -> None:
    """Nothing that could be spilled would help."""
    store = Store()
    output = TaskOutput(artifacts={"a": POINTER}, producer=RunIdentity(state="é" * 400))
    with pytest.raises(OutputTooLargeError, match="producer block"):
        fit(output, write=store.write, budget=700)
    assert store.written == {}


def test_a_budget_below_a_manifest_fails() -> None:
    """The manifest's own size is only known when it is written."""
    store = Store()
    with pytest.raises(OutputTooLargeError, match="cannot be made to fit its budget of 100 bytes"):
        fit(TaskOutput(artifacts={"a": POINTER}), write=store.write, budget=100)
    assert list(store.written) == ["stepout-output"]


def test_a_manifest_is_never_spilled_into_another() -> None:
    """A manifest over its budget is an error."""
    store = Store()
    with pytest.raises(OutputTooLargeError):
        fit(TaskOutput(artifacts=None, manifest=POINTER), write=store.write, budget=50)
    assert store.written == {}


@pytest.mark.parametrize("budget", [0, -1, MAX_BUDGET + 1, True, 1.5, "65536", None])
def test_budgets_out_of_bounds_are_configuration_errors(budget: Any) -> None:
    """At most 250 KiB, so that the execution's state has room beside it."""
    with pytest.raises(ConfigurationError, match="256,000"):
        fit(TaskOutput(), write=Store().write, budget=budget)


def test_budgets_within_bounds_are_returned() -> None:
    """From one byte to 250 KiB."""
    assert [check_budget(budget) for budget in (1, DEFAULT_BUDGET, 256_000)] == [1, 65_536, 256_000]


def test_what_is_not_json_is_refused_before_it_is_measured() -> None:
    """The member is named."""
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.mean"):
        fit(TaskOutput(result={"mean": float("nan")}), write=Store().write)


@settings(max_examples=settings().max_examples * 3 // 2)
@given(
    names=st.lists(st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), max_size=6, unique=True),
    result=st.none() | st.dictionaries(st.text(max_size=5).filter("stepout".__ne__), st.text(max_size=400), max_size=6),
    budget=st.integers(ROOM, 6_000),
)
def test_any_output_fits_and_comes_back(names: list[str], result: dict[str, str] | None, budget: int) -> None:
    """Whatever is spilled, the report is valid, within its budget, and leads back to the same output."""
    output = TaskOutput(artifacts=dict.fromkeys(names, POINTER), result=result, producer=RUN)
    store = Store()
    spilled = fit(output, write=store.write, budget=budget)
    assert measure(spilled) == wire_size(spilled) <= budget
    assert bool(store.written) == (wire_size(output) > budget)
    assert validate(spilled.to_dict()) == []
    assert resolved(spilled, store) == output


STATE = 262_144
"""Bytes that a state holds: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""


@given(st.integers(1, 215))
def test_outputs_of_an_inline_map_fit_one_state(children: int) -> None:
    """Each as large as it may be, as one array, and an eighth of the state is left for what else it holds."""
    budget = fan_in_budget(children)
    one = len(b'{"x":""}')
    whole = json.dumps([{"x": "y" * (budget - one)}] * children, separators=(",", ":"))
    assert STATE * 7 // 8 - children <= len(whole) <= STATE * 7 // 8


def test_more_outputs_than_a_state_holds_are_refused() -> None:
    """Before any work, where even spilled documents would not fit; the message says what does."""
    arn = "arn:aws:states:eu-west-1:123456789012:execution:Segment:" + "7" * 80
    most = next(count for count in range(1, 1_000) if _refused(count + 1, None))
    with_names = next(count for count in range(1, 1_000) if _refused(count + 1, RunIdentity(execution=arn)))
    assert 100 < with_names < most < 300
    with pytest.raises(ConfigurationError, match="Distributed Map with a ResultWriter"):
        fan_in_budget(most + 1)
    for wrong in (0, True, 2.5):
        with pytest.raises(ConfigurationError, match="STEPOUT_FAN_IN"):
            fan_in_budget(wrong)  # type: ignore[arg-type] # the mistake


def _refused(children: int, producer: RunIdentity | None) -> bool:
    try:
        fan_in_budget(children, producer)
    except ConfigurationError:
        return True
    return False


@pytest.mark.parametrize("children", [2, 5, 40, 140])
def test_a_spilled_document_fits_the_share_of_a_real_run(children: int) -> None:
    """With the longest of the names that a state machine gives, and a long key."""
    arn = "arn:aws:states:ap-southeast-2:123456789012:execution:"
    run = RunIdentity(execution=arn + "m" * 80 + ":" + "e" * 36, state="s" * 20, attempt=0, map_index="139")
    store, budget = Store(), fan_in_budget(children, run)
    known = replace(run, nonce="0" * 12, version="0.1.0")
    output = TaskOutput(artifacts={"a": POINTER}, result={"x": "y" * STATE}, producer=known)

    def write(stem: str, document: Mapping[str, Any]) -> Pointer:
        return replace(store.write(stem, document), key="k" * 450, version_id="v" * 32)

    assert measure(fit(output, write=write, budget=budget)) <= budget
