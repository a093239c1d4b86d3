"""The rules behind ``stepout run``: exit codes, tails, declared outputs, arguments."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.artifacts import ArtifactManager, MemoryStore
from stepout.callbacks.delivery.failure import cause_of, error_of, fit_cause
from stepout.callbacks.delivery.redaction import Redactor
from stepout.callbacks.process.exit_codes import ExitCodes, code_of, describe, parse_codes
from stepout.callbacks.process.tail import Tail, tail_size
from stepout.callbacks.targets.context import TargetContext
from stepout.callbacks.targets.local import FolderTarget, folder_from_url
from stepout.cli.commands.run import _plan, configure
from stepout.cli.run_options import add_run_options, run_arguments
from stepout.run.command import RunPlan, child_environ
from stepout.run.merge import MergedArtifacts, NestedTaskError, merged_result, read_reports
from stepout.run.outputs import FoundOutput, find_outputs, find_what_is_there, parse_outputs, read_result, send_outputs
from stepout.schemas import RunIdentity, TaskOutput
from stepout.schemas.errors import (
    ArtifactExistsError,
    ConfigurationError,
    InvalidDocumentError,
    OutputMissingError,
    TaskError,
)
from stepout.schemas.many_failed import ManyFailedError

if TYPE_CHECKING:
    from pathlib import Path


def test_exit_codes_say_whether_trying_again_helps() -> None:
    """The error's name is the one that the job's own exceptions have; other codes have a name of their own."""
    codes = ExitCodes.parse("2,64-66", "75,137")
    names = {code: error_of(codes.failure("job", code, {})) for code in (1, 2, 65, 75, -9)}
    assert names == {
        1: "Stepout.CommandFailed",
        2: "Stepout.Permanent",
        65: "Stepout.Permanent",
        75: "Stepout.Retryable",
        -9: "Stepout.Retryable",
    }
    cause = json.loads(cause_of(codes.failure("job", -9, {"stderr": "x"}), run={}, redactor=Redactor()))
    assert cause["exitCode"] == 137
    assert cause["signal"] == "SIGKILL"
    assert cause["retryable"] is True
    assert "for want of memory" in cause["message"]
    assert "traceback" not in cause


@pytest.mark.parametrize("text", ["0", "256", "x", "5-3", "-1", "1-300", "1;2"])
def test_wrong_exit_codes_are_refused(text: str) -> None:
    """A code that can never come would be a rule that never holds."""
    with pytest.raises(ConfigurationError, match="--permanent"):
        parse_codes(text, "--permanent")


def test_a_code_means_one_thing() -> None:
    """Not both."""
    with pytest.raises(ConfigurationError, match="both --permanent and --retryable: 5, 6"):
        ExitCodes.parse("1-6", "5-9")


def test_ends_are_described_in_words() -> None:
    """Signals by name, also those that a shell passes on as a code, and numbers that are none."""
    assert code_of(-2) == 130
    assert describe(139) == "ended with exit code 139 (as after SIGSEGV)"
    assert describe(255) == "ended with exit code 255"
    assert "signal 99" in describe(-99)


@given(st.lists(st.binary(max_size=30_000), max_size=8), st.integers(0, 9), st.integers(0, 300))
def test_a_tail_is_the_end_of_the_lines(pieces: list[bytes], lines: int, size: int) -> None:
    """However it comes in, and never more than asked for."""
    tail = Tail((lines, size))
    for piece in pieces:
        tail.add(piece)
    text = tail.text(str)
    assert len(text.encode()) <= size
    assert len(text.split("\n")) <= max(lines, 1)


@given(st.integers(0, 60_000), st.integers(1, 400))
def test_a_secret_that_is_cut_in_half_does_not_show(before: int, piece: int) -> None:
    """Its end alone could not be recognised."""
    secret = "".join(f"s{number:04d}" for number in range(200))
    tail = Tail((50, 500))
    data = b"." * before + secret.encode() + b"\nend"
    for start in range(0, len(data), piece * 50):
        tail.add(data[start : start + piece * 50])
    text = tail.text(Redactor([secret]).text)
    assert not any(f"s{number:04d}" in text for number in range(200))
    assert text.endswith("end")


def test_terminal_escapes_are_left_out() -> None:
    """A cause is read in a console of another kind."""
    tail = Tail((9, 900))
    tail.add(b"\x1b[31mred\x1b[0m\r\nnext\x00\n\n")
    assert tail.text(str) == "red\nnext"


@pytest.mark.parametrize("text", ["", "x", "5/", "-1", "5/9999999", "1/2/3"])
def test_a_wrong_tail_is_refused(text: str) -> None:
    """Lines, or lines and bytes."""
    with pytest.raises(ConfigurationError, match="--tail"):
        tail_size(text)


def test_long_texts_give_way_before_short_facts() -> None:
    """Standard output first, then standard error; exit code and pointers stay."""
    cause = json.loads(
        fit_cause({"message": "m", "exitCode": 3, "stderr": "e" * 3_000, "stdout": "o" * 9_000, "run": {}}, 4_096)
    )
    assert cause["exitCode"] == 3
    assert cause["stderr"] == "e" * 3_000
    assert cause["stdout"].startswith("[cut] oo")


@pytest.mark.parametrize("text", ["table", "=x", "table=", "1t=x", "a b=x", "a.b=x", "p_*=file", "a*b*=x*"])
def test_wrong_outputs_are_refused(text: str) -> None:
    """With the form that is expected."""
    with pytest.raises(ConfigurationError, match="--output"):
        parse_outputs([text], [])


def test_a_folder_has_a_plain_name_and_names_are_unique() -> None:
    """One artifact a name."""
    with pytest.raises(ConfigurationError, match="--dir"):
        parse_outputs([], ["p_*=plots*"])
    with pytest.raises(ConfigurationError, match="same name: a"):
        parse_outputs(["a=x"], ["a=y"])


def test_globs_name_artifacts_by_what_the_wild_card_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted; folders between, dots and hyphens become underscores."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "deep").mkdir(parents=True)
    for name in ("out/part-1.csv", "out/part-0.a.csv", "out/deep/x.txt"):
        (tmp_path / name).write_text(name)
    declared = parse_outputs(
        ["part_*=out/part-*.csv", "t_*=out/**/*.txt", "one=out/*-1.csv", "q_*=./out/part-?.csv"], []
    )
    names = [found.name for found in find_outputs(declared)]
    assert names == ["part_0_a", "part_1", "t_deep_x", "one", "q_1"]


def test_everything_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, each with its reason."""
    monkeypatch.chdir(tmp_path)
    for name in ("a1", "a2"):
        (tmp_path / name).write_text(name)
    declared = parse_outputs(["gone=gone", "none=x*", "many=a*", "there=a1"], ["folder=a1", "other=b"])
    with pytest.raises(OutputMissingError) as caught:
        find_outputs(declared)
    message = str(caught.value)
    assert "5 of 6" in message
    for part in ("gone=gone (is not there)", "none=x* (matches no file)", "matches 2 files", "folder=a1 (is no folder"):
        assert part in message
    assert "there=a1 (" not in message
    assert [found.name for found in find_what_is_there(declared)] == ["there"]


