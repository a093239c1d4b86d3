"""Further cases for the doctor: tokens, several containers, languages, members, inputs, and people who are asked."""

from __future__ import annotations

from typing import Any

from support.doctor_cases import (
    JOB_ARGUMENTS,
    Case,
    both,
    catch,
    drop,
    environment,
    in_jsonata,
    in_map,
    put,
    resource,
    variable,
)
from support.doctor_documents import ENVIRONMENT, TASK_STATE, Documents

__all__ = ["PEOPLE", "STATE_CASES"]

JOB = (*TASK_STATE, "Parameters")
URL = {"Name": "STEPOUT_OUTPUT", "Value.$": "States.Format('s3://results-bucket/{}.json', $$.Execution.Name)"}


def only(*variables: dict[str, Any]) -> Any:
    """Pass these variables alone."""
    return put(*ENVIRONMENT, list(variables))


def no_token(service: str) -> Any:
    """Let the state call a service without a token, and pass none."""
    return both(resource(service), drop(*ENVIRONMENT, 0))


def batch(size: Any = None, *variables: dict[str, Any], suffix: str = ".sync") -> Any:
    """Run a job of Batch, perhaps an array of them."""
    arguments: dict[str, Any] = {"ContainerOverrides": {"Environment": list(variables)}}
    if size is not None:
        arguments["ArrayProperties"] = {"Size": size}
    return both(resource(f"batch:submitJob{suffix}"), put(*JOB, arguments))


def eks(*variables: dict[str, Any], **spec: Any) -> Any:
    """Run a job of Kubernetes with these members of its spec."""
    containers = [{"name": "job", "env": [{key.lower(): value for key, value in each.items()} for each in variables]}]
    job = {"spec": {**spec, "template": {"spec": {"containers": containers}}}}
    return both(resource("eks:runJob.sync"), put(*JOB, {"ClusterName": "c", "Job": job}))


