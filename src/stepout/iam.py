"""Policies for each role that takes part: the actions that the code calls, on as little as IAM can name. Pure.

Which actions know resources, and of which type, is in the Service Authorization Reference
(https://docs.aws.amazon.com/service-authorization/latest/reference/). ``states:SendTask*`` and ``batch:DescribeJobs``
know none: they take ``"*"`` alone. A task token works for principals of its own account only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_QUEUE_URL = re.compile(r"(?:sqs:)?(?:https?:)?//[^/]+/(?P<account>\d{12})/(?P<name>[A-Za-z0-9_-]+(?:\.fifo)?)")
_REGION_OF_URL = re.compile(r"//(?:[\w-]+\.)*sqs\.(?P<region>[a-z0-9-]+)\.")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|\$\{\w+\}")

_ARN = re.compile(r"arn:[^:]*:(?P<service>[^:]*):.*|\$\{\w+\.Arn\}", re.DOTALL)
_NAME = re.compile(r"(?:[\w./-]|\$\{[\w:]+\})+(?::\w+)?")  # a revision or an alias may follow
_PARTITION = re.compile(r"aws(?:-[a-z]+)*")
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d{1,2}")
_ACCOUNT = re.compile(r"\d{12}")
_DIRECTORY_BUCKET: Final = "--x-s3"

_SEND_TASK: Final = ("states:SendTaskFailure", "states:SendTaskHeartbeat", "states:SendTaskSuccess")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the policies are narrowed to; names or ARNs. ``None`` becomes a placeholder where it is needed.

    Attributes:
        bucket: Of the artifacts.
        prefix: The folder in it.
        kms_key: The ARN of the key that encrypts the bucket.
        queue: Of the jobs (worker), or of the relay: name, URL or ARN.
        table: The DynamoDB table of outcomes.
        token_table: The DynamoDB table of task tokens.
        topic: The SNS topic that is notified.
        bus: The EventBridge bus that is notified.
        cluster: On ECS.
        task_definition: Its family.
        function: The Lambda function.
        job_queue: Of Batch.
        job_definition: Of Batch.
        job: Of Glue.
        activity: The activity's name or ARN.
        pass_roles: The roles that the state machine hands to ECS.
        kind: The kind of state that the state machine's role is for.
        state_machine: Its own name, whose children a Distributed Map starts; or of the executions that are looked at.
        pull: Whether the producer reports by pull mode, not by token.
        tags: Whether artifacts are tagged.
        object_lock: Whether artifacts are locked.
        resume: Whether the producer looks for what an earlier try of a directory has left.
        listing: Whether a missing object may be told from a forbidden one.
        partition: For example ``aws-cn``.
        region: Of everything.
        account: Of everything.
    """

    bucket: str | None = None
    prefix: str | None = None
    kms_key: str | None = None
    queue: str | None = None
    table: str | None = None
    token_table: str | None = None
    topic: str | None = None
    bus: str | None = None
    cluster: str | None = None
    task_definition: str | None = None
    function: str | None = None
    job_queue: str | None = None
    job_definition: str | None = None
    job: str | None = None
    activity: str | None = None
    pass_roles: tuple[str, ...] = ()
    kind: str | None = None
    state_machine: str | None = None
    pull: bool = False
    tags: bool = False
    object_lock: bool = False
    resume: bool = False
    listing: bool = True
    partition: str = "aws"
    region: str = "${AWS::Region}"
    account: str = "${AWS::AccountId}"

    def __post_init__(self) -> None:
        """Check what would make an ARN of nothing."""
        for name, value, form, example in (
            ("partition", self.partition, _PARTITION, "aws-cn"),
            ("region", self.region, _REGION, "eu-west-1"),
            ("account", self.account, _ACCOUNT, "123456789012"),
        ):
            if "${" not in value and not form.fullmatch(value):
                raise ConfigurationError(f"--{name} {value!r} is invalid: expected something like {example}")

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of something in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def _named(value: str | None, stand_in: str) -> str:
    return f"${{{stand_in}}}" if value is None else value


