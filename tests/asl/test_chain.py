"""``stepout asl chain``: several states in a row, from one command or a small file, whose inputs fit."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.asl.chain import chain
from stepout.asl.services import KINDS, OVERRIDES_LIMIT, overrides_size
from stepout.asl.variables import StateOptions
from stepout.cli import main
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["--state", "Mask=ecs:mask", "--state", "Score=ecs:score", "--state", "Tell=consumer:tell"]
SHARED = ["--cluster", "jobs", "--subnets", "subnet-1", "--bucket", "results-bucket", "--prefix", "runs"]
FILE: dict[str, Any] = {
    "cluster": "jobs",
    "subnets": ["subnet-1"],
    "bucket": "results-bucket",
    "prefix": "runs",
    "states": [
        {"name": "Mask", "kind": "ecs", "task-definition": "mask"},
        {"name": "Score", "kind": "ecs", "task_definition": "score"},
        {"name": "Tell", "kind": "consumer", "function": "tell"},
    ],
}


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    """Run ``stepout asl chain``; return what it printed, parsed, and what it said."""
    code = main(["asl", "chain", *words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


def test_one_command_or_a_file_make_the_same_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two containers and a Lambda: each names the next, all that was said for all is in each that has a use for it."""
    (tmp_path / "chain.json").write_text(json.dumps(FILE))
    machine, said = printed(capsys, *WORDS, *SHARED)
    assert printed(capsys, str(tmp_path / "chain.json")) == (machine, said)
    states = machine["States"]
    assert (machine["StartAt"], list(states)) == ("Mask", ["Mask", "Score", "Tell", "Failed"])
    assert [states[name].get("Next") for name in ("Mask", "Score", "Tell")] == ["Score", "Tell", None]
    assert [states[name]["Parameters"]["TaskDefinition"] for name in ("Mask", "Score")] == ["mask", "score"]
    assert {variables_of(states[name])["STEPOUT_ALLOW"] for name in ("Mask", "Score")} == {"s3://results-bucket/runs/"}
    assert states["Tell"]["Parameters"] == {"FunctionName": "tell", "Payload.$": "$"}
    allowed = 'give the function STEPOUT_ALLOW="s3://results-bucket/runs/"'
    assert f"Tell: a state cannot set a function's variables: {allowed}" in said


