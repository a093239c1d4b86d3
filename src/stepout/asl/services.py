"""What each kind of state passes to its service: the parameters, in no query language yet. Pure.

Sources: the pages "Integrate services" of the Step Functions guide
(https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html), one a service.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepout.asl.variables import Expression, StateOptions, allowed_places, input_expression, task_variables
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\$\{\w+\}")
_FILLED_IN = 63
_QUEUE_URL = re.compile(r"https?://[^/\s]+/\S+|\$\{")

OVERRIDES_LIMIT = 8_192
"""Characters of RunTask's ``overrides``, the JSON around the values included (service model of ECS, 2014-11-13)."""


@dataclass(frozen=True, kw_only=True)
class ServiceKind:
    """A way to run something.

    Attributes:
        summary: One line for ``--help``.
        resource: The state's; ``None`` where an option is.
        reports: How the outcome reaches the state: by token, by pull mode, or as the call's own answer.
        heartbeat: Seconds by default, which must cover the wait for a place and the image pull.
        timeout: Seconds by default.
        parameters: Makes the parameters from options and ``HeartbeatSeconds``.
        transient: What the service answers when trying again may help.
        lost: What the watcher or a worker reports of a container that ended without a report.
    """

    summary: str
    resource: str | None
    reports: str
    timeout: int
    parameters: Callable[[StateOptions, int | None], dict[str, Any]]
    transient: tuple[str, ...]
    heartbeat: int | None = None
    lost: tuple[str, ...] = ()

    @property
    def has_variables(self) -> bool:
        """Whether the state sets the task's whole environment: its bucket, its allow-list, its output's budget."""
        return self.parameters not in (_sqs, _activity, _consumer)


def _setting(options: StateOptions, name: str, stand_in: str) -> Any:
    """Return an option, or a placeholder as CloudFormation's DefinitionSubstitutions fill them."""
    value = options.settings.get(name)
    return f"${{{stand_in}}}" if value is None else value


