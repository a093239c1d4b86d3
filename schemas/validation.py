"""The JSON Schemas, and validation with ``jsonschema``: what a producer does before anything is sent.

Consumers use the models' own parser instead, which needs no ``jsonschema``; a property test holds the two together.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from stepout.schemas import rules
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.output import OUTPUT_VERSION, is_pointer
from stepout.schemas.pointer import POINTER_VERSION
from stepout.schemas.problems import Problem, item, member, tidy
from stepout.schemas.text.json_value import json_problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator
    from referencing import Registry

SchemaName = Literal["pointer", "output"]

_VERSIONS: dict[str, str] = {"pointer": POINTER_VERSION, "output": OUTPUT_VERSION}


def schema(name: SchemaName) -> dict[str, Any]:
    """Return a document's JSON Schema (2020-12), a new copy each time.

    Args:
        name: ``"pointer"`` or ``"output"``.

    Returns:
        The schema; ``output`` refers to ``pointer`` by its URN.

    Raises:
        ConfigurationError: There is no such schema.

    >>> schema("pointer")["$id"]
    'urn:stepout:schema:pointer:1'
    """
    if name not in _VERSIONS:
        raise ConfigurationError(f"there is no schema of that name; there are {' and '.join(_VERSIONS)}")
    from importlib.resources import files

    text = files("stepout.schemas").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    contents: dict[str, Any] = json.loads(text)
    return contents


def validate(document: Any, name: SchemaName | None = None) -> list[Problem]:
    """Find everything that is wrong with a document, with ``jsonschema``.

    Args:
        document: A Python value; what is not JSON in it is found first, and then nothing else is looked at.
        name: Which schema; by default the pointer's for what calls itself one, otherwise the output's.

    Returns:
        All problems, sorted, each place and kind once; empty for a valid document. Kinds: those of
        ``json_problems``, and ``"type"``, ``"missing"``, ``"version"``, ``"pattern"``, ``"length"``, ``"range"``,
        ``"name"``, ``"unexpected"``.

    >>> [str(problem) for problem in validate({"stepout": "output/1"})]
    ['$.artifacts: is missing']
    """
    problems = json_problems(document)
    if problems:
        return problems
    validator = _validator(name or ("pointer" if is_pointer(document) else "output"))
    found = [problem for error in validator.iter_errors(document) for problem in _translated(error)]
    # `required` names one member an error, two schemas may look at one place, and jsonschema goes through sets.
    return tidy(found) if found else []


@cache
def registry() -> Registry[Any]:
    """Return the schemas that a ``$ref`` can lead to: both of ours and JSON Schema's own; nothing is ever fetched."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped] # no stubs are published
    from referencing.jsonschema import DRAFT202012

    ours = [DRAFT202012.create_resource(schema(name)) for name in ("pointer", "output")]
    combined: Registry[Any] = ours @ REGISTRY
    return combined


@cache
def _validator(name: SchemaName) -> Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema(name), registry=registry())


def location_of(path: Iterable[str | int], location: str = "$") -> str:
    """Return the location of a path of names and indexes."""
    for step in path:
        location = item(location, step) if isinstance(step, int) else member(location, step)
    return location


def _translated(error: ValidationError) -> Iterator[Problem]:
    location = location_of(error.absolute_path)
    wanted: Any = error.validator_value
    instance: Any = error.instance
    title = error.schema.get("title", "") if isinstance(error.schema, dict) else ""
    if "propertyNames" in error.absolute_schema_path:
        yield rules.wrong_name(member(location, instance))
    elif error.validator == "required":
        missing = (name for name in wanted if name not in instance)
        yield from (rules.missing(member(location, name)) for name in missing)
    elif error.validator == "type":
        yield rules.wrong_type(location, wanted, instance)
    elif error.validator == "const":
        yield rules.wrong_version(location, wanted)
    elif error.validator == "pattern":
        yield rules.wrong_pattern(location, title)
    elif error.validator in ("minLength", "maxLength"):
        yield rules.wrong_length(location)
    elif error.validator in ("minimum", "maximum"):
        yield rules.wrong_range(location)
    elif error.validator == "anyOf":
        yield rules.no_checksum(location)
    else:
        yield rules.unexpected(location)
