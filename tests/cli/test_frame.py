"""Help, exit codes, errors and streams: the frame around every command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

from stepout import __version__
from stepout.cli import COMMANDS, main

STEPOUT = (sys.executable, "-m", "stepout")


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_teaches_by_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help has examples of that command."""
    assert main([name, "--help"]) == 0
    assert f"  stepout {name} " in capsys.readouterr().out.partition("examples:")[2] + " "


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of ``stepout`` names each command with its summary."""
    assert main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(f"{command.name} {command.summary}" in out for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["get"], ["put", "a", "b", "--mode", "sideways"]])
def test_usage_error_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What argparse refuses is exit code 2 with the usage."""
    assert main(words) == 2
    assert "usage: stepout" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    """``--debug``, before or after the command, lets the error out whole."""
    for words in (["--debug", "show", "no-such-file"], ["show", "--debug", "no-such-file"]):
        with pytest.raises(FileNotFoundError):
            main(words)


def test_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that nobody foresaw is one line with its name, not a traceback."""

    def broken(_arguments: object) -> str:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("stepout.cli.commands.show._named", broken)
    assert main(["show", "x"]) == 1
    assert capsys.readouterr().err == "stepout: ZeroDivisionError: a b (unexpected; --debug shows where)\n"


def test_version() -> None:
    """``python -m stepout`` is the command line."""
    done = subprocess.run([*STEPOUT, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"stepout {__version__}\n"


def test_character_that_the_terminal_lacks_is_escaped() -> None:
    """A document's text goes to an ASCII terminal escaped, not as a traceback."""
    document = json.dumps({"stepout": "output/1", "artifacts": {}, "result": {"who": "é"}})
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*STEPOUT, "show", document], capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert r'result: {"who":"\xe9"}' in done.stdout


def test_reader_that_leaves_is_no_traceback() -> None:
    """``stepout … | head`` ends in silence."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*STEPOUT, "schema", "output"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="closes streams by a shell's syntax")
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("schema output >&-", 1, "standard output is closed"),
        ("show - <&-", 2, "standard input is closed"),
        ("schema 2>&-", 2, ""),
    ],
)
def test_closed_stream_is_told(words: str, code: int, told: str) -> None:
    """A stream that the caller closed is one line at most, not an AttributeError."""
    done = subprocess.run(f"{shlex.join(STEPOUT)} {words}", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert (told in done.stderr) if told else (done.stderr == "")


@pytest.mark.parametrize(
    "words", [["run", "--", "true"], ["put", "a", "nowhere"], ["verify", "{}"], ["show", "{}"], ["schema", "pointer"]]
)
def test_a_misspelt_variable_is_told_once(words: list[str]) -> None:
    """Whatever command it is, and whether it fails: one line that says what was meant."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPOUT_")}
    environ |= {"STEPOUT_ALOW": "s3://a/", "STEPOUT_BUCKET": "some-bucket"}
    done = subprocess.run([*STEPOUT, *words], capture_output=True, text=True, check=False, env=environ, timeout=300)
    assert done.stderr.count("STEPOUT_ALOW") == done.stderr.count("did you mean STEPOUT_ALLOW?") == 1
    assert "STEPOUT_ALOW" not in done.stdout
