"""Generated Maps run on the local AWS: items from a manifest, children as processes, results from files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.ministack import ROLE, register_job, unique, wait_execution

import stepout
from stepout.cli import main

if TYPE_CHECKING:
    from stepout.local import LocalAws

CHILD = """
import os
import stepout
names = ("PARENT_EXECUTION", "MAP_INDEX", "FAN_IN", "MAX_CONCURRENCY")
told = {name: os.environ[f"STEPOUT_{name}"] for name in names if f"STEPOUT_{name}" in os.environ}
with stepout.open_task() as task:
    task.result.update(told=told, input=task.input)
"""


def run(aws: LocalAws, capsys: pytest.CaptureFixture[str], document: object, *words: str) -> tuple[str, Any]:
    """Print a Map of containers, run it, and return its execution and its output."""
    family = register_job(aws, {"command": [sys.executable, "-c", CHILD]})
    common = [
        "ecs",
        "--cluster",
        "default",
        "--task-definition",
        family,
        "--no-gather",
        "--prefix",
        "runs",
    ]
    assert main(["asl", "map", *common, *words]) == 0
    states = aws.client("stepfunctions")
    definition = capsys.readouterr().out
    machine = states.create_state_machine(name=unique("map"), definition=definition, roleArn=ROLE)["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=machine, input=json.dumps(document))["executionArn"]
    ended = wait_execution(aws, execution)
    assert ended["status"] == "SUCCEEDED", f"{ended.get('error')}: {ended.get('cause')}"
    return execution, json.loads(ended["output"])


@pytest.mark.parametrize("batch", [None, "2"])
@pytest.mark.parametrize("language", ["jsonpath", "jsonata"])
def test_children_of_a_distributed_map_read_what_was_written_for_them(
    local_aws: LocalAws, language: str, batch: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is told its item, its index and its parent; every result is in the files that the manifest names."""
    s3, bucket = local_aws.client("s3"), unique("maps")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    manager = stepout.ArtifactManager(bucket, "runs", client=s3, profile="compatible")
    items = [{"scene": 7}, {"scene": 8}, {"scene": 9}]
    pointer = stepout.write_item_reader_manifest(manager, "scenes", items)
    words = ["--bucket", bucket, "--pointer", "$.plan.scenes", "--query-language", language, "--max-concurrency", "2"]
    words += ["--batch", batch] if batch else []
    execution, output = run(local_aws, capsys, {"plan": {"scenes": pointer.to_dict()}}, *words)
    resolved = stepout.resolve_all(output, allow=[f"s3://{bucket}/runs/"], client=s3)
    found = [each for each in resolved.values() if isinstance(each, stepout.Output)]
    results = sorted((each.result for each in found), key=lambda result: int(result["told"]["MAP_INDEX"]))
    given = [{"index": index, "item": item} for index, item in enumerate(items)]
    expected: list[Any] = [given[:2], given[2:]] if batch else items
    assert [result["input"] for result in results] == expected
    assert [result["told"]["MAP_INDEX"] for result in results] == (["0", "2"] if batch else ["0", "1", "2"])
    for each in found:
        told = {"PARENT_EXECUTION": execution, "MAP_INDEX": each.result["told"]["MAP_INDEX"], "MAX_CONCURRENCY": "2"}
        assert each.result["told"] == told
        producer = each.document.producer
        assert producer is not None
        assert producer.parent_execution == execution != producer.execution


@pytest.mark.parametrize("language", ["jsonpath", "jsonata"])
def test_outputs_of_an_inline_map_come_together(
    local_aws: LocalAws, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each child is told how many there are, and the state's output is the list of their outputs."""
    s3, bucket = local_aws.client("s3"), unique("maps")
    s3.create_bucket(Bucket=bucket)
    words = ["--inline", "--items", "$.scenes", "--bucket", bucket, "--query-language", language]
    _, output = run(local_aws, capsys, {"scenes": [{"n": 1}, {"n": 2}]}, *words)
    assert [each["result"]["input"] for each in output] == [{"n": 1}, {"n": 2}]
    assert [each["result"]["told"]["MAP_INDEX"] for each in output] == ["0", "1"]
    assert {each["result"]["told"]["FAN_IN"] for each in output} == {"2"}
