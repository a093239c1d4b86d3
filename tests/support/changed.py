"""``python tests/support/changed.py``: name the tests of the rooms that changed, for ``make check``.

What changed is what differs from the main branch, committed or not. A file of the source tree is tested by the nearest
folder of tests with the same path (``artifacts/reading/source.py`` by ``tests/artifacts/reading/source``, ``…/reading``
or ``tests/artifacts``, whichever is there first), by that folder's own test files, and by its own docstrings. A change
of what all tests share (``tests/conftest.py``, the Makefile) is for ``make test``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = "tests/project/test_repository.py"
PAGES = "tests/project/test_docs.py"
TUTORIAL = "tests/tutorial/test_tutorial.py"


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def changed_files() -> list[str]:
    """Return what differs from where this branch left the main one, new files included, as paths from the root."""
    bases = (_git("merge-base", "HEAD", name) for name in ("main", "origin/main", "master", "origin/master"))
    base = next(filter(None, bases), ["HEAD"])[0]
    return [*_git("diff", "--name-only", base), *_git("ls-files", "--others", "--exclude-standard")]


def folder_of(path: PurePosixPath, root: Path = ROOT) -> str | None:
    """Return the nearest folder of tests with a source file's path; ``None``: none but that of all tests."""
    parts = path.with_suffix("").parts
    parts = parts[2:] if parts[:2] == ("src", "stepout") else parts
    for length in range(len(parts), 0, -1):
        folder = PurePosixPath("tests", *parts[:length])
        if (root / folder).is_dir():
            return str(folder)
    return None


def _own_tests(folder: str, root: Path) -> Iterator[str]:
    """Yield the test files of a folder, those of its subfolders only if it has none itself."""
    found = sorted((root / folder).glob("test_*.py")) or sorted((root / folder).rglob("test_*.py"))
    for each in found:
        yield each.relative_to(root).as_posix()


def _users(name: str, root: Path) -> Iterator[str]:
    """Yield the test files that import a module of ``tests/support``."""
    for each in sorted((root / "tests").rglob("test_*.py")):
        if f"support.{name} import" in each.read_text(encoding="utf-8"):
            yield each.relative_to(root).as_posix()


def select_tests(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return what pytest is to run for changed files, each once, in the order of their names."""
    chosen = {ALWAYS}
    for name in changed:
        path = PurePosixPath(name)
        if path.parts[:2] == ("docs", "tutorial"):
            chosen.add(TUTORIAL)
        elif path.suffix == ".md":
            chosen.update([PAGES] if name == "README.md" or path.parts[0] == "docs" else [])
        elif path.parts[:2] == ("tests", "support"):
            chosen.update(_users(path.stem, root))
        elif path.parts[0] == "tests" and path.name.startswith("test_"):
            chosen.add(name)
        elif path.parts[0] == "tests":
            chosen.update(_own_tests(str(path.parent), root) if len(path.parts) > len(("tests", path.name)) else [])
        elif (folder := folder_of(path, root)) is not None:
            chosen.update(_own_tests(folder, root))
        if path.suffix == ".py" and path.parts[0] in {"artifacts", "callbacks", "schemas"}:
            chosen.add(f"src/stepout/{name}")
        elif path.suffix == ".py" and path.parts[0] == "src":
            chosen.add(name)
    return sorted(each for each in chosen if (root / each).is_file())


if __name__ == "__main__":
    print(*select_tests(changed_files()))  # noqa: T201 - a program's answer
