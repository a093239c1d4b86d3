"""CPython's own suites of what reads and writes files, with artifacts' readers and writers in the place of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cpython_suites import SUITES, module_of

TESTS = Path(__file__).parents[2]
MISSING = (
    "this Python comes without the suite test_{name}: install libpython{version}-testsuite (Debian, Ubuntu) or "
    "python3-test (Fedora), or use a Python from python.org or pyenv"
)


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_what_cpython_expects_of_files_holds_for_artifacts(name: str, tmp_path: Path) -> None:
    """Slow (20 s of CPU in all): every chosen test passes, and files were opened through the library."""
    if module_of(name) is None:
        pytest.skip(MISSING.format(name=name, version=f"{sys.version_info.major}.{sys.version_info.minor}"))
    done = subprocess.run(
        [sys.executable, "-m", "support.cpython_suites", name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    found = json.loads(lines[-1])
    assert not found["failed"], "\n".join(found["failed"].values())
    assert found["run"] - found["skipped"] >= 30
    assert found["read"] >= 30
    assert found["written"] >= 30 or name == "io"
