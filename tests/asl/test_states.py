"""States that ``stepout asl`` prints: the language, the wiring, what is retried, and what is refused or warned of."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.asl.services import KINDS, OVERRIDES_LIMIT, overrides_size
from stepout.asl.states import RETRYABLE, state_machine, state_warnings, task_state
from stepout.asl.variables import Expression, StateOptions
from stepout.cli import main
from stepout.schemas import errors
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LANGUAGES = ("jsonpath", "jsonata")
EVERY = list(itertools.product(KINDS, LANGUAGES))
TOKEN = [name for name, kind in KINDS.items() if kind.reports == "token"]
PULL = [name for name, kind in KINDS.items() if kind.reports == "pull"]
ACTIVITY = "arn:aws:states:eu-west-1:123456789012:activity:mask"
PATH = re.compile(r"\$\$?(?:\.[A-Za-z_]\w*|\[\d+\])*|States\.[A-Za-z]+\(.*\)")
COMMON = {"Type", "Resource", "TimeoutSeconds", "HeartbeatSeconds", "Retry", "Catch", "Next", "End", "QueryLanguage"}
OWN = {"jsonpath": {"Parameters", "ResultSelector", "ResultPath", "OutputPath"}, "jsonata": {"Arguments", "Output"}}


def options(language: Any = "jsonpath", **more: Any) -> StateOptions:
    """Return options that every kind can do something with."""
    return StateOptions(language=language, bucket="results-bucket", prefix="runs", **more)


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every member of every object."""
    for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from members(each)
    if isinstance(value, dict):
        yield from value.items()


