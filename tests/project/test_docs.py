"""What README and docs show runs: every block of Python, shell and JSON."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cloudformation import create_stack, lint
from support.docs import Block, blocks
from support.tree import SOURCES

from stepout.schemas import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepout.local import LocalAws

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*ROOT_PAGES, *(page for page in sorted(DOCS.rglob("*.md")) if page.parent != DOCS / "tutorial")]
# The tutorial goes on in one folder and one shell from page to page: tests/tutorial does it.
BLOCKS = [block for page in PAGES for block in blocks(page)]
_LOGGER_MADE = re.compile(r'\blogger\("(stepout[\w.]*)"\)')
_MODULE_CELL = re.compile(r"`(stepout(?:\.\w+)*)`")
_LOGGER_CELL = re.compile(r"`(stepout\.[\w.]+)`")
SET_UP = ("make ", "pip ")  # what every run of these tests has done already


def _of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def _id(block: object) -> str:
    return f"{block.file.name}:{block.line}" if isinstance(block, Block) else str(block)


def test_every_block_is_of_a_language_that_is_run() -> None:
    """A block in a language that no test here runs would be a promise that nothing holds."""
    assert {block.language for block in BLOCKS} <= {"python", "sh", "json", "text"}


def test_pages_import_public_names_alone() -> None:
    """What a page teaches is under the compatibility promise, which lists the modules."""
    promise = (ROOT / "SECURITY.md").read_text("utf-8").partition("## Compatibility promise")[2]
    modules = set(_MODULE_CELL.findall(promise))
    imported = {found for block in _of("python") for found in _imports(block.text)}
    assert {module for module, _ in imported} <= modules
    assert [each for each in sorted(imported) if each[1] not in import_module(each[0]).__all__] == []


def _imports(code: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import from stepout; a module of its own counts by its handlers."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stepout":
            for each in node.names:
                module = f"{node.module}.{each.name}"
                is_module = module == "stepout.callbacks.named_failure"
                yield (module, "handler") if is_module else (str(node.module), each.name)


def test_every_logger_is_on_the_page_for_operators() -> None:
    """Whoever sets levels or filters finds all names there, and none that is no logger's."""
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")
    told = {name for line in page.splitlines() if line.startswith("| `stepout") for name in _LOGGER_CELL.findall(line)}
    named = {name for file in SOURCES for name in _LOGGER_MADE.findall(file.read_text("utf-8"))}
    assert told == {name for name in named if name.count(".")}


def test_the_readme_is_short_and_begins_with_what_to_try() -> None:
    """150 lines, and the two commands to try on its first screen."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert [line.split("  ")[0] for line in lines[:20] if line.startswith("make ")] == ["make demo", "make test"]


def test_the_map_of_how_tos_leads_to_each_of_them() -> None:
    """A page that nothing leads to is read by nobody."""
    folder = ROOT / "docs" / "how-to"
    led_to = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "index.md").read_text(encoding="utf-8")))
    assert led_to == {page.name for page in folder.glob("*.md")} - {"index.md"}


@pytest.fixture
def place(local_aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What docs/how-to/try.md makes, and nothing else: a local AWS, an empty bucket, three variables, a folder."""
    page = (DOCS / "how-to" / "try.md").read_text(encoding="utf-8")
    (bucket,) = set(re.findall(r"^stepout local --bucket (\S+) -- \$SHELL$", page, re.MULTILINE))
    (variables,) = re.findall(r"^export (.*)$", page, re.MULTILINE)
    for name, value in [*local_aws.environ.items(), *(each.split("=") for each in variables.split())]:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    client = local_aws.client("s3")
    if bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    for listed in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):  # what other pages left
        for each in listed.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=each["Key"])
    return tmp_path


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_python_and_shell_run(page: Path, place: Path) -> None:
    """As its reader runs them: Python blocks in one namespace, shell blocks in one folder, all in order."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            code = "\n" * block.line + block.text
            exec(compile(code, str(page), "exec"), names)
        elif block.language == "sh":
            lines = [line for line in block.text.splitlines() if not line.startswith(SET_UP)]
            subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=place, check=True, timeout=300)


@pytest.mark.usefixtures("place")
def test_the_sketch_in_the_readme_runs(capfd: pytest.CaptureFixture[str]) -> None:
    """Its `table` and `image` are the reader's own, to keep the first screen short: only these two are given."""
    import pyarrow as pa
    from PIL import Image

    table = pa.table({"id": range(1000), "score": [0.5] * 1000})
    names: dict[str, Any] = {"table": table, "image": Image.new("RGB", (64, 48))}
    for block in blocks(PAGES[0]):
        if block.language == "python":
            exec(compile(block.text, "README.md", "exec"), names)
        elif block.language == "sh":
            assert all(line.startswith(SET_UP) for line in block.text.splitlines())
    (event,) = (json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith('{"stepout"'))
    assert names["handler"](event, None) == {"rows": 1000, "width": 64}


