"""A user's own contract for a result and for artifacts."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from support.schema_cases import base

from stepout.schemas import Contract, Pointer, TaskOutput
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

RESULT = {
    "type": "object",
    "required": ["rows", "mean"],
    "properties": {"rows": {"type": "integer", "minimum": 1}, "mean": {"type": ["number", "null"]}, "note": False},
    "additionalProperties": {"type": "string", "maxLength": 5},
}


def output(**media_types: str) -> TaskOutput:
    """Return an output with artifacts of these media types."""
    pointer = Pointer.from_dict(base("pointer"))
    return TaskOutput(artifacts={name: replace(pointer, media_type=kind) for name, kind in media_types.items()})


def found(contract: Contract, result: Any = None, **media_types: str) -> list[tuple[str, str]]:
    """Return locations and kinds."""
    return [(problem.location, problem.kind) for problem in contract.problems(output(**media_types), result)]


def test_a_kept_contract_has_no_problems() -> None:
    """What keeps both halves passes; more artifacts than required are fine."""
    contract = Contract(result=RESULT, artifacts={"preview": "image/*", "features": None})
    result = {"rows": 1, "mean": None, "more": "text"}
    assert found(contract, result, preview="image/png", features="text/csv", other="a/b") == []


def test_all_problems_are_reported_at_once() -> None:
    """Artifacts and result, sorted by location, each place and kind once."""
    contract = Contract(result=RESULT, artifacts={"preview": "image/*", "features": "text/csv", "more": None})
    result = {"rows": 0, "note": 1, "long": "abcdef", "type": 1}
    expected = [
        ("$.artifacts.features", "missing"),
        ("$.artifacts.more", "missing"),
        ("$.artifacts.preview.mediaType", "media-type"),
        ("$.result", "unexpected"),
        ("$.result.long", "length"),
        ("$.result.mean", "missing"),
        ("$.result.rows", "range"),
        ("$.result.type", "type"),
    ]
    assert found(contract, result, preview="text/plain") == expected


@pytest.mark.parametrize(
    ("schema", "result", "expected"),
    [
        ({"required": ["a", "b"]}, None, [("$.result.a", "missing"), ("$.result.b", "missing")]),
        (
            {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False},
            {"a b": 1, "a": 1, "xa": 1, "c": 1},
            [("$.result.c", "unexpected"), ('$.result["a b"]', "unexpected")],
        ),
        ({"properties": {"a": {"enum": ["x"]}}}, {"a": "secret"}, [("$.result.a", "value")]),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "secret"}, [("$.result.a", "pattern")]),
        ({"properties": {"a": {"items": {"multipleOf": 2}}}}, {"a": [2, 3]}, [("$.result.a[1]", "contract")]),
        ({"propertyNames": {"maxLength": 2}}, {"abc": 1}, [("$.result", "length")]),
        ({}, {"a": {"b": float("nan")}}, [("$.result.a.b", "not-finite")]),
        ({}, {"a": ({1},)}, [("$.result.a[0]", "not-json")]),
    ],
)
def test_kinds_follow_the_keyword(schema: dict[str, Any], result: Any, expected: list[tuple[str, str]]) -> None:
    """Each keyword of JSON Schema has a stable kind, and no message quotes a value."""
    contract = Contract(result=schema)
    assert found(contract, result) == expected
    assert not any("secret" in str(problem) for problem in contract.problems(output(), result))


@pytest.mark.parametrize(
    ("wanted", "kind", "kept"),
    [
        ("image/*", "image/png", True),
        ("image/*", "IMAGE/PNG; q=1", True),
        ("image/*", "imagex/png", False),
        ("text/csv", "text/csv; charset=utf-8", True),
        ("text/csv", "text/csv-schema", False),
        ("Text/CSV", "text/csv", True),
        ("*/*", "a/b", True),
        (None, "a/b", True),
    ],
)
def test_media_types_are_compared_without_parameters_and_case(wanted: str | None, kind: str, kept: bool) -> None:
    """A star stands for a whole half; parameters do not count."""
    assert (found(Contract(artifacts={"a": wanted}), a=kind) == []) is kept


def test_a_manifest_hides_the_artifacts() -> None:
    """A manifest is no place to check a contract: the document that it points to is."""
    pointer = Pointer.from_dict(base("pointer"))
    problems = Contract(artifacts=["a"]).problems(TaskOutput(artifacts=None, manifest=pointer), None)
    assert [(problem.location, problem.kind) for problem in problems] == [("$.manifest", "unexpected")]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"type": 5}, r"\$\.type breaks the rule"),
        ({"properties": {"a": {"minimum": "1"}}}, r"\$\.properties\.a\.minimum breaks the rule type"),
        ({"$schema": "urn:unknown"}, r"names a \$schema that is not known"),
        ({"$schema": 7}, r"names a \$schema that is not known"),
        ({"$ref": "#/$defs/none"}, r"'#/\$defs/none', which leads nowhere"),
        ({"properties": {"a": {"items": {"$ref": "other.json"}}}}, r"'other\.json', which leads nowhere"),
        ({"const": ({1},)}, r"object of JSON values.*\$\.const\[0\]"),
        ([], "object of JSON values"),
        ("{}", "object of JSON values"),
    ],
)
def test_a_bad_schema_is_a_configuration_error_at_once(result: Any, words: str) -> None:
    """Nobody learns of a wrong contract when the job is done."""
    with pytest.raises(ConfigurationError, match=words):
        Contract(result=result)


@pytest.mark.parametrize(
    "artifacts", [["a-b"], {"a": "png"}, {"a": "*/png"}, {"a": 1}, [1], "features", 5, {"1": None}]
)
def test_bad_artifacts_are_a_configuration_error(artifacts: Any) -> None:
    """Names must be artifact names, media types media types."""
    with pytest.raises(ConfigurationError):
        Contract(artifacts=artifacts)


def test_references_lead_within_the_schema_and_to_known_ones() -> None:
    """``$defs``, ``$id``, anchors, older drafts and stepout's own schemas work."""
    nested = {"$defs": {"n": {"$id": "urn:n", "$defs": {"i": {"$anchor": "i", "type": "integer"}}}}}
    contract = Contract(result={**nested, "properties": {"a": {"$ref": "urn:n#i"}}})
    assert found(contract, {"a": "x"}) == [("$.result.a", "type")]
    pointer = Contract(result={"properties": {"a": {"$ref": "urn:stepout:schema:pointer:1"}}})
    assert found(pointer, {"a": base("pointer")}) == []
    assert ("$.result.a.key", "missing") in found(pointer, {"a": {}})
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "string"}}}
    assert found(Contract(result={**old, "properties": {"a": {"$ref": "#/definitions/a"}}}), {"a": 1}) != []