def test_names_that_clash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of one name, a name that the command used, a name that is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("p-1.csv", "p_1.csv", "x"):
        (tmp_path / name).write_text(name)
    declared = parse_outputs(["n*=p*.csv", "x=x"], [])
    with pytest.raises(InvalidDocumentError) as caught:
        find_outputs(declared, taken=["x"])
    assert sorted(problem.kind for problem in caught.value.problems) == ["clash", "clash"]
    (tmp_path / "7").write_text("x")
    with pytest.raises(InvalidDocumentError, match="no artifact name"):
        find_outputs(parse_outputs(["*=?"], []))


@pytest.mark.parametrize("text", ["[1]", "{", "\ufeff{}", '{"a": NaN}', '{"a": 1, "a": 2}', "3"])
def test_a_result_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    """Saying what is expected."""
    path = tmp_path / "result"
    path.write_text(text)
    with pytest.raises(InvalidDocumentError, match="STEPOUT_RESULT"):
        read_result(path)


def test_a_result_may_be_left_out_but_not_be_something_else(tmp_path: Path) -> None:
    """Empty or removed: none; a folder: a mistake."""
    assert read_result(tmp_path / "gone") == {}
    (tmp_path / "empty").write_text(" \n")
    assert read_result(tmp_path / "empty") == {}
    with pytest.raises(InvalidDocumentError, match="must be a file"):
        read_result(tmp_path)


def test_reports_of_nested_tasks(tmp_path: Path) -> None:
    """An output, a failure with whatever cause, or nonsense."""
    path = tmp_path / "1.json"
    assert read_reports(tmp_path, code=0) is None
    path.write_text(json.dumps({"error": "Own.Error", "cause": {"message": "why", "retryable": True}}))
    nested = read_reports(tmp_path, code=0)
    assert isinstance(nested, NestedTaskError)
    assert (error_of(nested), str(nested), nested.code, nested.retryable) == ("Own.Error", "why", 1, True)
    path.write_text(json.dumps({"error": "Own.Error", "cause": "text"}))
    nested = read_reports(tmp_path, code=5)
    assert isinstance(nested, NestedTaskError)
    assert (str(nested), nested.code, nested.retryable) == ("text", 5, None)
    path.write_text(json.dumps({"stepout": "output/1"}))
    with pytest.raises(InvalidDocumentError, match="own task"):
        read_reports(tmp_path, code=0)


def test_several_tasks_of_one_command_are_one_report(tmp_path: Path) -> None:
    """None is lost; a failure counts if it was the last word; what two report under one name is refused."""
    ticks = iter(range(9))
    target = FolderTarget(tmp_path, clock=lambda: next(ticks))
    target.success(TaskOutput(result={"a": 1}).to_dict())
    target.failure("Own.Error", '{"message": "the first try"}')
    target.success(TaskOutput(result={"b": 2}).to_dict())
    merged = read_reports(tmp_path, code=0)
    assert isinstance(merged, TaskOutput)
    assert merged.result == {"a": 1, "b": 2}
    target.success(TaskOutput(result={"b": 3}).to_dict())
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.b"):
        read_reports(tmp_path, code=0)
    target.failure("Own.Error", "not JSON")
    assert isinstance(read_reports(tmp_path, code=0), NestedTaskError)