def test_a_file_says_what_one_state_has_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Members are the options of ``asl KIND``: lists, numbers, variables, switches, null and JSON as they are."""
    described = {**FILE, "no-redrive": True, "retries": 1, "input": "$.job", "env": {"LEVEL": 3}}
    described["states"] = [
        {**FILE["states"][0], "heartbeat": 900, "catch": ["Dark=Retake", "Lost"], "env": ["MODE=a=b"]},
        {**FILE["states"][1], "result-path": "$.score", "input-json": {"scene": [7]}},
        {**FILE["states"][2], "result_path": None},
    ]
    (tmp_path / "chain.json").write_text(json.dumps(described))
    states = printed(capsys, str(tmp_path / "chain.json"))[0]["States"]
    first = variables_of(states["Mask"])
    assert (first["LEVEL"], first["MODE"], first["STEPOUT_INPUT"]) == ("3", "a=b", "States.JsonToString($.job)")
    assert "STEPOUT_REDRIVE" not in first
    assert states["Mask"]["HeartbeatSeconds"] == 900
    assert [each["Next"] for each in states["Mask"]["Catch"]] == ["Retake", "Lost"]
    assert {states["Score"]["Catch"][0]["Next"], states["Score"]["ResultPath"]} == {"Failed", "$.score"}
    assert variables_of(states["Score"])["STEPOUT_INPUT"] == '{"scene":[7]}'
    assert states["Tell"]["ResultPath"] is None
    assert {each["Retry"][0]["MaxAttempts"] for each in states.values() if "Retry" in each} == {1}


def variables_of(state: dict[str, Any]) -> dict[str, Any]:
    """Return every variable of a container."""
    pairs = state["Parameters"]["Overrides"]["ContainerOverrides"][0]["Environment"]
    return {pair["Name"]: pair.get("Value", pair.get("Value.$")) for pair in pairs}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--state NAME=KIND:WHAT"),
        (["nowhere.json"], "nowhere.json"),
        (["--state", "A=fargate:a"], "KIND being ecs"),
        (["--state", "A=esc:a"], "did you mean eks or ecs?"),
        (["--state", "ecs:a"], "NAME=KIND"),
        (["--state", "A=ecs:"], "NAME=KIND"),
        (["--state", "A=ecs:a", "--state", "A=ecs:b"], "two states are called 'A'"),
        (["--state", "Failed=ecs:a"], "two states are called 'Failed'"),
        (["--state", "A=ecs:a", "--result-path", "$.a"], "is of one state"),
        (["--state", "A=ecs:a", "--name", "B"], "is of one state"),
        (["--state", "A=ecs:a", "--next", "B"], "the order of the states says what follows"),
        (["--state", "A=ecs:a", "--express"], "Express"),
        (["--state", "A=sqs:jobs"], "no queue's URL"),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are one line that says what to write; nothing is printed."""
    code = main(["asl", "chain", *words])
    out, err = capsys.readouterr()
    assert (code > 0, out, err.count("\n")) == (True, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"states": []}, '"states"'),
        ({"states": ["Mask"]}, '"states"'),
        ({"states": [{"name": "Mask"}]}, "state 'Mask': kind is None: expected one of ecs"),
        ({"states": [{"kind": "ecs", "taskdefinition": "mask"}]}, "'taskdefinition': did you mean task-definition"),
        ({"states": [{"kind": "ecs", "task-defintion": "mask"}]}, "did you mean task-definition"),
        ({"states": [{"kind": "esc"}]}, "kind is 'esc': did you mean eks or ecs?"),
        ({"buckt": "x"}, "'buckt': did you mean bucket?"),
        ({"states": [{"kind": "ecs", "function": "mask"}]}, "ecs has no use for --function"),
        ({"states": [{"kind": "ecs", "heartbeat": "soon"}]}, "--heartbeat"),
        ({"states": [{"kind": "ecs", "map": "yes"}]}, "map must be true or false"),
        ({"states": [{"kind": "ecs", "cluster": {}}]}, "cluster must be text"),
        ({"states": [{"kind": "ecs", "query-language": "jsonata"}, {"kind": "ecs"}]}, "one for all states"),
        ({"name": "Mask"}, "is of one state"),
        ({"buckets": "x"}, "'buckets': did you mean bucket?"),
    ],
)
def test_mistakes_in_a_file(
    change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They are usage errors that name the file or the state, and the member."""
    (tmp_path / "chain.json").write_text(json.dumps({**FILE, **change}))
    code = main(["asl", "chain", str(tmp_path / "chain.json")])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in itertools.product(KINDS, KINDS) if KINDS[pair[0]].reports == "pull"]
)
@pytest.mark.parametrize("language", ["jsonpath", "jsonata"])
def test_after_pull_mode_the_next_state_is_given_the_url(first: str, second: str, language: Any) -> None:
    """As it is, without quotes, which ``task.input``, a worker's too, and ``resolve_output`` follow."""
    common: dict[str, Any] = {"language": language, "bucket": "results-bucket", "prefix": "runs"}
    (_, _), (_, options) = chain(
        [(first, StateOptions(name="A", **common)), (second, StateOptions(name="B", **common))]
    )
    assert (options.input, options.input_is_url) == ("$.output", True)


@given(
    kinds=st.lists(st.sampled_from(["ecs", "ecs-sync", "lambda", "consumer", "sqs"]), min_size=1, max_size=5),
    paths=st.lists(st.sampled_from(["$", "$", "$.a", "$.b", "null"]), min_size=5, max_size=5),
    size=st.none() | st.integers(0, 1500),
    language=st.sampled_from(["jsonpath", "jsonata"]),
)
def test_whatever_is_known_to_be_passed_fits(
    kinds: list[str], paths: list[str], size: int | None, language: Any
) -> None:
    """Outputs as large as their budgets, with every character a quote, fit with all else into what ECS allows."""
    common: dict[str, Any] = {"bucket": "results-bucket", "language": language}
    tasks = [
        (kind, StateOptions(name=f"S{index}", result_path=path, input_size=None if index else size, **common))
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    try:
        wired = chain(tasks)
    except ConfigurationError:  # too many outputs beside one another: a test of its own
        return
    for kind, options in wired:
        if options.input_size is not None and kind in ("ecs", "ecs-sync"):
            size_of_all = overrides_size(kind, options)
            assert size_of_all is not None
            assert size_of_all <= OVERRIDES_LIMIT


def test_outputs_that_cannot_fit_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Five outputs beside one another are too much for a sixth container: the message says what to do."""
    states = [
        {"name": f"S{index}", "kind": "ecs", "task-definition": "x", "result-path": f"$.s{index}"} for index in range(6)
    ]
    (tmp_path / "chain.json").write_text(json.dumps({**FILE, "states": states}))
    assert main(["asl", "chain", str(tmp_path / "chain.json")]) == 2
    err = capsys.readouterr().err
    assert "8,192" in err
    assert '"input": "$.member"' in err
    for state in states[1:]:
        state["input"] = "$.s0"
    (tmp_path / "chain.json").write_text(json.dumps({**FILE, "states": states}))
    machine, said = printed(capsys, str(tmp_path / "chain.json"))
    budgets = [variables_of(machine["States"][f"S{index}"]).get("STEPOUT_OUTPUT_BUDGET") for index in range(6)]
    assert budgets[0] is not None
    assert budgets[1:] == [None] * 5
    assert "S1" not in said  # its input is known to fit


def test_a_budget_of_ones_own_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the file says stands, and a warning says so where the next input may then be too large."""
    states = [{**FILE["states"][0], "env": {"STEPOUT_OUTPUT_BUDGET": "60000"}}, *FILE["states"][1:]]
    (tmp_path / "chain.json").write_text(json.dumps({**FILE, "states": states}))
    machine, said = printed(capsys, str(tmp_path / "chain.json"))
    assert variables_of(machine["States"]["Mask"])["STEPOUT_OUTPUT_BUDGET"] == "60000"
    assert "Score: the overrides may take" in said


@pytest.mark.parametrize("words", [["asl", "--help"], ["asl", "chain", "--help"]])
def test_help_teaches_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """``stepout asl --help`` shows the command and the file; that of a chain shows these alone, on one screen."""
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "stepout asl chain --state Mask=ecs:mask" in out
    assert '"states": [' in out
    assert ("write_item_reader_manifest" in out) == ("chain" not in words)
