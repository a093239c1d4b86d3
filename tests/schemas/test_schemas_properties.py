"""Rules that hold for all documents: validator and parser agree, nothing is lost on the way round."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.schema_cases import base, document_cases

from stepout.schemas import Pointer, TaskOutput, dump_json, load_json, rules, validate
from stepout.schemas.errors import InvalidDocumentError
from stepout.schemas.text.json_value import plain_copy

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = settings()
PARSE: dict[str, Callable[[Any], Pointer | TaskOutput]] = {"pointer": Pointer.from_dict, "output": TaskOutput.from_dict}

ODD_TEXTS = [
    "",
    "a",
    "\n",
    "a\n",
    "é",
    "𝄞",
    "\ud800",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "0",
    "٣",
    "3-0",
    "3-0\n",
    "a" * 1025,
]
ODD_TEXTS += ["pointer/1", "pointer/2", "output/1", "2026-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "text/plain", "*/*"]
ODD_TEXTS += [
    "f" * 64,
    "f" * 16,
    "F" * 64,
    "f" * 64 + "\n",
    "123456789012",
    "123456789012\n",
    "٣" * 12,
    "results-bucket",
]
ODD_NUMBERS = [
    0,
    -0.0,
    1,
    -1,
    1.0,
    1.5,
    -1.0,
    2**53 - 1,
    2**53,
    float(2**53),
    -(2**53),
    10**400,
    1e300,
    5e-324,
    True,
    False,
]
ODD_NUMBERS += [float("nan"), float("inf"), float("-inf")]
OTHERS = [None, b"x", (1,), {1}, object, 1j]

from_patterns = st.sampled_from(
    [*rules.POINTER_TEXTS.values(), *rules.CHECKSUMS.values(), *rules.PRODUCER_TEXTS.values(), rules.NAME]
).flatmap(lambda rule: st.from_regex(rule.body, fullmatch=True))
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(st.characters(exclude_categories=()), max_size=20), from_patterns)
scalars = st.one_of(texts, st.sampled_from(ODD_NUMBERS), st.sampled_from(OTHERS), st.integers(), st.floats())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=9),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=8,
)
NAMES = ["stepout", "bucket", "key", "size", "checksum", "sha256", "crc64nvme", "mediaType", "createdAt", "artifacts"]
NAMES += [
    "result",
    "manifest",
    "producer",
    "traceparent",
    "attempt",
    "mapIndex",
    "annotations",
    "a-b",
    "a\n",
    "1a",
    "later",
    "",
]
NAMES += ["blocks", "algorithm", "place", "digests"]


def containers(value: Any) -> list[Any]:
    """Return every object and array in a value, itself included."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    below = [each for child in children for each in containers(child)]
    return [value, *below] if isinstance(value, dict | list) else below


@st.composite
def near_valid(draw: st.DrawFn, name: str) -> Any:
    """Draw a valid document, changed in up to three places."""
    document = deepcopy(draw(st.sampled_from([base(name), *(case.document for case in document_cases(name))])))
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, document)
    return document


def _change(draw: st.DrawFn, document: Any) -> None:
    places = containers(document)
    if not places:
        return
    place = draw(st.sampled_from(places))
    if isinstance(place, list):
        place.append(draw(values))
        return
    action = draw(st.sampled_from(["delete", "replace", "insert", "tweak", "pointer"]))
    name = draw(st.sampled_from(list(place))) if place and action != "insert" else draw(st.sampled_from(NAMES) | texts)
    if action == "delete":
        place.pop(name, None)
    elif action == "tweak" and isinstance(place.get(name), str):
        place[name] = draw(st.sampled_from(["{}\n", "\n{}", "{} ", "{}{}", "{}é", "{}\ud800"])).replace(
            "{}", place[name]
        )
    else:
        place[name] = base("pointer") if action == "pointer" else draw(values)


def found_by(name: Literal["pointer", "output"], document: Any) -> set[tuple[str, str]]:
    """Return what the parser finds."""
    try:
        parsed = PARSE[name](document)
    except InvalidDocumentError as error:
        event("invalid")
        return {(problem.location, problem.kind) for problem in error.problems}
    event("valid")
    assert parsed.to_dict() == plain_copy(document)
    return set()


