"""``stepout execute``: a state machine and the programs beside it, on a local AWS that somebody else has started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stepout.cli import main
from stepout.local.execute import execute, message
from stepout.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from stepout.local import LocalAws

JOB = """\
import stepout

with stepout.open_task() as task:
    if task.input["rows"] < 0:
        raise stepout.PermanentError("there are no such rows")
    task.artifacts.put_json("rows", list(range(task.input["rows"])))
"""
FUNCTION = """\
import stepout

def handler(event, context):
    return {"sum": sum(stepout.resolve_output(event)["rows"].read_json())}
"""


@pytest.fixture
def folder(local_aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a container's program, a function and a state machine of both."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("fill.py").write_text(JOB, encoding="utf-8")
    Path("total.py").write_text(FUNCTION, encoding="utf-8")
    return tmp_path


@pytest.fixture
def machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The file of the state machine, as stepout prints it."""
    states = ["--state", "Fill=ecs:fill", "--state", "Total=consumer:total"]
    places = ["--bucket", "executed", "--prefix", "runs", "--cluster", "default", "--subnets", "subnet-1"]
    assert main(["asl", "chain", *states, *places]) == 0
    file = folder / "rows.asl.json"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    return str(file)


def test_a_chain_is_played_and_played_again_after_a_change(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is deployed by hand; what was changed since the last time is taken."""
    assert main(["execute", machine, "--input", '{"rows": 4}']) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"sum": 6}
    assert captured.err.splitlines() == ["stepout: state Fill", "stepout: state Total"]
    Path("total.py").write_text(FUNCTION.replace("sum(", "max("), encoding="utf-8")
    Path("input.json").write_text('{"rows": 4}', encoding="utf-8")
    assert main(["execute", machine, "--input", "input.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sum": 3}


def test_a_failure_is_told_by_its_name_and_message(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays empty, so a file that it is sent to is no document of a failure."""
    assert main(["execute", machine, "--input", '{"rows": -1}']) == 1
    captured = capsys.readouterr()
    why = "Stepout.Permanent: there are no such rows"
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "stepout: state Fill",
        f"stepout:   failed: {why}",
        "stepout: state Failed",
        f"stepout: FAILED: {why}",
    ]


def test_a_missing_program_is_named(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is created."""
    Path("total.py").unlink()
    assert main(["execute", machine]) == 2
    assert "names the function 'total': there is no program" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nonsense", "{"])
def test_what_is_no_machine_or_no_input_is_refused(folder: Path, machine: str, text: str) -> None:
    """The file is read before anything is created."""
    (folder / "nonsense").write_text("nonsense", encoding="utf-8")
    assert main(["execute", machine, "--input", text]) == 2
    assert main(["execute", "nonsense"]) == 2


@pytest.mark.parametrize("endpoint", [None, "https://states.eu-west-1.amazonaws.com", "http://localhost.example.com"])
def test_nothing_but_this_machine_is_played_on(
    machine: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account's credentials in the environment must not be enough to deploy anything."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    if endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigurationError, match=r"stepout local -- \$SHELL"):
        execute(Path(machine), "{}", say=pytest.fail)


def test_a_cause_that_is_no_object_is_told_as_it_is() -> None:
    """A function's own exceptions have a cause of another shape than ours."""
    assert message('{"errorMessage": "no", "errorType": "ValueError"}') == "no"
    assert message('["message"]') == '["message"]'
