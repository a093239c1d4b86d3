"""Distributed Maps on the local AWS: what children are given, and what is written of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import start_execution, unique, wait_execution

from stepout.local.result_writer import ResultWriter, manifest

if TYPE_CHECKING:
    from stepout.local import LocalAws

LANGUAGES = ("jsonpath", "jsonata")
WORK: dict[str, dict[str, Any]] = {
    "Sort": {
        "Type": "Choice",
        "Choices": [{"Variable": "$.item.fail", "BooleanEquals": True, "Next": "Bad"}],
        "Default": "Good",
    },
    "Bad": {"Type": "Fail", "Error": "BadFrame", "Cause": "a bad frame"},
    "Good": {"Type": "Pass", "End": True},
}
CONTEXT = {"me.$": "$$.Execution.Id", "given.$": "$"}


def bucket_of(aws: LocalAws, *, versioned: bool = False) -> str:
    """A new bucket."""
    s3, bucket = aws.client("s3"), unique("maps")
    s3.create_bucket(Bucket=bucket)
    if versioned:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def map_state(states: dict[str, Any], start: str, **more: Any) -> dict[str, Any]:
    """A Distributed Map over a child of these states."""
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, "StartAt": start, "States": states}
    return {"Type": "Map", "Label": "Each", "ItemProcessor": processor, "End": True, **more}


def run(aws: LocalAws, state: dict[str, Any], document: object) -> tuple[str, dict[str, Any]]:
    """Run a machine of one Map state; its execution, and how it ended."""
    execution = start_execution(aws, {"Each": state}, start_at="Each", document=document)
    return execution, wait_execution(aws, execution)


def rows(aws: LocalAws, bucket: str, key: str) -> Any:
    """What an object holds: JSON, or JSON lines."""
    text = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return [json.loads(line) for line in text.splitlines()] if key.endswith(".jsonl") else json.loads(text)


def written_to(bucket: str, language: str = "jsonpath", **config: str) -> dict[str, Any]:
    """A ``ResultWriter``."""
    where = {"jsonpath": "Parameters", "jsonata": "Arguments"}[language]
    place = {"Bucket": bucket, "Prefix": "runs/results/"}
    writer: dict[str, Any] = {"Resource": "arn:aws:states:::s3:putObject", where: place}
    return {**writer, **({"WriterConfig": config} if config else {})}


@pytest.mark.parametrize("language", LANGUAGES)
def test_items_are_read_selected_and_written(local_aws: LocalAws, language: str) -> None:
    """The version that was named is read; a child is an execution of its own; what failed lies in a file of its own."""
    s3, bucket = local_aws.client("s3"), bucket_of(local_aws, versioned=True)
    lines = "".join(f'{{"n":{n},"fail":{json.dumps(n == 2)}}}\n' for n in range(4))
    version = s3.put_object(Bucket=bucket, Key="items.jsonl", Body=lines.encode())["VersionId"]
    s3.put_object(Bucket=bucket, Key="items.jsonl", Body=b"{}\n")
    selected: dict[str, Any]
    given: dict[str, Any]
    more: dict[str, Any]
    if language == "jsonata":
        place = {name: f"{{% $states.input.at.{name.lower()} %}}" for name in ("Bucket", "Key", "VersionId")}
        context = "$states.context.Map.Item"
        selected = {"item": f"{{% {context}.Value %}}", "i": f"{{% {context}.Index %}}"}
        selected["parent"] = "{% $states.context.Execution.Id %}"
        given = {"Output": "{% {'me': $states.context.Execution.Id, 'given': $states.input} %}"}
        more = {"QueryLanguage": "JSONata", "Output": "{% {'children': $states.result} %}"}
        more |= {"MaxConcurrency": "{% 2 %}", "ToleratedFailurePercentage": "{% 25 %}"}
    else:
        place = {f"{name}.$": f"$.at.{name.lower()}" for name in ("Bucket", "Key", "VersionId")}
        selected = {"item.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index", "parent.$": "$$.Execution.Id"}
        given = {"Parameters": CONTEXT}
        more = {
            "ResultPath": "$.children",
            "MaxConcurrencyPath": "$.two",
            "ToleratedFailurePercentagePath": "$.percent",
        }
    where = {"jsonpath": "Parameters", "jsonata": "Arguments"}[language]
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSONL"}, where: place}
    good: dict[str, Any] = {**WORK["Good"], **given}
    states = {**{name: {**state, "QueryLanguage": "JSONPath"} for name, state in WORK.items()}, "Good": good}
    good["QueryLanguage"] = {"jsonpath": "JSONPath", "jsonata": "JSONata"}[language]
    writer = written_to(bucket, language, OutputType="JSONL")
    state = map_state(states, "Sort", ItemReader=reader, ItemSelector=selected, ResultWriter=writer, **more)
    document = {"at": {"bucket": bucket, "key": "items.jsonl", "versionid": version}, "two": 2, "percent": 25}
    execution, ended = run(local_aws, state, document)
    assert ended["status"] == "SUCCEEDED", ended
    details = json.loads(ended["output"])["children"]
    map_run = details["MapRunArn"].rpartition(":")[2]
    assert details["ResultWriterDetails"] == {"Bucket": bucket, "Key": f"runs/results/{map_run}/manifest.json"}
    found = rows(local_aws, bucket, details["ResultWriterDetails"]["Key"])
    assert (found["DestinationBucket"], found["MapRunArn"]) == (bucket, details["MapRunArn"])
    ((succeeded,), (failed,), pending) = (found["ResultFiles"][name] for name in ("SUCCEEDED", "FAILED", "PENDING"))
    assert pending == []
    for file in (succeeded, failed):
        assert s3.head_object(Bucket=bucket, Key=file["Key"])["ContentLength"] == file["Size"]
    good_rows, (bad,) = rows(local_aws, bucket, succeeded["Key"]), rows(local_aws, bucket, failed["Key"])
    assert [json.loads(row["Input"])["i"] for row in good_rows] == [0, 1, 3]
    for row in good_rows:
        output = json.loads(row["Output"])
        assert output["me"] == row["ExecutionArn"] != execution
        assert output["given"] == json.loads(row["Input"])
        assert output["given"]["parent"] == execution
        assert (row["Status"], row["OutputDetails"]) == ("SUCCEEDED", {"Included": True})
    assert (bad["Status"], bad["Error"], bad["Cause"], "Output" in bad) == ("FAILED", "BadFrame", "a bad frame", False)


def test_batches_have_what_is_shared_and_their_items(local_aws: LocalAws) -> None:
    """By count and by bytes; what is left is a batch of its own."""
    batcher = {"MaxItemsPerBatch": 2, "BatchInput": {"level.$": "$.level"}}
    state = map_state({"Good": WORK["Good"]}, "Good", ItemsPath="$.items", ItemBatcher=batcher)
    _, ended = run(local_aws, state, {"items": [1, 2, 3], "level": 7})
    shared = {"level": 7}
    assert json.loads(ended["output"]) == [{"BatchInput": shared, "Items": each} for each in ([1, 2], [3])]
    state["ItemBatcher"] = {"MaxInputBytesPerBatch": 40}
    _, ended = run(local_aws, state, {"items": ["x" * 10] * 3})
    assert [len(each["Items"]) for each in json.loads(ended["output"])] == [2, 1]


def test_without_a_writer_results_are_the_output(local_aws: LocalAws) -> None:
    """Outputs alone, arrays flattened if it is asked for; what failed has its execution around it."""
    selector = {"item.$": "$$.Map.Item.Value"}
    states = {**WORK, "Good": {**WORK["Good"], "OutputPath": "$.item.value"}}
    state = map_state(states, "Sort", ItemsPath="$.items", ItemSelector=selector, ToleratedFailureCount=1)
    items = [{"fail": False, "value": [1, 2]}, {"fail": True}, {"fail": False, "value": 3}]
    _, ended = run(local_aws, state, {"items": items})
    first, bad, last = json.loads(ended["output"])
    assert (first, last, bad["Error"]) == ([1, 2], 3, "BadFrame")
    state["ResultWriter"] = {"WriterConfig": {"Transformation": "FLATTEN", "OutputType": "JSON"}}
    _, ended = run(local_aws, state, {"items": items})
    one, two, bad, last = json.loads(ended["output"])
    assert (one, two, last, bad["Error"]) == (1, 2, 3, "BadFrame")


def test_too_many_failures_fail_the_state_and_are_written_all_the_same(local_aws: LocalAws) -> None:
    """The error is the Map Run's, and what ended before lies where it would have been."""
    bucket = bucket_of(local_aws)
    state = map_state(WORK, "Sort", ItemsPath="$.items", ItemSelector={"item.$": "$$.Map.Item.Value"})
    state["ResultWriter"] = written_to(bucket)
    _, ended = run(local_aws, state, {"items": [{"fail": True}, {"fail": False}]})
    assert (ended["status"], ended["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    listed = local_aws.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    names = {each["Key"].rpartition("/")[2] for each in listed}
    assert names == {"manifest.json", "SUCCEEDED_0.json", "FAILED_0.json"}


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"ResultWriter": written_to("no-such-bucket")}, "States.ResultWriterFailed"),
        (
            {
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSONL"},
                    "Parameters": {"Bucket": "no-such-bucket", "Key": "k", "VersionId": "v"},
                }
            },
            "States.ItemReaderFailed",
        ),
        (
            {
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSONL"},
                    "Parameters": {"Bucket": "b", "Key": "k", "VersionId.$": "$.nothing"},
                }
            },
            "States.Runtime",
        ),
    ],
    ids=["writer", "reader", "nothing"],
)
def test_what_cannot_be_read_or_written_fails_the_state(local_aws: LocalAws, more: Any, error: str) -> None:
    """By the names that Step Functions has for it."""
    _, ended = run(local_aws, map_state({"Good": WORK["Good"]}, "Good", ItemsPath="$.items", **more), {"items": [1]})
    assert (ended["status"], ended["error"]) == ("FAILED", error)