def _resource(scope: Scope, service: str, folder: str, value: str | None, stand_in: str) -> str:
    """Return an ARN for a name, such as ``table`` and ``outcomes``; an ARN stays as it is."""
    name = _named(value, stand_in)
    if (found := _ARN.fullmatch(name)) and found["service"] in (service, None):
        return name
    if not _NAME.fullmatch(name) or (service != "events" and "/" in name):
        option = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", stand_in).lower()
        raise ConfigurationError(f"--{option} {name!r} is neither a name nor an ARN of {service}")
    return scope.arn(service, f"{folder}{name}")


def _statement(sid: str, actions: tuple[str, ...], *resources: str, **condition: Any) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": resources[0] if len(resources) == 1 else list(resources),
    }
    return {**statement, **({"Condition": condition} if condition else {})}


def _bucket(scope: Scope) -> str:
    name = _named(scope.bucket, "Bucket")
    if not _BUCKET.fullmatch(name):
        raise ConfigurationError(f"--bucket {name!r} is no bucket's name: pass that alone, and the folder as --prefix")
    return f"arn:{scope.partition}:s3:::{name}"


def _folder(scope: Scope) -> str:
    folder = (scope.prefix or "").strip("/")
    if re.search(r"[*?]", folder):
        raise ConfigurationError("--prefix: '*' and '?' stand for any text in a policy; name one folder")
    return folder


def _objects(scope: Scope) -> str:
    return "/".join(filter(None, (_bucket(scope), _folder(scope), "*")))


def _queue(scope: Scope) -> str:
    name = _named(scope.queue, "Queue")
    found = _QUEUE_URL.fullmatch(name)
    if found is None:
        return _resource(scope, "sqs", "", name, "Queue")
    region = _REGION_OF_URL.search(name)
    return (
        f"arn:{scope.partition}:sqs:{region['region'] if region else scope.region}:{found['account']}:{found['name']}"
    )


def _key(scope: Scope, sid: str, *actions: str) -> list[dict[str, Any]]:
    """Return the right to use the bucket's key, through S3 alone."""
    if scope.kms_key is None:
        return []
    if not scope.kms_key.startswith("arn:") or ":key/" not in scope.kms_key:
        raise ConfigurationError("--kms-key must be the ARN of a key: a policy cannot name an alias as a resource")
    suffix = "amazonaws.com.cn" if scope.partition == "aws-cn" else "amazonaws.com"
    if _is_directory(scope):  # which kms:ViaService its requests carry is not documented
        return [_statement(sid, actions, scope.kms_key)]
    region = scope.kms_key.split(":")[3]
    return [_statement(sid, actions, scope.kms_key, StringEquals={"kms:ViaService": f"s3.{region}.{suffix}"})]


def _is_directory(scope: Scope) -> bool:
    return (scope.bucket or "").endswith(_DIRECTORY_BUCKET)


def _session(scope: Scope, sid: str, **condition: Any) -> dict[str, Any]:
    """The right to a directory bucket (S3 Express One Zone): a session on all of it, not on objects or prefixes.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-express-security-iam-identity-policies.html
    """
    if scope.tags or scope.object_lock:
        raise ConfigurationError("--tags and --object-lock: a directory bucket knows neither")
    return _statement(sid, ("s3express:CreateSession",), scope.arn("s3express", f"bucket/{scope.bucket}"), **condition)


def _writing(scope: Scope) -> dict[str, Any]:
    if _is_directory(scope):
        return _session(scope, "WriteArtifacts")
    # GetObject: the HEAD that compares what is there already, and pull mode's look at who was first.
    # ListMultipartUploadParts: which of two requests for a slow part the server kept.
    actions = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    actions += ["s3:PutObjectTagging"] if scope.tags else []
    actions += ["s3:PutObjectRetention", "s3:PutObjectLegalHold"] if scope.object_lock else []
    return _statement("WriteArtifacts", tuple(actions), _objects(scope))


def _listing(scope: Scope, sid: str) -> dict[str, Any]:
    """The right to list what is below the prefix."""
    folder = _folder(scope)
    only = {"StringLike": {"s3:prefix": f"{folder}/*"}} if folder else {}
    return _statement(sid, ("s3:ListBucket",), _bucket(scope), **only)