def test_a_folder_target_wants_a_folder(tmp_path: Path) -> None:
    """Before any work; one that goes away later is a report that could not be delivered."""
    with pytest.raises(ConfigurationError, match="no folder"):
        folder_from_url((tmp_path / "gone").as_uri().replace("file:", "folder:"), TargetContext())
    (tmp_path / "a b").mkdir()
    target = folder_from_url((tmp_path / "a b").as_uri().replace("file:", "folder:"), TargetContext())
    target.heartbeat()
    assert "a b" in repr(target)
    (tmp_path / "a b").rmdir()
    with pytest.raises(TaskError, match="could not be written"):
        target.success({})


def test_results_are_merged_member_by_member() -> None:
    """A member that both report is nobody's."""
    assert merged_result(TaskOutput(result={"a": 1}), {"b": 2}) == {"a": 1, "b": 2}
    assert merged_result(None, {"b": 2}) == {"b": 2}
    with pytest.raises(InvalidDocumentError, match=r"\$\.result\.a"):
        merged_result(TaskOutput(result={"a": 1}), {"a": 1})


def test_without_a_bucket_there_is_nothing_to_write_with() -> None:
    """The message names the variable."""
    merged = MergedArtifacts(None, RunIdentity(state="Mask"))
    merged.abort()
    assert (dict(merged.pointers), merged.unfinished, merged.run.state) == ({}, [], "Mask")
    with pytest.raises(ConfigurationError, match="STEPOUT_BUCKET"):
        merged.put_document("a-b", {})


def test_the_commands_environment_has_no_token_under_any_name(tmp_path: Path) -> None:
    """Nor the places that the parent reports to."""
    environ = {
        "TASK_TOKEN": "t" * 99,
        "COPY": "x" + "t" * 99,
        "STEPOUT_OUTPUT": "s3://b/k",
        "STEPOUT_TARGETS": "sfn:",
        "STEPOUT_INPUT": "{}",
    }
    made = child_environ(environ, tokens=["t" * 99], reports=tmp_path / "a b", result=tmp_path / "r", seconds=18.0)
    assert not {"TASK_TOKEN", "COPY", "STEPOUT_OUTPUT"} & set(made)
    assert made["STEPOUT_TARGETS"].startswith("folder:///")
    assert " " not in made["STEPOUT_TARGETS"]
    assert (made["STEPOUT_INPUT"], made["STEPOUT_STOP_TIMEOUT"]) == ("{}", "18")


def test_arguments_go_there_and_back() -> None:
    """What one process parsed, another one parses alike."""
    words = [
        "--output=a=b",
        "--output=c=-d",
        "--dir=e=f",
        "--permanent=1",
        "--tail=5",
        "--result=r",
        "--outputs-on-failure",
    ]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_run_options(parser)
    namespace = parser.parse_args(words)
    assert parser.parse_args(run_arguments(namespace)) == namespace
    assert sorted(run_arguments(namespace)) == sorted(words)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    configure(parser)
    parsed = parser.parse_args([*run_arguments(namespace), "--", "job", "--output", "x", "--", "y"])
    assert parsed.command[-5:] == ["job", "--output", "x", "--", "y"]


def test_many_small_outputs_go_together_and_fail_by_their_own_name(tmp_path: Path) -> None:
    """A state machine matches the one error that all share; of several kinds, the one that lists them."""
    found = []
    for number in range(6):
        path = tmp_path / f"p{number}.txt"
        path.write_text(str(number))
        found.append(FoundOutput(f"p{number}", path))
    manager = ArtifactManager(MemoryStore("results"))
    send_outputs(found, manager)
    assert sorted(manager.pointers) == [each.name for each in found]
    with pytest.raises(ArtifactExistsError):
        send_outputs(found, manager)
    with pytest.raises(ManyFailedError):
        send_outputs([*found[:5], FoundOutput("no name", found[5].path)], manager)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--", ""],
        ["--output", "x", "--", "a"],
        ["--stop-timeout", "0", "--", "a"],
        ["--tail", "x", "--", "a"],
    ],
)
def test_mistakes_in_the_arguments_are_handed_on(words: list[str]) -> None:
    """A state may wait to hear of them, so they do not end the process at once."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    configure(parser)
    plan, stop_timeout = _plan(parser.parse_args(words))
    assert isinstance(plan, ConfigurationError)
    assert stop_timeout is None


def test_arguments_become_a_plan() -> None:
    """The command's own ones untouched."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    configure(parser)
    plan, stop_timeout = _plan(
        parser.parse_args(["--stop-timeout", "60", "--retryable", "75", "job", "--output", "--"])
    )
    assert isinstance(plan, RunPlan)
    assert plan.command == ["job", "--output", "--"]
    assert (stop_timeout, plan.codes.retryable) == (60.0, frozenset({75}))
