"""A bucket on the local AWS, and commands that are run in this process."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest
from support.ministack import unique

from stepout.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepout.local import LocalAws


@pytest.fixture(scope="module")
def bucket(local_aws: LocalAws) -> str:
    """A bucket for one module."""
    name = unique("cli")
    local_aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def run(
    local_aws: LocalAws,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Callable[..., tuple[int, str, str]]:
    """Run one command in this process, in an empty folder; returns exit code, standard output, standard error."""
    for name, value in local_aws.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPOUT_ALLOW", f"s3://{bucket}/runs/")
    monkeypatch.chdir(tmp_path)

    def command(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(words)
        out, err = capsysbinary.readouterr()
        return code, out.decode(), err.decode()

    return command