def _producer(scope: Scope) -> list[dict[str, Any]]:
    return [
        _writing(scope),
        *([_listing(scope, "FindEarlierTries")] if scope.resume and not _is_directory(scope) else []),
        *_key(scope, "EncryptArtifacts", "kms:GenerateDataKey", "kms:Decrypt"),
        *_reporting(scope),
    ]


def _reporting(scope: Scope) -> list[dict[str, Any]]:
    """The rights to report: to Step Functions, unless a relay's queue or pull mode takes its place."""
    found = []
    if scope.queue is not None:
        found.append(_statement("ReportThroughTheRelay", ("sqs:SendMessage",), _queue(scope)))
    elif not scope.pull:
        found.append(_statement("Report", _SEND_TASK, "*"))
    return [*found, *_records(scope)]


def _records(scope: Scope) -> list[dict[str, Any]]:
    found = []
    if scope.table is not None:
        table = _resource(scope, "dynamodb", "table/", scope.table, "Table")
        # UpdateItem: task.progress, which sets one attribute.
        found.append(_statement("WriteOutcome", ("dynamodb:PutItem", "dynamodb:UpdateItem"), table))
    if scope.token_table is not None:
        table = _resource(scope, "dynamodb", "table/", scope.token_table, "TokenTable")
        found.append(_statement("KeepToken", ("dynamodb:PutItem", "dynamodb:UpdateItem"), table))
    if scope.topic is not None:
        found.append(_statement("Notify", ("sns:Publish",), _resource(scope, "sns", "", scope.topic, "Topic")))
    if scope.bus is not None:
        bus = _resource(scope, "events", "event-bus/", scope.bus, "Bus")
        found.append(_statement("NotifyBus", ("events:PutEvents",), bus))
    return found


def _consumer(scope: Scope) -> list[dict[str, Any]]:
    if _is_directory(scope):
        found = [_session(scope, "ReadArtifacts", StringEquals={"s3express:SessionMode": "ReadOnly"})]
    else:
        found = [_statement("ReadArtifacts", ("s3:GetObject", "s3:GetObjectVersion"), _objects(scope))]
    if scope.listing and not _is_directory(scope):
        found.append(_listing(scope, "TellMissingFromForbidden"))
    if scope.table is not None:
        table = _resource(scope, "dynamodb", "table/", scope.table, "Table")
        found.append(_statement("ReadOutcome", ("dynamodb:GetItem",), table))
    return [*found, *_key(scope, "DecryptArtifacts", "kms:Decrypt")]


def _gc(scope: Scope) -> list[dict[str, Any]]:
    """The rights of ``stepout gc``; without the last one it deletes nothing, and lists."""
    if _is_directory(scope):
        raise ConfigurationError("gc: a directory bucket keeps no versions and cannot be listed by them")
    folder = _folder(scope)
    below = {"StringLike": {"s3:prefix": f"{folder}/*"}} if folder else {}
    objects = ("s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion")
    return [
        _statement("ListVersions", ("s3:ListBucketVersions",), _bucket(scope), **below),
        # Uploads know no condition on the prefix; a missing object is told from a forbidden one by s3:ListBucket.
        _statement("ListUploads", ("s3:ListBucketMultipartUploads", "s3:ListBucket"), _bucket(scope)),
        _statement("LookAndRemove", (*objects, "s3:AbortMultipartUpload"), _objects(scope)),
        *_key(scope, "DecryptRecords", "kms:Decrypt"),
        _statement("AskWhatRuns", ("states:DescribeExecution",), scope.arn("states", "execution:*")),
    ]


def _viewer(scope: Scope) -> list[dict[str, Any]]:
    """The rights of ``stepout page``: to look at executions, at the children of their Maps, and into artifacts."""
    name = "*"
    executions = [scope.arn("states", "execution:*")]
    if scope.state_machine is not None:
        machine = _resource(scope, "states", "stateMachine:", scope.state_machine, "StateMachine")
        name = machine.rpartition(":")[2]
        # Children of a Distributed Map are executions of NAME/LABEL.
        executions = [machine.replace(":stateMachine:", ":execution:", 1) + end for end in (":*", "/*")]
    runs = scope.arn("states", "mapRun:*" if name == "*" else f"mapRun:{name}/*")
    return [
        _statement("LookAtExecutions", ("states:DescribeExecution", "states:GetExecutionHistory"), *executions),
        _statement("LookAtChildren", ("states:ListExecutions",), runs),
        *_consumer(scope),
    ]


