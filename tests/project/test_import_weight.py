"""What a fresh interpreter loads: nothing heavy until it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "pyarrow", "s3fs", "PIL", "numpy", "jsonschema", "pandas", "fsspec", "awscrt", "obstore"}
LIGHT = [
    "import stepout",
    "import stepout; [getattr(stepout, name) for name in stepout.__all__]",
    "import stepout.schemas, stepout.artifacts, stepout.callbacks",
    "import stepout.testing",
    "import stepout.cli",
]


def _loaded(code: str) -> set[str]:
    """The top-level packages that ``code`` leaves in ``sys.modules`` of a fresh interpreter."""
    script = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("code", LIGHT)
def test_importing_loads_nothing_heavy(code: str) -> None:
    """An import of ours pulls in no client library, whichever public name is touched."""
    assert _loaded(code) & HEAVY == set()


def test_a_consumer_does_not_load_the_producer() -> None:
    """Reading a pointer loads neither the callbacks nor the upload engine."""
    script = "import stepout; stepout.resolve_output; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    modules = set(run.stdout.split())
    assert not {name for name in modules if name.startswith("stepout.callbacks")}
    assert "stepout.artifacts.manager" not in modules


def test_public_names_are_found_and_listed() -> None:
    """Every name of ``__all__`` is there, ``dir`` lists it and no other, and another name is an AttributeError."""
    script = (
        "import stepout\n"
        "assert {name for name in dir(stepout) if name[0] != '_'} == set(stepout.__all__)\n"
        "import stepout.testing, stepout.tasks\n"
        "assert 'testing' in dir(stepout) and 'tasks' not in dir(stepout)\n"
        "try: stepout.nonsense\n"
        "except AttributeError as e: assert 'nonsense' in str(e)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_begins_with_what_to_do() -> None:
    """``help(stepout)`` teaches before it lists modules, on two screens at most."""
    script = "import pydoc, stepout; print(pydoc.render_doc(stepout, renderer=pydoc.plaintext))"
    text = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    taught, _, _ = text.partition("PACKAGE CONTENTS")
    assert len(taught.splitlines()) <= 60
    for word in ("open_task", "resolve_output", "gather", "stepout run", "stepout.testing", "docs/"):
        assert word in taught
