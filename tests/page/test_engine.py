"""A page of an execution that a real engine ran: containers that report by token, one of them with the second try."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.ministack import callback_state, register_job, start_execution, unique, wait_execution

from stepout.page.collect import collect_run
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from stepout.local import LocalAws

JOB = """
import stepout
with stepout.open_task() as task:
    if task.run.attempt == 0 and task.run.state == "Mask":
        raise stepout.RetryableError("the scene is not there yet")
    task.artifacts.put_json(task.run.state.lower(), {"of": task.run.state})
"""


def test_an_execution_of_an_engine_makes_a_page(local_aws: LocalAws) -> None:
    """Attempts, causes, documents, lineage and what is inside; gone with its state machine, it says what to do."""
    bucket = unique("page")
    local_aws.client("s3").create_bucket(Bucket=bucket)
    variables = [{"name": "STEPOUT_BUCKET", "value": bucket}]
    family = register_job(local_aws, {"command": ["python", "-c", JOB], "environment": variables})
    retry = [{"ErrorEquals": ["Stepout.Retryable"], "IntervalSeconds": 1}]
    mask = {**callback_state(family, Retry=retry), "Next": "Score"}
    del mask["End"]
    states = {"Mask": mask, "Score": callback_state(family)}
    arn = start_execution(local_aws, states, start_at="Mask")
    machine = wait_execution(local_aws, arn)["stateMachineArn"]
    clients = {"client": local_aws.client("s3"), "step_functions": local_aws.client("stepfunctions")}
    page = collect_run([arn], allow=[f"s3://{bucket}/"], **clients)

    assert page.execution is not None
    first, second = page.execution.visits
    assert [(each.name, each.status) for each in page.execution.visits] == [
        ("Mask", "SUCCEEDED"),
        ("Score", "SUCCEEDED"),
    ]
    failed, succeeded = first.attempts
    assert (failed.outcome, failed.error) == ("FAILED", "Stepout.Retryable")
    assert failed.cause == "the scene is not there yet"
    assert "RetryableError" in failed.details
    assert succeeded.outcome == "SUCCEEDED"
    assert succeeded.ended_at is not None
    assert succeeded.working_at is not None
    assert succeeded.scheduled_at <= succeeded.working_at <= succeeded.ended_at
    cards = {each.output_id: each for each in page.outputs}
    assert first.output_id is not None
    written = cards[first.output_id].artifacts[0]
    assert (written.name, written.verified, written.given_to) == ("mask", "whole", (second.visit_id,))
    assert second.given == (written.artifact_id,)
    assert page.notes == ()

    clients["step_functions"].delete_state_machine(stateMachineArn=machine)
    with pytest.raises(ConfigurationError, match="its state machine was deleted"):
        collect_run([arn], allow=[f"s3://{bucket}/"], **clients)