def test_nothing_is_ever_fetched() -> None:
    """A ``$ref`` to a server that would answer is refused without asking it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ConfigurationError, match="nothing is fetched"):
            Contract(result={"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"})
        server.shutdown()
    assert asked == []


def test_contracts_come_from_documents_and_files(tmp_path: Path) -> None:
    """The same contract three ways; they are equal, frozen, and independent of what they came from."""
    document: dict[str, Any] = {"result": {"required": ["a"]}, "artifacts": {"features": "text/csv"}}
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    contract = Contract.from_dict(document)
    assert contract == Contract.from_file(path) == Contract(**document)
    document["result"]["required"].append("b")
    document["artifacts"]["other"] = None
    assert found(contract, {"a": 1}, features="text/csv") == []
    with pytest.raises(FrozenInstanceError):
        contract.result = None  # type: ignore[misc] # that is the fault under test
    assert Contract.from_dict({}) == Contract()
    assert Contract.from_dict({"artifacts": ["a"]}).artifacts == {"a": None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"results": {}}', r"not \$\.results"),
        ('{"a":1,"a":2}', "more than once"),
    ],
)
def test_bad_contract_files_are_configuration_errors(tmp_path: Path, content: str, words: str) -> None:
    """The message says what is wrong with the file."""
    path = tmp_path / "contract.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words):
        Contract.from_file(path)


def test_a_missing_contract_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The message names the file and the reason."""
    with pytest.raises(ConfigurationError, match=r"none\.json cannot be read: No such file"):
        Contract.from_file(tmp_path / "none.json")