@pytest.mark.parametrize("name", ["pointer", "output"])
@MANY
@given(data=st.data())
def test_validator_and_parser_accept_the_same_documents(
    name: Literal["pointer", "output"], data: st.DataObject
) -> None:
    """Near the boundary both give the same verdict, with the same kinds at the same places."""
    document = data.draw(near_valid(name))
    untouched = deepcopy(document)
    by_validator = {(problem.location, problem.kind) for problem in validate(document, name)}
    assert found_by(name, document) == by_validator
    assert repr(document) == repr(untouched)


@pytest.mark.parametrize("name", ["pointer", "output"])
@MANY
@given(document=values)
def test_validator_and_parser_agree_on_anything(name: Literal["pointer", "output"], document: Any) -> None:
    """Values that are no documents are refused by both, for the same reasons, without another exception."""
    assert found_by(name, document) == {(problem.location, problem.kind) for problem in validate(document, name)}


def rule_texts(rule: rules.Text) -> st.SearchStrategy[str]:
    """Draw texts that keep a rule."""
    drawn = st.from_regex(rule.body, fullmatch=True)
    return drawn.filter(lambda text: rule.shortest <= len(text) <= rule.longest and text.isprintable())


whole = st.integers(0, 2**53 - 1)
extras = st.dictionaries(st.text(min_size=1, max_size=9).map(lambda name: "x" + name), plain, max_size=2)


@st.composite
def pointers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid pointer with any of the optional members."""
    document: dict[str, Any] = {"stepout": "pointer/1", "size": draw(whole)}
    document["checksum"] = {name: draw(rule_texts(rule)) for name, rule in rules.CHECKSUMS.items()}
    for name, rule in rules.POINTER_TEXTS.items():
        if name in ("bucket", "key", "mediaType") or draw(st.booleans()):
            document[name] = draw(rule_texts(rule))
    if draw(st.booleans()):
        texts_of_blocks = {name: rule_texts(rule) for name, rule in rules.BLOCKS_TEXTS.items()}
        needed = {"size": whole, **{name: texts_of_blocks.pop(name) for name in ("algorithm", "place")}}
        document["blocks"] = draw(st.fixed_dictionaries(needed, optional=texts_of_blocks))
    if draw(st.booleans()):
        document["annotations"] = draw(st.dictionaries(st.text(max_size=9), plain, max_size=3))
    return {**document, **draw(extras)}


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid task output, unknown members included."""
    document: dict[str, Any] = {"stepout": "output/1"}
    if draw(st.booleans()):
        document["artifacts"] = draw(st.dictionaries(rule_texts(rules.NAME), pointers(), max_size=2))
        result = st.dictionaries(st.text(max_size=9), plain, max_size=3).filter(lambda each: "stepout" not in each)
        document.update(draw(st.fixed_dictionaries({}, optional={"result": result | pointers()})))
    else:
        document["manifest"] = draw(pointers())
    members = {name: rule_texts(rule) for name, rule in rules.PRODUCER_TEXTS.items()}
    producer = st.fixed_dictionaries({}, optional={**members, "attempt": whole, "redrive": whole})
    known = {"producer": producer, "traceparent": rule_texts(rules.TRACEPARENT)}
    document.update(draw(st.fixed_dictionaries({}, optional=known)))
    return {**document, **draw(extras)}


@settings(MANY, max_examples=MANY.max_examples // 2)
@given(document=pointers() | outputs())
def test_valid_documents_come_back_whole(document: dict[str, Any]) -> None:
    """Text, value, model and back: equal at each step, unknown members kept, known ones in the schema's order."""
    assert validate(document) == []
    model = (Pointer if document["stepout"] == "pointer/1" else TaskOutput).from_dict(load_json(dump_json(document)))
    written = model.to_dict()
    assert written == document
    assert type(model).from_dict(written) == model
    assert load_json(model.to_json()) == document
    order = (
        list(base("pointer")) if document["stepout"] == "pointer/1" else ["stepout", "artifacts", "result", "manifest"]
    )
    known = [name for name in written if name in order]
    assert known == sorted(known, key=order.index)


@settings(MANY, max_examples=MANY.max_examples * 2)
@given(value=plain)
def test_json_survives_the_text(value: Any) -> None:
    """What ``dump_json`` writes, ``load_json`` reads back equal, types included."""
    assert repr(load_json(dump_json(value))) == repr(value)


@settings(MANY, max_examples=MANY.max_examples * 3)
@given(text=st.binary(max_size=60) | st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    """The reader raises nothing but its own error, whatever it is given."""
    try:
        value = load_json(text)
    except InvalidDocumentError:
        return
    assert repr(load_json(dump_json(value))) == repr(value)
