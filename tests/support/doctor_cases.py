"""For each rule of the doctor what breaks it: pairs of a bad and a good set of documents."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepout.doctor.findings import Expectations
from support.doctor_documents import (
    CONTAINER,
    ENVIRONMENT,
    TASK_STATE,
    Documents,
    jsonata_machine,
    sound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """One way to break one rule; without the break, the documents are sound.

    Attributes:
        rule: The rule's id.
        name: What is broken.
        broken: Does it to a set of documents.
        expected: What the documents do not say; the same for both sets.
        fixed: Done to the other set, where a plainly sound one would not show the difference.
    """

    rule: str
    name: str
    broken: Callable[[Documents], object]
    expected: Expectations = field(default_factory=Expectations)
    fixed: Callable[[Documents], object] = lambda _: None

    def documents(self, *, bad: bool) -> Documents:
        """Return the set, broken or not."""
        made = sound()
        (self.broken if bad else self.fixed)(made)
        return made


def put(*steps: Any) -> Callable[[Documents], object]:
    """Set the member at the path to the last argument."""
    *path, value = steps

    def change(documents: Documents) -> None:
        place: Any = documents
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = copy.deepcopy(value)

    return change


def drop(*path: Any) -> Callable[[Documents], object]:
    """Remove the member at the path."""

    def change(documents: Documents) -> None:
        place: Any = documents
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def both(*changes: Callable[[Documents], object]) -> Callable[[Documents], object]:
    """Make several changes."""
    return lambda documents: [change(documents) for change in changes]


def in_jsonata(change: Callable[[Documents], object] = lambda _: None) -> Callable[[Documents], object]:
    """Make the change to the JSONata machine."""
    return both(lambda documents: documents.update(machine=jsonata_machine()), change)


def in_map(**settings: Any) -> Callable[[Documents], object]:
    """Put the states into a distributed Map with these settings, or into an inline one (``inline``, ``listed``)."""

    def change(documents: Documents) -> None:
        inner = documents["machine"]["definition"]
        config = {"Mode": "DISTRIBUTED", "ExecutionType": settings.get("kind", "STANDARD")}
        processor = inner if settings.get("inline") else {"ProcessorConfig": config, **inner}
        around = {"Type": "Map", "ItemProcessor": processor, "End": True}
        if "most" in settings:
            around["MaxConcurrency"] = settings["most"]
        if "listed" in settings:
            around |= {"QueryLanguage": "JSONata", "Items": settings["listed"]}
        documents["machine"]["definition"] = {"StartAt": "Each", "States": {"Each": around}}

    return change


def passing(**variables: str) -> Callable[[Documents], object]:
    """Pass further variables to the container."""

    def change(documents: Documents) -> None:
        place: Any = documents
        for step in ENVIRONMENT:
            place = place[step]
        place.extend({"Name": name, "Value": value} for name, value in variables.items())

    return change


def in_branch(documents: Documents) -> None:
    """Put the states into a branch of a Parallel state."""
    around = {"Type": "Parallel", "Branches": [documents["machine"]["definition"]], "End": True}
    documents["machine"]["definition"] = {"StartAt": "All", "States": {"All": around}}


def resource(name: str) -> Callable[[Documents], object]:
    """Let the state call another service."""
    return put(*TASK_STATE, "Resource", f"arn:aws:states:::{name}")


def retry(*entries: Any) -> Callable[[Documents], object]:
    """Replace Retry."""
    return put(*TASK_STATE, "Retry", list(entries))


def catch(*lists: list[str]) -> Callable[[Documents], object]:
    """Replace Catch by entries with these names."""
    entries = [{"ErrorEquals": names, "ResultPath": "$.problem", "Next": "Sad"} for names in lists]
    return put(*TASK_STATE, "Catch", entries)


def variable(index: int, **entry: Any) -> Callable[[Documents], object]:
    """Replace an environment override."""
    return put(*ENVIRONMENT, index, {key.replace("_dynamic", ".$"): value for key, value in entry.items()})


def environment(name: str, value: str) -> Callable[[Documents], object]:
    """Add a variable to the container's own environment."""
    return lambda documents: documents["task"]["containerDefinitions"][0]["environment"].append(
        {"name": name, "value": value}
    )


