"""Starts ``stepout run`` as a container would: a real process, a token of the strict Step Functions, a bucket."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.forked import start_python
from support.seaweed import ADMIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")


class Running:
    """One ``stepout run``; its token is in nothing that it or its command prints."""

    def __init__(
        self, server: StrictStepFunctions, words: list[str], folder: Path, environ: dict[str, str], prefix: list[str]
    ) -> None:
        self.server = server
        self.token = server.issue()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
        arguments = ["-m", "stepout", "run", *words]
        environment = {
            **inherited,
            **server.environment,
            "STEPOUT_TASK_TOKEN": self.token,
            "STEPOUT_EXECUTION": "arn:aws:states:eu-west-1:123456789012:execution:Segment:one",
            "STEPOUT_STATE": "Mask",
            "STEPOUT_ATTEMPT": "0",
            **environ,
        }
        self.process: Any
        if prefix:
            pipe, command = subprocess.PIPE, [*prefix, sys.executable, *arguments]
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        else:
            self.process = start_python(arguments, cwd=folder, env=environment)

    def until(self, text: bytes) -> Running:
        """Read standard output up to a line with this text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return self
        raise AssertionError(self.finish())

    def finish(self, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Wait for the end: exit code, standard output, standard error."""
        stdout, stderr = self.process.communicate(stdin, timeout=300)
        assert self.token[:24].encode() not in stdout + stderr
        return self.process.returncode, stdout, stderr.decode()

    @property
    def failure(self) -> tuple[str | None, dict[str, Any]]:
        """The error and the cause that the state heard."""
        return self.server.failure(self.token)

    @property
    def success(self) -> dict[str, Any]:
        """The document that the state heard."""
        return self.server.success(self.token)


@pytest.fixture
def run(sfn_strict: StrictStepFunctions, tmp_path: Path) -> Iterator[Any]:
    """``run(options and command…, environment…)`` in a folder of the test's own; nothing outlives the test."""
    started: list[Running] = []

    def start(*words: str, prefix: tuple[str, ...] = (), **environ: str) -> Running:
        started.append(Running(sfn_strict, [str(word) for word in words], tmp_path, environ, list(prefix)))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.communicate()


@pytest.fixture
def place(seaweed: Seaweed, bucket: str) -> dict[str, str]:
    """The environment of a task that has a bucket on the real S3 server."""
    return {
        "AWS_ENDPOINT_URL_S3": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
        "STEPOUT_BUCKET": bucket,
        "STEPOUT_PREFIX": "runs",
    }


@pytest.fixture
def read(seaweed_client: Any, bucket: str) -> Any:
    """Reads an artifact of an output document, verified."""
    from stepout.artifacts import resolve_output

    def bytes_of(document: dict[str, Any], name: str) -> bytes:
        output = resolve_output(document, allow=[f"s3://{bucket}/runs/"], client=seaweed_client)
        return output[name].read_bytes()

    return bytes_of
