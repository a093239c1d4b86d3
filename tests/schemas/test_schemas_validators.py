"""The two schemas in the validators of others: they compile there, strictly, and judge as ours do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import pytest
from support.schema_cases import document_cases

from stepout.schemas import json_problems, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Name = Literal["pointer", "output"]
NAMES: tuple[Name, ...] = ("pointer", "output")
VALIDATORS = ("jsonschema", "fastjsonschema", "jsonschema_rs")

ESCAPES = re.compile(r"\\(?:x[0-9a-f]{2}|[\^$\\.*+?()\[\]{}|/]|[sS](?=[\]sS\\]))")
"""What a pattern may escape: with ECMA-262's flag ``u`` anything else is an error."""

UNPORTABLE = re.compile(r"\(\?(?!:|!|=)")
"""Lookbehind, flags and named groups."""


def judge(library: str, name: Name) -> Callable[[Any], bool]:
    """Compile a schema with a validator; return what tells whether a document is valid."""
    module: Any = pytest.importorskip(library)
    pointer, wanted = schema("pointer"), schema(name)
    if library == "fastjsonschema":
        check = module.compile(wanted, handlers={"urn": lambda _: pointer})
        return lambda document: _passes(check, document, module.JsonSchemaValueException)
    if library == "jsonschema_rs":
        found = module.Registry([(pointer["$id"], pointer)])
        return lambda document: bool(module.validator_for(wanted, registry=found).is_valid(document))
    from stepout.schemas.validation import registry

    validator = module.Draft202012Validator(wanted, registry=registry())
    return lambda document: bool(validator.is_valid(document))


def _passes(check: Callable[[Any], object], document: Any, refusal: type[Exception]) -> bool:
    try:
        check(document)
    except refusal:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", VALIDATORS)
def test_every_validator_compiles_the_schemas_and_judges_alike(library: str, name: Name) -> None:
    """Each case that is JSON gets the verdict that it names, wherever that validator is installed."""
    valid = judge(library, name)
    for case in document_cases(name):
        if not json_problems(case.document):
            assert valid(case.document) is (not case.problems), case.why


def subschemas(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a schema that has a keyword."""
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from subschemas(child)
    if isinstance(value, dict):
        yield value


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_validator_finds_nothing_to_complain_of(name: Name) -> None:
    """What ajv's strict mode asks for: whatever is required is described beside that, and no format is unknown."""
    for each in subschemas({word: value for word, value in schema(name).items() if word != "examples"}):
        assert not isinstance(each.get("format"), str)
        if isinstance(each.get("required"), list):
            assert set(each["required"]) <= each.get("properties", {}).keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_pattern_is_one_of_ecmascript_with_the_flag_u(name: Name) -> None:
    """No lookbehind, no escape that only some know, and no dollar sign but the anchor's."""
    patterns = [each["pattern"] for each in subschemas(schema(name)) if isinstance(each.get("pattern"), str)]
    assert patterns
    for pattern in patterns:
        assert not UNPORTABLE.search(pattern), pattern
        assert "\\" not in ESCAPES.sub("", pattern), pattern
        assert "$" not in pattern.removesuffix(r"$(?![\s\S])"), pattern
