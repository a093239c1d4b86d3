"""What the doctor finds, and what it leaves alone; rule by rule."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.doctor_cases import CASES as FIRST_CASES
from support.doctor_cases import Case
from support.doctor_documents import bucket, jsonata_machine, machine, network, sound, task
from support.doctor_state_cases import STATE_CASES
from support.tree import SOURCES

from stepout.cli import main
from stepout.demo.deployment import definition
from stepout.doctor import examine
from stepout.doctor.examination import KINDS, recognise
from stepout.doctor.findings import SEVERITIES, Document, Expectations, Finding
from stepout.doctor.json_lookup import number, walk
from stepout.doctor.retry import known_names
from stepout.doctor.rules import RULES, read_rules

CASES = [*FIRST_CASES, *STATE_CASES]


def _examine(documents: dict[str, Any], expected: Expectations | None = None) -> list[Finding]:
    return examine([Document(name, value) for name, value in documents.items()], expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_rule_finds_what_is_broken_and_not_what_is_right(case: Case) -> None:
    """The broken documents have the rule's finding; the same without the break do not."""
    bad = [finding for finding in _examine(case.documents(bad=True), case.expected) if finding.rule == case.rule]
    good = [finding for finding in _examine(case.documents(bad=False), case.expected) if finding.rule == case.rule]
    assert bad
    assert good == []
    assert all(SEVERITIES.index(each.severity) >= SEVERITIES.index(RULES[case.rule].severity) for each in bad)


def test_every_rule_has_a_case() -> None:
    """No rule is without an example that breaks it; those of servers and commands are with the looks that ask them."""
    probed = {"SO509", "SO510", "SO511", "SO512", "SO513", "SO514"}
    assert {case.rule for case in CASES} | probed | {"SO901", "SO903"} == set(RULES)


@pytest.mark.parametrize("documents", [sound(), {**sound(), "machine": jsonata_machine()}], ids=["JSONPath", "JSONata"])
def test_nothing_is_found_in_sound_documents(documents: dict[str, Any]) -> None:
    """A sound state machine, task definition, bucket and network have not even a note."""
    assert _examine(documents, Expectations(stop_budget=60, longest_job=86_400)) == []


def test_the_demo_has_no_error() -> None:
    """The demo's state machine works; the doctor warns of its short heartbeat and no more."""
    found = _examine({"demo": definition("arn:aws:sns:eu-west-1:123456789012:done")})
    assert {(finding.rule, finding.severity) for finding in found if finding.severity != "note"} == {
        ("SO105", "warning")
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.name}")
def test_where_is_a_place_in_the_document(case: Case) -> None:
    """A finding's path leads to something in its document, or to what is missing in something there."""
    for finding in _examine(case.documents(bad=True), case.expected):
        document = case.documents(bad=True)[finding.source]
        if isinstance(document.get("definition"), dict) and finding.where.startswith("States"):
            document = document["definition"]
        places = {place for place, _ in walk(document, "")}
        assert finding.where in places or re.sub(r"(\.?\w+|\[\d+\])$", "", finding.where) in places