def variables(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a state passes as STEPOUT_* variables, whatever its kind calls them."""
    found: dict[str, Any] = {}
    for name, value in members(state.get("Parameters", state.get("Arguments"))):
        bare = name.removesuffix(".$").removeprefix("--")
        if bare.startswith("STEPOUT_"):
            found[bare] = value
        if isinstance(value, list):
            pairs = [
                {key.lower().removesuffix(".$"): item for key, item in each.items()}
                for each in value
                if isinstance(each, dict)
            ]
            found |= {pair["name"]: pair["value"] for pair in pairs if "value" in pair}
    return {name: value for name, value in found.items() if name.startswith("STEPOUT_")}


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_machine_is_amazon_states_language(kind: str, language: str) -> None:
    """Every machine parses by the language's grammar, has its query language's fields alone, and reaches each state."""
    from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

    settings = {"activity": ACTIVITY} if kind == "activity" else {}
    machine = state_machine(
        kind, options(language, settings=settings, next="After", catch=((("A", "B"), "C"), (("States.ALL",), "Failed")))
    )
    AmazonStateLanguageParser.parse(json.dumps(machine))
    state = machine["States"]["Work"]
    assert set(state) <= COMMON | OWN[language]
    assert {"After", *(catch["Next"] for catch in state["Catch"])} | {"Work"} == set(machine["States"])
    texts = [(name, value) for name, value in members(machine) if isinstance(value, str)]
    if language == "jsonpath":
        assert all(PATH.fullmatch(value) for name, value in texts if name.endswith(".$"))
        assert not [value for _, value in texts if value.startswith("{%")]
    else:
        assert not [name for name, _ in members(machine) if name.endswith(".$")]
        assert all(value.endswith(" %}") for _, value in texts if value.startswith("{%"))
        assert not [value for _, value in texts if "$$" in value or ("States." in value and "{%" in value)]


@pytest.mark.parametrize(("kind", "language"), [pair for pair in EVERY if pair[0] != "consumer"])
def test_every_variable_is_wired(kind: str, language: str) -> None:
    """A state passes run, input and index, and a token with its heartbeat or else a URL, never both."""
    state = task_state(kind, options(language, in_map=True))
    passed = variables(state)
    always = {f"STEPOUT_{name}" for name in ("EXECUTION", "STATE", "ATTEMPT", "REDRIVE", "MAP_INDEX", "INPUT")}
    assert always <= set(passed)
    if kind in PULL:
        assert "STEPOUT_OUTPUT" in passed
        assert "STEPOUT_TASK_TOKEN" not in passed
        assert "HeartbeatSeconds" not in state
    else:
        assert passed["STEPOUT_HEARTBEAT_SECONDS"] == str(state["HeartbeatSeconds"])
        assert state["HeartbeatSeconds"] < state["TimeoutSeconds"]
        assert ("STEPOUT_TASK_TOKEN" in passed) == (kind != "activity")


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_only_what_may_pass_is_retried(kind: str, language: str) -> None:
    """No wildcard and no permanent error is retried; our names appear where the state can hear of them."""
    retried = [name for each in task_state(kind, options(language))["Retry"] for name in each["ErrorEquals"]]
    assert len(retried) == len(set(retried))
    assert not {"States.ALL", "States.TaskFailed"} & set(retried)
    assert not [name for name in retried if name.startswith("Stepout.") and name not in RETRYABLE]
    assert (set(RETRYABLE) <= set(retried)) == (kind in TOKEN)
    assert ("States.HeartbeatTimeout" in retried) == (kind in TOKEN)


def test_retryable_names_are_those_of_the_errors() -> None:
    """The names come from the errors: a permanent one can never be among them."""
    assert RETRYABLE == ("Stepout.Interrupted", "Stepout.Retryable", "Stepout.StoreUnavailable")
    assert errors.PermanentError.error_name not in RETRYABLE


def test_catch_keeps_the_input_beside_the_error() -> None:
    """A caught error lands beside the input, and catchers stand in the order that was asked for."""
    catch = ((("BadFrame",), "Retake"), (("States.ALL",), "Failed"))
    for language, member, expected in (
        ("jsonpath", "ResultPath", "$.error"),
        ("jsonata", "Output", "{% $merge([$states.input, {'error': $states.errorOutput}]) %}"),
    ):
        state = task_state("ecs", options(language, catch=catch))
        assert [each["Next"] for each in state["Catch"]] == ["Retake", "Failed"]
        assert {each[member] for each in state["Catch"]} == {expected}


@pytest.mark.parametrize("kind", KINDS)
def test_express_workflows_get_no_state_that_waits(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For an Express workflow, all that wait are refused, and the message says why and what to use."""
    code = main(["asl", kind, "--express", "--bucket", "results-bucket"])
    out, err = capsys.readouterr()
    if kind == "consumer":
        assert code == 0
    else:
        assert (code, out) == (2, "")
        assert "Express" in err
        assert "Standard workflow" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ecs", "--heartbeat", "600", "--timeout", "600"], "must be longer than --heartbeat"),
        (["ecs-sync", "--bucket", "results-bucket", "--heartbeat", "60"], "nobody sends heartbeats"),
        (["batch"], "--bucket"),
        (["eks", "--bucket", "results-bucket", "--name", "Make Masks"], "part of a URL"),
        (["eks", "--bucket", "It's", "--name", "Work"], "a bucket's name"),
        (["glue", "--bucket", "results-bucket", "--prefix", "it's"], "--prefix"),
        (["sqs", "--cluster", "jobs"], "sqs has no use for --cluster"),
        (["ecs", "--input", "job"], "is no path"),
        (["ecs", "--input", "$job"], "is no path"),
        (["ecs", "--input", "$.job."], "is no path"),
        (["ecs", "--input", "{% $states.input %}"], "is no path"),
        (["eks", "--url", "s3://results-bucket/out.json"], "is no path"),
        (["ecs", "--url", "$.url"], "ecs has no use for --url"),
        (["ecs", "--bucket", "results bucket"], "--bucket"),
        (["ecs", "--bucket", "results-bucket", "--prefix", "../runs"], "--prefix"),
        (["ecs", "--cluster", ""], "--cluster is empty"),
        (["ecs", "--next", ""], "--next is empty"),
        (["ecs", "--launch-type", "EC2", "--public-ip"], "--public-ip"),
        (["sqs", "--queue-url", "arn:aws:sqs:eu-west-1:123456789012:jobs"], "no queue's URL"),
        (["sqs", "--queue-url", "jobs"], "no queue's URL"),
        (["ecs", "--env", "STEPOUT_TASK_TOKEN=x"], "the state passes the token itself"),
        (["lambda", "--env", "TASK_TOKEN=x"], "the state passes the token itself"),
        (["ecs", "--no-catch", "--catch", "Failed"], "--no-catch"),
        (["ecs", "--catch", "Failed", "--catch", "Lost"], "States.ALL"),
        (["ecs", "--catch", "States.ALL,BadFrame=Failed"], "States.ALL"),
        (["ecs", "--catch", "States.Runtime=Failed"], "States.Runtime"),
        (["ecs", "--input-json", "{"], "is no JSON"),
        (["ecs", "--name", "x" * 81], "1 to 80 characters"),
        (["activity", "--activity", "arn:aws:states:eu-west-1:123456789012:stateMachine:x"], "no activity's ARN"),
        (["ecs", "mask"], "such as --task-definition"),
        (["ecs", "--machine", "--name", "Failed"], "two states are called 'Failed'"),
        (["ecs", "--timeout", "100000000"], "1 to 99,999,999"),
        (["ecs", "--result-path", "score"], "--result-path"),
        (["ecs", "--result-path", "$$.score"], "--result-path"),
        (["ecs", "--result-path", ""], "--result-path is empty"),
        (["batch", "--url", "$.url", "--result-path", "$.a"], "--result-path: with --url"),
        (["ecs", "--allow", "results-bucket"], "--allow"),
        (["ecs", "chain.json"], "stepout asl chain"),
    ],
)
def test_contradictions_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot work is a usage error that names the option; nothing is printed."""
    code = main(["asl", *words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    "words", [["ecs", "--env", "A"], ["ecs", "--retries", "-1"], ["ecs", "--timeout", "0"], ["ecs", "--catch", "A="]]
)
def test_wrong_words_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Options that cannot be parsed end with exit code 2."""
    assert main(["asl", *words]) == 2
    assert "error: argument" in capsys.readouterr().err