def _environment(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    places = {"STEPOUT_BUCKET": options.bucket, "STEPOUT_PREFIX": options.prefix}
    given = {name: value for name, value in places.items() if value is not None}
    if allowed := allowed_places(options):
        given["STEPOUT_ALLOW"] = " ".join(allowed)
    return {**task_variables(options, heartbeat=heartbeat), **given, **options.environment}


def _pairs(variables: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in variables.items()]


def _ecs(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    launch_type = options.settings.get("launch_type") or "FARGATE"
    container = {
        "Name": options.settings.get("container") or "job",
        "Environment": _pairs(_environment(options, heartbeat)),
    }
    network = _network(options, launch_type)
    return {
        "LaunchType": launch_type,
        "Cluster": _setting(options, "cluster", "Cluster"),
        "TaskDefinition": _setting(options, "task_definition", "TaskDefinition"),
        **({"NetworkConfiguration": {"AwsvpcConfiguration": network}} if network else {}),
        "Overrides": {"ContainerOverrides": [container]},
    }


def _network(options: StateOptions, launch_type: str) -> dict[str, Any]:
    """Fargate needs a network of its own; on EC2 that depends on the task definition's network mode."""
    subnets, groups = options.settings.get("subnets"), options.settings.get("security_groups")
    if options.settings.get("public_ip") and launch_type != "FARGATE":
        raise ConfigurationError("--public-ip: ECS gives public addresses to tasks on Fargate alone; leave it out")
    if launch_type != "FARGATE" and not (subnets or groups):
        return {}
    found: dict[str, Any] = {"Subnets": list(subnets or ["${Subnet}"])}
    if groups:
        found["SecurityGroups"] = list(groups)
    if options.settings.get("public_ip"):
        found["AssignPublicIp"] = "ENABLED"
    return found


def _eks(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    stem = _kubernetes_name(options.name)
    variables = _environment(options, heartbeat)
    container = {
        "name": options.settings.get("container") or "job",
        "image": _setting(options, "image", "Image"),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
    }
    pod = {
        "serviceAccountName": options.settings.get("service_account") or "default",
        "restartPolicy": "Never",
        "containers": [container],
    }
    return {
        "ClusterName": _setting(options, "cluster", "Cluster"),
        "CertificateAuthority": _setting(options, "certificate_authority", "CertificateAuthority"),
        "Endpoint": _setting(options, "endpoint", "Endpoint"),
        "Namespace": options.settings.get("namespace") or "default",
        "LogOptions": {"RetrieveLogs": False},
        "Job": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            # A retried state makes another job, and no two may have one name.
            "metadata": {"name": Expression(f"States.Format('{stem}-{{}}', States.UUID())", f"'{stem}-' & $uuid()")},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    }


def _kubernetes_name(name: str) -> str:
    """Return what of a name may begin a job's name: 63 characters in all, of which a UUID takes 37.

    Examples:
        >>> _kubernetes_name("Make Masks")
        'make-masks'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24].strip("-") or "job"


def _sqs(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    url = str(_setting(options, "queue_url", "QueueUrl"))
    if not _QUEUE_URL.match(url):
        raise ConfigurationError(
            f"--queue-url {url!r} is no queue's URL (https://sqs.REGION.amazonaws.com/ACCOUNT/NAME)"
        )
    body = {**task_variables(options, heartbeat=heartbeat, text=False), **options.environment}
    fifo = {
        "MessageGroupId": Expression("$$.Execution.Name", "$states.context.Execution.Name"),
        "MessageDeduplicationId": Expression("States.UUID()", "$uuid()"),
    }
    return {"QueueUrl": url, "MessageBody": body, **(fifo if url.endswith(".fifo") else {})}


def _lambda(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    function = _setting(options, "function", "Function")
    return {"FunctionName": function, "Payload": _environment(options, heartbeat)}


def _consumer(options: StateOptions, _heartbeat: int | None) -> dict[str, Any]:
    given = input_expression(options, text=False)
    payload = Expression("$", "$states.input") if given is None else given
    return {"FunctionName": _setting(options, "function", "Function"), "Payload": payload}


def _activity(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    variables = task_variables(options, heartbeat=heartbeat, text=False)
    del variables["STEPOUT_TASK_TOKEN"]  # GetActivityTask hands it out; the context object has no token of an activity
    return {**variables, **options.environment}


def _batch(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    return {
        "JobName": re.sub(r"[^A-Za-z0-9_-]+", "-", options.name).strip("-_") or "job",
        "JobQueue": _setting(options, "job_queue", "JobQueue"),
        "JobDefinition": _setting(options, "job_definition", "JobDefinition"),
        "ContainerOverrides": {"Environment": _pairs(_environment(options, heartbeat))},
    }


def _glue(options: StateOptions, heartbeat: int | None) -> dict[str, Any]:
    arguments = {f"--{name}": value for name, value in _environment(options, heartbeat).items()}
    return {"JobName": _setting(options, "job", "Job"), "Arguments": arguments}


_LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
)
_DIED = ("Stepout.ContainerDied",)
# AmazonECS.Unknown: RunTask answered with failures, for example for want of capacity.
_ECS_ERRORS = (
    "AmazonECS.Unknown",
    "ECS.AmazonECSException",
    "ECS.ServerException",
    "ECS.ThrottlingException",
    "ECS.SdkClientException",
)

KINDS: dict[str, ServiceKind] = {
    "ecs": ServiceKind(
        summary="a container on ECS (Fargate or EC2) that reports with its task token",
        resource="arn:aws:states:::ecs:runTask.waitForTaskToken",
        reports="token",
        heartbeat=600,
        timeout=21_600,
        parameters=_ecs,
        transient=("Stepout.TaskFailedToStart", *_ECS_ERRORS),
        lost=_DIED,
    ),
    "ecs-sync": ServiceKind(
        summary="a container on ECS that the state watches; pull mode, no token",
        resource="arn:aws:states:::ecs:runTask.sync",
        reports="pull",
        timeout=21_600,
        parameters=_ecs,
        transient=_ECS_ERRORS,
    ),
    "eks": ServiceKind(
        summary="a Kubernetes job on EKS that the state watches; pull mode, no token",
        resource="arn:aws:states:::eks:runJob.sync",
        reports="pull",
        timeout=21_600,
        parameters=_eks,
        transient=(),
    ),
    "sqs": ServiceKind(
        summary="a message to the queue of a `stepout worker`, on EKS, ECS or anywhere, with a task token",
        resource="arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        reports="token",
        heartbeat=1_800,
        timeout=21_600,
        parameters=_sqs,
        transient=("SQS.AmazonSQSException", "SQS.SdkClientException"),
        lost=_DIED,
    ),
    "lambda": ServiceKind(
        summary="a Lambda function that reports with a task token, or hands it on",
        resource="arn:aws:states:::lambda:invoke.waitForTaskToken",
        reports="token",
        heartbeat=300,
        timeout=900,
        parameters=_lambda,
        transient=_LAMBDA_ERRORS,
    ),
    "consumer": ServiceKind(
        summary="a Lambda function that reads an output and answers by itself",
        resource="arn:aws:states:::lambda:invoke",
        reports="answer",
        timeout=900,
        parameters=_consumer,
        transient=_LAMBDA_ERRORS,
    ),
    "activity": ServiceKind(
        summary="an activity, for a `stepout worker` that polls Step Functions",
        resource=None,
        reports="token",
        heartbeat=1_800,
        timeout=21_600,
        parameters=_activity,
        transient=(),
        lost=_DIED,
    ),
    "batch": ServiceKind(
        summary="an AWS Batch job that the state watches; pull mode, no token",
        resource="arn:aws:states:::batch:submitJob.sync",
        reports="pull",
        timeout=86_400,
        parameters=_batch,
        transient=(
            "Batch.AWSBatchException",
            "Batch.ServerException",
            "Batch.TooManyRequestsException",
            "Batch.SdkClientException",
        ),
    ),
    "glue": ServiceKind(
        summary="an AWS Glue job that the state watches; pull mode, no token",
        resource="arn:aws:states:::glue:startJobRun.sync",
        reports="pull",
        timeout=86_400,
        parameters=_glue,
        transient=(
            "Glue.ConcurrentRunsExceededException",
            "Glue.InternalServiceException",
            "Glue.OperationTimeoutException",
        ),
    ),
}


def overrides_size(kind: str, options: StateOptions) -> int | None:
    """Return the characters that RunTask's overrides may take, or ``None`` for a kind without overrides.

    Tokens count as 700 characters, an execution's ARN as 256, and every quote and backslash of the input as two.

    Args:
        kind: The state's kind.
        options: Its options; of an input whose size is not known, nothing is counted.
    """
    chosen = KINDS[kind]
    overrides = chosen.parameters(options, options.heartbeat or chosen.heartbeat).get("Overrides")
    return None if overrides is None else len(json.dumps(_longest(overrides), ensure_ascii=False))


def room_beside(size: int) -> int:
    """Return the characters of JSON that are sure to fit into overrides beside others; negative if these are too long.

    Args:
        size: The characters of the others.
    """
    return (OVERRIDES_LIMIT - size) // 2  # within the overrides' own JSON, a quote takes two


def _longest(value: Any) -> Any:
    if isinstance(value, Expression):
        return "x" * value.longest
    if isinstance(value, str):  # a placeholder is filled in later, with a bucket's name, say
        return _PLACEHOLDER.sub(lambda found: "x" * max(_FILLED_IN, len(found[0])), value)
    if isinstance(value, list):
        return [_longest(each) for each in value]
    return {name: _longest(each) for name, each in value.items()} if isinstance(value, dict) else value


def activity_arn(options: StateOptions) -> str:
    """Return the activity's ARN.

    Raises:
        ConfigurationError: It is something else.
    """
    arn = str(_setting(options, "activity", "Activity"))
    if not arn.startswith("${") and ":activity:" not in arn:
        raise ConfigurationError(
            f"--activity {arn!r} is no activity's ARN (arn:aws:states:REGION:ACCOUNT:activity:NAME)"
        )
    return arn