@pytest.mark.parametrize("language", ["jsonpath", "jsonata"])
@pytest.mark.parametrize("kind", ["ecs", "ecs-sync", "eks", "sqs", "lambda", "activity", "batch", "glue"])
def test_generated_states_have_notes_at_most(kind: str, language: str, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to fear in a state machine that ``stepout asl`` prints."""
    assert main(["asl", kind, "--machine", "--bucket", "results-bucket", "--query-language", language]) == 0
    found = _examine({"generated": json.loads(capsys.readouterr().out)})
    assert [finding for finding in found if finding.severity != "note"] == []


def test_path_of_a_deep_state() -> None:
    """A state within a Map within a branch is named by the whole path; odd names are quoted."""
    inner = {"ItemProcessor": {"States": {"a job": {**machine()["definition"]["States"]["Job"], "Retry": [{}]}}}}
    deep = {"States": {"P": {"Type": "Parallel", "Branches": [{"States": {"M": {"Type": "Map", **inner}}}]}}}
    found = {finding.where for finding in _examine({"deep": deep}) if finding.rule == "SO213"}
    assert found == {'States.P.Branches[0].States.M.ItemProcessor.States["a job"].Retry[0]'}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Stepout.ChecksumMissmatch", "Stepout.ChecksumMismatch"),
        ("Stepout.ChecksumMismatchError", "Stepout.ChecksumMismatch"),
        ("ChecksumMismatchError", "Stepout.ChecksumMismatch"),
        ("stepout.schemas.errors.TaskInterrupted", "Stepout.Interrupted"),
        ("STEPOUT.RETRYABLE", "Stepout.Retryable"),
        ("Stepout.Timeout", "States.Timeout"),
        ("Stepout.HeartbeatTimeout", "States.HeartbeatTimeout"),
    ],
)
def test_the_name_that_was_meant_is_told(written: str, meant: str) -> None:
    """A misspelt name comes with the one that it was probably meant to be."""
    job = "arn:aws:states:::ecs:runTask.waitForTaskToken"
    state = {"Type": "Task", "Resource": job, "Catch": [{"ErrorEquals": [written], "Next": "A"}]}
    [found] = [finding for finding in _examine({"it": state}) if finding.rule == "SO201"]
    assert meant in found.what
    assert found.example == {"ErrorEquals": [meant]}


@pytest.mark.parametrize(
    ("entry", "command", "members"),
    [
        (["sh", "-c"], ["python job.py"], ["command"]),
        (["/bin/bash", "-euc"], ["python job.py"], ["command"]),
        (["sh", "-c"], ["exec python job.py"], []),
        (["sh", "-c", "python job.py"], [], ["entryPoint"]),
        (["tini", "--"], ["sh", "-c", "python job.py"], ["command"]),
        (["stepout", "run", "--"], ["sh", "-c", "python job.py"], []),
        ([], ["sh", "-c", "python job.py"], ["command"]),
    ],
)
def test_a_shell_is_seen_where_ecs_would_run_it(entry: list[str], command: list[str], members: list[str]) -> None:
    """Entry point and command are one line; under ``stepout run``, which signals the group, a shell is harmless."""
    definition = task()
    definition["containerDefinitions"][0] |= {"entryPoint": entry, "command": command}
    found = [finding.where.rpartition(".")[2] for finding in _examine({"it": definition}) if finding.rule == "SO405"]
    assert found == members


@pytest.mark.parametrize(("stop", "severities"), [(5, ["warning"]), (19, ["warning"]), (20, []), (60, [])])
def test_a_stop_timeout_leaves_time_for_the_report(stop: int, severities: list[str]) -> None:
    """Without a budget, a stop timeout that leaves less than ten seconds for the report is warned of."""
    definition = task()
    definition["containerDefinitions"][0]["stopTimeout"] = stop
    assert [each.severity for each in _examine({"it": definition}) if each.rule == "SO401"] == severities
    told = _examine({"it": definition}, Expectations(stop_budget=3))
    assert [each for each in told if each.rule == "SO401"] == []


def test_names_of_jobs_are_left_alone() -> None:
    """Names that are neither ours nor Step Functions' belong to somebody else; of Lambda, a class's name is right."""
    names = [
        "Demo.NothingToSee",
        "Lambda.TooManyRequestsException",
        "KeyError",
        "States.Http.StatusCode.404",
        "ChecksumMismatchError",
    ]
    state = {"Type": "Task", "Catch": [{"ErrorEquals": names, "ResultPath": "$.problem", "Next": "A"}]}
    assert _examine({"it": state}) == []


def test_every_name_in_the_code_is_known() -> None:
    """Whatever name the library reports, Retry may name: new ones belong into ``errors.py`` or ``OTHER_NAMES``."""
    pattern = re.compile(r"""["'](Stepout\.[A-Z]\w+)["']""")
    used = {name for file in SOURCES for name in pattern.findall(file.read_text(encoding="utf-8"))}
    assert used <= set(known_names().values())
    assert len(used) > 20


def _examples(rule: str, case_name: str) -> list[Any]:
    [case] = [case for case in CASES if (case.rule, case.name) == (rule, case_name)]
    return [finding.example for finding in _examine(case.documents(bad=True)) if finding.rule == rule]


def test_what_to_write_fits_what_was_found() -> None:
    """The JSON of an advice is the finding's own: its variable, its path, its language."""
    assert _examples("SO305", "no .$") == [{"Value.$": "$$.Task.Token"}]
    assert _examples("SO305", "JSONata in JSONPath") == [{"Value.$": "$$.Task.Token"}]
    assert _examples("SO305", "no {% %}") == [{"Cluster": "{% $states.input.… %}"}]
    number = {"Name": "STEPOUT_ATTEMPT", "Value.$": "States.Format('{}', $$.State.RetryCount)"}
    assert _examples("SO303", "a number") == [number]
    number = {"Name": "STEPOUT_ATTEMPT", "Value": "{% $string($states.context.State.RetryCount) %}"}
    assert _examples("SO303", "in JSONata") == [number]
    assert _examples("SO309", "no execution") == [[{"Name": "STEPOUT_EXECUTION", "Value.$": "$$.Execution.Id"}]]


@pytest.mark.parametrize("build", [machine, jsonata_machine])
def test_the_names_of_a_run_are_advised_in_the_states_language(build: Any) -> None:
    """What SO309 says to write is what the sound state machine has."""
    sound_one, bad = build(), build()
    argument = "Arguments" if build is jsonata_machine else "Parameters"

    def environment(document: Any) -> list[Any]:
        found = document["definition"]["States"]["Job"][argument]["Overrides"]["ContainerOverrides"][0]["Environment"]
        return list(found)

    del bad["definition"]["States"]["Job"][argument]["Overrides"]["ContainerOverrides"][0]["Environment"][1:4]
    [finding] = [each for each in _examine({"bad": bad}) if each.rule == "SO309"]
    assert finding.example == environment(sound_one)[1:4]


# Secrets, and documents that are anything ---------------------------------------------------------------------------

SECRET = "correct-horse-battery"


def test_no_value_of_a_variable_is_shown() -> None:
    """Whatever is found about a variable or a command, its value is in no finding."""
    documents = sound()
    container = documents["task"]["containerDefinitions"][0]
    container["environment"] += [{"name": name, "value": SECRET} for name in ("DB_PASSWORD", "STEPOUT_TASK_TOKEN", "X")]
    container["environment"].append({"name": "STEPOUT_STOP_TIMEOUT", "value": SECRET})
    container["command"] = ["sh", "-c", f"job --password {SECRET}"]
    overrides = documents["machine"]["definition"]["States"]["Job"]["Parameters"]["Overrides"]["ContainerOverrides"][0]
    overrides["Command"] = ["sh", "-c", f"job --password {SECRET}"]
    overrides["Environment"] += [
        {"Name": "STEPOUT_HEARTBEAT_SECONDS", "Value": SECRET},
        {"Name": "API_TOKEN", "Value": SECRET},
        {"Name": "B", "Value": f"$.{SECRET}"},
    ]
    found = _examine(documents)
    assert {"SO408", "SO409", "SO405", "SO404", "SO305"} <= {finding.rule for finding in found}
    assert SECRET not in json.dumps([finding.to_dict() for finding in found])
    assert SECRET not in repr(found)
    assert SECRET not in repr(Document("a", documents))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KEYS = sorted({str(key) for _, value in walk(sound(), "") if isinstance(value, dict) for key in value})
WORDS = sorted({value for _, value in walk([sound(), jsonata_machine()], "") if isinstance(value, str)})
LIKELY = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9000) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=60,
)