def test_placeholders_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """What was not said becomes a placeholder, and standard error lists it; standard output is JSON alone."""
    assert main(["asl", "ecs", "--no-input", "--task-definition", "mask", "--bucket", "results-bucket"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["Parameters"]["Cluster"] == "${Cluster}"
    assert err == "stepout: to be filled in: ${Cluster}, ${Subnet}\n"


def test_all_that_was_said_is_in_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    """Options arrive in the state; nothing is left to be said on standard error."""
    words = ["ecs", "--cluster", "jobs", "--task-definition", "mask", "--container", "main", "--launch-type", "FARGATE"]
    words += ["--subnets", "subnet-1", "subnet-2", "--security-groups", "sg-1", "--public-ip", "--no-input"]
    words += [
        "--env",
        "STEPOUT_TARGETS=sqs://x/1/q",
        "--bucket",
        "results-bucket",
        "--next",
        "Score",
        "--no-catch",
        "--retries",
        "0",
    ]
    assert main(["asl", *words]) == 0
    out, err = capsys.readouterr()
    state = json.loads(out)
    assert err == ""
    assert state["Next"] == "Score"
    assert not {"Catch", "Retry", "End"} & set(state)
    vpc = state["Parameters"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert vpc == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroups": ["sg-1"], "AssignPublicIp": "ENABLED"}
    assert variables(state)["STEPOUT_TARGETS"] == "sqs://x/1/q"
    assert state["Parameters"]["Overrides"]["ContainerOverrides"][0]["Name"] == "main"


def test_lists_may_be_written_with_commas_and_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Subnets, groups and error names that are joined by commas are names of their own."""
    words = ["--subnets", "subnet-1,subnet-2", "subnet-3", "--security-groups", "sg-1,sg-2", "--catch", "A, B=C"]
    assert main(["asl", "ecs", *words]) == 0
    state = json.loads(capsys.readouterr().out)
    vpc = state["Parameters"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert vpc == {"Subnets": ["subnet-1", "subnet-2", "subnet-3"], "SecurityGroups": ["sg-1", "sg-2"]}
    assert state["Catch"][0]["ErrorEquals"] == ["A", "B"]


@pytest.mark.parametrize("bucket", ["s3://results-bucket/runs", "${Bucket}"])
def test_bucket_may_be_what_a_task_takes(bucket: str) -> None:
    """STEPOUT_BUCKET takes a folder's URL, too, and a placeholder is filled in later."""
    assert variables(task_state("ecs", StateOptions(bucket=bucket)))["STEPOUT_BUCKET"] == bucket


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_a_bucket_is_warned_of(kind: str) -> None:
    """Where nothing in the state says STEPOUT_BUCKET, a note says so; workers have their own, consumers need none."""
    bare: dict[str, Any] = {"input": None, "url": "$.url" if kind in PULL else None}
    warned = [each for each in state_warnings(kind, StateOptions(**bare)) if "STEPOUT_BUCKET" in each]
    assert len(warned) == (kind not in ("sqs", "activity", "consumer"))
    ignored = state_warnings(kind, StateOptions(bucket="results-bucket", **bare))
    assert len([each for each in ignored if "cannot set a" in each]) == len(ignored) == 1 - len(warned)
    assert state_warnings(kind, StateOptions(environment={"STEPOUT_BUCKET": "results-bucket"}, **bare)) == []


def test_ec2_needs_no_network_and_fifo_queues_get_a_group() -> None:
    """What a launch type or a queue's type asks for is there, and only then."""
    on_ec2 = task_state("ecs", options(settings={"launch_type": "EC2"}))["Parameters"]
    assert (on_ec2["LaunchType"], "NetworkConfiguration" in on_ec2) == ("EC2", False)
    fifo = task_state("sqs", options(settings={"queue_url": "https://sqs/1/q.fifo"}))["Parameters"]
    assert {"MessageGroupId.$", "MessageDeduplicationId.$"} <= set(fifo)
    assert set(task_state("sqs", options())["Parameters"]) == {"QueueUrl", "MessageBody"}


def test_message_body_is_what_a_worker_reads() -> None:
    """The worker's own parser takes the body: every member is a variable that it knows."""
    from stepout.callbacks.worker.job import JOB_VARIABLES

    body = task_state("sqs", options(in_map=True))["Parameters"]["MessageBody"]
    assert {name.removesuffix(".$") for name in body} <= set(JOB_VARIABLES)
    assert body["STEPOUT_INPUT.$"] == "$"


def test_url_may_come_from_an_earlier_state() -> None:
    """With --url the task gets the URL that an earlier state made, and the input that has it goes on."""
    state = task_state("batch", StateOptions(url="$.url"))
    assert variables(state)["STEPOUT_OUTPUT"] == "$.url"
    assert (state["ResultPath"], "ResultSelector" in state) == (None, False)
    for url in ("$.url", "{% $states.input.url %}"):
        in_jsonata = task_state("batch", StateOptions(url=url, language="jsonata"))
        assert variables(in_jsonata)["STEPOUT_OUTPUT"] == "{% $states.input.url %}"
    assert in_jsonata["Output"] == "{% $states.input %}"


def test_input_that_is_too_large_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A size or a literal over the limit is warned of, and the warning says what to do; an unknown size is said."""
    for words in (["--input-size", "8000"], ["--input-json", json.dumps("x" * 8000)]):
        assert main(["asl", "ecs", *words]) == 0
        assert "8,192" in (err := capsys.readouterr().err)
        assert "pointer" in err
    assert "--input-size" in state_warnings("ecs", options())[0]
    assert state_warnings("ecs", options(input_size=500)) == []
    assert state_warnings("sqs", StateOptions(input_size=100_000)) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    document=json_values,
    name=st.text(min_size=1, max_size=80),
    token=st.integers(1, 700),
    arn=st.integers(20, 256),
    count=st.integers(0, 999_999_999),
    environment=st.dictionaries(
        st.text(min_size=1, max_size=9).filter(lambda key: not key.startswith("STEPOUT_")),
        st.text(max_size=40),
        max_size=3,
    ),
    literal=st.booleans(),
)
def test_overrides_are_never_longer_than_estimated(  # noqa: PLR0913 - each is drawn by itself
    *, document: Any, name: str, token: int, arn: int, count: int, environment: dict[str, str], literal: bool
) -> None:
    """Whatever the run's names and the input are, RunTask's overrides are at most as long as was estimated."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    given_input: dict[str, Any] = {"input_json": text} if literal else {"input_size": len(text)}
    chosen = options(name=name, in_map=True, environment=environment, **given_input)
    values = {
        "STEPOUT_TASK_TOKEN": "A" * token,
        "STEPOUT_EXECUTION": "a" * arn,
        "STEPOUT_STATE": name,
        "STEPOUT_INPUT": text,
    }
    template = KINDS["ecs"].parameters(chosen, 600)["Overrides"]["ContainerOverrides"][0]
    real = [
        {
            "name": pair["Name"],
            "value": values.get(pair["Name"], str(count)) if isinstance(pair["Value"], Expression) else pair["Value"],
        }
        for pair in template["Environment"]
    ]
    sent = {"containerOverrides": [{"name": template["Name"], "environment": real}]}
    estimate = overrides_size("ecs", chosen)
    assert estimate is not None
    assert len(json.dumps(sent, ensure_ascii=False)) <= estimate


def test_limit_is_that_of_the_service_model() -> None:
    """The model of ECS says how long overrides may be."""
    import botocore.session

    shape: Any = botocore.session.get_session().get_service_model("ecs").operation_model("RunTask").input_shape
    assert f"{OVERRIDES_LIMIT}" in shape.members["overrides"].documentation


@pytest.mark.parametrize("path", ["$", "$.job", "$$.Map.Item.Value", "$[0]"])
def test_paths_work_in_both_languages(path: str) -> None:
    """A simple path is said in JSONata too; what is JSONata already stays."""
    said = variables(task_state("ecs", options("jsonata", input=path)))["STEPOUT_INPUT"]
    assert said.startswith(("{% $string($states.input", "{% $string($states.context.Map.Item.Value"))
    merged = "$merge([$states.input, {'a': 1}])"
    for given_input in (merged, f"{{% {merged} %}}"):
        kept = variables(task_state("ecs", options("jsonata", input=given_input)))["STEPOUT_INPUT"]
        assert kept == f"{{% $string({merged}) %}}"


@pytest.mark.parametrize(("kind", "language"), EVERY)
@pytest.mark.parametrize("place", ["$", "$.score", "$.a.b", "null"])
def test_result_goes_where_it_was_asked_to(kind: str, language: str, place: str) -> None:
    """In both languages a result takes the input's place, stands beside it, or is dropped, whatever the kind."""
    from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

    settings = {"activity": ACTIVITY} if kind == "activity" else {}
    machine = state_machine(kind, options(language, settings=settings, result_path=place))
    AmazonStateLanguageParser.parse(json.dumps(machine))
    state = machine["States"]["Work"]
    if language == "jsonpath":
        assert state.get("ResultPath", "absent") == {"$": "absent", "null": None}.get(place, place)
        assert ("OutputPath" in state) == (kind == "consumer" and place == "$")
        assert ("ResultSelector" in state) == (
            (kind in PULL and place != "null") or (kind == "consumer" and "." in place)
        )
    elif place == "null":
        assert state["Output"] == "{% $states.input %}"
    elif place != "$":
        assert state["Output"].startswith("{% $merge([$states.input, {'" + place.split(".")[1])
    if place == "$.a.b" and language == "jsonata" and kind == "ecs":
        nested = "$merge([$states.input.a, {'b': $states.result}])"
        assert state["Output"] == f"{{% $merge([$states.input, {{'a': {nested}}}]) %}}"


PASSES = [kind for kind in KINDS if kind not in ("sqs", "activity", "consumer")]


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_allow_is_passed_where_the_input_can_be_a_document(kind: str, language: Any) -> None:
    """It is the place of the state's own artifacts or what was said; plain literals and no input need none.

    A worker and a consumer have their own: what they may read is not the message's to say.
    """
    said: tuple[tuple[dict[str, Any], str | None], ...] = (
        ({}, "s3://results-bucket/runs/"),
        ({"prefix": None}, "s3://results-bucket/"),
        ({"allow": ("s3://a-bucket/", "s3://b-bucket/x/")}, "s3://a-bucket/ s3://b-bucket/x/"),
        ({"input_json": '{"stepout": "pointer/1"}'}, "s3://results-bucket/runs/"),
        ({"input_json": '{"scene": 7}'}, None),
        ({"input": None}, None),
        ({"environment": {"STEPOUT_ALLOW": "s3://mine/"}}, "s3://mine/"),
    )
    for more, expected in said if kind in PASSES else said[:1]:
        settings = {"activity": ACTIVITY} if kind == "activity" else {}
        given: dict[str, Any] = {"bucket": "results-bucket", "prefix": "runs", **more}
        state = task_state(kind, StateOptions(language=language, settings=settings, **given))
        assert variables(state).get("STEPOUT_ALLOW") == (expected if kind in PASSES else None)


def test_an_input_that_nothing_bounds_is_warned_of() -> None:
    """Without a bucket and without --allow, a document as input is refused: a note says so, where it can be one."""
    warned = "an input that is a pointer"
    assert any(warned in each for each in state_warnings("ecs", StateOptions()))
    cases: list[Any] = [
        {"allow": ("s3://a-bucket/",)},
        {"input_json": "7"},
        {"environment": {"STEPOUT_ALLOW": "s3://b/"}},
    ]
    for more in cases:
        assert not any(warned in each for each in state_warnings("ecs", StateOptions(**more)))


@pytest.mark.parametrize("bucket", ["${Bucket}", "s3://${Bucket}"])
def test_placeholders_are_placeholders_in_the_allow_list(bucket: str) -> None:
    """What is filled in later is filled in there, too."""
    state = task_state("ecs", StateOptions(bucket=bucket, prefix="runs"))
    assert variables(state)["STEPOUT_ALLOW"] == "s3://${Bucket}/runs/"


def test_wrong_kind_of_error() -> None:
    """Errors of the functions themselves are ours."""
    with pytest.raises(ConfigurationError):
        task_state("glue", StateOptions())
