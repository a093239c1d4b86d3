"""The tutorial is done as a newcomer does it: one shell, one folder, every page in order, and it shows what he sees.

A shell block is typed into a shell that stays open from page to page, so ``stepout local -- $SHELL`` opens a shell
within it as it does in a terminal. A block of Python or JSON is the file that the sentence before it names. A ``text``
block is all that the shell block before it prints, in any order of lines, since two programs print to one terminal; a
shell block without one prints nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.docs import Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = Path(__file__).resolve().parents[2] / "docs" / "tutorial"
SET_UP = ("make ",)  # what every run of these tests has done already
NAMED = re.compile(r"(?:[Cc]reate the file|Replace what is in) `(?P<name>[\w.-]+)`[^`]*\Z")

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UNSTEADY = (
    (re.compile(_UUID), "UUID"),
    (re.compile(r"\d{8}T\d{9}Z"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGITS"),
    (re.compile(r"\b(task|job) [0-9a-f]{8}\b"), r"\1 ID"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r'File "[^"]*/'), 'File "'),
    (re.compile(r'"(size|footerSize)": \d+'), r'"\1": N'),  # it depends on the version of pyarrow, as do the digits
    (re.compile(r"\b\d+\.\d KiB"), "N KiB"),
)


def steady(text: str) -> list[str]:
    """The lines of a text without what differs each time, sorted."""
    for pattern, instead in UNSTEADY:
        text = pattern.sub(instead, text)
    return sorted(line.rstrip() for line in text.splitlines() if line.strip())


class Terminal:
    """A shell that is typed into, as one types into a terminal."""

    def __init__(self, folder: Path) -> None:
        shell = shutil.which("bash")  # it reads a pipe as it reads a terminal: one line, then the next
        assert shell is not None
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
        self._process = subprocess.Popen(
            [shell, "--noprofile", "--norc"],
            cwd=folder,
            env={**environ, "SHELL": shell, "ENV": "", "BASH_ENV": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, text: str) -> tuple[int, str]:
        """Type some lines; return the exit code of the last one, and all that they print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        mark = secrets.token_hex(8)
        self._process.stdin.write(f"{text.rstrip()}\necho {mark} $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(mark):
                return int(line.split()[1]), "".join(lines)
            lines.append(line)
        pytest.fail(f"the shell ended: {lines}")

    def close(self) -> None:
        """End the shell, and with its input every shell within it."""
        self._process.communicate()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A shell in the folder of a clone."""
    scripts = tmp_path / "clone" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    activate = f'export VIRTUAL_ENV="{scripts.parent}" PATH="{Path(sys.executable).parent}:$PATH"\n'
    (scripts / "activate").write_text(activate, encoding="utf-8")
    opened = Terminal(tmp_path / "clone")
    yield opened
    opened.close()


def file_name(block: Block) -> str:
    """The name of the file that a block is, in the sentence before it."""
    lines = block.file.read_text(encoding="utf-8").splitlines()[: block.line - 1]
    before = "\n".join(lines).rpartition("```")[2].rstrip()
    paragraph = before.rpartition("\n\n")[2]
    found = NAMED.search(paragraph)
    assert found is not None, f"{block.file.name}:{block.line}: which file is it? {paragraph!r}"
    return found["name"]


def do(terminal: Terminal, folder: Path, page: list[Block]) -> Iterator[str]:
    """Do a page; yield what is other than it says."""
    for block, following in pairwise([*page, None]):
        assert block is not None
        where = f"{block.file.name}:{block.line}"
        if block.language in {"python", "json"}:
            (folder / file_name(block)).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            code, printed = terminal.type(
                "\n".join(line for line in block.text.splitlines() if not line.startswith(SET_UP)) or "true"
            )
            shown = following.text if following is not None and following.language == "text" else ""
            if code != 0:
                yield f"{where}: exit code {code}\n{printed}"
            elif steady(printed) != steady(shown):
                yield f"{where}: it prints\n{printed}\nand the page shows\n{shown}"
        elif block.language != "text":
            yield f"{where}: nothing is done with a block of {block.language}"


def test_the_tutorial_from_its_first_page_to_its_last(terminal: Terminal, tmp_path: Path) -> None:
    """A newcomer who types what stands there sees what stands there."""
    folder = tmp_path / "weather"
    pages = [PAGES / "index.md", *sorted(PAGES.glob("[0-9]*.md"))]
    wrong = [each for page in pages for each in do(terminal, folder, blocks(page))]
    assert not wrong, "\n\n".join(wrong)


def test_each_page_leads_to_the_next_one() -> None:
    """Nobody is lost between two pages, and each stands in the list of the first."""
    numbered = sorted(PAGES.glob("[0-9]*.md"))
    first = (PAGES / "index.md").read_text(encoding="utf-8")
    for page, following in pairwise([PAGES / "index.md", *numbered]):
        assert f"]({following.name})" in page.read_text(encoding="utf-8").splitlines()[-1]
        assert f"]({following.name}) |" in first