@given(st.lists(JSON | LIKELY, max_size=4))
def test_nothing_raises_on_any_json(values: list[Any]) -> None:
    """The doctor has an answer to any JSON: findings that are JSON themselves."""
    found = examine([Document(str(index), value) for index, value in enumerate(values)])
    json.dumps([finding.to_dict() for finding in found])


@given(st.data())
def test_nothing_raises_on_a_sound_set_with_one_thing_replaced(data: st.DataObject) -> None:
    """Any part of sound documents may be anything."""
    documents: Any = {**sound(), "jsonata": jsonata_machine()}
    places = [
        (value, key) for _, value in walk(documents, "") if isinstance(value, (dict, list)) for key in _keys(value)
    ]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(LIKELY)
    found = _examine(documents, Expectations(stop_budget=60, keep=1.0))
    assert all(finding.what and finding.why and finding.do for finding in found)


def _keys(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


# Kinds, and several documents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (machine(), "state machine"),
        ({**machine(), "definition": json.dumps(machine()["definition"])}, "state machine"),
        (machine()["definition"], "state machine"),
        (machine()["definition"]["States"]["Job"], "state machine"),
        (machine()["definition"]["States"], "state machine"),
        (task(), "task definition"),
        ({"taskDefinition": task(), "tags": []}, "task definition"),
        (bucket(), "bucket"),
        ({"Rules": []}, "bucket"),
        ({"Status": "Enabled"}, "bucket"),
        ({"get-bucket-versioning": {}}, "bucket"),
        ({"Subnets": []}, "network"),
        (network(), "network"),
        ({}, None),
        ([], None),
        ({"Type": "unknown"}, None),
        ({"Status": "ACTIVE"}, None),
        ({"Rules": [{"Name": "a rule of EventBridge", "State": "ENABLED"}]}, None),
        ("text", None),
    ],
)
def test_a_kind_is_recognised_by_content(value: object, kind: str | None) -> None:
    """Definitions, answers of the AWS command line and parts of them are told apart."""
    assert recognise(value) == kind
    assert kind is None or kind in KINDS


