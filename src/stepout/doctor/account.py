"""What the doctor looks at in an account: each answer as the JSON that a file would hold. Clients are passed in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stepout.doctor.bucket import ANSWERS
from stepout.doctor.findings import Document
from stepout.doctor.rules import find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepout.doctor.findings import Finding, Looked

_DENIED = ("AccessDenied", "UnauthorizedOperation", "Forbidden", "NotAuthorized")
_ABSENT: dict[str, tuple[str, dict[str, Any]]] = {
    "GetBucketLifecycleConfiguration": ("NoSuchLifecycleConfiguration", {"Rules": []}),
    "GetBucketEncryption": ("ServerSideEncryptionConfigurationNotFoundError", {}),
    "GetPublicAccessBlock": ("NoSuchPublicAccessBlockConfiguration", {}),
    "GetObjectLockConfiguration": ("ObjectLockConfigurationNotFoundError", {}),
}
_BUCKET_CALLS = {
    "GetBucketLifecycleConfiguration": ("get_bucket_lifecycle_configuration", "s3:GetLifecycleConfiguration"),
    "GetBucketVersioning": ("get_bucket_versioning", "s3:GetBucketVersioning"),
    "GetBucketEncryption": ("get_bucket_encryption", "s3:GetEncryptionConfiguration"),
    "GetPublicAccessBlock": ("get_public_access_block", "s3:GetBucketPublicAccessBlock"),
    "GetObjectLockConfiguration": ("get_object_lock_configuration", "s3:GetBucketObjectLockConfiguration"),
}
"""The method, and the permission that it takes, which S3 names differently."""


def look_state_machine(client: Any, arn: str) -> Looked:
    """Ask Step Functions for a state machine.

    Args:
        client: A boto3 client for ``stepfunctions``.
        arn: The state machine's.
    """
    return _look(arn, "states:DescribeStateMachine", partial(client.describe_state_machine, stateMachineArn=arn))


def look_task_definition(client: Any, name: str) -> Looked:
    """Ask ECS for a task definition.

    Args:
        client: A boto3 client for ``ecs``.
        name: An ARN, a family, or ``family:revision``.
    """
    return _look(name, "ecs:DescribeTaskDefinition", partial(client.describe_task_definition, taskDefinition=name))


def look_bucket(client: Any, name: str) -> Looked:
    """Ask S3 for everything about a bucket that the rules need.

    Args:
        client: A boto3 client for ``s3``.
        name: The bucket's.
    """
    source, seen, missing = f"s3://{name}", {}, []
    for operation in ANSWERS:
        method, action = _BUCKET_CALLS[operation]
        answer, finding = _ask(source, action, partial(getattr(client, method), Bucket=name), operation)
        if finding is None:
            seen[operation] = answer
        else:
            missing.append(finding)
            if finding.rule == "SO900":
                break
    return ([Document(source, seen)] if seen else []), missing


def look_network(client: Any, *, vpc: str | None = None, subnets: Sequence[str] = ()) -> Looked:
    """Ask EC2 for subnets, route tables and endpoints.

    Args:
        client: A boto3 client for ``ec2``.
        vpc: All of this VPC's subnets; or
        subnets: these.
    """
    source = vpc or ", ".join(subnets)
    chosen = {"SubnetIds": list(subnets)} if subnets else {"Filters": _in_vpcs([vpc or ""])}
    ask = partial(_pages, client, "describe_subnets", "Subnets", **chosen)
    found, finding = _ask(source, "ec2:DescribeSubnets", ask)
    if finding is not None:
        return [], [finding]
    vpcs = sorted({str(subnet["VpcId"]) for subnet in found["Subnets"] if "VpcId" in subnet})
    if not vpcs:
        return [], [_unread(source, "there are no such subnets")]
    missing = []
    for method, member in (("describe_route_tables", "RouteTables"), ("describe_vpc_endpoints", "VpcEndpoints")):
        action = "ec2:" + "".join(word.title() for word in method.split("_"))
        answer, finding = _ask(source, action, partial(_pages, client, method, member, Filters=_in_vpcs(vpcs)))
        if finding is not None:
            missing.append(finding)
        found |= answer
    return ([] if missing else [Document(source, found)]), missing


def _in_vpcs(vpcs: list[str]) -> list[dict[str, Any]]:
    return [{"Name": "vpc-id", "Values": vpcs}]


def _pages(client: Any, method: str, member: str, **arguments: Any) -> dict[str, Any]:
    pages = client.get_paginator(method).paginate(**arguments)
    return {member: [each for page in pages for each in page.get(member, [])]}


def _look(source: str, action: str, ask: Callable[[], Any]) -> Looked:
    answer, finding = _ask(source, action, ask)
    return ([Document(source, answer)], []) if finding is None else ([], [finding])


def _ask(
    source: str, action: str, ask: Callable[[], Any], operation: str = ""
) -> tuple[dict[str, Any], Finding | None]:
    """Return an answer, or a finding that says why it is missing: a note for want of permission, else an error."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return dict(ask()), None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
    except BotoCoreError as error:
        return {}, _unread(source, f"{action} failed: {type(error).__name__}: {str(error).removesuffix('.')}")
    absent, empty = _ABSENT.get(operation, ("", {}))
    if code == absent:
        return empty, None
    if any(word in code for word in _DENIED) or code == "403":
        return {}, _from(source, "SO901", f"{action} was answered {code}")
    return {}, _unread(source, f"{action} was answered {code or 'with an error'}")


def _unread(source: str, what: str) -> Finding:
    return _from(source, "SO900", what)


def _from(source: str, rule: str, what: str) -> Finding:
    do = "Check the name, the credentials, the region and the endpoint." if rule == "SO900" else ""
    return replace(find(rule, "", what, do=do), source=source)
