"""A user's own contract: what a task's result must look like, and which artifacts it must have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas import rules
from stepout.schemas.errors import ConfigurationError, InvalidDocumentError
from stepout.schemas.problems import Problem, describe_problems, member, tidy
from stepout.schemas.text.json_text import load_json
from stepout.schemas.text.json_value import json_problems, plain_copy
from stepout.schemas.validation import location_of, registry

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

    from stepout.schemas.output import TaskOutput

_ARTIFACTS: Final = "$.artifacts"
_MEDIA_TYPE: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*|\*(?=/\*))/(?:[A-Za-z0-9!#$&^_.+-]+|\*)")
_KINDS: Final = {
    "required": "missing",
    "dependentRequired": "missing",
    "additionalProperties": "unexpected",
    "unevaluatedProperties": "unexpected",
    "minLength": "length",
    "maxLength": "length",
    "minItems": "length",
    "maxItems": "length",
    "minimum": "range",
    "maximum": "range",
    "exclusiveMinimum": "range",
    "exclusiveMaximum": "range",
    "propertyNames": "name",
    "enum": "value",
    "const": "value",
    "type": "type",
    "pattern": "pattern",
}


@dataclass(frozen=True)
class Contract:
    """What a task promises beyond the schema of its output.

    Attributes:
        result: A JSON Schema for ``result`` (2020-12 unless its ``$schema`` says otherwise); ``None`` for any. A
            ``$ref`` is resolved within it, to stepout's own schemas and to JSON Schema's; nothing is ever fetched.
        artifacts: Required artifact names, each with its media type: ``"image/png"``, ``"image/*"``, or ``None`` for
            any. A plain sequence of names means any.

    Raises:
        ConfigurationError: The schema, the name of an artifact or a media type is invalid, or a ``$ref`` leads
            nowhere.

    >>> contract = Contract(result={"required": ["rows"]}, artifacts=["features"])
    >>> contract.artifacts
    {'features': None}
    """

    result: Mapping[str, Any] | None = None
    artifacts: Mapping[str, str | None] | Sequence[str] = ()
    _validator: Validator | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "artifacts", _required(self.artifacts))
        if self.result is not None:
            object.__setattr__(self, "_validator", _compiled(self.result))
            object.__setattr__(self, "result", plain_copy(self.result))

    @classmethod
    def from_dict(cls, document: object) -> Contract:
        """Build a contract from ``{"result": {…}, "artifacts": {…} | […]}``; both members are optional.

        Raises:
            ConfigurationError: As for the class; also for a member that a contract does not have.
        """
        if not isinstance(document, dict):
            raise ConfigurationError(f"a contract must be an object, is {rules.kind_of(document)}")
        unknown = [member("$", name) for name in document if name not in ("result", "artifacts")]
        if unknown:
            raise ConfigurationError(f"a contract has the members result and artifacts, not {', '.join(unknown)}")
        return cls(document.get("result"), document.get("artifacts", ()))

    @classmethod
    def from_file(cls, path: str | Path) -> Contract:
        """Build a contract from a JSON file.

        Raises:
            ConfigurationError: The file cannot be read, is not JSON, or holds no contract.
        """
        try:
            document = load_json(Path(path).read_bytes())
        except OSError as error:
            raise ConfigurationError(f"the contract {path} cannot be read: {error.strerror}") from error
        except InvalidDocumentError as error:
            raise ConfigurationError(f"the contract {path} is not valid: {error}") from error
        return cls.from_dict(document)

    def problems(self, output: TaskOutput, result: Mapping[str, Any] | None) -> list[Problem]:
        """Find everything in which an output breaks the contract.

        Args:
            output: The output, with its artifacts: not a manifest, which has none itself.
            result: The result, inline: read from the store where it was spilled. ``None`` counts as ``{}``.

        Returns:
            All problems, sorted, each place and kind once. Kinds: ``"missing"``, ``"media-type"``, ``"type"``,
            ``"pattern"``, ``"length"``, ``"range"``, ``"value"``, ``"name"``, ``"unexpected"``, those of
            ``json_problems``, and ``"contract"`` for every other keyword of JSON Schema.
        """
        if output.artifacts is None:
            return [Problem("$.manifest", "unexpected", "hides the artifacts; check the document that it points to")]
        return tidy([*self._artifact_problems(output), *self._result_problems(result)])

    def _artifact_problems(self, output: TaskOutput) -> Iterator[Problem]:
        pointers = output.artifacts or {}
        for name, media_type in _required(self.artifacts).items():
            if name not in pointers:
                yield Problem(member(_ARTIFACTS, name), "missing", "is missing; the contract requires this artifact")
            elif media_type is not None and not _is_of(pointers[name].media_type, media_type):
                place = member(member(_ARTIFACTS, name), "mediaType")
                yield Problem(place, "media-type", f"must be {media_type}, as the contract says")

    def _result_problems(self, result: Mapping[str, Any] | None) -> Iterator[Problem]:
        if self._validator is None:
            return
        value = plain_copy(result or {})
        not_json = json_problems(value, "$.result")
        yield from not_json
        if not not_json:
            for error in self._validator.iter_errors(value):
                yield from _translated(error)


def _required(artifacts: Mapping[str, str | None] | Sequence[str]) -> dict[str, str | None]:
    if isinstance(artifacts, str) or not isinstance(artifacts, Mapping | Sequence):
        raise ConfigurationError(
            "a contract's artifacts must be a list of names, or an object of names and media types"
        )
    required = dict(artifacts) if isinstance(artifacts, Mapping) else dict.fromkeys(artifacts)
    for name, media_type in required.items():
        if not isinstance(name, str) or not rules.NAME.matches(name):
            raise ConfigurationError(f"{member(_ARTIFACTS, name)} in a contract: expected {rules.NAME.expected}")
        if media_type is not None and not (isinstance(media_type, str) and _MEDIA_TYPE.fullmatch(media_type)):
            place = member(_ARTIFACTS, name)
            raise ConfigurationError(
                f"{place} in a contract: expected a media type such as image/png or image/*, or null"
            )
    return required


def _is_of(found: str, wanted: str) -> bool:
    essence = found.partition(";")[0].strip().lower()
    family, _, subtype = wanted.lower().partition("/")
    if subtype == "*":
        return family in ("*", essence.partition("/")[0])
    return essence == wanted.lower()


def _compiled(schema: object) -> Validator:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, Mapping):
        raise ConfigurationError("the contract's schema for result must be a JSON Schema: an object of JSON values")
    if problems := json_problems(schema, convertible=True):
        found = describe_problems(problems)
        raise ConfigurationError(f"the contract's schema for result must be JSON, an object of JSON values: {found}")
    contents = plain_copy(schema)
    dialect = contents.get("$schema", Draft202012Validator.META_SCHEMA["$schema"])
    kind = validator_for({"$schema": str(dialect)}, default=Draft202012Validator)
    if str(dialect).rstrip("#") != kind.META_SCHEMA["$schema"].rstrip("#"):
        raise ConfigurationError("the contract's schema for result names a $schema that is not known")
    failure = ""
    try:
        kind.check_schema(contents)
    except SchemaError as error:
        failure = f"{location_of(error.absolute_path)} breaks the rule {error.validator} of JSON Schema"
    if failure:
        raise ConfigurationError(f"the contract's schema for result is no JSON Schema: {failure}")
    _check_references(contents, kind.META_SCHEMA["$schema"])
    validator: Validator = kind(contents, registry=registry())
    return validator


def _check_references(contents: dict[str, Any], dialect: str) -> None:
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    resource = Resource.from_contents(contents, default_specification=specification_with(dialect))
    waiting = [(registry().resolver_with_root(resource), resource)]
    while waiting:
        resolver, current = waiting.pop()
        for reference in _references(current.contents):
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                message = f"the contract's schema for result has the $ref {reference!r}, which leads nowhere in it"
                raise ConfigurationError(f"{message}; nothing is fetched: put what it means under $defs") from error
        waiting.extend((resolver.in_subresource(below), below) for below in current.subresources())


def _references(contents: object) -> list[str]:
    if not isinstance(contents, dict):
        return []
    return [contents[word] for word in ("$ref", "$dynamicRef") if isinstance(contents.get(word), str)]


def _translated(error: ValidationError) -> Iterator[Problem]:
    keyword = str(error.validator)
    wanted: Any = error.validator_value
    instance: Any = error.instance
    kind = _KINDS.get(keyword, "contract")
    place = location_of(error.absolute_path, "$.result")
    if keyword == "required":
        names = [name for name in wanted if name not in instance]
        yield from (Problem(member(place, name), kind, "is missing; the contract requires it") for name in names)
    elif keyword == "type":
        expected = wanted if isinstance(wanted, str) else " or ".join(wanted)
        yield Problem(place, kind, f"must be of type {expected}, as the contract says, is {rules.kind_of(instance)}")
    elif keyword == "additionalProperties":
        names = _unnamed(error.schema, instance)
        yield from (Problem(member(place, name), kind, "is no member that the contract has") for name in names)
    elif keyword == "None":
        yield Problem(place, "unexpected", "has a member that must be absent, as the contract says")
    else:
        yield Problem(place, kind, f"does not keep the contract's rule {keyword}")


def _unnamed(schema: Any, instance: Any) -> list[str]:
    patterns = schema.get("patternProperties", {})
    others = (name for name in instance if name not in schema.get("properties", {}))
    return [name for name in others if not any(re.search(pattern, name) for pattern in patterns)]