def _relay(scope: Scope) -> list[dict[str, Any]]:
    actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    return [_statement("TakeReports", actions, _queue(scope)), _statement("Report", _SEND_TASK, "*")]


def _watcher(scope: Scope) -> list[dict[str, Any]]:
    found = [
        # A heartbeat asks whether the state still waits.
        _statement("ReportSilentDeaths", ("states:SendTaskFailure", "states:SendTaskHeartbeat"), "*"),
        _statement("LookForToken", ("ecs:DescribeTasks",), _ecs_tasks(scope)),
    ]
    if scope.token_table is not None:
        table = _resource(scope, "dynamodb", "table/", scope.token_table, "TokenTable")
        found.append(_statement("ReadToken", ("dynamodb:GetItem", "dynamodb:UpdateItem"), table))
    if scope.queue is not None:
        found.append(_statement("ReportThroughTheRelay", ("sqs:SendMessage",), _queue(scope)))
    return found


def _worker(scope: Scope) -> list[dict[str, Any]]:
    """A worker's commands run with its role, so it has a producer's rights too."""
    if scope.activity is not None:
        activity = _resource(scope, "states", "activity:", scope.activity, "Activity")
        takes = _statement("TakeTasks", ("states:GetActivityTask",), activity)
        return [takes, *_producer(_without_queue(scope))]
    actions = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
    return [_statement("TakeTasks", actions, _queue(scope)), *_producer(_without_queue(scope))]


def _without_queue(scope: Scope) -> Scope:
    return replace(scope, queue=None)


def _ecs_tasks(scope: Scope) -> str:
    cluster = _named(scope.cluster, "Cluster").rpartition(":cluster/")[2]
    return scope.arn("ecs", f"task/{cluster}/*")


def _rule(scope: Scope, name: str) -> dict[str, Any]:
    """The rule through which Step Functions learns that a job which it watches has ended."""
    actions = ("events:PutTargets", "events:PutRule", "events:DescribeRule")
    return _statement("LearnOfTheEnd", actions, scope.arn("events", f"rule/{name}"))


def _run_ecs(scope: Scope) -> list[dict[str, Any]]:
    cluster = _resource(scope, "ecs", "cluster/", scope.cluster, "Cluster")
    family = _resource(scope, "ecs", "task-definition/", scope.task_definition, "TaskDefinition")
    revisions = family if re.search(r":\d+$", family) else f"{family}:*"
    roles = scope.pass_roles or ("${TaskRole}", "${ExecutionRole}")
    arns = [
        role if role.startswith("arn:") else f"arn:{scope.partition}:iam::{scope.account}:role/{role}" for role in roles
    ]
    return [
        _statement("RunTasks", ("ecs:RunTask",), revisions, ArnEquals={"ecs:cluster": cluster}),
        _statement(
            "HandOverRoles", ("iam:PassRole",), *arns, StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"}
        ),
    ]


def _watch_ecs(scope: Scope) -> list[dict[str, Any]]:
    return [
        *_run_ecs(scope),
        _statement("WatchTasks", ("ecs:DescribeTasks", "ecs:StopTask"), _ecs_tasks(scope)),
        _rule(scope, "StepFunctionsGetEventsForECSTaskRule"),
    ]


def _send(scope: Scope) -> list[dict[str, Any]]:
    return [_statement("SendTasks", ("sqs:SendMessage",), _queue(scope))]


def _invoke(scope: Scope) -> list[dict[str, Any]]:
    function = _resource(scope, "lambda", "function:", scope.function, "Function")
    return [_statement("CallFunction", ("lambda:InvokeFunction",), function, f"{function}:*")]