def lower(*names: str) -> Any:
    """Write these members of the state's parameters with a small first letter."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key[:1].lower() + key[1:] if key in names else key: changed(each) for key, each in value.items()}

    def change(documents: Documents) -> None:
        job = documents["machine"]["definition"]["States"]["Job"]
        job["Parameters"] = changed(job["Parameters"])

    return change


def parallel(*fails: dict[str, Any], names: list[str]) -> Any:
    """Put Fail states into the branches of a Parallel state that catches these names."""

    def change(documents: Documents) -> None:
        branches = [{"StartAt": "No", "States": {"No": {"Type": "Fail", **each}}} for each in fails]
        entries = [{"ErrorEquals": names, "ResultPath": "$.problem", "Next": "Sad"}]
        states = documents["machine"]["definition"]["States"]
        states["All"] = {"Type": "Parallel", "Branches": branches, "Catch": entries, "Next": "Sad"}

    return change


INPUT = {"Name": "STEPOUT_INPUT", "Value.$": "States.JsonToString($.job)"}
ALLOW = {"Name": "STEPOUT_ALLOW", "Value": "s3://results-bucket/runs/"}


def given(*variables: dict[str, Any]) -> Any:
    """Pass these variables as well."""

    def change(documents: Documents) -> None:
        where: Any = documents
        for step in ENVIRONMENT:
            where = where[step]
        where += variables

    return change


INDEXED = {**URL, "Value.$": r"States.Format('s3://results-bucket/{}-\\{index\\}.json', $$.Execution.Name)"}
TABLE = {"Name": "STEPOUT_OUTPUT", "Value": "dynamodb://outcomes/job"}


def reader(output: dict[str, Any], **told: Any) -> Any:
    """Let a function read an output."""
    key, value = next((name.replace("Value", "url"), each) for name, each in output.items() if name != "Name")
    call = {"FunctionName": "reader", "Payload": {key: value, **told}}
    lambda_state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": call, "End": True}
    return put("machine", "definition", "States", "Read", lambda_state)


STATE_CASES = [
    Case("SO112", "with .sync", resource("ecs:runTask.sync"), fixed=no_token("ecs:runTask.sync")),
    Case("SO112", "with a plain call", resource("ecs:runTask"), fixed=no_token("ecs:runTask")),
    Case("SO112", "in JSONata", in_jsonata(resource("ecs:runTask.sync:2")), fixed=in_jsonata()),
    Case(
        "SO112",
        "for an activity",
        put(*TASK_STATE, "Resource", "arn:aws:states:eu-west-1:123456789012:activity:job"),
    ),
    Case(
        "SO112",
        "within a command",
        both(
            no_token("ecs:runTask.sync"),
            put(*ENVIRONMENT[:-1], "Command.$", "States.Array('job', '--token', $$.Task.Token)"),
        ),
        fixed=both(no_token("ecs:runTask.sync"), put(*ENVIRONMENT[:-1], "Command.$", "States.Array('job')")),
    ),
    Case("SO112", "a Lambda", both(resource("lambda:invoke"), put(*JOB, {"Payload": {"token.$": "$$.Task.Token"}}))),
    Case(
        "SO112",
        "a state that calls nothing",
        put("machine", "definition", "States", "Go", {"Type": "Pass", "Parameters": {"t.$": "$$.Task.Token"}}),
        fixed=put("machine", "definition", "States", "Go", {"Type": "Pass", "Parameters": {"all.$": "$$"}}),
    ),
    Case(
        "SO112",
        "the state in a Map",
        both(resource("ecs:runTask.sync"), in_map(most=1)),
        fixed=in_map(most=1),
    ),
    Case("SO113", "two tasks", put(*JOB, "Count", 2), fixed=put(*JOB, "Count", 1)),
    Case("SO113", "a number that is looked up", put(*JOB, "Count.$", "$.count")),
    Case("SO113", "two in JSONata", in_jsonata(put(*JOB_ARGUMENTS, "Count", "{% 2 %}")), fixed=in_jsonata()),
    Case(
        "SO113",
        "one output of two tasks",
        both(no_token("ecs:runTask.sync"), only(URL), put(*JOB, "Count", 2)),
        fixed=both(no_token("ecs:runTask.sync"), only(URL)),
    ),
    Case(
        "SO113",
        "somebody's token for an array",
        batch(10, {"Name": "STEPOUT_TASK_TOKEN", "Value.$": "$.token"}),
        fixed=batch(None, {"Name": "STEPOUT_TASK_TOKEN", "Value.$": "$.token"}),
    ),
    Case(
        "SO113",
        "a Kubernetes job without indices",
        eks(URL, completions=5),
        fixed=eks(URL, completions=5, completionMode="Indexed"),
    ),
    Case("SO113", "pods in parallel", eks(URL, parallelism=3), fixed=eks(URL, parallelism=1, completions=1)),
    Case("SO114", "Batch with a token", batch(suffix=".waitForTaskToken"), fixed=batch()),
    Case(
        "SO114",
        "Glue with a token",
        resource("glue:startJobRun.waitForTaskToken"),
        fixed=resource("aws-sdk:glue:startJobRun.waitForTaskToken"),
    ),
    Case("SO114", "Lambda with .sync", resource("lambda:invoke.sync"), fixed=resource("lambda:invoke")),
    Case("SO114", "an SDK's call with .sync", resource("aws-sdk:ecs:runTask.sync"), fixed=resource("ecs:runTask.sync")),
    Case("SO115", "nobody reads", batch(10, URL), fixed=both(batch(10, URL), reader(URL, count=10))),
    Case("SO115", "an array of one", batch(10, URL), fixed=batch(1, URL)),
    Case(
        "SO115",
        "without the count",
        both(batch(10, URL), reader(URL)),
        fixed=both(batch(10, URL), reader(URL, count=10)),
    ),
    Case("SO115", "another count", both(batch(10, URL), reader(URL, count=9))),
    Case(
        "SO115",
        "with an index",
        both(batch(10, INDEXED), reader(INDEXED)),
        fixed=both(batch(10, URL), reader(URL, count=10)),
    ),
    Case(
        "SO115",
        "a table",
        both(batch(10, TABLE), reader(TABLE)),
        fixed=both(batch(10, TABLE), reader(TABLE, **{"count.$": "$.n"})),
    ),
    Case(
        "SO115",
        "handed on as the state's output",
        both(batch(10, URL), put(*TASK_STATE, "ResultSelector", {"url.$": URL["Value.$"]})),
        fixed=both(batch(10, URL), put(*TASK_STATE, "ResultSelector", {"url.$": URL["Value.$"], "count": 10})),
    ),
    Case(
        "SO115",
        "an indexed job",
        both(eks(URL, completions=5, completionMode="Indexed"), reader(URL, count=10)),
        fixed=both(eks(URL, completions=5, completionMode="Indexed"), reader(URL, count=5)),
    ),
    Case("SO117", "no array", batch(None, INDEXED), fixed=batch(10, INDEXED)),
    Case("SO117", "a task of ECS", both(no_token("ecs:runTask.sync"), only(INDEXED))),
    Case(
        "SO116",
        "Parameters in JSONata",
        put(*TASK_STATE, "QueryLanguage", "JSONata"),
        fixed=put(*TASK_STATE, "QueryLanguage", "JSONPath"),
    ),
    Case(
        "SO116",
        "the whole machine",
        put("machine", "definition", "QueryLanguage", "JSONata"),
        fixed=in_jsonata(),
    ),
    Case(
        "SO116", "Arguments in JSONPath", in_jsonata(drop("machine", "definition", "QueryLanguage")), fixed=in_jsonata()
    ),
    Case("SO116", "a path in JSONata", in_jsonata(put(*TASK_STATE, "OutputPath", "$.a")), fixed=in_jsonata()),
    Case(
        "SO116",
        "Catch in JSONata",
        in_jsonata(put(*TASK_STATE, "Catch", 0, "ResultPath", "$.problem")),
        fixed=in_jsonata(),
    ),
    Case("SO310", "the input", given(INPUT), fixed=given(INPUT, ALLOW)),
    Case(
        "SO310",
        "allowed by the task definition",
        given(INPUT),
        fixed=both(given(INPUT), environment("STEPOUT_ALLOW", "s3://results-bucket/")),
    ),
    Case(
        "SO310",
        "a URL",
        given({"Name": "STEPOUT_INPUT", "Value": "s3://results-bucket/a.json"}),
        fixed=given({"Name": "STEPOUT_INPUT", "Value": '{"scene": 7}'}),
    ),
    Case(
        "SO310",
        "the input of the execution",
        given({"Name": "STEPOUT_INPUT", "Value.$": "States.JsonToString($$.Execution.Input)"}),
        fixed=given({"Name": "STEPOUT_INPUT", "Value.$": 'States.Format(\'{"run": "{}"}\', $$.Execution.Name)'}),
    ),
    Case("SO310", "a job of Batch", batch(None, INPUT), fixed=batch(None, INPUT, ALLOW)),
    Case("SO310", "a job of Kubernetes", eks(INPUT), fixed=eks(INPUT, ALLOW)),
    Case("SO311", "the containers", lower("ContainerOverrides")),
    Case("SO311", "the variables", lower("Environment", "Name", "Value")),
    Case("SO311", "the network", lower("AwsvpcConfiguration")),
    Case("SO311", "the first level", lower("TaskDefinition")),
    Case(
        "SO311",
        "of Batch",
        both(batch(None, INPUT), lower("Environment")),
        fixed=both(batch(None, INPUT), put(*JOB, "Parameters", {"input": "a"})),
    ),
    Case("SO301", "in small letters", both(variable(4, Name="A", Value="x" * 7200), lower("Overrides"))),
    Case(
        "SO301",
        "of Batch",
        batch(None, {"Name": "A", "Value": "x" * 8200}),
        fixed=batch(None, {"Name": "A", "Value": "x" * 8000}),
    ),
    Case(
        "SO304", "in small letters", both(put(*ENVIRONMENT[:-1], "Name", "worker"), lower("ContainerOverrides", "Name"))
    ),
    Case(
        "SO202",
        "a name that no Fail state has",
        parallel({"Error": "States.Quorum"}, names=["States.Qorum"]),
        fixed=parallel({"Error": "States.Quorum"}, names=["States.Quorum"]),
    ),
    Case(
        "SO202",
        "of another Fail state",
        catch(["States.Quorum"], ["States.ALL"]),
        fixed=both(catch(["States.Quorum"], ["States.ALL"]), parallel({"Error": "States.Quorum"}, names=["A"])),
    ),
    Case(
        "SO202",
        "an expression's name",
        in_jsonata(parallel({"Error": "{% $states.input.n ? 'States.Few' : 'States.Many' %}"}, names=["States.None"])),
        fixed=in_jsonata(
            parallel({"Error": "{% $states.input.n ? 'States.Few' : 'States.Many' %}"}, names=["States.Many"])
        ),
    ),
    Case(
        "SO201",
        "a name that no Fail state has",
        parallel({"Error": "Stepout.Quorum"}, names=["Stepout.Qorum"]),
        fixed=parallel({"Error": "Stepout.Quorum"}, names=["Stepout.Quorum"]),
    ),
    Case(
        "SO206",
        "a heartbeat can be missed",
        catch(["States.Timeout"]),
        fixed=both(catch(["States.Timeout"]), drop(*TASK_STATE, "HeartbeatSeconds")),
    ),
    Case("SO902", "another kind", put("task", {"hello": "world"})),
    Case("SO902", "a list of states that are none", put("task", {"States": {"CA": "California"}})),
    Case("SO902", "a definition of something else", put("task", {"definition": {"type": "object"}})),
    Case("SO902", "subnets that are names", put("task", {"Subnets": ["subnet-1"]})),
]

PEOPLE: dict[str, dict[str, Any]] = {
    "a topic": {"Resource": "sns:publish", "Parameters": {"TopicArn": "t", "Message.$": "$$.Task.Token"}},
    "a mail": {"Resource": "aws-sdk:sesv2:sendEmail", "Parameters": {"Content": {"token.$": "$$.Task.Token"}}},
    "a function": {
        "Resource": "lambda:invoke",
        "Parameters": {"FunctionName": "SendApprovalEmail", "Payload": {"t.$": "$$.Task.Token"}},
    },
    "a queue": {
        "Resource": "sqs:sendMessage",
        "Parameters": {
            "QueueUrl": "${Queue}",
            "MessageBody": {"MessageTitle": "waiting for manual approval", "TaskToken.$": "$$.Task.Token"},
        },
    },
    "what follows": {
        "Resource": "lambda:invoke",
        "Parameters": {"FunctionName": "${F}", "Payload": {"t.$": "$$.Task.Token"}},
        "Next": "Approved?",
    },
}
"""Public ways to ask a person, by what asks: Resource, Parameters, and what else says so."""
