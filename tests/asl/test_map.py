"""``stepout asl map``: the language, what children are told, what is read and written, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepout.asl.services import KINDS
from stepout.cli import main
from stepout.doctor import Document, examine

LANGUAGES = ("jsonpath", "jsonata")
ACTIVITY = "arn:aws:states:eu-west-1:123456789012:activity:mask"
SETTINGS = {
    "ecs": ["--cluster", "jobs", "--task-definition", "mask", "--subnets", "subnet-1"],
    "activity": ["--activity", ACTIVITY],
}
PLACE = ["--bucket", "results-bucket", "--prefix", "runs"]
WHERE = {"jsonpath": "Parameters", "jsonata": "Arguments"}
MAP_MEMBERS = {
    "Type",
    "Label",
    "ItemReader",
    "ItemSelector",
    "ItemBatcher",
    "MaxConcurrency",
    "ToleratedFailurePercentage",
    "ItemProcessor",
    "ResultWriter",
    "Catch",
    "Next",
    "End",
}
SHAPES: dict[str, list[str]] = {
    "pointer": [],
    "before": ["--state", "Plan=ecs:plan", "--pointer", "$.artifacts.scenes", "--next", "Done"],
    "listing": ["--list", "s3://scenes/2026/", "--no-gather", "--result-path", "$.children"],
    "batches": ["--items", "$.scenes", "--batch", "10", "--max-concurrency", "500", "--tolerate", "0"],
    "inline": ["--inline", "--items", "$.scenes"],
}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    """Run ``stepout asl map``; return what it printed, parsed, and what it said."""
    code = main(["asl", "map", *words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


def made(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The Map state of children on ECS."""
    machine, _ = printed(capsys, "ecs", *SETTINGS["ecs"], *PLACE, *words)
    return dict(machine["States"]["Each"])


def told(state: dict[str, Any]) -> dict[str, str]:
    """What a child's container is told."""
    (child,) = state["ItemProcessor"]["States"].values()
    (container,) = child.get("Parameters", child.get("Arguments"))["Overrides"]["ContainerOverrides"]
    return {pair["Name"]: pair.get("Value.$", pair.get("Value")) for pair in container["Environment"]}


