"""The models: wire form and back, nothing shared, nothing checked on construction."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import Any, get_type_hints

import pytest
from support.schema_cases import base

from stepout.schemas import Pointer, RunIdentity, TaskOutput, validate
from stepout.schemas.errors import InvalidDocumentError

POINTER = Pointer(bucket="results-bucket", key="a", size=1, checksum={"sha256": "0" * 64})


def test_absent_members_are_left_out() -> None:
    """The shortest wire forms hold no null."""
    required = ["stepout", "bucket", "key", "size", "checksum", "mediaType"]
    assert list(POINTER.to_dict()) == required
    assert TaskOutput().to_dict() == {"stepout": "output/1", "artifacts": {}}
    assert TaskOutput(artifacts=None, manifest=POINTER).to_dict() == {
        "stepout": "output/1",
        "manifest": POINTER.to_dict(),
    }
    assert RunIdentity().to_dict() == {}
    assert RunIdentity(attempt=0, state="").to_dict() == {"state": "", "attempt": 0}


def test_producer_has_its_wire_names() -> None:
    """``map_index`` and ``run_id`` become ``mapIndex`` and ``runId``, and come back."""
    identity = RunIdentity(
        execution="e",
        state="s",
        attempt=1,
        map_index="3-0",
        redrive=2,
        version="v",
        nonce="n",
        run_id="r",
        started_at="2026-11-22T12:00:00Z",
    )
    document = base("output")["producer"]
    assert list(identity.to_dict()) == list(document)
    assert RunIdentity.from_dict(identity.to_dict()) == identity


def test_producer_is_parsed_strictly() -> None:
    """All problems of a producer are named at once."""
    with pytest.raises(
        InvalidDocumentError, match=r"the producer is not valid: 2 problems: \$\.state.*; \$\.attempt"
    ) as failure:
        RunIdentity.from_dict({"state": 1, "attempt": "x"})
    assert [problem.kind for problem in failure.value.problems] == ["type", "type"]
    with pytest.raises(InvalidDocumentError, match="must be an object, is array"):
        RunIdentity.from_dict([])


def test_locations_name_the_member() -> None:
    """A problem deep in an output is named by its path, and all are reported at once."""
    document = base("output")
    document["artifacts"]["features"]["size"] = "1"
    document["artifacts"]["preview"]["checksum"] = {}
    with pytest.raises(InvalidDocumentError) as failure:
        TaskOutput.from_dict(document)
    locations = [problem.location for problem in failure.value.problems]
    assert locations == ["$.artifacts.features.size", "$.artifacts.preview.checksum"]
    assert "2 problems: $.artifacts.features.size: must be a whole number, is text" in str(failure.value)


def test_parsed_models_share_nothing_with_their_document() -> None:
    """Changing the document afterwards, at any depth, changes no model."""
    document = {**base("output"), "later": {"a": [1]}}
    document["artifacts"]["features"]["annotations"] = {"columns": ["a"]}
    parsed, before = TaskOutput.from_dict(document), TaskOutput.from_dict(document).to_dict()
    document["artifacts"]["features"]["annotations"]["columns"].append("b")
    document["artifacts"]["features"]["checksum"].clear()
    document["later"]["a"].append(2)
    document["result"]["more"] = 1
    document["producer"]["state"] = "other"
    assert parsed.to_dict() == before


def test_wire_forms_share_nothing_with_their_model() -> None:
    """Changing a wire form afterwards changes no model."""
    output = TaskOutput.from_dict({**base("output"), "later": {"a": [1]}})
    before = output.to_dict()
    changed = output.to_dict()
    changed["artifacts"]["features"]["checksum"].clear()
    changed["result"]["rows"] = -1
    changed["later"]["a"].append(2)
    assert output.to_dict() == before


def test_whole_floats_become_integers() -> None:
    """``1.0`` is an integer in JSON Schema; the model holds an ``int``."""
    pointer = Pointer.from_dict({**base("pointer"), "size": 1.0})
    assert (pointer.size, type(pointer.size)) == (1, int)
    attempt = RunIdentity.from_dict({"attempt": 2.0}).attempt
    assert (attempt, type(attempt)) == (2, int)


def test_subclasses_of_json_types_come_back_plain() -> None:
    """A document of ``OrderedDict`` and the like is parsed into plain types."""

    class Text(str):
        __slots__ = ()

    class Members(dict[str, Any]):
        pass

    document = Members({**base("pointer"), "key": Text("k"), "annotations": Members(a=Text("b"))})
    pointer = Pointer.from_dict(document)
    assert type(pointer.key) is str
    assert type(RunIdentity.from_dict(Members(state=Text("s"))).state) is str
    output = TaskOutput.from_dict(Members(stepout=Text("output/1"), artifacts=Members(), result=Members(a=Text("b"))))
    assert (type(output.artifacts), type(output.result)) == (dict, dict)
    assert pointer.annotations is not None
    assert (type(pointer.annotations), type(pointer.annotations["a"])) == (dict, str)
    assert validate(document) == []


def test_known_members_win_over_extra_ones() -> None:
    """``extra`` can add members, never replace what the model says."""
    pointer = Pointer(
        bucket="b" * 3, key="k", size=1, checksum={}, extra={"bucket": "other", "stepout": "x", "more": 1}
    )
    assert pointer.to_dict()["bucket"] == "bbb"
    assert pointer.to_dict()["stepout"] == "pointer/1"
    assert pointer.to_dict()["more"] == 1
    assert TaskOutput(extra={"artifacts": 5, "a": 1}).to_dict() == {"stepout": "output/1", "artifacts": {}, "a": 1}
    assert RunIdentity(state="s", extra={"state": "t", "a": 1}).to_dict() == {"state": "s", "a": 1}


def test_construction_checks_nothing_but_validation_does() -> None:
    """Nonsense can be held; the wire form of it is refused with every member named."""
    pointer = Pointer(bucket="", key="\n", size=-1, checksum={})
    assert {problem.location for problem in validate(pointer.to_dict())} == {
        "$.bucket",
        "$.key",
        "$.size",
        "$.checksum",
    }
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.when: is of type datetime\.date"):
        TaskOutput(result={"when": __import__("datetime").date(2026, 1, 1)}).to_json()


def test_any_mapping_can_be_a_result() -> None:
    """Read-only views and the like are written as objects."""
    output = TaskOutput(result=MappingProxyType({"a": MappingProxyType({"b": [MappingProxyType({})]})}))
    assert output.to_dict()["result"] == {"a": {"b": [{}]}}
    assert output.to_json() == '{"stepout":"output/1","artifacts":{},"result":{"a":{"b":[{}]}}}'


def test_result_in_the_store_comes_back_as_a_pointer() -> None:
    """A spilled result is a ``Pointer`` on both sides of the wire."""
    output = TaskOutput(result=POINTER)
    assert TaskOutput.from_dict(output.to_dict()) == output


def test_a_manifest_never_leads_to_another() -> None:
    """What a manifest pointed to is refused if it has a manifest itself."""
    document = TaskOutput(artifacts=None, manifest=POINTER).to_dict()
    assert TaskOutput.from_dict(document).manifest == POINTER
    with pytest.raises(InvalidDocumentError, match="another manifest") as failure:
        TaskOutput.from_dict(document, manifest_allowed=False)
    assert [(problem.location, problem.kind) for problem in failure.value.problems] == [("$.manifest", "unexpected")]
    assert TaskOutput.from_dict(base("output"), manifest_allowed=False).artifacts


def test_models_are_frozen_and_their_hints_resolve() -> None:
    """Nothing can be assigned; tools that read type hints at run time work."""
    with pytest.raises(FrozenInstanceError):
        POINTER.size = 2  # type: ignore[misc] # that is the fault under test
    for model in (Pointer, TaskOutput, RunIdentity):
        assert get_type_hints(model)


def test_pointer_has_a_url() -> None:
    """``s3://bucket/key``."""
    assert POINTER.url == "s3://results-bucket/a"


def test_text_of_a_pointer_is_utf8_not_escapes() -> None:
    """Non-ASCII characters stand for themselves, so that sizes are those of UTF-8."""
    pointer = Pointer(bucket="results-bucket", key="é𝄞", size=0, checksum={"sha256": "0" * 64})
    assert '"key":"é𝄞"' in pointer.to_json()