def _submit(scope: Scope) -> list[dict[str, Any]]:
    definition = _resource(scope, "batch", "job-definition/", scope.job_definition, "JobDefinition")
    revisions = definition if re.search(r":\d+$", definition) else f"{definition}:*"
    queue = _resource(scope, "batch", "job-queue/", scope.job_queue, "JobQueue")
    jobs = scope.arn("batch", "job/*")
    return [
        _statement("SubmitJobs", ("batch:SubmitJob",), queue, revisions, jobs),
        _statement("EndJobs", ("batch:TerminateJob",), jobs),
        _statement("WatchJobs", ("batch:DescribeJobs",), "*"),
        _rule(scope, "StepFunctionsGetEventsForBatchJobsRule"),
    ]


def _start(scope: Scope) -> list[dict[str, Any]]:
    actions = ("glue:StartJobRun", "glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun")
    return [_statement("RunJobs", actions, _resource(scope, "glue", "job/", scope.job, "Job"))]


def _map(scope: Scope) -> list[dict[str, Any]]:
    """What a Distributed Map needs itself; its children are executions of the state machine, named NAME/LABEL:ID.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """
    machine = _resource(scope, "states", "stateMachine:", scope.state_machine, "StateMachine")
    executions = machine.replace(":stateMachine:", ":execution:", 1)
    watching = ("states:DescribeExecution", "states:StopExecution", "states:RedriveExecution")
    writing = ("s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload")
    return [
        _statement("StartChildren", ("states:StartExecution",), machine),
        _statement("WatchChildren", watching, f"{executions}:*", f"{executions}/*"),
        _statement("ReadItems", ("s3:GetObject", "s3:GetObjectVersion"), _objects(scope)),
        _listing(scope, "ListItems"),
        _statement("WriteResults", writing, _objects(scope)),
        *_key(scope, "UseKey", "kms:GenerateDataKey", "kms:Decrypt"),
    ]


def _nothing(scope: Scope) -> list[dict[str, Any]]:
    how = (
        "the cluster itself decides: give the role an access entry, and Kubernetes rights to create, get, list, "
        "watch and delete jobs.batch in the namespace"
        if scope.kind == "eks"
        else "the worker's role has states:GetActivityTask ('stepout iam worker --activity …')"
    )
    raise ConfigurationError(f"a state machine's role needs no IAM action for {scope.kind}: {how}. Nothing was printed")


MACHINE_KINDS: dict[str, Callable[[Scope], list[dict[str, Any]]]] = {
    "ecs": _run_ecs,
    "ecs-sync": _watch_ecs,
    "eks": _nothing,
    "sqs": _send,
    "lambda": _invoke,
    "consumer": _invoke,
    "activity": _nothing,
    "batch": _submit,
    "glue": _start,
    "map": _map,
}
"""What a state machine's own role needs for each kind of state."""


def _machine(scope: Scope) -> list[dict[str, Any]]:
    if scope.kind is None:
        raise ConfigurationError(f"machine: for which kind of state? --kind {'|'.join(MACHINE_KINDS)}")
    return MACHINE_KINDS[scope.kind](scope)


ROLES: dict[str, tuple[str, Callable[[Scope], list[dict[str, Any]]]]] = {
    "producer": ("the task role of a container that writes artifacts and reports", _producer),
    "consumer": ("a program that resolves an output: a Lambda, a container", _consumer),
    "relay": ("the Lambda stepout.callbacks.relay.handler", _relay),
    "watcher": ("the Lambda stepout.callbacks.ecs_watch.handler", _watcher),
    "worker": ("`stepout worker`, its commands included", _worker),
    "gc": ("`stepout gc`, wherever it runs", _gc),
    "viewer": ("a person, or a program, that looks at runs with `stepout page`", _viewer),
    "machine": ("the state machine's own role, for one --kind of state", _machine),
}
"""Whom there are policies for."""


def policy(role: str, scope: Scope) -> dict[str, Any]:
    """Return a policy document.

    Args:
        role: One of ``ROLES``.
        scope: What it is narrowed to.

    Raises:
        ConfigurationError: A name is invalid, or the role needs no IAM action.

    Examples:
        >>> found = policy("relay", Scope(queue="reports", region="eu-west-1", account="123456789012"))
        >>> found["Statement"][0]["Resource"]
        'arn:aws:sqs:eu-west-1:123456789012:reports'
    """
    return {"Version": "2012-10-17", "Statement": ROLES[role][1](scope)}
