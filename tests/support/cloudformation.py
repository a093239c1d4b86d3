"""What tests need to know of CloudFormation: its linter, its functions taken off a value, and its stacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.ministack import unique, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepout.local import LocalAws


def lint(template: Path) -> str:
    """Return the errors and warnings of cfn-lint; empty if it finds none."""
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--template", str(template)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def resources(template: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the properties of all resources of a type, by their names."""
    found = template["Resources"].items()
    return {name: resource.get("Properties", {}) for name, resource in found if resource["Type"] == kind}


def plain(value: Any) -> Any:
    """Return a value as `stepout` prints it: ``Fn::Sub`` is its text, and ``Ref`` is ``${Name}``."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::Sub"}:
        return value["Fn::Sub"]
    if set(value) == {"Ref"}:
        return f"${{{value['Ref']}}}"
    return {name: plain(each) for name, each in value.items()}


def camel(value: Any) -> Any:
    """Return a value with its members' names as the API has them: ``containerDefinitions``."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if isinstance(value, dict):
        return {re.sub(r"^[A-Z]", lambda found: found[0].lower(), name): camel(each) for name, each in value.items()}
    return value


def create_stack(aws: LocalAws, template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """Create a stack on the local AWS and return its outputs."""
    client, name = aws.client("cloudformation"), unique("stack")
    client.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )

    def done() -> Any:
        (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        return stack if not stack["StackStatus"].endswith("IN_PROGRESS") else None

    stack = wait_until(done, what=f"the stack {name}")
    assert stack["StackStatus"] == "CREATE_COMPLETE", client.describe_stack_events(StackName=name)["StackEvents"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