def _state_machine(state: dict[str, Any]) -> dict[str, Any]:
    """A state machine around one state, with an empty state for each that it names."""
    following = {state.get("Next"), *(catch["Next"] for catch in state.get("Catch", []))} - {None}
    ends: dict[str, Any] = {str(name): {"Type": "Pass", "End": True} for name in following}
    return {"StartAt": "It", "States": {"It": state, **ends}}


@pytest.mark.parametrize("block", _of("json"), ids=_id)
def test_json_is_what_it_claims_to_be(block: Block, local_aws: LocalAws, tmp_path: Path) -> None:
    """Documents validate; the local AWS takes states, tasks, templates and patterns; policies have statements."""
    value = json.loads(block.text)
    if "Resources" in value:
        template = tmp_path / "template.json"
        template.write_text(block.text, encoding="utf-8")
        assert lint(template) == ""
        logs = local_aws.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName="example")  # where a metric filter looks
        create_stack(local_aws, value, dict.fromkeys(value.get("Parameters", {}), "example"))
    elif "stepout" in value:
        assert validate(value) == []
    elif "detail-type" in value:
        events = local_aws.client("events")  # which refuses what is no pattern
        events.put_rule(Name=f"documented-{block.line}", EventPattern=block.text)
        events.delete_rule(Name=f"documented-{block.line}")
        assert set(value["source"]) <= {"stepout", "aws.ecs", "aws.states"}
    elif "Type" in value or "StartAt" in value:
        definition = value if "StartAt" in value else _state_machine(value)
        states = local_aws.client("stepfunctions")
        role = "arn:aws:iam::000000000000:role/none"
        name = f"documented-{block.line}"
        answer = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
        states.delete_state_machine(stateMachineArn=answer["stateMachineArn"])
    elif "containerDefinitions" in value:
        answer = local_aws.client("ecs").register_task_definition(**value)
        assert answer["taskDefinition"]["family"] == value["family"]
    else:
        assert all({"Effect", "Action", "Resource"} <= set(statement) for statement in value["Statement"])


def test_every_policy_names_actions_and_conditions_that_there_are(tmp_path: Path) -> None:
    """One template holds all of them: of identities, of buckets and of keys, each checked as its kind."""
    values = [(block, json.loads(block.text)) for block in _of("json")]
    found = {
        f"Policy{number}": _policy_resource(value, f"bucket-{number}")
        for number, (_, value) in enumerate(values)
        if "Statement" in value and "Resources" not in value
    }
    assert len(found) > 5
    template = tmp_path / "policies.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": found}), encoding="utf-8")
    wrong = lint(template)
    places = {f"Policy{number}": f"{block.file.name}:{block.line}" for number, (block, _) in enumerate(values)}
    assert wrong == "", (wrong, {name: places[name] for name in found})


def _policy_resource(policy: dict[str, Any], bucket: str) -> dict[str, Any]:
    """A policy without principals is an identity's; a key's names no resource; any other is a bucket's."""
    document = {"Version": "2012-10-17", **policy}
    statements = policy["Statement"]
    if not any("Principal" in statement for statement in statements):
        return {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document}}
    if all(statement["Resource"] == "*" for statement in statements):
        return {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": document}}
    return {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": bucket, "PolicyDocument": document}}
