"""Documents in which the doctor finds nothing: a state machine, a task definition, a bucket and a network."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CONTAINER",
    "ENVIRONMENT",
    "TASK_STATE",
    "Documents",
    "bucket",
    "jsonata_machine",
    "machine",
    "network",
    "sound",
    "task",
]

Documents = dict[str, Any]
TASK_STATE = ("machine", "definition", "States", "Job")
ENVIRONMENT = (*TASK_STATE, "Parameters", "Overrides", "ContainerOverrides", 0, "Environment")
CONTAINER = ("task", "containerDefinitions", 0)


def machine() -> dict[str, Any]:
    """A state machine, as DescribeStateMachine answers, in which there is nothing to find."""
    variables = {
        "STEPOUT_TASK_TOKEN": "$$.Task.Token",
        "STEPOUT_EXECUTION": "$$.Execution.Id",
        "STEPOUT_STATE": "$$.State.Name",
        "STEPOUT_ATTEMPT": "States.Format('{}', $$.State.RetryCount)",
    }
    environment = [{"Name": name, "Value.$": path} for name, path in variables.items()]
    environment.append({"Name": "STEPOUT_HEARTBEAT_SECONDS", "Value": "300"})
    job = {
        "Type": "Task",
        "Resource": "arn:aws:states:::ecs:runTask.waitForTaskToken",
        "HeartbeatSeconds": 300,
        "TimeoutSeconds": 21600,
        "Parameters": {
            "LaunchType": "FARGATE",
            "Cluster": "default",
            "TaskDefinition": "job:7",
            "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": ["subnet-1"], "AssignPublicIp": "DISABLED"}},
            "Overrides": {"ContainerOverrides": [{"Name": "job", "Environment": environment}]},
        },
        "Retry": [
            {"ErrorEquals": ["Stepout.Permanent"], "MaxAttempts": 0},
            {"ErrorEquals": ["Stepout.Retryable", "Stepout.StoreUnavailable", "Stepout.Interrupted"]},
        ],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.problem", "Next": "Sad"}],
        "End": True,
    }
    states = {"Job": job, "Sad": {"Type": "Fail", "Error": "Demo.Sad", "Cause": "it failed"}}
    return {
        "type": "STANDARD",
        "loggingConfiguration": {"level": "ALL", "includeExecutionData": False},
        "definition": {"StartAt": "Job", "States": states},
    }


def jsonata_machine() -> dict[str, Any]:
    """The same in JSONata."""
    found = machine()
    job = found["definition"]["States"]["Job"]
    found["definition"]["QueryLanguage"] = "JSONata"
    job["Arguments"] = job.pop("Parameters")
    paths = ["Task.Token", "Execution.Id", "State.Name"]
    environment = job["Arguments"]["Overrides"]["ContainerOverrides"][0]["Environment"]
    for entry, path in zip(environment, paths, strict=False):
        entry["Value"] = f"{{% $states.context.{path} %}}"
        del entry["Value.$"]
    del environment[3]["Value.$"]
    environment[3]["Value"] = "{% $string($states.context.State.RetryCount) %}"
    del job["Catch"][0]["ResultPath"]
    return found


def task() -> dict[str, Any]:
    """A task definition, as it is registered, in which there is nothing to find."""
    environment = {"STEPOUT_BUCKET": "results-bucket", "STEPOUT_PREFIX": "runs", "STEPOUT_STOP_TIMEOUT": "120"}
    container = {
        "name": "job",
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/job:1.4.2",
        "command": ["python", "job.py"],
        "environment": [{"name": name, "value": value} for name, value in environment.items()],
        "stopTimeout": 120,
        "logConfiguration": {"logDriver": "awslogs", "options": {}},
    }
    return {
        "family": "job",
        "requiresCompatibilities": ["FARGATE"],
        "taskRoleArn": "arn:aws:iam::123456789012:role/job",
        "containerDefinitions": [container],
    }


def bucket() -> dict[str, Any]:
    """A bucket's configuration in which there is nothing to find."""
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    rule = {
        "ID": "incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": "runs/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    return {
        "GetBucketLifecycleConfiguration": {"Rules": [rule]},
        "GetBucketVersioning": {"Status": "Enabled"},
        "GetBucketEncryption": {"ServerSideEncryptionConfiguration": encryption},
        "GetPublicAccessBlock": {"PublicAccessBlockConfiguration": dict.fromkeys(blocks, True)},
        "GetObjectLockConfiguration": {},
    }


def network() -> dict[str, Any]:
    """A private subnet with every endpoint that it needs."""
    services = ("states", "sqs", "ecr.api", "ecr.dkr", "logs")
    interfaces = [
        {
            "VpcEndpointType": "Interface",
            "VpcId": "vpc-1",
            "ServiceName": f"com.amazonaws.eu-west-1.{service}",
            "State": "available",
            "PrivateDnsEnabled": True,
        }
        for service in services
    ]
    gateway = {
        "VpcEndpointType": "Gateway",
        "VpcId": "vpc-1",
        "ServiceName": "com.amazonaws.eu-west-1.s3",
        "State": "available",
        "RouteTableIds": ["rtb-1"],
    }
    local = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}
    table = {"RouteTableId": "rtb-1", "VpcId": "vpc-1", "Associations": [{"Main": True}], "Routes": [local]}
    return {
        "Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1", "AvailabilityZone": "eu-west-1a"}],
        "RouteTables": [table],
        "VpcEndpoints": [*interfaces, gateway],
    }


def sound() -> Documents:
    """All of them."""
    return {"machine": machine(), "task": task(), "bucket": bucket(), "network": network()}
