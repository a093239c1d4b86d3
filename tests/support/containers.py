"""Jobs as real processes with a container's environment: a real S3 server, the strict Step Functions, one token."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

from support.forked import start_python
from support.seaweed import ADMIN

if TYPE_CHECKING:
    from support.seaweed import Seaweed
    from support.sfn_strict import StrictStepFunctions

__all__ = ["EXECUTION", "SKIPS_WAITS", "Container", "environment_for", "multipart_uploads", "objects"]

EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:Segment:one"

PREAMBLE = """
import logging, os, sys, time
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
def ready(word="READY"):
    print(word, flush=True)
def wait():
    sys.stdin.readline()
"""

SKIPS_WAITS = """
# A wait takes no time and the clock shows that it did: a minute of retries passes in a moment. Requests take time.
import time
_skipped, _real = [0.0], time.monotonic
time.monotonic = lambda: _real() + _skipped[0]
def _skip(seconds):
    _skipped[0] += seconds
time.sleep = _skip
"""


def environment_for(server: StrictStepFunctions, seaweed: Seaweed, *, endpoint: str | None = None) -> dict[str, str]:
    """What a process needs to talk to both servers, perhaps to S3 through a proxy's ``endpoint``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STEPOUT_"))}
    return {
        **inherited,
        **server.environment,
        "AWS_ENDPOINT_URL_S3": endpoint or seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": ADMIN.access_key,
        "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key,
    }


class Container:
    """A process that runs a script as a container would; its token is in nothing that it prints."""

    def __init__(self, script: str, token: str, environment: dict[str, str], *arguments: str) -> None:
        self.token = token
        self.process = start_python(
            ["-c", PREAMBLE + textwrap.dedent(script), *arguments],
            env={
                "STEPOUT_TASK_TOKEN": token,
                "STEPOUT_EXECUTION": EXECUTION,
                "STEPOUT_STATE": "Mask",
                "STEPOUT_ATTEMPT": "0",
                **environment,
            },
            text=True,
        )

    def until(self, word: str = "READY") -> Container:
        """Wait until the script says a word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if word in line:
                return self
        raise AssertionError(self.finish())

    def go_on(self) -> Container:
        """Let the script's ``wait()`` return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self

    def kill(self) -> int:
        """SIGKILL: nothing of the process runs any more; return its exit code."""
        self.process.kill()
        return self.finish()[0]

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and everything that was printed."""
        stdout, stderr = self.process.communicate(timeout=300)
        assert self.token[:24] not in stdout + stderr
        return self.process.returncode, stdout + stderr

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.communicate()


def multipart_uploads(client: Any, bucket: str) -> list[str]:
    """The keys of the uploads that are neither completed nor aborted."""
    return [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def objects(client: Any, bucket: str) -> list[str]:
    """The keys in a bucket."""
    return [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def record_beside(key: str) -> str:
    """The key of the commit record of the task that has written an artifact."""
    return f"{key.rpartition('/')[0]}/_output.json"
