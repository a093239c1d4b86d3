"""The report in what a job printed: found, named where there are several, never taken out of JSON that is broken."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.cli import main
from stepout.cli.job_log import document_in

if TYPE_CHECKING:
    from collections.abc import Callable

POINTER = {
    "stepout": "pointer/1",
    "bucket": "results-bucket",
    "key": "runs/a.bin",
    "size": 1,
    "checksum": {"sha256": "0" * 64},
    "mediaType": "application/octet-stream",
}
OUTPUT = {"stepout": "output/1", "artifacts": {"a": POINTER}, "result": {"rows": 3}}
REPORT = json.dumps(OUTPUT)
OTHER = json.dumps({**OUTPUT, "artifacts": {"b": POINTER}})
FAILED = json.dumps({"error": "BadFrame", "cause": {"message": "dark"}})


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``stepout show -`` of what a job printed: exit code, standard output, standard error."""
    monkeypatch.delenv("STEPOUT_ALLOW", raising=False)

    def command(text: bytes | str, *words: str) -> tuple[int, str, str]:
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = main(["show", "-", *words])
        return code, *capsys.readouterr()

    return command


@pytest.mark.parametrize(
    "text",
    [
        f"started\n{REPORT}\n",
        f"{REPORT}\ndone, and more\n",
        f"\n\nstarted {{}}\r\n{REPORT}\r\ndone\r\n",
        f"2026-11-22T12:00:00.000Z {REPORT}",
        f"2026-11-22 12:00:00 INFO mask: {REPORT}\nbye",
        f"[INFO] config: {{\n{REPORT}\n",
        f"50%\r100%{REPORT}\n",
        f'{{"level": "info", "message": "started"}}\n{REPORT}\n{{"level": "info"}}\n',
        f'{{"level": "error", "error": "x", "cause": "y", "n": 1}}\n{REPORT}\n',
        f"{REPORT}\n{REPORT}\n",
        f"{{not json\n{REPORT}\n",
        f'{{"message": "half of \n{REPORT}\n',
        f"a {{'python': 'dict'}}\n{REPORT}\n",
        f"caf\u00e9 \u2028 \x85 \x0c\n{REPORT}\n",
        b"\xff\xfe latin\n" + REPORT.encode() + b"\n",
        f"job\n{json.dumps({'Payload': REPORT})}\n",
        f"job\n{json.dumps({'detail': {'output': OUTPUT}})}\n",
    ],
)
def test_the_report_is_found_among_what_a_job_printed(
    show: Callable[..., tuple[int, str, str]], text: bytes | str
) -> None:
    """One line is a document, whatever stands before it on the line, around it and after it."""
    code, out, err = show(text)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == 'result: {"rows":3}'
    (entry,) = json.loads(show(text, "--json")[1])["artifacts"]
    assert (entry["name"], entry["pointer"]) == ("a", POINTER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"x\n{REPORT}\n{OTHER}\n", ["line 2: is a task output (a)", "line 3: is a task output (b)"]),
        (f"\n \nx\n{REPORT}\n{json.dumps(POINTER)}", ["line 4: is a task output", "line 5: is a pointer (runs/a.bin)"]),
        (f"x\n{FAILED}\n{REPORT}\n", ["line 2: is the failure 'BadFrame'", "line 3: is a task output (a)"]),
        (f"x\n{json.dumps([OUTPUT, POINTER])}\n{OTHER}", ["line 2: is one with 2 documents in it", "line 3"]),
        (f"x\n{json.dumps({**OUTPUT, 'artifacts': {chr(155): POINTER}})}\n{OTHER}", ["a task output (\\x9b)"]),
    ],
)
def test_several_are_named_and_none_is_chosen(
    show: Callable[..., tuple[int, str, str]], text: str, said: list[str]
) -> None:
    """Each by its line and by what is in it."""
    code, out, err = show(text)
    assert (code, out) == (1, "")
    assert all(each in err for each in said), err
    assert err.count("\n") == 1


def test_a_failure_is_told_as_one(show: Callable[..., tuple[int, str, str]]) -> None:
    """A job that failed has printed no output; what it printed instead is said."""
    code, out, err = show(f"started\n{FAILED}\n")
    assert (code, out) == (1, "")
    assert "BadFrame" in err


@pytest.mark.parametrize(
    "text",
    [
        REPORT[:-1],
        "{" + REPORT,
        json.dumps(OUTPUT, indent=2)[:-1],
        json.dumps([POINTER, POINTER], indent=None)[:-1],
        f"[\n{json.dumps(POINTER)},\n{json.dumps({**POINTER, 'key': 'b'})}\n",
        f'{{"stepout": "output/1",\n"artifacts": {{\n"a": {json.dumps(POINTER)}\n',
        f'{{ "stepout": "output/1",\n  "artifacts": {{\n    "a": {{}},\n    "b": {json.dumps(POINTER)}\n',
        f'{{"x": 1, "x": 2,\n"a":\n{json.dumps(POINTER)}\n}}',
        f'{{"x": NaN,\n"a":\n{json.dumps(POINTER)}\n}}',
        f'log\n{{"a": {REPORT}\n',
        f"log\n{REPORT} trailing",
        "log\nnothing here but the word stepout",
    ],
)
def test_nothing_is_taken_out_of_json_that_is_broken(show: Callable[..., tuple[int, str, str]], text: str) -> None:
    """A document that was cut off is an error, not the pointers that are left of it."""
    code, out, err = show(text)
    assert (code, out) == (1, "")
    assert "JSON" in err


@pytest.mark.parametrize("words", [["verify", "--allow-any"], ["get", "--allow-any"], ["cat", "--allow-any"]], ids=str)
def test_every_command_that_reads_a_document_finds_it(
    words: list[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They resolve what ``show`` shows; with several they say so before anything is read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.log").write_text(f"x\n{REPORT}\n{OTHER}\n")
    assert main([words[0], "job.log", *words[1:]]) == 1
    assert "line 3: is a task output (b)" in capsys.readouterr().err
    (tmp_path / "job.log").write_text(f"x\n{json.dumps({**OUTPUT, 'artifacts': {}})}\n")
    assert "JSON" not in (main([words[0], "job.log", *words[1:]]), capsys.readouterr().err)[1]


def test_what_a_real_task_prints_is_found(show: Callable[..., tuple[int, str, str]]) -> None:
    """A task without a token, in a process that prints before, after and without a line's end."""
    script = (
        "import stepout\nprint('started')\n"
        "with stepout.open_task() as task:\n    task.result['rows'] = 3\n    print('{\"level\": 1}')\n"
        "print('done', end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    code, out, _ = show(done.stdout)
    assert (code, out.splitlines()[-1]) == (0, 'result: {"rows":3}')


@given(st.lists(st.text(st.characters(exclude_characters="\n")), max_size=4), st.integers(0, 4))
def test_any_lines_around_it_change_nothing(lines: list[str], place: int) -> None:
    """Whatever else is printed, the one document is found, unless the first line begins JSON that is not ended."""
    text = "\n".join(["job", *lines[:place], REPORT, *lines[place:]])
    assert document_in(text) == REPORT


@given(st.text() | st.binary())
def test_text_without_a_document_stays_as_it_is(text: str | bytes) -> None:
    """Nothing is raised for it here: whoever reads it says what is wrong."""
    assert document_in(text) == text
