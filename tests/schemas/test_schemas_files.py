"""The two schema files themselves, and that the parser's rules say what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest

import stepout.schemas
from stepout.schemas import Pointer, TaskOutput, rules, schema, validate
from stepout.schemas.errors import ConfigurationError
from stepout.schemas.text import json_value

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(stepout.schemas.__file__).parent
NAMES: tuple[Literal["pointer", "output"], ...] = ("pointer", "output")


def subschemas(contents: Any) -> Iterator[dict[str, Any]]:
    """Yield every subschema that describes a member."""
    for word in ("properties", "$defs"):
        for below in contents.get(word, {}).values():
            yield below
            yield from subschemas(below)
    for word in ("additionalProperties", "propertyNames", "if", "then", "else"):
        if word in contents:
            yield from subschemas(contents[word])


def test_there_are_exactly_two_schema_files() -> None:
    """``pointer.schema.json`` and ``output.schema.json``."""
    assert sorted(path.name for path in FOLDER.glob("*.json")) == ["output.schema.json", "pointer.schema.json"]


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_a_valid_2020_12_schema_with_its_urn(name: Literal["pointer", "output"]) -> None:
    """Each follows the metaschema and carries its own name."""
    contents = schema(name)
    jsonschema.Draft202012Validator.check_schema(contents)
    assert contents["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert contents["$id"] == f"urn:stepout:schema:{name}:1"
    assert contents["title"]
    assert contents["description"]


@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_described_and_its_examples_are_valid(name: Literal["pointer", "output"]) -> None:
    """Members have a title, a description and examples that keep their own rule."""
    for member in schema(name)["properties"].values():
        assert member["title"]
        assert member["description"]
    for each in subschemas(schema(name)):
        for example in each.get("examples", []):
            bare = {word: value for word, value in each.items() if word not in ("$ref", "then", "additionalProperties")}
            jsonschema.Draft202012Validator(bare).validate(example)


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid_and_come_back_whole(name: Literal["pointer", "output"]) -> None:
    """The documents shown in the schema pass both validator and parser, member by member in order."""
    for example in schema(name)["examples"]:
        assert validate(example) == []
        parsed = Pointer.from_dict(example) if name == "pointer" else TaskOutput.from_dict(example)
        assert json.dumps(parsed.to_dict()) == json.dumps(example)


def check_rule(rule: rules.Text, member: dict[str, Any]) -> None:
    """Compare a rule of the parser with a member of a schema."""
    limits = (member["type"], member.get("minLength", 0), member["maxLength"])
    assert limits == ("string", rule.shortest, rule.longest)
    assert (member["pattern"], member["title"]) == (rule.pattern, rule.expected)


def test_parser_rules_say_what_the_schemas_say() -> None:
    """Each text's pattern, limits and wording are the same in both, and no member is in one of them only."""
    pointer, output = schema("pointer")["properties"], schema("output")["properties"]
    for name, rule in rules.POINTER_TEXTS.items():
        check_rule(rule, pointer[name])
    for name, rule in rules.CHECKSUMS.items():
        check_rule(rule, pointer["checksum"]["properties"][name])
    check_rule(rules.OTHER_CHECKSUM, pointer["checksum"]["additionalProperties"])
    for name, rule in rules.PRODUCER_TEXTS.items():
        check_rule(rule, output["producer"]["properties"][name])
    names = output["artifacts"]["propertyNames"]
    assert (names["pattern"], names["title"]) == (rules.NAME.pattern, rules.NAME.expected)
    assert pointer.keys() == {"stepout", *rules.POINTER_TEXTS, "size", "checksum", "blocks", "annotations"}
    blocks = pointer["blocks"]
    assert blocks["properties"].keys() == {*rules.BLOCKS_TEXTS, "size"}
    for name, rule in rules.BLOCKS_TEXTS.items():
        check_rule(rule, blocks["properties"][name])
    assert output["producer"]["properties"].keys() == {*rules.PRODUCER_TEXTS, "attempt", "redrive"}
    for whole in (
        pointer["size"],
        output["producer"]["properties"]["attempt"],
        output["producer"]["properties"]["redrive"],
    ):
        assert (whole["type"], whole["minimum"], whole["maximum"]) == ("integer", 0, json_value.INTEGER_LIMIT)


def test_patterns_use_nothing_that_ecmascript_and_python_read_differently() -> None:
    """No class escapes, no Python-only groups; the end is anchored against a final newline too."""
    rule_texts = [*rules.POINTER_TEXTS.values(), *rules.CHECKSUMS.values(), *rules.PRODUCER_TEXTS.values()]
    for rule in [*rule_texts, rules.OTHER_CHECKSUM, rules.NAME]:
        assert not re.search(r"\\[dwbAZzhpP]|\(\?P|\(\?[a-z]|\\s(?!\\S)", rule.pattern), rule.pattern
        assert rule.pattern.endswith(r"$(?![\s\S])")


def test_every_time_that_passes_can_be_read() -> None:
    """All days of four years and a century's turn: the pattern accepts exactly those that a calendar has."""
    pattern = re.compile(schema("pointer")["properties"]["createdAt"]["pattern"])
    for year in (1999, 2000, 2026, 2028, 2100, 9999):
        for month in range(14):
            for day in range(33):
                text = f"{year}-{month:02}-{day:02}T00:00:00Z"
                assert bool(pattern.search(text)) == _is_time(text), text


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_schema_is_a_new_copy_each_time() -> None:
    """Changing what one caller got changes nothing for the next."""
    schema("pointer").clear()
    assert schema("pointer")["$id"] == "urn:stepout:schema:pointer:1"


def test_unknown_schema_is_a_configuration_error() -> None:
    """There are only two."""
    with pytest.raises(ConfigurationError, match="pointer and output"):
        schema("manifest")  # type: ignore[arg-type] # that is the fault under test


def test_validators_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second validation of a kind builds no validator: that would cost far more than validating."""
    document = schema("output")["examples"][0]
    assert validate(document) == []
    monkeypatch.setattr(jsonschema, "Draft202012Validator", None)
    assert validate(document) == []


def fresh(code: str, *, path: str = "") -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[path] if path else []}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.strip()


HEAVY = ("boto3", "botocore", "jsonschema", "referencing", "pyarrow", "numpy", "pandas", "PIL", "s3fs")


def test_importing_and_parsing_loads_nothing_heavy() -> None:
    """Neither the import nor the parser, the search or the budget needs any other package."""
    code = f"""
import stepout.schemas as s
output = s.TaskOutput.from_dict(s.the_document(s.load_json(s.dump_json(s.schema("output")["examples"][0]))).document)
s.fit(output, write=None)
s.Contract(artifacts=["features"]).problems(output, None)
print([name for name in {HEAVY!r} if name in sys.modules])"""
    assert fresh(code) == "[]"


def test_schemas_work_from_a_zip(tmp_path: Path) -> None:
    """A zipped package finds its schema files, validates and parses."""
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("stepout/__init__.py", "")
        for path in [*FOLDER.rglob("*.py"), *FOLDER.glob("*.json")]:
            bundle.write(path, f"stepout/schemas/{path.relative_to(FOLDER).as_posix()}")
    code = """
import stepout.schemas as s
example = s.schema("output")["examples"][0]
print(".zip" in s.__file__, s.validate(example), s.TaskOutput.from_dict(example).to_dict() == example)"""
    assert fresh(code, path=str(archive)) == "True [] True"
