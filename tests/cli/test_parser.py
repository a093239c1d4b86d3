"""How arguments are read: every parser of the project, and what is said of words that none of them knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepout.cli import COMMANDS, command_parser, main
from stepout.cli.parser import CommandParser, MisuseError
from stepout.schemas.text.spelling import did_you_mean

ROOT = Path(__file__).parents[2]
FOLDERS = ("artifacts", "callbacks", "schemas", "src", "examples", "benchmarks", "tests")
ALL = command_parser([command.name for command in COMMANDS])
OPTIONS = [
    (command, option)
    for command, parser in ALL._commands().items()
    for option in parser._option_string_actions
    if option.startswith("--") and option != "--help"
]


def _parser_calls(file: Path) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "ArgumentParser"]


def test_no_parser_takes_the_beginning_of_an_option() -> None:
    """Every parser in the repository is told so where it is made; those of the command line are of one class."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if not file.is_symlink()]
    calls = [(file, call) for file in files for call in _parser_calls(file)]
    assert {file.name for file, _ in calls} >= {"__main__.py", "sink.py"}
    loose = [
        f"{file}:{call.lineno}"
        for file, call in calls
        if not any(word.arg == "allow_abbrev" and ast.unparse(word.value) == "False" for word in call.keywords)
    ]
    assert loose == []
    parsers = [ALL, *ALL._commands().values()]
    assert len(parsers) == len(COMMANDS) + 1
    assert [parser.prog for parser in parsers if parser.allow_abbrev] == []


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_that_is_cut_short_or_misspelt_is_named_with_the_one_that_was_meant(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a hint, whatever else is missing; nothing is run by half a name."""
    known = ALL._commands()[command]._option_string_actions
    for wrong in (option[:-1], option[:-2] + option[-1], option + "x", f"{option[:-1]}=value"):
        name = wrong.partition("=")[0]
        if name in known:
            continue
        assert main([command, wrong]) == 2
        err = capsys.readouterr().err
        assert f"stepout {command}: error: unknown option {name}" in err
        if len(name) > 4:
            assert option in err.rpartition("did you mean ")[2].partition("?")[0].split(" or ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--outputs", "x=y", "--", "true"], "unknown option --outputs: did you mean --output or --outputs-on"),
        (["worker", "--quue", "URL", "--", "true"], "unknown option --quue: did you mean --queue? (one of the"),
        (["shwo", "x"], "invalid choice 'shwo': did you mean show? (choose from run, worker"),
        (["put", "a", "b", "--mode", "overwrit"], "invalid choice 'overwrit': did you mean overwrite? (choose from"),
        (["asl", "esc"], "did you mean eks or ecs?"),
        (["schema", "poiter"], "did you mean pointer?"),
        (["put", "a", "b", "--mode", "zzz"], "invalid choice 'zzz' (choose from create, overwrite)"),
        (["--json", "show", "x"], "unknown option --json: it belongs behind the command, stepout show --json"),
        (["show", "-json", "x"], "unknown option -json: did you mean --json?"),
        (["show", "x", "y"], "unexpected argument 'y'"),
        (["show", "x", "--zzz\x1b[2J\u202e"], "unknown option --zzz\\x1b[2J\\u202e"),
        (["run", "--tail"], "argument --tail: expected one argument"),
    ],
)
def test_what_is_not_known_says_what_it_may_have_been(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options, commands and choices alike, in one line after the usage of the command that it was."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, said in err) == ("", True), err
    assert err.splitlines()[-1].startswith("stepout")


def test_the_words_of_another_command_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What follows a program or ``--`` is never taken for an option of ours, also when something else is wrong."""
    parser = ALL._commands()["run"]
    assert parser.parse_args(["job", "--outputs", "x"]).command == ["job", "--outputs", "x"]
    assert parser.parse_args(["--", "job", "--outputs"]).command[-2:] == ["job", "--outputs"]
    with pytest.raises(MisuseError, match="unknown option --outputs: "):
        parser.parse_args(["--outputs", "job", "--zzz"])
    assert "zzz" not in capsys.readouterr().err
    with pytest.raises(MisuseError, match=r"^the following arguments are required: two$"):
        _two().parse_args(["-5"])


def _two() -> CommandParser:
    parser = CommandParser(prog="p")
    parser.add_argument("one", type=int)
    parser.add_argument("two")
    return parser


@given(st.text(), st.lists(st.text()))
def test_a_hint_names_known_words_only(word: str, known: list[str]) -> None:
    """Whatever was written, the hint is nothing or a question of known words."""
    hint = did_you_mean(word, known)
    assert hint == "" or (hint.startswith(": did you mean ") and hint.endswith("?") and any(w in hint for w in known))
