"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest
from support.tree import ROOT, SOURCES, imports, module_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_no_file_is_two_rooms_in_one(file: Path) -> None:
    """No source file is longer than 500 lines."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_every_module_says_what_it_is(file: Path) -> None:
    """Every module has a docstring."""
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def test_constraints_hold_names_and_versions_only() -> None:
    """A pin names a package and its version, never a place to fetch it from."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line)] == []


def test_links_point_at_the_root_folders() -> None:
    """The three symlinks that editors and type checkers follow are committed as links."""
    listing = subprocess.run(
        ["git", "ls-files", "-s", "src/stepout"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    links = {line.split("\t")[1] for line in listing.splitlines() if line.startswith("120000")}
    assert links == {f"src/stepout/{name}" for name in ("artifacts", "callbacks", "schemas")}


CORE = [file for file in SOURCES if file.relative_to(ROOT).parts[0] in {"artifacts", "callbacks", "schemas"}]


@pytest.mark.parametrize("file", CORE, ids=module_name)
def test_nothing_but_the_face_knows_the_face(file: Path) -> None:
    """The three folders import each other at most, never ``stepout`` itself nor a module of the face."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    ours = {name.split(".")[1] if "." in name else name for name in names if name.partition(".")[0] == "stepout"}
    assert ours <= {"artifacts", "callbacks", "schemas"}


def test_no_module_is_part_of_a_circle() -> None:
    """Modules import each other in one direction, for types as well: a reader can begin at the bottom."""
    # A front imports lazily what lies in its rooms, which may name the front for the package's other names.
    files = [file for file in SOURCES if file.name != "__init__.py"]
    graph = {module_name(file): imports(file) for file in files}
    inner = {name: {found for found in used if found in graph} for name, used in graph.items()}
    try:
        TopologicalSorter(inner).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_class_name_occurs_once() -> None:
    """One word, one meaning: whoever looks for a class finds one."""
    names = [
        (node.name, module_name(file))
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    count = Counter(name for name, _ in names)
    assert sorted(pair for pair in names if count[pair[0]] > 1) == []


BY_NAME = re.compile(
    # an installer's line that ends in, or has, the bare name: not the path of a clone or of a wheel
    r"\b(?:pip3?|pipx|uv|poetry|pdm|conda)\b[^\n`|&;]*?\b(?:install|add|download|wheel)\b[^\n`|&;]*?(?<![\w./-])stepout(?![\w./:-])"
    r"|(?<![\w./-])stepout\[[a-z0-9, ]+\]"  # a requirement with extras
    r"|(?<![\w./-])stepout ?(?:==|>=|~=) ?\d"  # or with a version
)
NAME = "stepout"  # apart from the texts below, so that this file may be read by the test, too


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"pip install {NAME}", True),
        (f'RUN pip install --no-cache-dir "{NAME}[fast]"', True),
        (f"pip install --target relay --no-deps {NAME} && zip -qr relay.zip .", True),
        (f"uv add {NAME}", True),
        (f"{NAME}>=0.1", True),
        ('pip install ".[all]"', False),
        (f'pip install "dist/{NAME}-0.1.0-py3-none-any.whl[parquet]"', False),
        (f'RUN pip install "/wheels/${{STEPOUT_WHEEL}}[fast]" && {NAME} --version', False),
        (f"`pip install fsspec` is needed for `{NAME}://NAME/PATH`", False),
        (f'install {NAME} with its extra "fast"', False),
    ],
)
def test_what_counts_as_installing_by_name(text: str, found: bool) -> None:
    """A command or a requirement that an index would answer, and none that names a path."""
    assert (BY_NAME.search(text) is not None) is found


def test_nothing_tells_people_to_install_stepout_from_an_index() -> None:
    """It is on none: who follows such a line gets an error, or somebody else's package."""
    names = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    found = []
    for name in names.rstrip("\0").split("\0"):
        file = ROOT / name
        if name == "pyproject.toml" or file.is_symlink() or not file.is_file():  # its extras name each other
            continue
        text = file.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in BY_NAME.finditer(text)]
    assert found == []