def endpoint_gone(service: str) -> Callable[[Documents], object]:
    """Remove a service's endpoint."""

    def change(documents: Documents) -> None:
        found = documents["network"]["VpcEndpoints"]
        found[:] = [each for each in found if not each["ServiceName"].endswith(f".{service}")]

    return change


def route(**target: str) -> Callable[[Documents], object]:
    """Give the subnet a default route."""
    added = {"DestinationCidrBlock": "0.0.0.0/0", "State": "active", **target}
    return lambda documents: documents["network"]["RouteTables"][0]["Routes"].append(added)


LIFECYCLE = ("bucket", "GetBucketLifecycleConfiguration", "Rules")
WITH_SQS = environment("STEPOUT_TARGETS", "sqs://123456789012/relay")
DAYS_30 = put(*LIFECYCLE, 0, "Expiration", {"Days": 30})
DAY = 86_400
JOB_ARGUMENTS = ("machine", "definition", "States", "Job", "Arguments")

CASES = [
    Case("SO101", "no heartbeat", drop(*TASK_STATE, "HeartbeatSeconds")),
    Case("SO101", "in a branch", both(drop(*TASK_STATE, "HeartbeatSeconds"), in_branch), fixed=in_branch),
    Case("SO101", "in a Map", both(drop(*TASK_STATE, "HeartbeatSeconds"), in_map(most=1)), fixed=in_map(most=1)),
    Case("SO101", "in JSONata", in_jsonata(drop(*TASK_STATE, "HeartbeatSeconds")), fixed=in_jsonata()),
    Case(
        "SO101",
        "an activity",
        both(
            put(*TASK_STATE, "Resource", "arn:aws:states:eu-west-1:123456789012:activity:job"),
            drop(*TASK_STATE, "HeartbeatSeconds"),
        ),
        fixed=put(*TASK_STATE, "Resource", "arn:aws:states:eu-west-1:123456789012:activity:job"),
    ),
    Case("SO102", "no timeout", drop(*TASK_STATE, "TimeoutSeconds")),
    Case(
        "SO103",
        "no timeout for .sync",
        both(resource("ecs:runTask.sync"), drop(*TASK_STATE, "TimeoutSeconds")),
        fixed=resource("ecs:runTask.sync"),
    ),
    Case("SO104", "as long as the timeout", put(*TASK_STATE, "HeartbeatSeconds", 21600)),
    Case("SO105", "a minute for an image", put(*TASK_STATE, "HeartbeatSeconds", 60)),
    Case("SO106", "no token", drop(*ENVIRONMENT, 0)),
    Case("SO106", "no token in JSONata", in_jsonata(drop(*JOB_ARGUMENTS, "Overrides")), fixed=in_jsonata()),
    Case("SO107", "an Express workflow", put("machine", "type", "EXPRESS")),
    Case("SO107", ".sync too", both(put("machine", "type", "EXPRESS"), resource("ecs:runTask.sync"))),
    Case("SO107", "Express children", in_map(kind="EXPRESS", most=1), fixed=in_map(most=1)),
    Case("SO108", "a token for EKS", resource("eks:runJob.waitForTaskToken"), fixed=resource("eks:runJob.sync")),
    Case("SO109", "data in the log", put("machine", "loggingConfiguration", "includeExecutionData", True)),
    Case(
        "SO109",
        "data of errors in the log",
        put("machine", "loggingConfiguration", {"level": "ERROR", "includeExecutionData": True}),
        fixed=put("machine", "loggingConfiguration", {"level": "FATAL", "includeExecutionData": True}),
    ),
    Case("SO110", "output thrown away", put(*TASK_STATE, "ResultPath", None)),
    Case(
        "SO111",
        "10,000 children",
        both(put(*TASK_STATE, "HeartbeatSeconds", 60), in_map()),
        fixed=both(put(*TASK_STATE, "HeartbeatSeconds", 60), in_map(most=100)),
    ),
    Case(
        "SO111",
        "7,000 children that do not spread their beats",
        both(put(*TASK_STATE, "HeartbeatSeconds", 60), in_map(most=7_000)),
        fixed=both(
            put(*TASK_STATE, "HeartbeatSeconds", 60),
            passing(STEPOUT_MAX_CONCURRENCY="7000"),
            in_map(most=7_000),
        ),
    ),
    Case(
        "SO111",
        "more than can be spread",
        both(put(*TASK_STATE, "HeartbeatSeconds", 30), passing(STEPOUT_MAX_CONCURRENCY="10000"), in_map()),
        fixed=both(put(*TASK_STATE, "HeartbeatSeconds", 78), passing(STEPOUT_MAX_CONCURRENCY="10000"), in_map()),
    ),
    Case("SO118", "an inline Map", in_map(inline=True), fixed=in_map(most=1)),
    Case(
        "SO118",
        "fewer than run at once",
        both(passing(STEPOUT_FAN_IN="5"), in_map(inline=True, most=10)),
        fixed=both(passing(STEPOUT_FAN_IN="10"), in_map(inline=True, most=10)),
    ),
    Case(
        "SO118",
        "fewer than its items",
        both(passing(STEPOUT_FAN_IN="2"), in_map(inline=True, listed=[1, 2, 3])),
        fixed=both(passing(STEPOUT_FAN_IN="3"), in_map(inline=True, listed=[1, 2, 3])),
    ),
    Case(
        "SO118",
        "outputs that are kept",
        both(in_map(inline=True)),
        fixed=both(put(*TASK_STATE, "ResultPath", None), in_map(inline=True)),
    ),
    Case("SO201", "misspelt", retry({"ErrorEquals": ["Stepout.StoreUnavailabel", "Stepout.Retryable"]})),
    Case("SO201", "the class's name", catch(["ChecksumMismatchError"], ["States.ALL"])),
    Case("SO201", "another case", catch(["stepout.ChecksumMismatch"], ["States.ALL"])),
    Case("SO202", "misspelt", catch(["States.TimeOut"], ["States.ALL"])),
    Case("SO203", "not alone", catch(["States.ALL", "Demo.NothingToSee"])),
    Case("SO204", "not last", catch(["States.ALL"], ["Demo.NothingToSee"])),
    Case("SO205", "no timeout caught", catch(["States.TaskFailed"])),
    Case("SO206", "one of two", catch(["States.Timeout"]), fixed=catch(["States.Timeout", "States.HeartbeatTimeout"])),
    Case(
        "SO207",
        "after the general one",
        catch(["States.TaskFailed"], ["Demo.NothingToSee"], ["States.ALL"]),
        fixed=catch(["Demo.NothingToSee"], ["States.TaskFailed"], ["States.ALL"]),
    ),
    Case("SO207", "twice", catch(["Demo.NothingToSee"], ["Demo.NothingToSee"], ["States.ALL"])),
    Case("SO208", "permanent", retry({"ErrorEquals": ["Stepout.Permanent", "Stepout.Retryable"]})),
    Case(
        "SO209",
        "all errors",
        retry({"ErrorEquals": ["States.ALL"]}),
        fixed=retry({"ErrorEquals": ["Stepout.Permanent"], "MaxAttempts": 0}, {"ErrorEquals": ["States.ALL"]}),
    ),
    Case("SO210", "no Retry", drop(*TASK_STATE, "Retry")),
    Case("SO211", "input lost", drop(*TASK_STATE, "Catch", 0, "ResultPath")),
    Case("SO212", "not to be caught", catch(["States.Runtime"], ["States.ALL"])),
    Case("SO213", "no names", retry({"ErrorEquals": []}, {"ErrorEquals": ["Stepout.Retryable"]})),
    Case(
        "SO301",
        "a long constant",
        variable(4, Name="A", Value="x" * 7200),
        fixed=variable(4, Name="A", Value="x" * 6000),
    ),
    Case("SO302", "the input", variable(4, Name="STEPOUT_INPUT", Value_dynamic="States.JsonToString($.items)")),
    Case("SO303", "a number", variable(3, Name="STEPOUT_ATTEMPT", Value_dynamic="$$.State.RetryCount")),
    Case("SO303", "a literal number", variable(4, Name="STEPOUT_HEARTBEAT_SECONDS", Value=300)),
    Case(
        "SO303",
        "in JSONata",
        in_jsonata(
            put(
                *JOB_ARGUMENTS,
                "Overrides",
                "ContainerOverrides",
                0,
                "Environment",
                3,
                "Value",
                "{% $states.context.State.RetryCount %}",
            )
        ),
        fixed=in_jsonata(),
    ),
    Case("SO304", "another name", put(*ENVIRONMENT[:-1], "Name", "worker")),
    Case("SO305", "no .$", variable(0, Name="STEPOUT_TASK_TOKEN", Value="$$.Task.Token")),
    Case(
        "SO305", "JSONata in JSONPath", variable(0, Name="STEPOUT_TASK_TOKEN", Value="{% $states.context.Task.Token %}")
    ),
    Case(
        "SO305",
        "no {% %}",
        in_jsonata(put(*JOB_ARGUMENTS, "Cluster", "$states.input.cluster")),
        fixed=in_jsonata(put(*JOB_ARGUMENTS, "Cluster", "{% $states.input.cluster %}")),
    ),
    Case("SO306", "unequal", variable(4, Name="STEPOUT_HEARTBEAT_SECONDS", Value="600")),
    Case(
        "SO306",
        "unequal in the task definition",
        both(drop(*ENVIRONMENT, 4), environment("STEPOUT_HEARTBEAT_SECONDS", "600")),
        fixed=both(drop(*ENVIRONMENT, 4), environment("STEPOUT_HEARTBEAT_SECONDS", "300")),
    ),
    Case("SO307", "missing", drop(*ENVIRONMENT, 4)),
    Case("SO308", "another name", variable(0, Name="MY_TOKEN", Value_dynamic="$$.Task.Token")),
    Case("SO309", "no execution", drop(*ENVIRONMENT, 1)),
    Case("SO401", "too short", put(*CONTAINER, "stopTimeout", 30), Expectations(stop_budget=60)),
    Case("SO402", "not set", drop(*CONTAINER, "stopTimeout")),
    Case("SO403", "over two minutes", put(*CONTAINER, "stopTimeout", 300)),
    Case("SO404", "unequal", put(*CONTAINER, "stopTimeout", 60)),
    Case(
        "SO405",
        "a shell",
        put(*CONTAINER, "command", ["/bin/sh", "-c", "cd /app && python job.py"]),
        fixed=put(*CONTAINER, "command", ["/bin/sh", "-c", "cd /app && exec python job.py"]),
    ),
    Case("SO405", "in the override", put(*ENVIRONMENT[:-1], "Command", ["bash", "-lc", "python job.py"])),
    Case("SO406", "the image's", drop(*CONTAINER, "command")),
    Case("SO407", "latest", put(*CONTAINER, "image", "registry:5000/job:latest")),
    Case(
        "SO407", "no tag", put(*CONTAINER, "image", "registry:5000/job"), fixed=put(*CONTAINER, "image", "job@sha256:0")
    ),
    Case(
        "SO408", "by its name", environment("DB_PASSWORD", "hunter2"), fixed=environment("DB_PASSWORD_FILE", "/run/p")
    ),
    Case(
        "SO408",
        "by its value",
        environment("DATABASE", "postgres://me:hunter2@db/x"),
        fixed=environment("DATABASE", "postgres://db/x"),
    ),
    Case("SO408", "in the override", variable(4, Name="apiKey", Value="hunter2")),
    Case("SO409", "a token", environment("STEPOUT_TASK_TOKEN", "AAAA")),
    Case("SO410", "no logs", drop(*CONTAINER, "logConfiguration")),
    Case(
        "SO411",
        "init before stepout run",
        both(
            put(*CONTAINER, "linuxParameters", {"initProcessEnabled": True}),
            put(*CONTAINER, "command", ["stepout", "run", "--", "./job"]),
        ),
        fixed=put(*CONTAINER, "command", ["stepout", "run", "--", "./job"]),
    ),
    Case("SO412", "restarted", put(*CONTAINER, "restartPolicy", {"enabled": True})),
    Case("SO413", "no role", drop("task", "taskRoleArn")),
    Case("SO501", "no rule", put(*LIFECYCLE, [])),
    Case("SO501", "another prefix", put(*LIFECYCLE, 0, "Filter", {"Prefix": "other/"})),
    Case("SO501", "disabled", put(*LIFECYCLE, 0, "Status", "Disabled")),
    Case(
        "SO502",
        "a day, jobs of two",
        put(*LIFECYCLE, 0, "AbortIncompleteMultipartUpload", {"DaysAfterInitiation": 1}),
        Expectations(longest_job=2 * DAY),
    ),
    Case(
        "SO502",
        "by the state's timeout",
        put(*TASK_STATE, "TimeoutSeconds", 8 * DAY),
    ),
    Case("SO503", "too early", DAYS_30, Expectations(keep=60 * DAY)),
    Case("SO503", "a date", put(*LIFECYCLE, 0, "Expiration", {"Date": "2030-01-01T00:00:00Z"})),
    Case("SO503", "who knows", DAYS_30),
    Case("SO504", "off", put("bucket", "GetBucketVersioning", {})),
    Case(
        "SO505",
        "one of four",
        put("bucket", "GetPublicAccessBlock", "PublicAccessBlockConfiguration", "BlockPublicAcls", False),
    ),
    Case(
        "SO506",
        "KMS",
        put(
            "bucket",
            "GetBucketEncryption",
            {
                "ServerSideEncryptionConfiguration": {
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
                }
            },
        ),
    ),
    Case(
        "SO507",
        "a default retention",
        put(
            "bucket",
            "GetObjectLockConfiguration",
            {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}}},
        ),
    ),
    Case("SO508", "to an archive", put(*LIFECYCLE, 0, "Transitions", [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}])),
    Case(
        "SO601",
        "no endpoint",
        endpoint_gone("states"),
        fixed=both(endpoint_gone("states"), route(NatGatewayId="nat-1")),
    ),
    Case("SO602", "no endpoint", endpoint_gone("s3")),
    Case("SO602", "another table's", put("network", "VpcEndpoints", 5, "RouteTableIds", ["rtb-2"])),
    Case("SO603", "no endpoint", both(WITH_SQS, endpoint_gone("sqs")), fixed=both(endpoint_gone("sqs"))),
    Case("SO604", "no endpoint", endpoint_gone("ecr.dkr")),
    Case("SO605", "no endpoint", endpoint_gone("logs")),
    Case("SO606", "no private DNS", put("network", "VpcEndpoints", 0, "PrivateDnsEnabled", False)),
    Case(
        "SO607",
        "no address",
        route(GatewayId="igw-1"),
        fixed=both(
            route(GatewayId="igw-1"),
            put(*TASK_STATE, "Parameters", "NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp", "ENABLED"),
        ),
    ),
    Case("SO900", "a definition that is no JSON", put("machine", "definition", "{")),
]
