"""The page of the command line, from its argument parsers."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from stepout.cli import COMMANDS, command_parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BEGINNING = """\
# Command line

`stepout COMMAND …` has one command for each thing to do. `stepout COMMAND --help` shows what this page shows.
Options are never shortened. What a document chooses (bucket, key) has to be allowed: `--allow`, `STEPOUT_ALLOW` or
`--allow-any`.

| command | what it does |
| --- | --- |
"""

_COMMON = """\

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed; standard error says why in one line |
| 2 | the arguments or a setting are wrong; nothing was done |
| 3 | `run`: the work is done, but its outcome could not be delivered; standard error says where the document was kept |
| 4 | `run`: nobody waits for the task any more |
| 130, 143 | ended by SIGINT, SIGTERM |

`run` and `local` end with the exit code of the command that they started, if it failed.

## Options of every command

| option | meaning |
| --- | --- |
| `-h`, `--help` | show the command's options and examples |
| `--debug` | show the traceback of an error |
| `--version` | `stepout --version` prints the version |

The same [environment variables](environment.md) hold as in Python. AWS credentials and the region are found as boto3
finds them.

## JSON for machines

With `--json` a command prints one JSON object on one line. `put`, `get`, `show` and `verify` describe artifacts alike:
`{"artifacts": [{"name": …, "url": …, "size": …, "mediaType": …, "pointer": {…}}]}`. The size is in bytes; for a
directory it is that of all its files. `get` adds `path`. `verify` adds `ok`, and `error` and `message` where it is
false. `watch` prints such a line for each thing that is new.
"""

# Options, variables, URLs, paths in JSON, and what has a sign that Markdown knows; with the punctuation around them.
_TYPED: Final = re.compile(
    r"(?P<before>[('\"]*)(?P<typed>--[a-z][a-z-]*|stepout\.[\w.]+(?:\(\))?|\$\S*?|\S*[_*=]\S*?|\S+://\S*?)(?P<after>['\").,;:]*)"
)
_SUBJECT: Final = 4  # words, at most
_OF_ARGPARSE: Final = {"positional arguments": "argument", "options": "option"}


def cli_page() -> str:
    """Return the page's Markdown."""
    parsers = command_parser([command.name for command in COMMANDS])
    (choices,) = (each.choices for each in parsers._actions if each.nargs == argparse.PARSER)  # noqa: SLF001
    rows = [f"| [`{each.name}`](#stepout-{each.name}) | {each.summary} |\n" for each in COMMANDS]
    commands = [_command(dict(choices or {})[each.name]) for each in COMMANDS]
    return "".join([_BEGINNING, *rows, _COMMON, *commands])


def _command(parser: Any) -> str:
    groups = [_group(parser, group) for group in parser._action_groups]  # noqa: SLF001 - argparse has no other list
    usage = parser.usage.replace("%(prog)s", parser.prog) if parser.usage else f"{parser.prog} {_usage(parser)}"
    lines = "\n".join(line.strip() for line in usage.splitlines())
    description = _prose(" ".join(parser.description.split()))
    head = f"\n## {parser.prog}\n\n{description}\n\n```text\n{lines}\n```\n"
    return "".join([head, *groups, *_epilog(parser.epilog)])


def _usage(parser: Any) -> str:
    exclusive = [each for each in parser._mutually_exclusive_groups if each.required]  # noqa: SLF001
    said = [f"({' | '.join(_shown(action) for action in group._group_actions)})" for group in exclusive]  # noqa: SLF001
    options = [action for action in parser._actions if action.option_strings]  # noqa: SLF001
    said += [_shown(action) for action in options if action.required]
    places = [_place(action) for action in parser._actions if not action.option_strings]  # noqa: SLF001
    return " ".join([*said, "[OPTION …]", *places])


def _place(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return {"?": f"[{name}]", "*": f"[{name} …]", "+": f"{name} …", argparse.REMAINDER: f"[{name} …]"}.get(
        str(action.nargs), name
    )


def _shown(action: argparse.Action, *, every: bool = False) -> str:
    """An option as it is typed, with the name of its value."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    names = action.option_strings if every else action.option_strings[-1:]
    if action.nargs == 0:
        return ", ".join(names)
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper())
    more = " …" if action.nargs in {"+", "*"} else ""
    return f"{', '.join(names)} {value}{more}"


def _group(parser: Any, group: Any) -> str:
    formatter = parser._get_formatter()  # noqa: SLF001
    actions: Sequence[argparse.Action] = group._group_actions  # noqa: SLF001
    told = [action for action in actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    if not told:
        return ""
    rows = [
        f"| `{_shown(action, every=True)}` | {_prose(formatter._expand_help(action))} |\n".replace("|", "\\|")  # noqa: SLF001
        for action in told
    ]
    rows = [f"|{row[2:-3]}|\n".replace("` \\| ", "` | ", 1) for row in rows]
    title = _OF_ARGPARSE.get(group.title)
    lead = "" if title else f"\n**{_prose(group.title[0].upper() + group.title[1:])}**\n"
    return f"{lead}\n| {title or 'option'} | meaning |\n| --- | --- |\n{''.join(rows)}"


def _epilog(text: str) -> Iterator[str]:
    """The end of a command's help: what is set in columns stays so, the rest is prose."""
    for part in text.strip().split("\n\n"):
        first, *rest = part.splitlines()
        if not rest or not any(line.startswith(" ") for line in rest):
            yield f"\n{_paragraph(' '.join(part.split()))}\n"
        elif first.endswith(":") and not first.startswith(" "):
            yield f"\n**{_prose(first[0].upper() + first[1:])}**\n\n```text\n{_dedented(rest)}\n```\n"
        else:
            yield f"\n```text\n{_dedented(part.splitlines())}\n```\n"


def _dedented(lines: Sequence[str]) -> str:
    shift = min(len(line) - len(line.lstrip()) for line in lines if line)
    return "\n".join(line[shift:] for line in lines)


def _prose(text: str) -> str:
    """Text as Markdown: what is typed is code, and what else would be markup is escaped."""
    return " ".join(map(_word, text.split(" ")))


def _word(word: str) -> str:
    found = _TYPED.fullmatch(word)
    if found is None:
        return re.sub(r"([*_<`\[\]])", r"\\\1", word)
    return f"{found['before']}`{found['typed']}`{found['after']}"


def _paragraph(text: str) -> str:
    """A paragraph of the end of a command's help; what it is about, before a colon, is set bold."""
    subject, colon, rest = text.partition(": ")
    if colon and len(subject.split()) <= _SUBJECT and subject[0].islower():
        return f"**{_prose(subject[0].upper() + subject[1:])}:** {_prose(rest)}"
    return _prose(text)