def test_answers_and_bare_documents_are_judged_alike() -> None:
    """A definition as text within DescribeStateMachine's answer has the findings that it has by itself."""
    bad = machine()
    del bad["definition"]["States"]["Job"]["HeartbeatSeconds"]
    wrapped = {**bad, "definition": json.dumps(bad["definition"])}
    alone, within = _examine({"a": bad["definition"]}), _examine({"a": wrapped})
    assert alone == within
    assert "SO101" in {finding.rule for finding in alone}


def test_parts_of_a_network_come_in_files_of_their_own() -> None:
    """Subnets, route tables and endpoints of three files are one network."""
    parts = {name: {name: value} for name, value in network().items()}
    assert _examine(parts) == []
    del parts["VpcEndpoints"]
    assert {finding.rule for finding in _examine(parts)} == {"SO601", "SO602", "SO604", "SO605"}


def test_a_state_is_held_against_its_own_task_definition() -> None:
    """Of several task definitions, a state is compared with the family that it names."""
    other = {**task(), "family": "other", "containerDefinitions": [{**task()["containerDefinitions"][0], "name": "x"}]}
    assert "SO304" not in {finding.rule for finding in _examine({**sound(), "other": other})}
    alone = _examine({"machine": machine(), "other": other})
    assert "SO304" not in {finding.rule for finding in alone}


def test_the_worst_comes_first() -> None:
    """A document's errors stand before its warnings, and these before its notes."""
    bad = machine()
    job = bad["definition"]["States"]["Job"]
    del job["HeartbeatSeconds"], job["TimeoutSeconds"], job["Retry"]
    order = [SEVERITIES.index(finding.severity) for finding in _examine({"bad": bad})]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


def test_a_lone_answer_is_judged_for_what_it_holds() -> None:
    """A file with the lifecycle alone says nothing of versions, encryption and public access."""
    assert {finding.rule for finding in _examine({"lifecycle": {"Rules": []}})} == {"SO501"}


def test_numbers_that_are_none() -> None:
    """Infinite and oversized numbers are no seconds."""
    assert [number(value) for value in (float("inf"), float("nan"), 10**400, False, None)] == [None] * 5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('severity = "fatal"\ntitle = "t"\nwhy = "w."\ndo = "d."', "severity 'fatal': expected one of error"),
        ('severity = "note"\ntitle = "t"\nwhy = "w."', "'do'"),
        ('severity = "note"\ntitle = "t"\nwhy = "w."\ndo = "d."\nhow = "h"', "'how'"),
    ],
)
def test_a_broken_rule_is_refused(table: str, message: str) -> None:
    """An unknown severity, a missing member and an unknown member are errors that name the rule."""
    with pytest.raises(ValueError, match=rf"rule SO999: .*{message}"):
        read_rules(f"[SO999]\n{table}\n")


def test_rules_are_whole() -> None:
    """Every rule says what, why and what to do, in sentences."""
    for rule in RULES.values():
        assert rule.severity in SEVERITIES
        assert re.fullmatch(r"SO\d{3}", rule.id)
        assert rule.why.endswith(".")
        assert rule.title
        assert not rule.title.endswith(".")