def test_no_items_leave_a_manifest_without_files(local_aws: LocalAws) -> None:
    """There is a Map Run, and nothing ran."""
    bucket = bucket_of(local_aws)
    state = map_state({"Good": WORK["Good"]}, "Good", ItemsPath="$.items", ResultWriter=written_to(bucket))
    _, ended = run(local_aws, state, {"items": []})
    details = json.loads(ended["output"])["ResultWriterDetails"]
    assert rows(local_aws, bucket, details["Key"])["ResultFiles"] == {"SUCCEEDED": [], "FAILED": [], "PENDING": []}


def child(number: int, **more: Any) -> dict[str, Any]:
    """What DescribeExecution says of a child."""
    arn = f"arn:aws:states:us-east-1:000000000000:execution:machine/Each:{number}"
    described = {"executionArn": arn, "name": str(number), "input": "{}", "status": "SUCCEEDED"}
    return {**described, "output": json.dumps([number, number]), **more}


@pytest.mark.parametrize("output_type", ["JSON", "JSONL"])
@pytest.mark.parametrize("transformation", ["NONE", "COMPACT", "FLATTEN"])
def test_every_form_is_divided_into_files(transformation: str, output_type: str) -> None:
    """Several files, each of whole results, in order; a failure has its execution around it in all of them."""
    children = [child(number) for number in range(7)]
    children[3] |= {"status": "FAILED", "error": "BadFrame", "cause": "bad", "output": None}
    found = list(
        ResultWriter(transformation, output_type).files(children, most=400 if transformation == "NONE" else 12)
    )
    assert len(found) > 2
    texts = [content.decode() for status, _, content in found if status == "SUCCEEDED"]
    parsed = [
        [json.loads(line) for line in text.splitlines()] if output_type == "JSONL" else json.loads(text)
        for text in texts
    ]
    results = [row for each in parsed for row in each]
    numbers = [0, 1, 2, 4, 5, 6]
    (failed,) = (content for status, _, content in found if status == "FAILED")
    assert b'"Error":"BadFrame"' in failed
    if transformation == "NONE":
        assert [json.loads(row["Output"]) for row in results] == [[number, number] for number in numbers]
    elif transformation == "COMPACT":
        assert results == [[number, number] for number in numbers]
    else:
        assert results == [number for number in numbers for _ in range(2)]
    listed = manifest("b", "arn:map", [(status, name, len(content)) for status, name, content in found])
    assert [file["Size"] for file in listed["ResultFiles"]["SUCCEEDED"]] == [len(text.encode()) for text in texts]