@pytest.mark.parametrize(
    ("kind", "shape"), [*((kind, "before") for kind in KINDS), *(("sqs", shape) for shape in SHAPES)]
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_map_is_amazon_states_language(
    kind: str, language: str, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It parses by the language's grammar, has one query language's members alone, and every state is reached."""
    from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

    words = [*SETTINGS.get(kind, []), *PLACE, *SHAPES[shape], "--query-language", language]
    machine, _ = printed(capsys, kind, *words)
    text = json.dumps(machine)
    assert ('.$": "$' in text) == (language == "jsonpath")
    assert ("{%" in text) == (language == "jsonata")
    states = machine["States"]
    reached = {machine["StartAt"], *(state["Next"] for state in states.values() if "Next" in state)}
    reached |= {catch["Next"] for state in states.values() for catch in state.get("Catch", ())}
    assert reached == set(states)
    state = states["Each"]
    assert (
        set(state) <= MAP_MEMBERS | {"jsonpath": {"ItemsPath", "ResultPath"}, "jsonata": {"Items", "Output"}}[language]
    )
    for name in ("ItemReader", "ResultWriter"):
        member = state.get(name, {})
        assert {"Parameters", "Arguments"} & set(member) == ({WHERE[language]} if member else set())
        # That grammar is older than these: what it does not know of them is left out.
        state.pop("ItemBatcher", None)
        state.pop("ResultWriter", None)
        member.get("ReaderConfig", {})["InputType"] = "JSON"
    if "ToleratedFailurePercentage" in state:
        state["ToleratedFailurePercentage"] += 0.5
    AmazonStateLanguageParser.parse(json.dumps(machine))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_doctor_finds_nothing_wrong(language: str, shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes apart, which say that nobody told how large an item is."""
    machine, _ = printed(capsys, "ecs", *SETTINGS["ecs"], *PLACE, *SHAPES[shape], "--query-language", language)
    found = examine([Document("machine.json", machine)])
    assert not [each for each in found if each.severity != "note"]


def test_a_child_is_told_its_parent_its_item_and_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """By the ItemSelector, as its own context has neither; a batch by what its items share."""
    state = made(capsys)
    assert state["ItemSelector"] == {
        "index.$": "$$.Map.Item.Index",
        "item.$": "$$.Map.Item.Value",
        "parent.$": "$$.Execution.Id",
    }
    found = told(state)
    assert found["STEPOUT_EXECUTION"] == "$$.Execution.Id"
    assert found["STEPOUT_PARENT_EXECUTION"] == "$.parent"
    assert found["STEPOUT_MAP_INDEX"] == "States.Format('{}', $.index)"
    assert found["STEPOUT_INPUT"] == "States.JsonToString($.item)"
    assert found["STEPOUT_MAX_CONCURRENCY"] == str(state["MaxConcurrency"]) == "100"
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert "Catch" not in state["ItemProcessor"]["States"]["Work"]  # its failure is its result
    batch = made(capsys, "--batch", "10")
    assert batch["ItemBatcher"] == {"MaxItemsPerBatch": 10, "BatchInput": {"parent.$": "$$.Execution.Id"}}
    found = told(batch)
    assert found["STEPOUT_PARENT_EXECUTION"] == "$.BatchInput.parent"
    assert found["STEPOUT_MAP_INDEX"] == "States.Format('{}', $.Items[0].index)"
    assert found["STEPOUT_INPUT"] == "States.JsonToString($.Items)"


def test_the_reader_is_given_bucket_key_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the pointer; a bucket without versions has none to give; a listing takes bucket and prefix."""
    reader = made(capsys, "--pointer", "$.plan.artifacts.scenes")["ItemReader"]
    at = "$.plan.artifacts.scenes"
    place = {"Bucket.$": f"{at}.bucket", "Key.$": f"{at}.key", "VersionId.$": f"{at}.versionId"}
    assert (reader["ReaderConfig"], reader["Parameters"]) == ({"InputType": "JSONL"}, place)
    assert "VersionId.$" not in made(capsys, "--no-version")["ItemReader"]["Parameters"]
    reader = made(capsys, "--list", "s3://scenes/2026/")["ItemReader"]
    assert reader["Resource"].endswith(":s3:listObjectsV2")
    assert reader["Parameters"] == {"Bucket": "scenes", "Prefix": "2026/"}


def test_results_go_where_the_gathering_function_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the children's own place, or where it was said; the function is told what it must be allowed to read."""
    machine, said = printed(capsys, "ecs", *SETTINGS["ecs"], *PLACE, "--gather", "add-up")
    writer = machine["States"]["Each"]["ResultWriter"]
    assert writer["Parameters"] == {"Bucket": "results-bucket", "Prefix": "runs/results"}
    assert writer["WriterConfig"] == {"Transformation": "NONE", "OutputType": "JSONL"}
    assert machine["States"]["Gather"]["Parameters"] == {"FunctionName": "add-up", "Payload.$": "$"}
    assert 'STEPOUT_ALLOW="s3://results-bucket/runs/"' in said
    words = ["--results", "s3://other/maps/", "--transformation", "COMPACT", "--output-type", "JSON"]
    machine, said = printed(capsys, "ecs", *SETTINGS["ecs"], *PLACE, *words)
    writer = machine["States"]["Each"]["ResultWriter"]
    assert writer["Parameters"] == {"Bucket": "other", "Prefix": "maps"}
    assert writer["WriterConfig"] == {"Transformation": "COMPACT", "OutputType": "JSON"}
    assert 'STEPOUT_ALLOW="s3://results-bucket/runs/ s3://other/maps/"' in said


def test_children_of_an_inline_map_know_how_many_outputs_come_together(capsys: pytest.CaptureFixture[str]) -> None:
    """The count is the items' own; the parent's execution is theirs; nothing is read or written."""
    state = made(capsys, *SHAPES["inline"])
    assert state["ItemsPath"] == "$.scenes"
    assert state["ItemSelector"]["count.$"] == "States.ArrayLength($.scenes)"
    found = told(state)
    assert found["STEPOUT_FAN_IN"] == "States.Format('{}', $.count)"
    assert found["STEPOUT_MAP_INDEX"] == "States.Format('{}', $$.Map.Item.Index)"
    assert "STEPOUT_PARENT_EXECUTION" not in found
    assert state["MaxConcurrency"] == 40
    assert not {"ItemReader", "ResultWriter", "Label", "ToleratedFailurePercentage"} & set(state)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_function_that_gathers_is_given_the_results_wherever_they_are(
    language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is given them alone; beside a list of outputs JSONPath could put no error, so there nothing is caught."""
    words = ["ecs", *SETTINGS["ecs"], *PLACE, *SHAPES["inline"], "--query-language", language]
    machine, said = printed(capsys, *words)
    assert ("Catch" in machine["States"]["Gather"]) == ("Gather has no Catch" not in said) == (language == "jsonata")
    assert 'STEPOUT_ALLOW="s3://results-bucket/runs/" for the function: outputs\n' in said
    machine, said = printed(capsys, *words, "--result-path", "$.results")
    payload = machine["States"]["Gather"][WHERE[language]]
    assert payload.get("Payload.$", payload.get("Payload")) in ("$.results", "{% $states.input.results %}")
    assert "Catch" in machine["States"]["Gather"]
    assert "has no Catch" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "of which kind is a child's state?"),
        (["esc"], "did you mean"),
        (["ecs", "--map"], "--map"),
        (["ecs", "--machine"], "--machine"),
        (["ecs", "--items", "$.a", "--list", "s3://b/"], "say one of them"),
        (["ecs", "--inline", "--batch", "3"], "--batch: an inline Map has none"),
        (["ecs", "--inline", "--max-concurrency", "41"], "1 to 40"),
        (["ecs", "--max-concurrency", "10001"], "1 to 10,000"),
        (["ecs", "--tolerate", "101"], "--tolerate 101"),
        (["ecs", "--batch", "0"], "--batch"),
        (["ecs", "--label", "a b"], "--label"),
        (["ecs", "--label", ""], "--label is empty"),
        (["ecs", "--results", "runs/"], "--results 'runs/'"),
        (["ecs", "--list", "runs/"], "--list 'runs/'"),
        (["ecs", "--pointer", "items"], "--pointer 'items' is no path"),
        (["ecs", "--gather", "f", "--no-gather"], "contradict"),
        (["ecs", "--result-path", "null"], "--result-path null drops the results"),
        (["ecs", "--env", "STEPOUT_MAP_INDEX=3"], "the Map passes it"),
        (["ecs", "--express"], "Express"),
        (["ecs", "--map-name", "Gather"], "two states are called 'Gather'"),
        (["ecs", "--state", "Plan=ecs-sync:plan", "--bucket", "b-1"], "pull mode"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error names the option, and nothing is printed."""
    assert main(["asl", "map", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_options_of_a_map_are_of_no_use_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused, not passed over."""
    assert main(["asl", "ecs", "--batch", "3"]) == 2
    assert "--batch is for 'stepout asl map'" in capsys.readouterr().err


def test_help_teaches_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Who writes the items, what a child is told, where results lie and which rights it takes."""
    assert main(["asl", "map", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--queue-url" not in text  # the options of a state are in the help of asl itself
    for word in (
        "--pointer PATH",
        "stepout asl map ecs",
        "write_item_reader_manifest",
        "STEPOUT_PARENT_EXECUTION",
        "iam machine --kind map",
    ):
        assert word in text
