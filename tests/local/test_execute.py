"""``stepout execute``: a state machine and the programs beside it, on a local AWS that somebody else has started."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stepout.cli import main
from stepout.cli.commands.execute import _keep
from stepout.local.execute import execute, message
from stepout.local.silent_tasks import _belongs, _wait
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
    assert "names the function 'total': there is no program total.py beside" in capsys.readouterr().err
    Path("fill.py").rename("fill")  # not executable
    assert main(["execute", machine]) == 2
    assert "'fill': there is no program fill.py, fill.sh or fill (executable) beside" in capsys.readouterr().err


SCRIPT = """\
stepout run --output rows=rows.json -- sh -c 'echo "[1, 2]" > rows.json'
"""


@pytest.mark.parametrize(("name", "head"), [("fill.sh", ""), ("fill", "#!/bin/sh\n")])
def test_a_container_may_be_any_program(
    machine: str, name: str, head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script for the shell, or whatever the system can start."""
    Path("fill.py").unlink()
    script = Path(name)
    script.write_text(f"{head}cd {shlex.quote(str(tmp_path))}\n{SCRIPT}", encoding="utf-8")
    if head:
        script.chmod(0o755)
    assert main(["execute", machine]) == 0
    assert json.loads(capsys.readouterr().out) == {"sum": 3}


def test_the_output_of_each_state_is_kept(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As files that the other commands read; what no file may be called is called otherwise."""
    assert main(["execute", machine, "--input", '{"rows": 4}', "--keep", "kept/here"]) == 0
    assert sorted(path.name for path in Path("kept/here").iterdir()) == ["Fill.json", "Total.json"]
    assert json.loads(Path("kept/here/Total.json").read_text(encoding="utf-8")) == {"sum": 6}
    capsys.readouterr()
    assert main(["show", "kept/here/Fill.json"]) == 0
    assert "executed/runs" in capsys.readouterr().out
    _keep(Path("kept"), "../a/b", "1")
    assert Path("kept/..-a-b.json").read_text(encoding="utf-8") == "1\n"


def _clocked(machine: str, **clocks: int | None) -> str:
    """Replace the clocks of the state machine's container."""
    file = Path(machine)
    definition = json.loads(file.read_text(encoding="utf-8"))
    state = definition["States"]["Fill"]
    for name, value in clocks.items():
        state.pop(name, None)
        if value is not None:
            state[name] = value
    state.pop("Retry", None)
    file.write_text(json.dumps(definition), encoding="utf-8")
    return machine


def test_a_typo_in_a_container_ends_the_execution(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits ten minutes for the report of a program that has ended."""
    Path("fill.py").write_text("this is no Python", encoding="utf-8")
    begun = time.monotonic()
    assert main(["execute", machine]) == 1
    assert time.monotonic() - begun < 500
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "stepout: state Fill",
        (
            "stepout:   the container of Fill has ended and reported nothing. On AWS its state would wait now, for up "
            "to 600 seconds (its HeartbeatSeconds); here the execution is stopped"
        ),
        "stepout: ABORTED: Fill: look at what its container printed, mend the program, execute again",
    ]


def test_a_short_wait_is_told_and_waited_for(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The state fails as it does on AWS."""
    Path("fill.py").write_text("", encoding="utf-8")
    assert main(["execute", _clocked(machine, HeartbeatSeconds=20)]) == 1
    told = capsys.readouterr().err
    assert (
        "reported nothing. Its state waits now, for up to 20 seconds (its HeartbeatSeconds). You need not wait" in told
    )
    assert told.splitlines()[-1] == "stepout: FAILED: States.HeartbeatTimeout"


def test_how_long_a_state_waits_is_known_from_its_clocks() -> None:
    """Of two, the shorter one; a clock that the input says is not known here."""
    assert _wait({"HeartbeatSeconds": 600, "TimeoutSeconds": 90}) == (90, "90 seconds (its TimeoutSeconds)")
    assert _wait({})[1] == "a year (it has no HeartbeatSeconds)"
    assert [_wait(each)[0] for each in ({"HeartbeatSeconds": "{% 5 %}"}, {"TimeoutSecondsPath": "$.t"}, None)] == [
        None
    ] * 3
    arn = "arn:aws:states:us-east-1:000000000000:execution:m:e"
    children = [arn, "arn:aws:states:us-east-1:000000000000:execution:m/Each:e", f"{arn}2"]
    assert [_belongs(each, arn) for each in children] == [True, True, False]


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
